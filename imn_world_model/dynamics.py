"""
``python -m imn_world_model.dynamics``: learn how actions move what a trained run sees.

    python -m imn_world_model.dynamics --run runs/log32-seed0 --data logs/drive

The perception stays as it is; the dynamics goes into RUN/dynamics. Logs hold actions along with
the images: geometry_msgs Twist or TwistStamped, nav_msgs/Odometry, sensor_msgs/JointState, or
LeRobot's actions.
"""
import argparse
import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from imn_world_model.cli import atomic_path, run_cli
from imn_world_model.errors import UserError
from imn_world_model.fitting import FitOptions, FlowPredictor, fit
from imn_world_model.flow import FlowConfig, GroupFlow
from imn_world_model.run import DYNAMICS, Run, load_run, read_checkpoint
from imn_world_model.transitions import TRAIN, Transitions, load_transitions

SIZES, STATE, METRICS = 'dynamics.json', 'last.pt', 'metrics.csv'


def new_flow(run: Run, data: Transitions, hidden: int, seed: int) -> GroupFlow:
    """:return: a flow for what the run sees and the log does, with nothing learnt yet."""
    torch.manual_seed(seed)
    _, m, num_latents = data.mean.shape
    flow = GroupFlow(FlowConfig(m, num_latents, len(run.network.identities()), data.names,
                                data.units, hidden))
    rows = torch.from_numpy(data.starts(TRAIN, 1))
    if not len(rows):
        raise UserError('no training frame has an action to the next'
                        + (f': {data.notes[-1]}' if data.notes else ''))
    flow.measure(data.mean[rows], data.action[rows])
    return flow


def train_dynamics(run: Run, data: Transitions, options: FitOptions, hidden: int = 128,
                   resume: bool = False, progress: bool = True) -> GroupFlow:
    """
    Learn the dynamics of a run and keep it in its folder.

    :param run: the perception.
    :param data: transitions, see :func:`transitions.load_transitions`.
    :param options: how.
    :param hidden: units of each hidden layer.
    :param resume: go on from what the folder holds.
    :param progress: whether to show a bar.
    """
    folder = run.path / DYNAMICS
    flow = new_flow(run, data, hidden, options.seed)
    sizes: dict[str, Any] = {'flow': asdict(flow.config), 'options': asdict(options),
                             'topic': data.topic}
    state = None
    if resume:
        state = read_state(folder)
        known = json.loads((folder / SIZES).read_text())
        if known != json.loads(json.dumps(sizes)):
            changed = [name for part in ('flow', 'options') for name in sizes[part]
                       if known[part].get(name) != json.loads(json.dumps(sizes[part][name]))]
            raise UserError(f'{folder} was begun with another {", ".join(changed) or "topic"}; '
                            'resume it with the same options, or start anew with --overwrite')
    predictor = FlowPredictor(flow)

    def save(step: int, state: dict[str, Any]) -> None:
        with atomic_path(folder / STATE) as scratch:
            torch.save(state, scratch)
        with atomic_path(folder / METRICS) as scratch, scratch.open('w', newline='') as stream:
            writer = csv.DictWriter(stream, state['log'][-1] if state['log'] else ['step'])
            writer.writeheader()
            writer.writerows(state['log'])

    folder.mkdir(exist_ok=True)
    with atomic_path(folder / SIZES) as scratch:
        scratch.write_text(json.dumps(sizes, indent=2))
    fit(predictor, run.network, data, options, state, save,
        progress='dynamics' if progress else None)
    return flow.eval()


def read_state(folder: Path) -> dict[str, Any]:
    """:return: what a dynamics folder's checkpoint holds, or an error that names it."""
    path = folder / STATE
    if not path.exists():
        raise UserError(f'{folder} holds no dynamics; train it with python -m '
                        f'imn_world_model.dynamics --run {folder.parent} --data LOG')
    return read_checkpoint(path)


def load_flow(run: Run) -> GroupFlow:
    """
    Load the dynamics beside a run.

    :param run: loaded run.
    :raises UserError: when there is none, or it is broken or of another run.
    """
    folder = run.path / DYNAMICS
    state = read_state(folder)
    try:
        sizes: dict[str, Any] = json.loads((folder / SIZES).read_text())['flow']
        for name in ('action_names', 'action_units'):
            sizes[name] = tuple(sizes[name])
        config = FlowConfig(**sizes)
        flow = GroupFlow(config)
        flow.load_state_dict({name.removeprefix('flow.'): value
                              for name, value in state['predictor'].items()})
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(f'{folder} is damaged: {SIZES} and {STATE} do not fit each other; train '
                        'the dynamics again') from error
    model = run.config.model
    if (config.num_modules, config.num_latents) != (model.num_modules, model.num_latents):
        raise UserError(f'{folder} belongs to another run: it has {config.num_modules} modules of '
                        f'{config.num_latents} coordinates, the run {model.num_modules} of '
                        f'{model.num_latents}; train the dynamics again')
    return flow.eval()


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
