"""Does the flow foresee more than what is simple? All rivals on the same encodings."""
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt
import numpy as np
import torch
from tqdm import tqdm

from imn_world_model.base.cli import atomic_path
from imn_world_model.base.errors import UserError
from imn_world_model.base.marks import MARK
from imn_world_model.learning.run import load_run
from imn_world_model.prediction.accuracy import Errors, errors, floor, last_image_error
from imn_world_model.prediction.fitting import FitOptions, FlowPredictor, fit
from imn_world_model.prediction.rivals import coast, num_parameters, recurrent_like, stay
from imn_world_model.prediction.training import new_flow
from imn_world_model.prediction.transitions import (
    TEST,
    TRAIN,
    Transitions,
    load_transitions,
    require_windows,
)

STEPS = (1, 5, 10, 50)
RATIO_STEPS = (5, 10, 50)               # early, where rivals are compared, late
PER_CLIP = 3                            # windows, of which neighbours have most frames in common
# Names of the curves; (a) to (d) are the issue's.
FLOW, LAST, COAST, RECURRENT, SHUFFLED, FLOOR = (
    'group flow', '(a) last image', '(b) constant velocity', '(c) recurrent', '(d) shuffled',
    "perception's own")
COLOURS = dict(zip((FLOW, LAST, COAST, RECURRENT, SHUFFLED, FLOOR),
                   ('C0', 'C7', 'C1', 'C3', 'C2', 'k'), strict=True))


def run(folder: Path | None, data: list[Path], others: list[Path], seeds: list[int],
        options: FitOptions, picture: Path) -> dict[str, float]:
    """
    Fit the flow and its rivals with every seed, and judge them on clips that training never saw.

    :param folder: run folder of the perception.
    :param data: logs; training's share of their clips fits, the test share judges.
    :param others: logs of other combinations of actions; all of their clips judge.
    :param seeds: of fitting.
    :param options: of fitting.
    :param picture: where the curves go.
    :return: figures by name; image errors are squared, per pixel and channel.
    :raises UserError: when something is missing or no clip is long enough.
    """
    if folder is None or not data:
        raise UserError('--predict needs a perception and a log with actions: --run RUN --data '
                        'LOG, and logs of other combinations of actions with --others LOG')
    perception = load_run(folder)
    transitions = load_transitions(perception, data)
    ahead = options.seen - 1 + STEPS[-1]
    judged = {'held-out clips': (transitions, spread(transitions, require_windows(
        transitions, TEST, ahead, 'test clip')))}
    if others:
        unseen = load_transitions(perception, others, transitions.topic, transitions.names)
        judged['held-out combinations'] = (unseen, spread(unseen, require_windows(
            unseen, None, ahead, 'clip of --others')))
    curves: dict[str, dict[str, list[Errors]]] = {where: {} for where in judged}
    figures: dict[str, float] = {}
    for seed in seeds:
        torch.manual_seed(seed)
        flow = FlowPredictor(new_flow(perception, transitions, 128, seed))
        rows = torch.from_numpy(transitions.starts(TRAIN, 1))
        rival = recurrent_like(flow, flow.flow.config.num_identities, transitions.mean[rows],
                               transitions.action[rows], seed)
        figures |= {'parameters flow': num_parameters(flow),
                    'parameters recurrent': num_parameters(rival)}
        for name, predictor in ((FLOW, flow), (RECURRENT, rival)):
            fit(predictor, perception.network, transitions, replace(options, seed=seed),
                progress=f'{name}, seed {seed}')
        for where, (log, starts) in judged.items():
            for name, predictor, shuffled in ((FLOW, flow, False), (RECURRENT, rival, False),
                                              (SHUFFLED, flow, True)):
                curves[where].setdefault(name, []).append(errors(
                    predictor, perception.network, log, starts, options.seen, STEPS[-1], shuffled,
                    f'{name}, {where}'))
            step = RATIO_STEPS[1]
            told = ', '.join(f'{name} {named[-1].image[step - 1]:.5f}'
                             for name, named in curves[where].items())
            tqdm.write(f'seed {seed}, {where}: squared image error at {step} steps: {told}')
    for where, (log, starts) in judged.items():
        curves[where] |= _simple(perception.network, log, starts, options.seen)
        figures[f'{where} windows'] = len(starts)
        figures[f'{where} clips'] = len(np.unique(log.clip[starts]))
    figures |= _figures(curves, seeds)
    draw(curves, picture)
    return figures


def spread(log: Transitions, starts: np.ndarray) -> np.ndarray:
    """:return: of the frames that windows can begin with, a few evenly from each clip."""
    chosen = []
    for clip in np.unique(log.clip[starts]):
        own = starts[log.clip[starts] == clip]
        chosen.append(own[np.unique(np.linspace(0, len(own) - 1, PER_CLIP).astype(int))])
    return np.concatenate(chosen)


def _simple(network: Any, log: Transitions, starts: np.ndarray, seen: int
            ) -> dict[str, list[Errors]]:
    """:return: curves of what needs no fitting."""
    last = errors(stay, network, log, starts, seen, STEPS[-1])
    image = last_image_error(network, log, starts, seen, STEPS[-1])
    nothing = np.zeros_like(image)
    return {LAST: [replace(last, image=image)],
            COAST: [errors(coast, network, log, starts, seen, STEPS[-1])],
            FLOOR: [Errors(floor(network, log, starts, seen, STEPS[-1]), nothing, nothing)]}


def _figures(curves: dict[str, dict[str, list[Errors]]], seeds: list[int]) -> dict[str, float]:
    """:return: errors at some steps of every seed, and the ratios that goals are set for."""
    figures: dict[str, float] = {}
    for where, named in curves.items():
        for name, of_seeds in named.items():
            for number, one in enumerate(of_seeds):
                whose = f' seed {seeds[number]}' if len(of_seeds) > 1 else ''
                for step in STEPS:
                    figures[f'{where}, {name}{whose}: image at {step}'] = float(
                        one.image[step - 1])
                    if name != FLOOR:
                        figures[f'{where}, {name}{whose}: coordinates at {step}'] = float(
                            one.coordinates[step - 1])
                    if name == FLOW:
                        figures[f'{where}, {name}{whose}: deviation at {step}'] = float(
                            one.deviation[step - 1])
        for number, seed in enumerate(seeds):
            flow = named[FLOW][number].image
            whose = f'{where}, seed {seed}: '
            early, at, late = RATIO_STEPS
            rivals = {'last image': named[LAST][0], 'recurrent': named[RECURRENT][number],
                      'shuffled': named[SHUFFLED][number]}
            figures |= {f'{whose}at {at} / {name} x': float(flow[at - 1] / rival.image[at - 1])
                        for name, rival in rivals.items()}
            figures[f'{whose}at {late} / at {early} x'] = float(flow[late - 1] / flow[early - 1])
    if len(curves) == 2:
        seen, unseen = curves.values()
        for number, seed in enumerate(seeds):
            for step in STEPS:
                figures[f'combinations held out / seen, seed {seed}: at {step} x'] = float(
                    unseen[FLOW][number].image[step - 1] / seen[FLOW][number].image[step - 1])
    return figures


def draw(curves: dict[str, dict[str, list[Errors]]], path: Path) -> None:
    """
    Plot errors over steps, a column for each set of clips.

    :param curves: set -> predictor -> its errors with each seed.
    :param path: of the PNG.
    """
    figure, axes = plt.subplots(2, len(curves), figsize=(6 * len(curves), 8), sharex=True,
                                sharey='row', squeeze=False, layout='constrained')
    for column, (where, named) in enumerate(curves.items()):
        for name, of_seeds in named.items():
            for row, kind in enumerate(('image', 'coordinates')):
                if name == FLOOR and row:
                    continue
                for number, one in enumerate(of_seeds):
                    axes[row, column].plot(
                        np.arange(1, STEPS[-1] + 1), getattr(one, kind), color=COLOURS[name],
                        alpha=0.8, label=name if not number else None)
        axes[0, column].set_title(where)
        axes[1, column].set_xlabel('steps into the future')
    axes[0, 0].set_ylabel('squared image error per pixel')
    axes[1, 0].set_ylabel('squared coordinate error')
    for row, kind in enumerate(('image', 'coordinates')):
        top = max(getattr(one, kind).max() for named in curves.values()
                  for name, of_seeds in named.items() if name != COAST for one in of_seeds)
        axes[row, 0].set_ylim(0, 1.1 * top)            # what flies off is cut
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc='outside upper center',
                  ncols=len(COLOURS))
    with atomic_path(path) as scratch:
        figure.savefig(scratch, dpi=100, format='png', metadata=MARK)
    plt.close(figure)
