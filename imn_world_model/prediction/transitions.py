"""What a perception says of a log's frames, with what was done between them."""
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from imn_world_model.base.errors import UserError
from imn_world_model.data.actions import Actions, load_actions
from imn_world_model.data.cache import built_once, default_cache_dir
from imn_world_model.data.frames import Frames, ImageRows, load_frames
from imn_world_model.learning.run import Run, weights_hash
from imn_world_model.model.combine import active_product
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.observe import pixels

TRAIN, VALIDATION, TEST = range(3)
BATCH = 128


@dataclass(frozen=True)
class Transitions:
    """
    N frames as a perception sees them, and the actions between them.

    :param mean: (N, m, L) posterior means.
    :param variance: (N, m, L) posterior variances.
    :param identity: (N,) int64 winners.
    :param active: (N, m) bool, the winners' modules.
    :param action: (N, A) float32 from each frame to the next; NaN where unknown.
    :param seconds: (N,) float32 to the next frame; NaN where there is none.
    :param run_length: (N,) how many steps follow a frame in its clip with known actions.
    :param clip: (N,) clip of each frame.
    :param split: (N,) 0 train, 1 validation, 2 test.
    :param images: (N, S, S, 3) uint8, read when indexed.
    :param names: of the A numbers.
    :param units: of each.
    :param topic: of the actions.
    :param notes: gaps and other oddities, a line each.
    """

    mean: Tensor
    variance: Tensor
    identity: Tensor
    active: Tensor
    action: Tensor
    seconds: Tensor
    run_length: np.ndarray
    clip: np.ndarray
    split: np.ndarray
    images: ImageRows
    names: tuple[str, ...]
    units: tuple[str, ...]
    topic: str
    notes: tuple[str, ...]

    def starts(self, split: int | None, steps: int) -> np.ndarray:
        """
        Frames that windows can begin with.

        :param split: of the frames; ``None`` for any.
        :param steps: that must follow.
        :return: (K,) rows.
        """
        fits = self.run_length >= steps
        return np.flatnonzero(fits if split is None else fits & (self.split == split))


def load_transitions(run: Run, paths: list[Path] | list[str], topic: str | None = None,
                     names: tuple[str, ...] | None = None, progress: bool = True) -> Transitions:
    """
    Read logs, their actions, and what the run's network says of their frames.

    :param run: the perception.
    :param paths: logs.
    :param topic: of the actions, see :func:`actions.load_actions`.
    :param names: numbers of the action that are wanted.
    :param progress: whether to show bars.
    :raises UserError: when there are no frames or no actions.
    """
    # Frames in which nothing moves tell that no action changes nothing.
    frames = load_frames(paths, replace(run.data_options, still=0.0), progress)
    actions = load_actions(frames, topic, names)
    return joined(encoded(run, frames, progress), frames, actions)


def joined(encoded: dict[str, Tensor], frames: Frames, actions: Actions) -> Transitions:
    """:return: what is seen of frames, with the actions between them."""
    known = ~(np.isnan(actions.value).any(1) | np.isnan(actions.seconds))
    return Transitions(
        **encoded, action=torch.from_numpy(actions.value).float(),
        seconds=torch.from_numpy(actions.seconds).float(),
        run_length=run_lengths(known, frames.clip), clip=frames.clip, split=frames.split,
        images=frames.images, names=actions.names, units=actions.units, topic=actions.topic,
        notes=(*frames.notes, *actions.notes))


def encoded(run: Run, frames: Frames, progress: bool = True) -> dict[str, Tensor]:
    """
    What a run's network says of frames, kept in the cache of decoded frames.

    :return: ``mean`` and ``variance`` (N, m, L), ``identity`` (N,), ``active`` (N, m).
    """
    options = replace(run.data_options, cache_dir=None, workers=0)
    key = hashlib.sha256(f'{weights_hash(run.network)}{frames.content_hash}{options}'
                         f'{len(frames.images)}'.encode()).hexdigest()[:32]
    path = (run.data_options.cache_dir or default_cache_dir()) / f'{key}.encoded.pt'
    with built_once(path, Path.exists) as scratch:
        if scratch:
            torch.save(encode(run.network, frames, progress), scratch)
    return torch.load(path, weights_only=True)


@torch.no_grad()
def encode(network: IndependentModularNetwork, frames: Frames,
           progress: bool = True) -> dict[str, Tensor]:
    """:return: what a network says of frames, see :func:`encoded`."""
    columns: list[list[Tensor]] = [[], [], [], []]
    bar = tqdm(range(0, len(frames.images), BATCH), 'encoding', disable=not progress, leave=False,
               unit=' batches')
    for start in bar:
        output = network(pixels(frames.images[start:start + BATCH]))
        for column, value in zip(columns, (output.encoding.mu, output.encoding.logvar.exp(),
                                           output.identity, output.active), strict=True):
            column.append(value)
    return dict(zip(('mean', 'variance', 'identity', 'active'), map(torch.cat, columns),
                    strict=True))


def run_lengths(known: np.ndarray, clip: np.ndarray) -> np.ndarray:
    """
    How far one can go on from each frame.

    :param known: (N,) whether the action to the next frame is known.
    :param clip: (N,).
    :return: (N,) steps until an action is missing or the clip ends.
    """
    length = np.zeros(len(known), np.int64)
    for i in range(len(known) - 2, -1, -1):
        if known[i] and clip[i] == clip[i + 1]:
            length[i] = length[i + 1] + 1
    return length


def decode(network: IndependentModularNetwork, mean: Tensor, identity: Tensor,
           active: Tensor) -> Tensor:
    """
    Eq. (1), (4) to (6) for given coordinates.

    :param mean: (B, m, L).
    :param identity: (B,) int64.
    :param active: (B, m) bool.
    :return: (B, 3, H, W), about [0, 1].
    """
    transform = active_product(network.compositional.transform(mean), active)
    return network.decoder(transform @ network.identities()[identity])


def require_windows(data: Transitions, split: int | None, steps: int, what: str) -> np.ndarray:
    """:raises UserError: when no clip is long enough; :return: the windows' first frames."""
    starts = data.starts(split, steps)
    if not len(starts):
        longest = int(data.run_length[data.split == split].max(initial=0) if split is not None
                      else data.run_length.max(initial=0))
        raise UserError(f'no {what} of {steps} steps with actions: the longest has {longest}; '
                        'give longer clips or more of them'
                        + (f' ({data.notes[-1]})' if data.notes else ''))
    return starts
