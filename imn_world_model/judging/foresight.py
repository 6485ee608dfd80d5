"""The report's section on what a run foresees: strips of imagined frames, errors over steps."""
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from imn_world_model.base.errors import UserError
from imn_world_model.judging import report
from imn_world_model.learning.run import Run
from imn_world_model.prediction.accuracy import errors, floor, last_image_error
from imn_world_model.prediction.film import SPLITS, choose, strips, tell
from imn_world_model.prediction.fitting import FlowPredictor
from imn_world_model.prediction.imagination import world_model_of
from imn_world_model.prediction.rivals import coast
from imn_world_model.prediction.training import load_flow
from imn_world_model.prediction.transitions import load_transitions

SEEN, MOST_STEPS, CLIPS, MOST_WINDOWS = 5, 50, 4, 60


def foresight_section(run: Run, paths: list[Path], split: str
                      ) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    Judge a run's dynamics on one split.

    :param run: with a dynamics in its folder.
    :param paths: the data.
    :param split: ``train``, ``validation`` or ``test``.
    :return: figures, and a section of the report; without actions in the data it says so.
    """
    flow = load_flow(run)
    try:
        data = load_transitions(run, paths, names=flow.config.action_names)
        longest = int(data.run_length[data.split == SPLITS[split]].max(initial=0))
        steps = min(MOST_STEPS, longest - SEEN + 1)
        first = choose(data, SPLITS[split], SEEN, max(1, steps), CLIPS)
    except UserError as error:
        return {}, report.section('What it foresees', f'Not judged: {error}.')
    starts = data.starts(SPLITS[split], SEEN - 1 + steps)
    starts = starts[np.unique(np.linspace(0, len(starts) - 1, MOST_WINDOWS).astype(int))]
    predictor, network = FlowPredictor(flow), run.network
    curves = {
        'group flow': errors(predictor, network, data, starts, SEEN, steps).image,
        'last image': last_image_error(network, data, starts, SEEN, steps),
        'constant velocity': errors(coast, network, data, starts, SEEN, steps).image,
        'shuffled actions': errors(predictor, network, data, starts, SEEN, steps, True).image,
        "perception's own": floor(network, data, starts, SEEN, steps)}
    model = world_model_of(run, flow)
    tales = [tell(run, model, data, int(start), SEEN, steps) for start in first]
    shown = sorted({step for step in (1, 5, 10, 25, 50) if step <= steps})
    figures = {name: {str(step): float(curve[step - 1]) for step in shown}
               for name, curve in curves.items()}
    text = (f'{SEEN} frames are seen, what follows is imagined from the actions alone '
            f'({", ".join(f"{n} in {u}" for n, u in zip(data.names, data.units, strict=True))} '
            f'of {data.topic}); {len(starts)} windows of the {split} split.')
    return {'foresight': figures}, report.section('What it foresees', text, [
        report.table('Squared image error per pixel and channel',
                     ['predictor', *(f'step {step}' for step in shown)],
                     [[name, *(f'{curve[step - 1]:.5f}' for step in shown)]
                      for name, curve in curves.items()])], [
        report.picture('error over steps', _figure(curves)),
        report.picture('truth, imagination and difference; the first column was seen, time runs '
                       'to the right', strips(tales))])


def _figure(curves: dict[str, np.ndarray]) -> Figure:
    figure, axis = plt.subplots(figsize=(7, 4))
    for name, curve in curves.items():
        axis.plot(np.arange(1, len(curve) + 1), curve, label=name,
                  color='k' if name == "perception's own" else None)
    axis.set_ylim(0, 1.1 * max(curve.max() for name, curve in curves.items()
                               if name != 'constant velocity'))
    axis.set_xlabel('steps into the future')
    axis.set_ylabel('squared image error')
    axis.legend()
    return figure
