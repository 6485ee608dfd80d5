"""``python -m imn_world_model.data inspect PATH``: what a log holds, before training on it."""
import argparse
import json
import sys
from pathlib import Path

from imn_world_model.base.cli import atomic_path, run_cli
from imn_world_model.base.marks import SHEET, SHEET_FIGURES
from imn_world_model.data.frames import DataOptions, load_frames
from imn_world_model.data.inspect import contact_sheet, describe, summary, write_sheet
from imn_world_model.data.sequences import MODES
from imn_world_model.vision.preprocess import Crop


def main(arguments: list[str] | None = None) -> None:
    """Command line of ``inspect``."""
    parser = argparse.ArgumentParser(prog='imn_world_model.data', description=__doc__)
    commands = parser.add_subparsers(required=True)
    inspect = commands.add_parser('inspect', help='a table and a contact sheet of what is there')
    inspect.add_argument('paths', nargs='+', type=Path, metavar='PATH')
    inspect.add_argument('--out', type=Path, default=Path('inspect'),
                         help='folder for contact_sheet.png and inspect.json')
    inspect.add_argument('--topics', nargs='+', default=[], metavar='GLOB',
                         help='image topics to use (default: all)')
    inspect.add_argument('--size', type=int, default=64, help='side of the frames in pixels')
    inspect.add_argument('--crop', choices=('center', 'none'), default='center')
    inspect.add_argument('--roi', nargs=4, type=int, metavar=('X', 'Y', 'WIDTH', 'HEIGHT'))
    defaults = DataOptions()
    inspect.add_argument('--gap', type=float, default=defaults.gap,
                         help='seconds without a frame that end a clip')
    inspect.add_argument('--scene-change', type=float, default=defaults.scene_change,
                         help='grey levels between two frames that end a clip')
    inspect.add_argument('--still', type=float, default=defaults.still,
                         help='grey levels of change below which frames are thinned')
    inspect.add_argument('--max-clip', type=int, default=defaults.max_clip,
                         help='frames after which a clip is ended anyway')
    inspect.add_argument('--sequences', choices=MODES, default=defaults.sequences,
                         help='images of a folder that are one take: by their numbers or times '
                              '(auto), all of a folder, or none')
    options = parser.parse_args(arguments)
    crop = Crop(options.crop, tuple(options.roi) if options.roi else None)
    frames = load_frames(options.paths, DataOptions(
        size=options.size, crop=crop, topics=tuple(options.topics), gap=options.gap,
        scene_change=options.scene_change, still=options.still, max_clip=options.max_clip,
        sequences=options.sequences))
    print(describe(frames))
    for note in frames.notes:
        print(note, file=sys.stderr)
    with atomic_path(options.out / SHEET) as scratch:
        write_sheet(scratch, contact_sheet(frames))
    with atomic_path(options.out / SHEET_FIGURES) as scratch:
        scratch.write_text(json.dumps(summary(frames), indent=2))
    print(f'contact sheet: {options.out / "contact_sheet.png"}')


if __name__ == '__main__':
    run_cli(main)
