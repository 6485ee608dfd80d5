"""``python -m imn_world_model.data inspect PATH``: what a log holds, before training on it."""
import argparse
import json
import sys
from pathlib import Path

from imn_world_model.base.cli import atomic_path, run_cli
from imn_world_model.base.marks import SHEET, SHEET_FIGURES
from imn_world_model.data.frames import DataOptions, load_frames
from imn_world_model.data.inspect import contact_sheet, describe, summary, write_sheet
from imn_world_model.data.options import add_reading_options, frame_options


def main(arguments: list[str] | None = None) -> None:
    """Command line of ``inspect``."""
    parser = argparse.ArgumentParser(prog='imn_world_model.data', description=__doc__)
    commands = parser.add_subparsers(required=True)
    inspect = commands.add_parser('inspect', help='a table and a contact sheet of what is there')
    inspect.add_argument('paths', nargs='+', type=Path, metavar='PATH')
    inspect.add_argument('--out', type=Path, default=Path('inspect'),
                         help='folder for contact_sheet.png and inspect.json')
    inspect.add_argument('--size', type=int, default=64, help='side of the frames in pixels')
    add_reading_options(inspect)
    options = parser.parse_args(arguments)
    frames = load_frames(options.paths, frame_options(options, DataOptions(size=options.size)))
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
