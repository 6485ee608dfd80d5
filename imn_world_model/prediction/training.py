"""The dynamics of a run: learnt, kept in its folder, loaded."""
import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from imn_world_model.base.cli import atomic_path
from imn_world_model.base.errors import UserError
from imn_world_model.learning.run import DYNAMICS, Run, read_checkpoint
from imn_world_model.prediction.fitting import FitOptions, FlowPredictor, fit
from imn_world_model.prediction.flow import FlowConfig, GroupFlow
from imn_world_model.prediction.transitions import TRAIN, Transitions

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
