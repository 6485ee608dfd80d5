"""
``python -m imn_world_model.simulate``: a simulated robot camera's log, a rosbag2 folder (MCAP).

    python -m imn_world_model.simulate --out log --clips 8 --frames 20 --rate 10 --seed 1

The camera drives around a cube, a cylinder, a sphere or a capsule in a walled arena; distance,
bearing and light change smoothly. Clips follow one another with a pause; each shows one object,
and between clips its size, its colour, the light and the path are drawn anew. The room is the same
in every log unless --arena says otherwise. The truth is in topics of its own.

    python -m imn_world_model.simulate --out drive --clips 40 --frames 64 --rate 5 --commands all

    python -m imn_world_model.simulate --out group --clips 8 --frames 20 --rate 2 --objects 3

With --objects each clip shows several smaller ones of different shapes; the truth holds the box
of what is seen of each.

With --commands the camera stands on an omnidirectional base that a driver steers: its commands
are in /cmd_vel, where it is in /odom, at 50 Hz. Nothing but the commands moves the picture.

    python -m imn_world_model.simulate --out arcs --rate 5 --commands all --base differential

A differential base never goes sideways: it drives arcs, and the object wanders in the picture.
"""
import argparse
import os
from pathlib import Path

from imn_world_model.base.cli import run_cli
from imn_world_model.base.errors import UserError
from imn_world_model.rendering.drivers import COMBINATIONS, DRIVERS
from imn_world_model.rendering.recording import record


def parse(argv: list[str] | None) -> argparse.Namespace:
    """:return: the command line, checked."""
    parser = argparse.ArgumentParser(
        prog='python -m imn_world_model.simulate', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder to make')
    parser.add_argument('--clips', type=int, default=8, metavar='N',
                        help='scenes, one after the other (default 8: with one object, two of '
                        'each shape)')
    parser.add_argument('--objects', type=int, default=1, metavar='N',
                        help='objects in each picture, 1 to 4 (default 1)')
    parser.add_argument('--frames', type=int, default=20, metavar='F',
                        help='frames of each clip (default 20)')
    parser.add_argument('--rate', type=float, default=10.0, metavar='HZ',
                        help='frames per second (default 10)')
    parser.add_argument('--seed', type=int, default=0, help='decides everything (default 0)')
    parser.add_argument('--arena', type=int, default=0,
                        help='the room; the same number is the same room in every log (default 0)')
    parser.add_argument('--mounted', action='store_true',
                        help='the camera stands at one height (with --commands, at one pitch, '
                        'too) in all clips, as on one robot; by default each clip has its own')
    parser.add_argument('--commands', choices=COMBINATIONS,
                        help='drive by commands, recorded with odometry: all combinations of '
                        'forward/back and left/right, those of unlike signs and single ones '
                        '(some), or those of like signs only (others)')
    parser.add_argument('--base', choices=DRIVERS, default='omnidirectional',
                        help='what --commands drive; left and right of a differential base are '
                        'turns (default omnidirectional)')
    parser.add_argument('--quality', type=int, default=85, help='of the JPEGs (default 85)')
    parser.add_argument('--jobs', type=int, default=os.cpu_count() or 1,
                        help='processes (default one per core)')
    parser.add_argument('--overwrite', action='store_true', help='replace a log that is there')
    args = parser.parse_args(argv)
    for name, low, high in (('clips', 1, 100_000), ('objects', 1, 4), ('frames', 1, 100_000),
                            ('rate', 1, 120),
                            ('seed', 0, 2 ** 63), ('arena', 0, 2 ** 63), ('quality', 1, 100),
                            ('jobs', 1, 1024)):
        value = getattr(args, name)
        if not low <= value <= high:
            raise UserError(f'--{name} must be {low} to {high}, got {value}')
    if args.objects > 1 and args.commands:
        raise UserError(f'--objects {args.objects} and --commands exclude each other: the driver '
                        'keeps one object in view; give one of them')
    if args.base == 'differential' and not args.commands:
        raise UserError('--base differential is without --commands, which drive it; add '
                        '--commands all')
    args.out = args.out.absolute()
    check_target(args.out, args.overwrite)
    return args


def check_target(out: Path, overwrite: bool) -> None:
    """:raises UserError: if a log must not or cannot be made at ``out``."""
    if not out.exists():
        return
    if not overwrite:
        raise UserError(f'{out} exists: choose another name, or replace it with --overwrite')
    # Only what this command could have made may be deleted.
    if not out.is_dir() or (any(out.iterdir()) and not (out / 'metadata.yaml').is_file()):
        raise UserError(f'{out} is no rosbag2 folder: remove it yourself or choose another name')


def main(argv: list[str] | None = None) -> None:
    """
    Record as the command line says.

    :param argv: arguments; default those of the process.
    """
    args = parse(argv)
    record(args)
    size = sum(path.stat().st_size for path in args.out.iterdir())
    print(f'{args.out}: {args.clips} clips, {args.clips * args.frames} frames, '
          f'{size / 1e6:.1f} MB')


if __name__ == '__main__':
    run_cli(main)
