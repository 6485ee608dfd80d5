"""Fitting a predictor of coordinates to transitions; the flow and its rivals alike."""
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from imn_world_model.base.errors import UserError
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.observe import pixels
from imn_world_model.prediction.flow import GroupFlow
from imn_world_model.prediction.transitions import (
    TRAIN,
    VALIDATION,
    Transitions,
    decode,
    require_windows,
)

MAX_GRADIENT_NORM = 1.0
# Steps into the future at the start of training, and the share of it until all are there.
FIRST_HORIZON, GROWTH = 5, 0.5
DECODED = 2                            # pictures of each window that are compared
WARM_UP = 50                           # steps
# How far into the future variances are held against errors, on how many windows, and how.
CALIBRATED = (1, 2, 5, 10, 20)
CALIBRATION, CALIBRATION_STEPS, CALIBRATION_RATE = 128, 40, 0.1


@dataclass(frozen=True)
class FitOptions:
    """
    How a predictor is fitted.

    :param steps: of the optimiser.
    :param batch: windows in each.
    :param seen: frames of a window that are observed.
    :param horizon: steps that are predicted, by the end.
    :param rate: of learning, at its highest.
    :param image_weight: of the squared image error, relative to that of coordinates.
    :param seed: of the draws.
    :raises UserError: for values outside their ranges.
    """

    steps: int = 800
    batch: int = 64
    seen: int = 5
    horizon: int = 20
    rate: float = 3e-3
    image_weight: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ('steps', 'batch', 'seen', 'horizon'):
            if getattr(self, name) < 1:
                raise UserError(f'{name} is {getattr(self, name)}; it must be at least 1')
        if not self.rate > 0:
            raise UserError(f'rate is {self.rate}; it must be above 0')


@dataclass(frozen=True)
class Window:
    """
    Stretches of clips, C frames seen and T to be predicted.

    :param rows: (B, C + T) frames.
    :param mean: (B, C + T, m, L) what the perception says of all.
    :param variance: (B, C + T, m, L).
    :param identity: (B,) winner of the last frame seen; it stays.
    :param active: (B, m) its modules.
    :param action: (B, C + T - 1, A).
    :param seconds: (B, C + T - 1).
    :param seen: C.
    """

    rows: np.ndarray
    mean: Tensor
    variance: Tensor
    identity: Tensor
    active: Tensor
    action: Tensor
    seconds: Tensor
    seen: int


class Predictor(Protocol):
    """Anything that goes on from what was seen of a window."""

    def __call__(self, window: Window) -> tuple[Tensor, Tensor | None]:
        """:return: (B, T, m, L) coordinates to come, and their variances where it tells any."""


def cut(data: Transitions, starts: np.ndarray, seen: int, steps: int) -> Window:
    """
    Cut windows.

    :param data: transitions.
    :param starts: (B,) first frames, from :meth:`Transitions.starts`.
    :param seen: C.
    :param steps: T.
    """
    rows = starts[:, None] + np.arange(seen + steps)
    last = rows[:, seen - 1]
    return Window(rows, data.mean[rows], data.variance[rows], data.identity[last],
                  data.active[last], data.action[rows[:, :-1]], data.seconds[rows[:, :-1]], seen)


class FlowPredictor(nn.Module):
    """
    The flow as a predictor: what is seen is fused on the way, as on the robot.

    :param flow: the flow.
    """

    def __init__(self, flow: GroupFlow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, window: Window) -> tuple[Tensor, Tensor]:
        """See :class:`Predictor`."""
        noise = self.noise(window)
        mean, variance = window.mean[:, 0], noise[:, 0]
        for k in range(1, window.seen):
            mean, variance = self.flow(mean, variance, window.identity, window.action[:, k - 1],
                                       window.seconds[:, k - 1])
            mean, variance = fuse(mean, variance, window.mean[:, k], noise[:, k])
        return self.flow.rollout(mean, variance, window.identity,
                                 window.action[:, window.seen - 1:],
                                 window.seconds[:, window.seen - 1:])

    def noise(self, window: Window) -> Tensor:
        """:return: (B, C + T, m, L), variances of what is new in each image's coordinates."""
        return window.variance * self.flow.trust


def fuse(mean: Tensor, variance: Tensor, seen: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """
    A Kalman update, coordinate by coordinate.

    :param mean: (B, m, L) predicted.
    :param variance: (B, m, L) of it.
    :param seen: (B, m, L) measured.
    :param noise: (B, m, L) its variance.
    :return: mean and variance after it.
    """
    gain = variance / (variance + noise)
    return mean + gain * (seen - mean), (1 - gain) * variance


def fit(predictor: nn.Module, network: IndependentModularNetwork, data: Transitions,
        options: FitOptions, state: dict[str, Any] | None = None,
        save: Callable[[int, dict[str, Any]], None] | None = None, every: int = 250,
        progress: str | None = None) -> list[dict[str, float]]:
    """
    Fit a predictor; every step is a function of the seed and its number.

    :param predictor: a :class:`Predictor`, changed in place.
    :param network: the perception, frozen.
    :param data: transitions; those of the training split are used.
    :param options: how.
    :param state: what ``save`` got, to go on from there.
    :param save: called with the step and what it takes to go on, now and then and at the end.
    :param every: steps between.
    :param progress: name of the progress bar; ``None`` for none.
    :return: loss terms now and then.
    :raises UserError: when no training clip is long enough, or the loss is not finite.
    """
    longest = int(data.run_length[data.split == TRAIN].max(initial=0))
    horizon = min(options.horizon, longest - options.seen + 1)
    if horizon < 1:
        require_windows(data, TRAIN, options.seen, 'training clip')
    network.requires_grad_(False)
    moved = data.mean[data.split == TRAIN].flatten(1).var(0).sum()
    optimizer = torch.optim.Adam(predictor.parameters(), options.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARM_UP) * 0.5 * (
            1 + float(np.cos(np.pi * min(step, options.steps) / options.steps))))
    first, log = 0, []
    if state is not None:
        predictor.load_state_dict(state['predictor'])
        optimizer.load_state_dict(state['optimizer'])
        schedule.load_state_dict(state['schedule'])
        first, log = state['step'], list(state['log'])
    predictor.train()
    bar = tqdm(range(first, options.steps), progress or '', options.steps, initial=first,
               disable=progress is None, leave=False, unit=' steps')
    for step in bar:
        rng = np.random.default_rng((options.seed, step))
        ahead = _horizon(step, options.steps, horizon)
        starts = data.starts(TRAIN, options.seen + ahead - 1)
        window = cut(data, rng.choice(starts, options.batch), options.seen, ahead)
        terms = _loss(predictor, network, data, window, moved, rng, options.image_weight)
        loss = terms['coordinates'] + options.image_weight * terms['image'] + terms['spread']
        if not torch.isfinite(loss):
            raise UserError(f'the loss is not finite at step {step}; lower the rate of learning')
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(predictor.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        schedule.step()
        done = step + 1
        if done == options.steps and isinstance(predictor, FlowPredictor):
            calibrate(predictor, data, options)
        if done % 25 == 0 or done == options.steps:
            log.append({'step': done, 'horizon': ahead}
                       | {name: value.item() for name, value in terms.items()})
            bar.set_postfix({name: f'{value.item():.3f}' for name, value in terms.items()})
        if save is not None and (done % every == 0 or done == options.steps):
            save(done, {'predictor': predictor.state_dict(), 'optimizer': optimizer.state_dict(),
                        'schedule': schedule.state_dict(), 'step': done, 'log': log})
    predictor.eval()
    return log


def _horizon(step: int, steps: int, horizon: int) -> int:
    """:return: steps to be predicted, which grow in the first part of training."""
    share = min(1.0, step / (GROWTH * steps))
    return max(1, min(horizon, round(FIRST_HORIZON + share * (horizon - FIRST_HORIZON))))


def _loss(predictor: nn.Module, network: IndependentModularNetwork, data: Transitions,
          window: Window, moved: Tensor, rng: np.random.Generator,
          image_weight: float) -> dict[str, Tensor]:
    """:return: loss terms, each about 1 for a predictor that knows nothing."""
    means, variances = predictor(window)
    truth = window.mean[:, window.seen:]
    miss = means - truth
    terms = {'coordinates': miss.square().flatten(2).sum(-1).mean() / moved,
             'image': torch.zeros(()), 'spread': torch.zeros(())}
    if image_weight:
        chosen = rng.integers(0, means.shape[1], (len(means), DECODED))
        rows = np.arange(len(means))[:, None]
        flat = means[rows, chosen].flatten(0, 1)
        shown = decode(network, flat, window.identity.repeat_interleave(DECODED),
                       window.active.repeat_interleave(DECODED, 0))
        seen = pixels(data.images[window.rows[rows, window.seen + chosen].ravel()])
        target = network.reduced(seen)
        scale = target.var(0).mean()                  # what differs between frames of the log
        terms['image'] = (shown - target).square().mean() / scale
    if isinstance(predictor, FlowPredictor):
        # What is new in an image is part of how far its coordinates lie from predicted ones.
        total = variances + predictor.noise(window)[:, window.seen:]
        terms['spread'] = 0.1 * (total.log() + miss.detach().square() / total).mean()
    return terms


def calibrate(predictor: FlowPredictor, data: Transitions, options: FitOptions) -> None:
    """
    Set the flow's caution by how errors grow on clips that training did not see.

    One factor for each coordinate on the deviations that grow, of greatest likelihood at
    :data:`CALIBRATED` steps. Where no validation clip is long enough it stays 1.

    :param predictor: fitted; its caution is changed in place.
    :param data: transitions; those of the validation split are used.
    :param options: frames seen and steps foreseen.
    """
    longest = int(data.run_length[data.split == VALIDATION].max(initial=0))
    steps = min(options.horizon, longest - options.seen + 1)
    if steps < 1:
        return
    starts = data.starts(VALIDATION, options.seen + steps - 1)
    rng = np.random.default_rng(options.seed)
    window = cut(data, rng.choice(starts, min(len(starts), CALIBRATION), replace=False),
                 options.seen, steps)
    asked = [step - 1 for step in CALIBRATED if step <= steps]
    flow, log_caution = predictor.flow, torch.zeros(len(predictor.flow.centre), requires_grad=True)
    optimizer = torch.optim.Adam([log_caution], CALIBRATION_RATE)
    truth, noise = (value[:, options.seen:][:, asked] for value in (
        window.mean, predictor.noise(window).detach()))
    for _ in range(CALIBRATION_STEPS):
        flow.caution = log_caution.exp()
        means, variances = predictor(window)
        total = variances[:, asked] + noise
        loss = (total.log() + (means[:, asked] - truth).square() / total).mean()
        log_caution.grad, = torch.autograd.grad(loss, log_caution)
        optimizer.step()
    flow.caution = log_caution.exp().detach()
