"""The batch of every training step, a function of (seed, step) alone: resuming needs no memory."""
import copy
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from imn_world_model.base.config import Config, TrainConfig
from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import ImageRows
from imn_world_model.learning.augment import (
    common_hues,
    flip,
    hue_curve,
    mirrored,
    motion,
    move,
    recolor,
)
from imn_world_model.learning.photographs import Backgrounds, vary
from imn_world_model.learning.subspaces import ClipComponents, IndependentSubspaces
from imn_world_model.vision.cutout import along, covered

# Frames that tell which hues a log has in common.
HUE_SAMPLE = 500
# Images whose independent subspaces are looked for.
SUBSPACE_SAMPLE = 8000


# Views of an image whose features are kept where they do not change: 5 KB each.
VIEWS_KEPT = 4
# More views at a time take gigabytes of memory in a large network.
LOOKED_AT_TOGETHER = 16


class Turned:
    """
    Pictures of objects that are alone, turned level as they are read, see :func:`cutout.along`.

    :param images: (N, S, S, 3) uint8.
    """

    def __init__(self, images: ImageRows) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> np.ndarray:
        found = np.asarray(self.images[index])
        if found.ndim == 3:
            return along(found)
        return np.stack([along(image) for image in found]) if len(found) else found


def backgrounds_of(images: ImageRows, config: Config) -> Backgrounds | None:
    """:return: what a run's views are made with."""
    if not config.train.photo:
        return None
    return Backgrounds(images, config.model.side, config.train.seed,
                       config.model.background == 'remove')


def sample(images: ImageRows, count: int, seed: int) -> np.ndarray:
    """:return: (count, S, S, 3), images drawn at random, or all if there are fewer."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(images), min(len(images), count), replace=False)
    return images[np.sort(rows)]


class RecognizerViews:
    """
    Views of images as the recognizer learns from them.

    :param images: (N, S, S, 3) uint8.
    :param backgrounds: that objects are put before, see :func:`backgrounds_of`; ``None`` leaves
        the pictures as they are.
    :param seed: of the views that are kept.
    :param anyhow: share of the views that are turned any way.
    :param look: from views (B, 3, S, S) to features (B, d) that do not change in training;
        ``None`` where the pictures themselves are wanted.
    :param hues: (256,) boolean, the hues that stay when views are recoloured; ``None`` for no
        such change.
    """

    def __init__(self, images: ImageRows, backgrounds: Backgrounds | None, seed: int,
                 anyhow: float, look: Callable[[Tensor], Tensor] | None = None,
                 hues: np.ndarray | None = None) -> None:
        self.images, self.backgrounds, self.seed = images, backgrounds, seed
        self.anyhow, self.look, self.hues = anyhow, look, hues
        self.kept: dict[tuple[int, int], Tensor] = {}
        self.finish: Callable[[Tensor], Tensor] | None = None

    def through(self, features: Callable[[Tensor], Tensor]) -> 'RecognizerViews':
        """
        What a recognizer makes of these views, itself settled.

        :param features: from views (B, 3, S, S), or from their features where they have some, to
            features (B, d).
        """
        if self.look is None:
            return RecognizerViews(self.images, self.backgrounds, self.seed, self.anyhow, features,
                                   self.hues)
        views = copy.copy(self)
        views.finish = features
        return views

    def make(self, rows: np.ndarray, seed: tuple[int, ...]) -> Tensor:
        """
        A view of each image.

        :param rows: (B,) image numbers.
        :param seed: of the views.
        :return: (B, 3, S, S) float32 in [0, 1]; with ``look`` its features (B, d) of one of
            :data:`VIEWS_KEPT` views.
        """
        if self.look is None:
            return self._views(rows, seed)
        chosen = np.random.default_rng(seed).integers(VIEWS_KEPT, size=len(rows))
        kept = self._kept(rows, chosen)
        if self.finish is None:
            return kept
        with torch.no_grad():
            return self.finish(kept)

    def every(self, rows: np.ndarray) -> Tensor:
        """
        The features of all kept views; the first of each image is the image itself.

        :param rows: (K,) image numbers.
        :return: (K, :data:`VIEWS_KEPT`, d).
        """
        views = np.tile(np.arange(VIEWS_KEPT), len(rows))
        return self._kept(np.repeat(rows, VIEWS_KEPT), views).unflatten(
            0, (len(rows), VIEWS_KEPT))

    def _kept(self, rows: np.ndarray, views: np.ndarray) -> Tensor:
        """:return: (B, d), features of views (B,) of images (B,), made when first needed."""
        assert self.look is not None
        keys = [(int(row), int(view)) for row, view in zip(rows, views, strict=True)]
        missing = [key for key in dict.fromkeys(keys) if key not in self.kept]
        if missing:
            with torch.no_grad():
                for start in range(0, len(missing), LOOKED_AT_TOGETHER):
                    few = missing[start:start + LOOKED_AT_TOGETHER]
                    found = self.look(torch.cat([self._view(*key) for key in few]))
                    self.kept.update(zip(few, found, strict=True))
        return torch.stack([self.kept[key] for key in keys])

    def _view(self, row: int, view: int) -> Tensor:
        """:return: (1, 3, S, S), a view that is kept; the first is the image itself."""
        if view == 0:
            image = torch.from_numpy(np.ascontiguousarray(self.images[np.array([row])]))
            return image.movedim(-1, 1).float() / 255.0
        return self._views(np.array([row]), (self.seed, 4, row, view))

    def _views(self, rows: np.ndarray, seed: tuple[int, ...]) -> Tensor:
        """:return: (B, 3, S, S) float32 in [0, 1], a new view of each image."""
        views = self.images[rows]
        if self.backgrounds is not None:
            views = np.stack([
                self.backgrounds.exchange(int(row), view, np.random.default_rng((*seed, i)))
                for i, (row, view) in enumerate(zip(rows, views, strict=True))])
        if self.hues is not None:
            views = np.stack([recolor(view, np.random.default_rng((*seed, 5, i)), self.hues)
                              for i, view in enumerate(views)])
        image = torch.from_numpy(views).permute(0, 3, 1, 2).contiguous().float() / 255.0
        if self.backgrounds is None:
            return image
        mixed = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
        mask = torch.from_numpy(covered(views)) if self.backgrounds.removed else None
        return vary(image, torch.Generator().manual_seed(int(mixed >> np.uint64(1))), self.anyhow,
                    mask)


class Changes:
    """
    What a view may change about an image: colours, size, place, side, as the preset says.

    :param images: (N, S, S, 3) uint8 training images; tell which hues stay.
    :param config: training options.
    """

    def __init__(self, images: ImageRows, config: TrainConfig) -> None:
        self.images, self.config = images, config
        self.kept_hues: np.ndarray | None = None
        if config.recolor:
            self.kept_hues = common_hues(sample(images, HUE_SAMPLE, config.seed))

    @property
    def any(self) -> bool:
        """Whether views differ from their images."""
        config = self.config
        return bool(config.recolor or config.zoom or config.shift or config.flip)

    def view(self, row: int, seed: tuple[int, ...]) -> np.ndarray:
        """:return: (S, S, 3) uint8, an image with its own changes."""
        config, image = self.config, self.images[row]
        if not self.any:
            return np.asarray(image)
        rng = np.random.default_rng(seed)
        view = np.ascontiguousarray(image)
        if config.recolor:
            view = recolor(view, rng, self.kept_hues)
        if config.zoom or config.shift:
            view = move(view, config.zoom, config.shift, rng)
        return flip(view, rng) if config.flip else view

    def drawn(self, count: int, side: int, seeds: Iterable[tuple[int, ...]]) -> dict[str, Tensor]:
        """
        What :meth:`view` would do, for :func:`augment_on_device.changed`: the same random numbers.

        :param count: B.
        :param side: S of the images.
        :param seeds: of each view.
        :return: that function's options.
        """
        config = self.config
        curve = np.zeros((count, 256), np.uint8)
        matrix = np.zeros((count, 2, 3), np.float32)
        mirror = np.zeros(count, bool)
        for i, seed in enumerate(seeds):
            rng = np.random.default_rng(seed)
            if config.recolor:
                curve[i] = hue_curve(rng, self.kept_hues)
            if config.zoom or config.shift:
                matrix[i] = motion(side, side, config.zoom, config.shift, rng)
            if config.flip:
                mirror[i] = mirrored(rng)
        asked = (('curve', curve, config.recolor), ('matrix', matrix, config.zoom or config.shift),
                 ('mirror', mirror, config.flip))
        return {name: torch.from_numpy(value) for name, value, wanted in asked if wanted}

    def make(self, rows: np.ndarray, seed: tuple[int, ...]) -> Tensor:
        """:return: (B, 3, S, S) float32 in [0, 1], a view of each of the images (B,)."""
        views = np.stack([self.view(row, (*seed, i)) for i, row in enumerate(rows)])
        return torch.from_numpy(views).permute(0, 3, 1, 2).contiguous().float() / 255.0


def pixels(views: Tensor, image_size: int) -> Tensor:
    """
    What training makes of bytes, on the device that they are on.

    :param views: (B, S, S, 3) uint8.
    :param image_size: H.
    :return: (B, 3, H, H) float32 in [0, 1]; colours next to each other in memory, as patches want
        them.
    """
    image = views.permute(0, 3, 1, 2).float() / 255.0
    times = image.shape[-1] // image_size
    return F.avg_pool2d(image, times) if times > 1 else image


class Batches(Dataset):
    """
    Batches of grouped views; item ``step`` is that step's batch.

    With several processes each makes its own share of one global batch, so that N processes see
    together what one process sees alone.

    :param images: (N, S, S, 3) uint8 training images.
    :param clip: (N,) clip of each image.
    :param config: of the run.
    :param labels: (N,) class indices, only for the ID classifier.
    :param views: of the same images, for the recognizer; ``None`` without one.
    :param raw: what a batch has in place of ``image`` where the device does the rest, see
        :meth:`FrameBatches.on_after_batch_transfer`: ``views`` (B, S, S, 3) uint8, or ``rows``
        (B,) int64 of images that lie there, with what to change; empty for ``image``.
    :param rank: this process.
    :param world_size: number of processes.
    """

    def __init__(self, images: ImageRows, clip: np.ndarray, config: Config,
                 labels: np.ndarray | None = None, rank: int = 0, world_size: int = 1,
                 views: RecognizerViews | None = None,
                 raw: Literal['', 'views', 'rows'] = '') -> None:
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
        self.image_size, self.raw = config.model.image_size, raw
        self.side = images[np.arange(1)].shape[1]
        # Frames of one clip, next to each other.
        self.order = np.argsort(clip, kind='stable')
        self.clip = np.unique(clip, return_inverse=True)[1]
        _, self.start, self.length = np.unique(clip[self.order], return_index=True,
                                               return_counts=True)
        self.views = views
        self.changes = Changes(images, train)
        self.subspaces: IndependentSubspaces | ClipComponents | None = None
        if train.subspace_steps and train.subspaces == 'clip':
            self.subspaces = ClipComponents(images, self.clip, config.model.num_modules,
                                            config.model.num_latents, train.seed)
        elif train.subspace_steps:
            self.subspaces = IndependentSubspaces(
                sample(images, SUBSPACE_SAMPLE, train.seed), config.model.num_modules,
                config.model.num_latents, train.seed)
        if train.share == 'clip' and self.length.max() == 1:
            raise UserError("train.share is 'clip' but every clip has a single frame; "
                            "use logs, raise --gap for a slow camera, give --sequences folder "
                            "for images that follow each other, or set train.share to 'augment'")

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """
        One step's batch (this process's share of it).

        :param step: from 0.
        :return: ``image`` (B, 3, H, H) float32 in [0, 1], views of a group next to each other;
            ``label`` (B,) int64 where labels were given; ``subspace`` (B, m, L) float32 in the
            first ``subspace_steps``, NaN where a coordinate is free; with a recognizer ``seen``
            (B, d), its features of other views of the images, and ``clip`` (B,) int64, from 0 on.
        """
        config = self.config
        rng = np.random.default_rng((config.seed, step))
        chosen = self._choose(rng)
        mine = np.array_split(np.arange(len(chosen)), self.world_size)[self.rank]
        drawn = self.subspaces is not None and step < config.subspace_steps
        batch: dict[str, Tensor] = {}
        if self.raw == 'rows' and not drawn:
            batch['rows'] = torch.from_numpy(chosen[mine])
            batch |= self.changes.drawn(len(mine), self.side,
                                        ((config.seed, step, i) for i in mine))
        else:
            views = np.stack([self.changes.view(chosen[i], (config.seed, step, i)) for i in mine])
            shown = torch.from_numpy(views)
            batch |= {'views': shown} if self.raw else {'image': pixels(shown, self.image_size)}
        if self.subspaces is not None and drawn:
            batch['subspace'] = torch.from_numpy(self.subspaces.coordinates(
                views, chosen[mine]))
        if self.labels is not None:
            batch['label'] = torch.from_numpy(self.labels[chosen[mine]])
        if self.views is not None:
            seed = (config.seed, 2, step, self.rank)
            batch['seen'] = self.views.make(chosen[mine], seed)
            batch['clip'] = torch.from_numpy(self.clip[chosen[mine]])
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
