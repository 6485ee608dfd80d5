"""
Does knowing the commands help to know the state between, after and without images?

A log at 50 Hz gives every fifth image to two filters: constant velocity (:mod:`tracking`) and the
flow driven by commands (:mod:`driven`). What they say is held against what the perception says of
the images that were held back (coordinates) and against ground truth (distance, bearing, through
a map from coordinates, quadratic in them, that is fitted on another log). The flow is fitted on
that log, too, with every seed.
"""
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from tqdm import tqdm

from imn_world_model.base.errors import UserError
from imn_world_model.data.actions import load_actions, read_motion
from imn_world_model.data.frames import load_frames
from imn_world_model.learning.run import Run, load_run
from imn_world_model.prediction.fitting import FitOptions, FlowPredictor, fit
from imn_world_model.prediction.imagination import world_model_of
from imn_world_model.prediction.training import new_flow
from imn_world_model.prediction.transitions import (
    TRAIN,
    Transitions,
    encode,
    encoded,
    joined,
    load_transitions,
)
from imn_world_model.robot.driven import DrivenTrack
from imn_world_model.robot.replay import apply, linear_fit, occlude
from imn_world_model.robot.tracking import Track, TrackingOptions
from imn_world_model.robot.world_model import WorldModel

TRUTH = '/ground_truth'
QUANTITIES = ('distance', 'bearing')
EVERY = 5                               # of the images is given to the filters
LATE = 0.1                              # seconds that an image takes
BLIND = (1.0, 3.0)                      # seconds into a clip without images
OCCLUDED = 0.1                          # share of images with something in the way


@dataclass(frozen=True)
class Case:
    """
    A way in which images are given.

    :param late: seconds after which an image is known.
    :param blind: seconds into a clip between which there are none.
    :param occluded: whether something is in the way now and then.
    :param asked: tells by seconds into the clip whether the state is judged there.
    """

    late: float = 0.0
    blind: tuple[float, float] = (0.0, 0.0)
    occluded: bool = False
    asked: Callable[[np.ndarray], np.ndarray] = lambda time: time >= 0.5


# Times of images are multiples of 0.1 s.
CASES = {
    'at images': Case(asked=lambda time: (time >= 0.5) & (np.abs(time * 10 % 1 - 0.5) > 0.45)),
    'between images': Case(asked=lambda time: (time >= 0.5)
                           & (np.abs(time * 10 % 1 - 0.5) < 0.45)),
    'now, images 0.1 s late': Case(late=LATE),
    'images occluded': Case(occluded=True),
    'second 1 of blindness': Case(blind=BLIND, asked=lambda time: (time > BLIND[0])
                                  & (time <= BLIND[0] + 1)),
    'second 2 of blindness': Case(blind=BLIND, asked=lambda time: (time > BLIND[0] + 1)
                                  & (time < BLIND[1])),
}


def run(folder: Path | None, data: list[Path], fast: list[Path], seeds: list[int],
        options: FitOptions) -> dict[str, float]:
    """
    Compare the filters.

    :param folder: run folder of the perception.
    :param data: a log with actions that flows and maps to true quantities are fitted on.
    :param fast: a log with commands at 50 images per second or about that.
    :param seeds: of fitting.
    :param options: of fitting.
    :return: figures by name: root mean squared errors, ratios to constant velocity, and squared
        errors over the variance told (1 is honest).
    """
    if folder is None or not data or not fast:
        raise UserError('--motion needs a perception, a log with actions to fit on and a log '
                        'with 50 images per second: --run RUN --data LOG --others LOG')
    perception = load_run(folder)
    known, maps = load_transitions(perception, data), _maps(perception, data)
    models = {f'driven, seed {seed}': _fitted(perception, known, replace(options, seed=seed))
              for seed in seeds}
    frames = load_frames(fast, replace(perception.data_options, still=0.0,
                                       ground_truth_topic=TRUTH))
    actions = load_actions(frames, None, known.names)
    log = joined(encoded(perception, frames), frames, actions)
    recorded = read_motion(Path(frames.sources[0]))[actions.topic]
    columns = [recorded.names.index(name) for name in actions.names]
    shaded = occlude(frames.images[np.arange(len(frames.images))], OCCLUDED)
    dark = encode(perception.network, replace(frames, images=shaded), progress=False)
    figures: dict[str, float] = {}
    for name, case in CASES.items():
        errors: dict[str, list[np.ndarray]] = {}
        for clip in tqdm(np.unique(frames.clip), name, leave=False):
            rows = np.flatnonzero(frames.clip == clip)
            time = (frames.stamp[rows] - frames.stamp[rows[0]]) / 1e9
            commands = SimpleNamespace(
                time=(recorded.stamp - frames.stamp[rows[0]]) / 1e9,
                value=recorded.value[:, columns])
            _clip(models, log, dark if case.occluded else None, rows, time, commands, case, maps,
                  frames.values, errors)
        figures |= _figures(name, errors, list(models))
    return figures


def _fitted(perception: Run, known: Transitions, options: FitOptions) -> WorldModel:
    """:return: a world model whose flow was fitted on a log's coordinates: none is drawn here."""
    flow = new_flow(perception, known, 128, options.seed)
    fit(FlowPredictor(flow), perception.network, known, replace(options, image_weight=0.0),
        progress=f'flow, seed {options.seed}')
    return world_model_of(perception, flow)


def _maps(perception: Run, data: list[Path]) -> dict[str, np.ndarray]:
    """:return: linear maps from coordinates to true quantities, of training's clips."""
    frames = load_frames(data, replace(perception.data_options, still=0.0,
                                       ground_truth_topic=TRUTH))
    rows = frames.split == TRAIN
    mean = encoded(perception, frames)['mean'].flatten(1).numpy()[rows]
    missing = [name for name in QUANTITIES if name not in frames.values]
    if missing:
        raise UserError(f'{", ".join(map(str, data))} tell no {", ".join(missing)} on {TRUTH}; '
                        'give a log that `simulate` wrote')
    return {name: linear_fit(_features(mean), frames.values[name][rows]) for name in QUANTITIES}


def _features(mean: np.ndarray) -> np.ndarray:
    """:return: (K, D + D(D+1)/2), coordinates and their products: an image bends space."""
    row, column = np.triu_indices(mean.shape[1])
    return np.hstack((mean, mean[:, row] * mean[:, column]))


def _clip(models: dict[str, WorldModel], log: Transitions, dark: dict | None, rows: np.ndarray,
          time: np.ndarray, commands: SimpleNamespace, case: Case, maps: dict[str, np.ndarray],
          values: dict[str, np.ndarray], errors: dict[str, list[np.ndarray]]) -> None:
    """Run all filters through a clip and keep their errors where they are asked."""
    steady = Track(TrackingOptions(max_gap=5.0))
    driven = {name: DrivenTrack(model) for name, model in models.items()}
    source = (log.mean, log.variance, log.identity, log.active) if dark is None else (
        dark['mean'], dark['variance'], dark['identity'], dark['active'])
    waiting: list[int] = []
    given = 0
    measured: np.ndarray | None = None
    for k, now in enumerate(time):
        while given < len(commands.time) and commands.time[given] <= now + 1e-6:
            if commands.time[given] >= -1.0:
                for track in driven.values():
                    track.command(float(commands.time[given]), commands.value[given])
            given += 1
        if k % EVERY == 0 and not case.blind[0] < now < case.blind[1]:
            waiting.append(k)
        while waiting and time[waiting[0]] + case.late <= now + 1e-6:
            first = waiting.pop(0)
            mean, variance, identity, active = (value[rows[first]].numpy()[None]
                                                for value in source)
            for track in driven.values():
                track.see(float(time[first]), SimpleNamespace(
                    identity=identity, active=active, latent_mean=mean, latent_variance=variance))
            steady.update(float(time[first]), int(identity[0]), mean.ravel(), variance.ravel())
            measured = mean.ravel()
        if measured is None or not case.asked(np.array([now]))[0]:
            continue
        truth = log.mean[rows[k]].numpy().ravel()
        noise = log.variance[rows[k]].numpy()
        coasted = steady.at(float(now))
        assert coasted is not None
        told: dict[str, tuple[np.ndarray, np.ndarray | None]] = {
            'last image': (measured, None),
            'constant velocity': (coasted.mean, coasted.covariance[:, 0] + noise.ravel())}
        for name, track in driven.items():
            known = track.at(float(now))
            assert known is not None
            told[name] = (known.state.mean.ravel(),
                          (known.state.variance[0] + noise * models[name].trust).ravel())
        for name, (mean, total) in told.items():
            miss = np.square(mean - truth)
            errors.setdefault(f'{name}: coordinates', []).append(miss.sum())
            if total is not None:
                errors.setdefault(f'{name}: over variance', []).append((miss / total).mean())
            for quantity, weights in maps.items():
                read = apply(weights, _features(mean[None]))[0]
                errors.setdefault(f'{name}: {quantity}', []).append(
                    np.square(read - values[quantity][rows[k]]))


def _figures(case: str, errors: dict[str, list[np.ndarray]], driven: list[str]
             ) -> dict[str, float]:
    """:return: means of errors and ratios to constant velocity."""
    figures: dict[str, float] = {}
    for name, squares in errors.items():
        mean = float(np.mean(squares))
        figures[f'{case}, {name}'] = mean if name.endswith('variance') else float(np.sqrt(mean))
    for name in driven:
        for what in ('coordinates', *QUANTITIES):
            figures[f'{case}, {name} / constant velocity: {what} x'] = (
                figures[f'{case}, {name}: {what}']
                / max(figures[f'{case}, constant velocity: {what}'], 1e-12))
    return figures
