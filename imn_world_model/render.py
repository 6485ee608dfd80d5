"""
``python -m imn_world_model.render``: images in 3Dshapes' format, for those without the download.

    python -m imn_world_model.render --out 3dshapes.h5
    python -m imn_world_model.render --out small.h5 --count 10000 --seed 1
    python -m imn_world_model.render --out clips.h5 --count 8000 --clips object --views 8
"""
import argparse
from pathlib import Path

import numpy as np

from imn_world_model.base.cli import run_cli
from imn_world_model.base.errors import UserError
from imn_world_model.rendering.files import ORIENTATIONS, draw_factors, write
from imn_world_model.rendering.shapes3d import (
    IMAGE_SIZE,
    NUM_IMAGES,
    factors_of_index,
)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """:return: the command line, checked."""
    parser = argparse.ArgumentParser(
        prog='python -m imn_world_model.render', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, metavar='FILE.h5')
    parser.add_argument('--count', type=int, metavar='N',
                        help='factor combinations drawn at random (default: the full grid of '
                             '480,000 in the published order)')
    parser.add_argument('--seed', type=int, default=0, help='of the draw (default 0)')
    parser.add_argument('--size', type=int, default=IMAGE_SIZE, help='pixels per side '
                        '(default 64, as published)')
    parser.add_argument('--clips', choices=('none', 'scene', 'object'), default='none',
                        help='groups of images, numbered in the dataset "clip": of one scene from '
                             'several orientations, or sharing only the shape of the object')
    parser.add_argument('--views', type=int, metavar='K',
                        help='images per group (default 15 for scene, 8 for object)')
    args = parser.parse_args(argv)
    if args.count is not None and args.count < 1:
        raise UserError(f'--count must be at least 1, got {args.count}')
    if args.seed < 0:
        raise UserError(f'--seed must not be negative, got {args.seed}')
    if not 8 <= args.size <= 256:
        raise UserError(f'--size must be 8 to 256 pixels, got {args.size}')
    if args.views is None:
        args.views = 8 if args.clips == 'object' else ORIENTATIONS
    elif args.clips == 'none':
        raise UserError(f'--views {args.views} needs --clips scene or --clips object')
    if args.views < 1:
        raise UserError(f'--views must be at least 1, got {args.views}')
    if args.count is None and (args.clips == 'object' or args.views != ORIENTATIONS):
        raise UserError(f'--clips {args.clips} with --views {args.views} needs --count')
    if args.out.is_dir():
        raise UserError(f'--out {args.out} is a folder: give the name of a file')
    return args


def choose(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray | None]:
    """:return: factor indices (N, 6) and clip numbers (N,), as the command line asks."""
    if args.count is not None:
        return draw_factors(args.count, args.seed, args.clips, args.views)
    index = np.arange(NUM_IMAGES)
    return factors_of_index(index), index // ORIENTATIONS if args.clips == 'scene' else None


def main(argv: list[str] | None = None) -> None:
    """
    Render as the command line says.

    :param argv: arguments; default those of the process.
    """
    args = parse(argv)
    factors, clip = choose(args)
    write(args.out, factors, clip, args.size)
    print(f'{args.out}: {len(factors)} images, {args.out.stat().st_size / 1e6:.1f} MB')


if __name__ == '__main__':
    run_cli(main)
