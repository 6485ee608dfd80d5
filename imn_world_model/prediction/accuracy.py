"""How far imagined coordinates and pictures are from what came."""
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.observe import pixels
from imn_world_model.prediction.fitting import FlowPredictor, Predictor, Window, cut
from imn_world_model.prediction.transitions import Transitions, decode

BATCH = 16                              # windows whose pictures are decoded at a time


@dataclass(frozen=True)
class Errors:
    """
    Mean errors of T steps into the future.

    :param image: (T,) squared error per pixel and channel, pixels in [0, 1].
    :param coordinates: (T,) squared error summed over the m*L coordinates.
    :param deviation: (T,) squared error over the variance told for it, mean over coordinates (1
        is honest); NaN where none is told.
    """

    image: np.ndarray
    coordinates: np.ndarray
    deviation: np.ndarray


@torch.no_grad()
def errors(predictor: Predictor, network: IndependentModularNetwork, data: Transitions,
           starts: np.ndarray, seen: int, steps: int, shuffled: bool = False,
           progress: str | None = None) -> Errors:
    """
    Judge a predictor.

    :param predictor: goes on from what was seen.
    :param network: the perception.
    :param data: transitions.
    :param starts: (W,) first frames of windows.
    :param seen: C, frames that are observed.
    :param steps: T.
    :param shuffled: whether each window gets the future actions of another one.
    :param progress: name of a bar.
    """
    image, coordinates, deviation = [], [], []
    for rows in _parts(starts, progress):
        window = cut(data, starts[rows], seen, steps)
        given = window
        if shuffled:
            # The next window but several of another clip: neighbours share most of their actions.
            others = cut(data, starts[(rows + len(starts) // 2) % len(starts)], seen, steps)
            action = window.action.clone()
            action[:, seen - 1:] = others.action[:, seen - 1:]
            given = replace(window, action=action)
        means, variances = predictor(given)
        miss = (means - window.mean[:, seen:]).square()
        coordinates.append(miss.sum((2, 3)))
        if variances is not None and isinstance(predictor, FlowPredictor):
            total = variances + predictor.noise(window)[:, seen:]
            deviation.append((miss / total).mean((2, 3)))
        image.append((pictures(network, window, means) - _truth(network, data, window)
                      ).square().mean((2, 3, 4)))
    told = torch.cat(deviation).mean(0).numpy() if deviation else np.full(steps, np.nan)
    return Errors(torch.cat(image).mean(0).numpy(), torch.cat(coordinates).mean(0).numpy(), told)


@torch.no_grad()
def last_image_error(network: IndependentModularNetwork, data: Transitions, starts: np.ndarray,
                     seen: int, steps: int) -> np.ndarray:
    """:return: (T,) squared image error of showing the last image again."""
    rows = []
    for part in _parts(starts, None):
        window = cut(data, starts[part], seen, steps)
        last = network.reduced(pixels(data.images[window.rows[:, seen - 1]]))
        rows.append((last[:, None] - _truth(network, data, window)).square().mean((2, 3, 4)))
    return torch.cat(rows).mean(0).numpy()


@torch.no_grad()
def floor(network: IndependentModularNetwork, data: Transitions, starts: np.ndarray, seen: int,
          steps: int) -> np.ndarray:
    """:return: (T,) squared image error of the true frame's own coordinates, the perception's."""
    rows = []
    for part in _parts(starts, None):
        window = cut(data, starts[part], seen, steps)
        shown = pictures(network, window, window.mean[:, seen:])
        rows.append((shown - _truth(network, data, window)).square().mean((2, 3, 4)))
    return torch.cat(rows).mean(0).numpy()


def pictures(network: IndependentModularNetwork, window: Window, means: Tensor) -> Tensor:
    """:return: (B, T, 3, H, W) in [0, 1] of coordinates (B, T, m, L) on the window's identity."""
    steps = means.shape[1]
    shown = decode(network, means.flatten(0, 1), window.identity.repeat_interleave(steps),
                   window.active.repeat_interleave(steps, 0))
    return shown.clamp(0, 1).unflatten(0, (-1, steps))


def _truth(network: IndependentModularNetwork, data: Transitions, window: Window) -> Tensor:
    rows = window.rows[:, window.seen:]
    return network.reduced(pixels(data.images[rows.ravel()])).unflatten(0, rows.shape)


def _parts(starts: np.ndarray, progress: str | None) -> tqdm:
    return tqdm(np.array_split(np.arange(len(starts)), -(-len(starts) // BATCH)), progress or '',
                disable=progress is None, leave=False)
