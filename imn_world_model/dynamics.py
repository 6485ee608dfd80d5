"""
``python -m imn_world_model.dynamics``: learn how actions move what a trained run sees.

    python -m imn_world_model.dynamics --run runs/log32-seed0 --data logs/drive

The perception stays as it is; the dynamics goes into RUN/dynamics. Logs hold actions along with
the images: geometry_msgs Twist or TwistStamped, nav_msgs/Odometry, sensor_msgs/JointState, or
LeRobot's actions.
"""
import argparse
import sys
from pathlib import Path

from imn_world_model.base.cli import run_cli
from imn_world_model.base.errors import UserError
from imn_world_model.learning.run import DYNAMICS, load_run
from imn_world_model.prediction.fitting import FitOptions
from imn_world_model.prediction.training import STATE, read_state, train_dynamics
from imn_world_model.prediction.transitions import load_transitions


def main(arguments: list[str] | None = None) -> None:
    """Command line of the dynamics."""
    parser = argparse.ArgumentParser(prog='imn_world_model.dynamics', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = FitOptions()
    parser.add_argument('--run', type=Path, required=True, help='run folder that train wrote')
    parser.add_argument('--data', nargs='+', type=Path, required=True, metavar='PATH',
                        help='logs with images and actions')
    parser.add_argument('--actions', metavar='TOPIC',
                        help='topic of the actions (default: the one there is; commands before '
                             'odometry before joints)')
    parser.add_argument('--steps', type=int, default=defaults.steps, help='of the optimiser')
    parser.add_argument('--horizon', type=int, default=defaults.horizon,
                        help='frames that are predicted in training')
    parser.add_argument('--seen', type=int, default=defaults.seen,
                        help='frames that are observed before')
    parser.add_argument('--batch', type=int, default=defaults.batch, help='windows in a step')
    parser.add_argument('--rate', type=float, default=defaults.rate, help='of learning')
    parser.add_argument('--hidden', type=int, default=128, help='units of a hidden layer')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--resume', action='store_true', help='go on where training stopped')
    parser.add_argument('--overwrite', action='store_true',
                        help='replace a dynamics that is there')
    parser.add_argument('--quiet', action='store_true', help='no progress bar')
    args = parser.parse_args(arguments)
    if args.hidden < 1:
        raise UserError(f'--hidden is {args.hidden}; it must be at least 1')
    options = FitOptions(args.steps, args.batch, args.seen, args.horizon, args.rate,
                         seed=args.seed)
    run = load_run(args.run)
    if args.resume:
        read_state(run.path / DYNAMICS)
    elif (run.path / DYNAMICS / STATE).exists() and not args.overwrite:
        raise UserError(f'{run.path / DYNAMICS} already holds a dynamics; go on with --resume or '
                        'replace it with --overwrite')
    data = load_transitions(run, args.data, args.actions, progress=not args.quiet)
    for note in data.notes:
        print(note, file=sys.stderr)
    units = ', '.join(f'{name} ({unit})' for name, unit in zip(data.names, data.units,
                                                               strict=True))
    print(f'actions of {data.topic}: {units}')
    train_dynamics(run, data, options, args.hidden, args.resume, not args.quiet)
    print(f'trained {options.steps} steps; the dynamics is in {run.path / DYNAMICS}')


if __name__ == '__main__':
    run_cli(main)
