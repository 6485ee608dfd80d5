"""
How many objects are there, and which clip shows which? The first stage of ``objects`` presets.

The recognizer learns to tell clips apart (instance discrimination over clips in place of images:
Wu et al. 2018, arXiv:1805.01978). Two clips of one object can only be told apart by what is not
the object, which the views take away; what the recognizer confuses is the same object, see
:mod:`grouping`.
"""
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from imn_world_model.base.cli import write_whole
from imn_world_model.base.config import Config
from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import ImageRows
from imn_world_model.learning.augment import common_hues
from imn_world_model.learning.batches import HUE_SAMPLE, RecognizerViews, Turned, sample
from imn_world_model.learning.grouping import group
from imn_world_model.learning.likeness import outline_likeness
from imn_world_model.learning.names import learn_names
from imn_world_model.learning.photographs import Backgrounds
from imn_world_model.model.observe import pixels
from imn_world_model.model.recognition import Recognizer, pretrained_body, pretrained_features

FILE = 'recognition.pt'
# Frames of a clip that are looked at to group it.
FRAMES_LOOKED_AT = 32
BATCH = 256
# Images that principal components are found from.
SMALL_SAMPLE = 2000
# Images whose components are averaged for signatures, at most.
MAX_AVERAGED = 20_000
# The share without a trial: features that were not learnt from the log bear it.
UNTRIED = 0.3
# One frame of so many of a clip is kept back in the trial, at most so many in all.
KEEP_BACK, MAX_KEPT_BACK = 4, 2000
# Standard deviations of chance that a way must be better by (as in McNemar's test).
DOUBT = 2.0


class Way(NamedTuple):
    """How objects may lie: in words, whether they are turned level, views turned any way."""

    name: str
    turned: bool
    anyhow: float


# What is tried: things stand, or lie about.
WAYS = (Way('views as they are', False, 0.0),
        Way('half of the views turned any way', False, 0.5),
        Way('objects turned level', True, 0.0))


@dataclass(frozen=True)
class Discovery:
    """
    What the first stage found.

    :param recognizer: its trained weights.
    :param signature: (n, d) float32 of length 1, of the identities.
    :param identity: (K,) int64, the identity of every training clip.
    :param anyhow: share of views that are turned any way.
    :param turned: whether objects are turned level first, see :func:`cutout.along`.
    """

    recognizer: dict[str, Tensor]
    signature: Tensor
    identity: Tensor
    anyhow: float
    turned: bool = False

    def save(self, folder: Path) -> None:
        """Write into a run folder."""
        buffer = io.BytesIO()
        torch.save(vars(self), buffer)
        write_whole(folder / FILE, buffer.getvalue())

    @staticmethod
    def load(folder: Path) -> 'Discovery | None':
        """:return: what :meth:`save` wrote, or ``None`` where nothing was written yet."""
        path = folder / FILE
        if not path.exists():
            return None
        try:
            return Discovery(**torch.load(path, map_location='cpu', weights_only=True))
        except Exception as error:                    # damage shows in many ways
            raise UserError(f'{path} cannot be read ({type(error).__name__}); remove the run '
                            'folder and train again') from error


class Discoverer:
    """
    The first stage: a trial, clips, groups, identities.

    :param config: the whole run.
    :param images: (N, S, S, 3) uint8 training images.
    :param clip: (N,) clip of each image.
    :param backgrounds: for the views.
    :param hardware: Lightning's options of hardware and precision.
    :param progress: whether to show a bar.
    :raises UserError: when there are fewer than two clips.
    """

    def __init__(self, config: Config, images: ImageRows, clip: np.ndarray,
                 backgrounds: Backgrounds | None, hardware: dict[str, Any],
                 progress: bool = True) -> None:
        self.config, self.images, self.hardware = config, images, hardware
        self.backgrounds = backgrounds
        names, numbers = np.unique(clip, return_inverse=True)
        self.clip, self.num_clips = np.asarray(numbers, np.int64), len(names)
        self.progress = progress
        if self.num_clips < 2:
            raise UserError('the data has one clip for training; objects are told apart by '
                            'clips: give more recordings, or lower --gap or --max-clip')

    def run(self) -> Discovery:
        """:return: what was found."""
        train, model = self.config.train, self.config.model
        every = np.arange(len(self.clip))
        turned, anyhow = self._trial() if train.trial_steps else (False, UNTRIED)
        views = self.views = self._views(turned, anyhow)
        recognizer, signature = self._learn(views, every, self.clip, train.clip_steps)
        features, frozen, rows = look(recognizer, views.images, self.clip, views)
        of_clip = self.clip[rows]
        given = [] if frozen is None else [frozen]
        if model.background == 'remove':
            given.append(outline_likeness(self.images, rows, of_clip))
        identity = group(self._shapes(features), of_clip,
                         self._shapes(signature.numpy()), model.num_identities, given)
        n = max(int(identity.max()) + 1, model.num_identities)
        # Where there are fewer clips than identities the rest are drawn at random.
        mean = 0.01 * torch.randn(n, signature.shape[1],
                                  generator=torch.Generator().manual_seed(train.seed))
        mean.index_add_(0, torch.from_numpy(identity), signature)
        recognizer, signature = self._learn(views, every, identity[self.clip],
                                            train.clip_steps // 2, F.normalize(mean, dim=1),
                                            recognizer)
        return Discovery(recognizer.state_dict(), signature, torch.from_numpy(identity), anyhow,
                         turned)

    def _trial(self) -> tuple[bool, float]:
        """
        Are things turned any way? As frames of a clip that were kept back are recognised best.

        :return: whether to turn objects level, the share of views to turn any way.
        """
        kept_back = np.zeros(len(self.clip), bool)
        order = np.argsort(self.clip, kind='stable')
        start = np.searchsorted(self.clip[order], self.clip[order])
        place = np.arange(len(order)) - start
        kept_back[order] = place % KEEP_BACK == KEEP_BACK - 2
        rows, rest = np.flatnonzero(~kept_back), np.flatnonzero(kept_back)
        ways = [way for way in WAYS if self.config.model.turn == 'auto' or not way.turned]
        if not len(rest) or self.config.model.turn == 'level':
            return ways[0].turned, ways[0].anyhow
        rest = rest[:: -(-len(rest) // MAX_KEPT_BACK)]
        right = []
        for way in ways:
            views = self._views(way.turned, way.anyhow)
            recognizer, signature = self._learn(views, rows, self.clip[rows],
                                                self.config.train.trial_steps)
            # Colours tell nothing of how things lie.
            features = self._shapes(_features(recognizer, views.images, rest))
            answer = features @ self._shapes(signature.numpy()).T
            right.append(answer.argmax(1) == self.clip[rest])
        print('frames kept back and recognised as of their clip: '
              + ', '.join(f'{100 * each.mean():.1f} % with {way.name}'
                          for each, way in zip(right, ways, strict=True)))
        best = ways[clearly_best(right)]
        return best.turned, best.anyhow

    def _shapes(self, features: np.ndarray) -> np.ndarray:
        """:return: (K, d') of length 1: without colours, of which things of one kind have many."""
        kept = features[:, :features.shape[1] - self.config.model.recognizer_colours]
        return kept / np.linalg.norm(kept, axis=1, keepdims=True)

    def _views(self, turned: bool, anyhow: float) -> RecognizerViews:
        images = Turned(self.images) if turned else self.images
        return views_for(self.config, images, self.backgrounds, anyhow)

    def _learn(self, views: RecognizerViews, rows: np.ndarray, name: np.ndarray, steps: int,
               signature: Tensor | None = None, recognizer: Recognizer | None = None
               ) -> tuple[Recognizer, Tensor]:
        """:return: the recognizer in evaluation mode, and the signatures, both on the CPU."""
        lightning.seed_everything(self.config.train.seed, verbose=False)
        if signature is None:
            signature = torch.randn(self.num_clips, self.config.model.recognizer_features)
        if recognizer is None:
            recognizer = Recognizer(self.config.model)
            if recognizer.components is not None:
                some = sample(views.images, SMALL_SAMPLE, self.config.train.seed)
                recognizer.components.fit(recognizer.components.values(pixels(some)))
        recognizer, learnt = learn_names(
            recognizer, signature[:, :self.config.model.recognizer_features], views, rows, name,
            self.config, steps, self.hardware, self.progress)
        return recognizer, with_components(learnt, recognizer, views.images, rows, name)


def clearly_best(right: list[np.ndarray]) -> int:
    """
    The first way, unless another is better by more than chance lets two ways differ.

    :param right: for each way (R,) whether it was right, of the same frames.
    :return: number of the way.
    """
    best = int(np.argmax([each.mean() for each in right]))
    better, worse = (right[best] & ~right[0]).sum(), (right[0] & ~right[best]).sum()
    return best if better - worse > DOUBT * np.sqrt(better + worse) else 0


def with_components(learnt: Tensor, recognizer: Recognizer, images: ImageRows, rows: np.ndarray,
                    name: np.ndarray) -> Tensor:
    """
    Signatures with what needs no training: the mean of the principal components.

    :param learnt: (K, learnt d) of length 1, of the names.
    :param recognizer: knows the components, or has none.
    :param images: (N, S, S, 3) uint8.
    :param rows: (R,) image numbers.
    :param name: (R,) of those images.
    :return: (K, d) of length 1.
    """
    if recognizer.components is None:
        return learnt
    chosen = np.arange(len(rows))[:: -(-len(rows) // MAX_AVERAGED)]
    given = _of_each(recognizer.components, images, rows[chosen])
    total = torch.zeros(len(learnt), given.shape[1])
    total.index_add_(0, torch.from_numpy(name[chosen]), torch.from_numpy(given))
    return F.normalize(torch.cat((learnt, F.normalize(total, dim=1)), dim=1), dim=1)


def views_for(config: Config, images: ImageRows, backgrounds: Backgrounds | None,
              anyhow: float) -> RecognizerViews:
    """:return: views to learn from; with a frozen body what it makes of them."""
    body = None
    if config.model.recognizer != 'conv':
        body = partial(pretrained_features, pretrained_body())
    hues = None
    if config.train.recolor:
        hues = common_hues(sample(images, HUE_SAMPLE, config.train.seed))
    return RecognizerViews(images, backgrounds, config.train.seed, anyhow, body, hues)


@torch.no_grad()
def look(recognizer: Recognizer, images: ImageRows, clip: np.ndarray,
         views: RecognizerViews) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """
    Features of some frames of every clip.

    :param images: (N, S, S, 3) uint8.
    :param clip: (N,) from 0 on.
    :param views: of the images.
    :return: (K', d) features, what frozen features say of the mean view, ``None`` where there are
        none, and the frames' (K',) image numbers.
    """
    order = np.argsort(clip, kind='stable')
    start = np.searchsorted(clip[order], clip[order])
    place = np.arange(len(clip)) - start
    length = np.bincount(clip)[clip[order]]
    step = np.maximum(1, -(-length // FRAMES_LOOKED_AT))
    rows = np.sort(order[place % step == 0])
    if views.look is None:
        return _features(recognizer, images, rows), None, rows
    seen = views.every(rows)
    given = recognizer.given(seen.mean(1))
    assert given is not None
    return recognizer.features(seen[:, 0]).numpy(), given.numpy(), rows


def _features(recognizer: Recognizer, images: ImageRows, rows: np.ndarray) -> np.ndarray:
    """:return: features (K, d) of the images of rows (K,)."""
    return _of_each(recognizer.features, images, rows)


@torch.no_grad()
def _of_each(found: Callable[[Tensor], Tensor], images: ImageRows, rows: np.ndarray) -> np.ndarray:
    parts = []
    for part in np.array_split(rows, -(-len(rows) // BATCH)):
        parts.append(found(pixels(images[part])))
    return torch.cat(parts).numpy()
