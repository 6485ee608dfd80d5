"""``python -m imn_world_model.train``: learn identities and transforms without labels."""
import argparse
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

from imn_world_model.base.cli import run_cli
from imn_world_model.base.config import load_config, override
from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import DataOptions, load_frames
from imn_world_model.data.options import add_reading_options, frame_options
from imn_world_model.learning.begin import (
    digest,
    interrupted,
    refuse_if_done,
    refuse_if_held,
)
from imn_world_model.learning.fit import train
from imn_world_model.learning.hardware import add_accelerator_option, limit_threads
from imn_world_model.learning.presets import PRESETS, preset
from imn_world_model.learning.run import (
    CONFIG,
    kept_options,
)
from imn_world_model.learning.trainer import lightning_options
from imn_world_model.vision.preprocess import Crop

USUAL_PRESET = 'clips'


def main(arguments: list[str] | None = None) -> None:
    """Command line of training."""
    parser = argparse.ArgumentParser(prog='imn_world_model.train', description=__doc__)
    parser.add_argument('--data', nargs='+', type=Path, metavar='PATH',
                        help='3Dshapes .h5, rosbag2 folder, .mcap, .db3, video, image folder, '
                             'or a folder with any mix of them (--resume: default as before)')
    parser.add_argument('--preset', help=f'one of {", ".join(PRESETS)} (default: {USUAL_PRESET})')
    parser.add_argument('--config', type=Path, help='a config.yaml in place of a preset')
    parser.add_argument('--set', nargs='+', default=[], metavar='SECTION.KEY=VALUE',
                        help='change single values, such as train.steps=1000')
    parser.add_argument('--out', type=Path, default=Path('runs'), metavar='DIR',
                        help='where run folders go: the run is DIR/NAME')
    parser.add_argument('--name', help='name of the run folder (default: the preset and seed)')
    parser.add_argument('--resume', action='store_true',
                        help='go on from the last checkpoint of the run folder, with its '
                             'configuration, data and data options')
    add_reading_options(parser)
    parser.add_argument('--label', help='label that the ID classifier learns (preset '
                                        'id_classifier only; default: shape)')
    add_accelerator_option(parser)
    parser.add_argument('--devices', type=int, default=1, help='processes on each machine')
    parser.add_argument('--nodes', type=int, default=1, help='machines')
    parser.add_argument('--quiet', action='store_true', help='no progress bar')
    options = parser.parse_args(arguments)
    limit_threads()
    if options.quiet:
        logging.getLogger('lightning.pytorch').setLevel(logging.WARNING)
    # Lightning's advice on worker counts and metric names is for its developers.
    warnings.filterwarnings('ignore', module='lightning')

    if not (options.data or options.resume):
        parser.error('the following arguments are required: --data')
    start = (load_config(options.config) if options.config
             else preset(options.preset or USUAL_PRESET))
    config = override(start, options.set)
    name = options.name
    if name is None:
        name = f'{options.preset or USUAL_PRESET}-seed{config.train.seed}'
    elif name in ('', '.', '..') or '/' in name:
        raise UserError(f"--name is '{name}'; it names a folder in --out, and has no /")
    folder = options.out / name
    kept: dict[str, Any] = {'start': digest(start)}
    if options.resume:
        before = interrupted(folder, options.set, options)
        config, data_options, kept = before.config, before.data_options, before.data
        named = options.config or options.preset
        if named and kept.get('start', digest(start)) != digest(start):
            print(f'{folder} did not begin with {named}; it goes on with its own {CONFIG}',
                  file=sys.stderr)
    else:
        refuse_if_done(folder)
        data_options = frame_options(options, DataOptions(
            size=config.model.side,
            crop=Crop(background=config.model.background, turn=config.model.turn == 'level')))
    refuse_if_held(folder)
    lightning_options(options.accelerator, options.devices, options.nodes, config.train.precision)
    paths = options.data or [Path(path) for path in kept['paths']]
    frames = load_frames(paths, data_options, progress=not options.quiet)
    for note in frames.notes:
        print(note, file=sys.stderr)
    if kept.get('content_hash', frames.content_hash) != frames.content_hash:
        raise UserError(f'{folder} was trained on other data, or on files in another order; '
                        f'leave --data out to read {", ".join(kept["paths"])}, or train a new run')
    label = options.label or kept.get('label', 'shape')
    data = kept | {'paths': [str(path) for path in paths], 'options': kept_options(data_options),
                   'content_hash': frames.content_hash, 'num_frames': len(frames.images),
                   'num_labels': 0}
    if config.loss.classifier_weight > 0:
        if label not in frames.labels:
            raise UserError(f"the data has no label '{label}' for the ID classifier; "
                            f'it has {", ".join(frames.labels) or "none"}')
        unlabelled = int((frames.labels[label] < 0).sum())
        if unlabelled:
            raise UserError(f"{unlabelled} of {len(frames.images)} frames have no label "
                            f"'{label}'; the ID classifier needs one for each")
        data |= {'label': label, 'num_labels': int(frames.labels[label].max()) + 1}
    train(config, frames, folder, data, options.resume, options.accelerator, options.devices,
          options.nodes, progress=not options.quiet)
    print(f'trained {config.train.steps} steps; the run is in {folder}')


if __name__ == '__main__':
    run_cli(main)
