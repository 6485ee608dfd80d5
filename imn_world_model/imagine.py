"""
``python -m imn_world_model.imagine``: a film of what a run imagines beside what came.

    python -m imn_world_model.imagine --run runs/log32-seed0 --data logs/drive --out drive.mp4

A few frames are seen, the rest is imagined from the actions alone: truth, imagination and their
difference side by side, clip after clip. FILE.png shows the same as strips.
"""
import argparse
import sys
from pathlib import Path

import numpy as np

from imn_world_model.base.cli import run_cli
from imn_world_model.base.errors import UserError
from imn_world_model.learning.run import load_run
from imn_world_model.model.pictures import write_png
from imn_world_model.prediction.film import SPLITS, choose, film, strips, tell, write_film
from imn_world_model.prediction.imagination import world_model_of
from imn_world_model.prediction.training import load_flow
from imn_world_model.prediction.transitions import (
    load_transitions,
)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='imn_world_model.imagine', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--run', type=Path, required=True, help='run folder with a dynamics')
    parser.add_argument('--data', nargs='+', type=Path, required=True, metavar='PATH',
                        help='logs with images and actions')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE.mp4')
    parser.add_argument('--actions', metavar='TOPIC', help='topic of the actions')
    parser.add_argument('--split', choices=(*SPLITS, 'all'), default='test',
                        help='of the clips (default test)')
    parser.add_argument('--clips', type=int, default=4, help='how many (default 4)')
    parser.add_argument('--seen', type=int, default=5, help='frames seen of each (default 5)')
    parser.add_argument('--steps', type=int, default=50, help='imagined after them (default 50)')
    options = parser.parse_args(arguments)
    for name in ('clips', 'seen', 'steps'):
        if getattr(options, name) < 1:
            raise UserError(f'--{name} is {getattr(options, name)}; it must be at least 1')
    if options.out.suffix.lower() != '.mp4':
        raise UserError(f'--out is {options.out}; the film is an .mp4 file')
    run = load_run(options.run)
    flow = load_flow(run)
    data = load_transitions(run, options.data, options.actions, flow.config.action_names)
    for note in data.notes:
        print(note, file=sys.stderr)
    starts = choose(data, SPLITS.get(options.split), options.seen, options.steps, options.clips)
    model = world_model_of(run, flow)
    tales = [tell(run, model, data, int(start), options.seen, options.steps) for start in starts]
    rate = 1.0 / float(np.median(np.diff(tales[0].seconds)))
    write_film(options.out, (frame for told in tales for frame in film(told)), rate)
    write_png(options.out.with_suffix('.png'), strips(tales))
    wrong = np.mean([np.square((told.truth[told.seen:].astype(float) - told.imagined[told.seen:])
                               / 255).mean() for told in tales])
    print(f'{options.out}: {len(tales)} clips, {options.seen} frames seen and {options.steps} '
          f'imagined of each, squared error {wrong:.4f}; {options.out.with_suffix(".png")}')


if __name__ == '__main__':
    run_cli(main)
