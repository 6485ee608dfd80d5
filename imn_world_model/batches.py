"""The batch of every training step, a function of (seed, step) alone: resuming needs no memory."""
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from imn_world_model.augment import common_hues, flip, move, recolor
from imn_world_model.config import Config
from imn_world_model.errors import UserError
from imn_world_model.subspaces import IndependentSubspaces

# Frames that tell which hues a log has in common.
HUE_SAMPLE = 500
# Images whose independent subspaces are looked for.
SUBSPACE_SAMPLE = 8000


class ImageRows(Protocol):
    """Images (N, S, S, 3) uint8 that are read when indexed, by a number or an array of numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any) -> np.ndarray: ...


class Batches(Dataset):
    """
    Batches of grouped views; item ``step`` is that step's batch.

    With several processes each makes its own share of one global batch, so that N processes see
    together what one process sees alone.

    :param images: (N, S, S, 3) uint8 training images.
    :param clip: (N,) clip of each image.
    :param config: of the run.
    :param labels: (N,) class indices, only for the ID classifier.
    :param rank: this process.
    :param world_size: number of processes.
    """

    def __init__(self, images: ImageRows, clip: np.ndarray, config: Config,
                 labels: np.ndarray | None = None, rank: int = 0, world_size: int = 1) -> None:
        train = config.train
        groups = train.batch_size // train.views
        if groups % world_size:
            raise UserError(f'{groups} groups per step (train.batch_size / train.views) cannot be '
                            f'shared by {world_size} processes; use a multiple')
        if len(images) == 0:
            raise UserError('no training images: every frame fell into validation or test, '
                            'or none could be read; give more data')
        self.images, self.labels, self.config = images, labels, train
        self.rank, self.world_size = rank, world_size
        # Frames of one clip, next to each other.
        self.order = np.argsort(clip, kind='stable')
        _, self.start, self.length = np.unique(clip[self.order], return_index=True,
                                               return_counts=True)
        self.kept_hues: np.ndarray | None = None
        if train.recolor:
            self.kept_hues = common_hues(self._sample(HUE_SAMPLE))
        self.subspaces: IndependentSubspaces | None = None
        if train.subspace_steps:
            self.subspaces = IndependentSubspaces(
                self._sample(SUBSPACE_SAMPLE), config.model.num_modules,
                config.model.num_latents, train.seed)
        if train.share == 'clip' and self.length.max() == 1:
            raise UserError("train.share is 'clip' but every clip has a single frame; "
                            "use logs or set train.share to 'augment'")

    def _sample(self, count: int) -> np.ndarray:
        """:return: (count, S, S, 3), images drawn at random, or all if there are fewer."""
        rng = np.random.default_rng(self.config.seed)
        rows = rng.choice(len(self.images), min(len(self.images), count), replace=False)
        return self.images[np.sort(rows)]

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """
        One step's batch (this process's share of it).

        :param step: from 0.
        :return: ``image`` (B, 3, S, S) float32 in [0, 1], views of a group next to each other;
            ``label`` (B,) int64 where labels were given; ``subspace`` (B, m, L) float32 in the
            first ``subspace_steps``, NaN where a coordinate is free.
        """
        config = self.config
        rng = np.random.default_rng((config.seed, step))
        chosen = self._choose(rng)
        mine = np.array_split(np.arange(len(chosen)), self.world_size)[self.rank]
        views = np.stack([self._view(self.images[chosen[i]], (config.seed, step, i))
                          for i in mine])
        image = torch.from_numpy(views).permute(0, 3, 1, 2).contiguous()
        batch = {'image': image.float() / 255.0}
        if self.subspaces is not None and step < config.subspace_steps:
            batch['subspace'] = torch.from_numpy(self.subspaces.coordinates(views))
        if self.labels is not None:
            batch['label'] = torch.from_numpy(self.labels[chosen[mine]])
        return batch

    def _choose(self, rng: np.random.Generator) -> np.ndarray:
        """:return: (batch_size,) image numbers, group after group."""
        config = self.config
        groups = config.batch_size // config.views
        if config.share != 'clip':
            return np.repeat(rng.integers(len(self.images), size=groups), config.views)
        # Clips are drawn by their number of frames: every frame is seen equally often.
        frame = rng.integers(len(self.images), size=groups)
        clip = np.searchsorted(self.start, frame, side='right') - 1
        chosen = []
        for start, length in zip(self.start[clip], self.length[clip], strict=True):
            again = length < config.views
            chosen.append(start + rng.choice(length, size=config.views, replace=bool(again)))
        return self.order[np.concatenate(chosen)]

    def _view(self, image: np.ndarray, seed: tuple[int, ...]) -> np.ndarray:
        """:return: (S, S, 3) uint8, the image with its own augmentation."""
        config = self.config
        if not (config.recolor or config.zoom or config.shift or config.flip):
            return np.asarray(image)
        rng = np.random.default_rng(seed)
        view = np.ascontiguousarray(image)
        if config.recolor:
            view = recolor(view, rng, self.kept_hues)
        if config.zoom or config.shift:
            view = move(view, config.zoom, config.shift, rng)
        return flip(view, rng) if config.flip else view
