"""
Does the flow foresee the other side of a photographed object? Its turn is the action.

Recordings as :mod:`real` takes them: a clip shows one object from some sides, ground truth tells
azimuth and polar angle. The dynamics learns from walks over the views of the training recordings'
clips. In the last recording every other view of a clip is seen, the others are imagined: the
nearest seen views are fused in order, the last of them is turned to the side that was not seen.
"""
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from imn_world_model.base.errors import UserError
from imn_world_model.bench.real import PROTOCOLS, read
from imn_world_model.data.frames import Frames, ImageStack
from imn_world_model.learning.run import Run, load_run
from imn_world_model.model.observe import pixels
from imn_world_model.prediction.accuracy import pictures
from imn_world_model.prediction.fitting import FitOptions, FlowPredictor, Predictor, cut, fit
from imn_world_model.prediction.training import new_flow
from imn_world_model.prediction.transitions import TRAIN, Transitions, encoded, run_lengths

PLAIN = PROTOCOLS[0]
NAMES, UNITS = ('azimuth', 'polar'), ('rad/s', 'rad/s')
SECONDS = 1.0                          # that any turn takes
WALKS = 8                              # over the views of each clip, for training
SEEN = 4                               # nearest seen views that are fused
HORIZON = 3                            # turns that training foresees
BATCH = 32


def run(folder: Path | None, photographs: Path, seeds: list[int], options: FitOptions
        ) -> dict[str, float]:
    """
    Fit the dynamics with every seed and judge it on the last recording.

    :param folder: run folder of the perception, which must not know the last recording.
    :param photographs: holds ``plain``.
    :param seeds: of fitting.
    :param options: of fitting; what is seen and how far is foreseen are this module's, and no
        pictures are compared: a seed takes half a minute of one core.
    :return: figures by name; shares of views, and squared errors per pixel and channel.
    :raises UserError: when there is no run or no ground truth.
    """
    if folder is None:
        raise UserError('--photographs needs the perception that was trained on them: --run RUN')
    perception = load_run(folder)
    learn, judge = read(photographs / PLAIN.folder, PLAIN, perception.config.model)
    missing = [name for name in NAMES if name not in {**learn.values, **judge.values}]
    if missing:
        raise UserError(f'{photographs / PLAIN.folder}: /ground_truth tells no '
                        f'{", ".join(missing)}')
    fewest = int(np.unique(judge.clip, return_counts=True)[1].min())
    if fewest < 2 * SEEN:
        raise UserError(f'{photographs / PLAIN.folder}: a clip of the last recording has {fewest} '
                        f'views; give clips of at least {2 * SEEN}, of which half are seen')
    rng = np.random.default_rng(0)
    clips = [np.flatnonzero(learn.clip == clip) for clip in np.unique(learn.clip)]
    own = walked(perception, learn, [rng.permutation(clip) for _ in range(WALKS)
                                     for clip in clips])
    figures: dict[str, float] = {'views': float(len(judge.images))}
    for seed in seeds:
        flow = FlowPredictor(new_flow(perception, own, 128, seed))
        fit(flow, perception.network, own,
            replace(options, seen=SEEN, horizon=HORIZON, image_weight=0.0, seed=seed),
            progress=f'turns, seed {seed}')
        found = compared(flow, perception, judge)
        figures |= {f'{name}, seed {seed}': value for name, value in found.items()}
    return figures


def walked(run: Run, frames: Frames, walks: list[np.ndarray]) -> Transitions:
    """
    Walks over views as a log with actions.

    :param run: the perception.
    :param frames: with azimuth and polar angle, degrees.
    :param walks: rows of frames, one after the other; each is a clip of the log.
    """
    rows, clip = np.concatenate(walks), np.repeat(np.arange(len(walks)), [*map(len, walks)])
    seen = {name: value[rows] for name, value in encoded(run, frames, progress=False).items()}
    turn = np.diff([frames.values[name][rows] for name in NAMES], append=np.nan)
    turn[0] = (turn[0] + 180) % 360 - 180              # the short way round
    known = np.append(clip[1:] == clip[:-1], False)
    return Transitions(
        **seen, action=torch.from_numpy(np.radians(turn).T / SECONDS).float(),
        seconds=torch.full((len(rows),), SECONDS), run_length=run_lengths(known, clip), clip=clip,
        split=np.full(len(rows), TRAIN, np.uint8),
        images=ImageStack([(frames.images[:], rows)]), names=NAMES, units=UNITS,
        topic='/ground_truth', notes=())


def held_out(frames: Frames) -> list[np.ndarray]:
    """
    What is seen and what is asked: each view from every other one of its clip, itself not seen.

    :return: for each view those that are seen, the nearest last, and the view.
    """
    azimuth, polar = (np.radians(frames.values[name]) for name in NAMES)
    side = np.stack((np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth),
                     np.cos(polar)), 1)
    walks = []
    for clip in np.unique(frames.clip):
        views = np.flatnonzero(frames.clip == clip)
        for first in (0, 1):
            seen = views[first::2]
            for view in views[1 - first::2]:
                near = np.argsort(-side[seen] @ side[view], kind='stable')
                walks.append(np.append(seen[near[::-1]], view))
    return walks


@torch.no_grad()
def compared(flow: Predictor, run: Run, frames: Frames) -> dict[str, float]:
    """
    The imagined picture beside what needs no imagination.

    :param flow: goes on from the :data:`SEEN` nearest seen views.
    :param run: the perception.
    :param frames: of which every other one of a clip is asked.
    :return: shares of views in which the imagined picture is nearer to the true one than
        something else is, and mean squared errors per pixel and channel.
    """
    network, walks = run.network, held_out(frames)
    data = walked(run, frames, [walk[-SEEN - 1:] for walk in walks])
    small = torch.cat([network.reduced(pixels(frames.images[rows])) for rows in np.array_split(
        np.arange(len(frames.images)), -(-len(frames.images) // BATCH))])
    asked, squares = data.starts(TRAIN, SEEN), []
    for part in np.array_split(np.arange(len(walks)), -(-len(walks) // BATCH)):
        window = cut(data, asked[part], SEEN, 1)
        shown = {name: pictures(network, window, mean)[:, 0] for name, mean in {
            'imagined': flow(window)[0],
            'the nearest view, as the perception draws it': window.mean[:, SEEN - 1:SEEN],
            'the true view, as the perception draws it': window.mean[:, SEEN:]}.items()}
        shown['the nearest view'] = small[[walks[k][-2] for k in part]]
        shown['the mean of the seen views'] = torch.stack(
            [small[walks[k][:-1]].mean(0) for k in part])
        true = small[[walks[k][-1] for k in part]]
        squares.append({name: (picture - true).square().mean((1, 2, 3))
                        for name, picture in shown.items()})
    errors = {name: torch.cat([square[name] for square in squares]) for name in squares[0]}
    return {**{f'imagined nearer than {name}': float((errors['imagined'] < other).float().mean())
               for name, other in errors.items() if name != 'imagined'},
            **{f'squared error, {name}': float(error.mean()) for name, error in errors.items()}}
