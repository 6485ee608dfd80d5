"""
What the modules' coordinates are drawn to at first: subspaces of the images.

Photographs: principal components of what varies within a clip (:class:`ClipComponents`). 3Dshapes:
independent subspaces (:class:`IndependentSubspaces`).

A hue takes two coordinates, being a circle, and the price of a coordinate is the same whichever
module it belongs to. Hues of like variance become worth their coordinates at once; each module
then grasps one coordinate of two hues, or mixtures, and no penalty leads from there to one hue
each. The images tell how it should be: their principal components, made independent, fall into
groups that depend on each other (independent subspace analysis, Hyvärinen and Hoyer 2000,
doi:10.1162/089976600300015312). A group is the first guess of a module's coordinates.
"""
import warnings

import numpy as np
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import mutual_info_regression

from imn_world_model.data.frames import ImageRows

SIDE = 16
# Nats that two components must tell of each other to be of one group. A circle's two tell 0.4 and
# more; so do, by traces of each other, components of two hues, which is why the most telling pairs
# come first.
MIN_INFORMATION = 0.2
MAX_INFORMATION_IMAGES = 4000
# Fewer images say nothing of what depends on what.
MIN_IMAGES = 100
# Images whose principal components are looked for, frames of a clip that make its mean, and the
# share of the largest component's variance below which a component tells nothing.
MAX_COMPONENT_IMAGES, MEAN_FRAMES, LEAST_VARIANCE = 4000, 64, 1e-4


class IndependentSubspaces:
    """
    Groups of up to L linear functions of an image, one group for each module.

    Components with less than 1 / (2 m L) of the images' variance are left out: what is left is
    harmonics of the first ones. A component that depends on no other has no say either.

    :param images: (K, S, S, 3) uint8, a sample of the training images; S a multiple of 16.
    :param num_modules: m.
    :param num_latents: L.
    :param seed: of ICA's start.
    """

    def __init__(self, images: np.ndarray, num_modules: int, num_latents: int, seed: int) -> None:
        self.shape = num_modules, num_latents
        pixels = thumbnails(images)                                      # (K, 768)
        self.mean = pixels.mean(0)
        centred = pixels - self.mean
        self.weight = np.full((pixels.shape[1], num_modules * num_latents), np.nan)
        if len(images) < MIN_IMAGES:
            return
        weight, size = independent_components(centred, 0.5 / (num_modules * num_latents), seed)
        # Every part of the data has a say: a sample comes in the order of recording.
        stride = -(-len(centred) // MAX_INFORMATION_IMAGES)
        groups = dependent_groups(centred[::stride] @ weight, num_latents, seed)
        groups.sort(key=lambda group: -size[group].sum())
        for module, group in enumerate(groups[:num_modules]):
            first = module * num_latents
            self.weight[:, first:first + len(group)] = weight[:, group]

    def coordinates(self, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """
        The modules' first guess of their coordinates.

        :param images: (B, S, S, 3) uint8.
        :param rows: (B,) their numbers, of no use here.
        :return: (B, m, L) float32 of unit variance, NaN where a coordinate is free.
        """
        values = (thumbnails(images) - self.mean) @ self.weight
        return values.reshape(-1, *self.shape).astype(np.float32)


class ClipComponents:
    """
    Principal components of how an image differs from the mean of its clip.

    What a clip keeps is the object, which the identity holds; what varies within it is for the
    modules: how the object is turned, the light. Left to themselves the coordinates of many
    photographed objects tell the turn half as well after as many steps (docs/photographs.md).

    :param images: (N, S, S, 3) uint8 training images; S a multiple of 16.
    :param clip: (N,) clip of each.
    :param num_modules: m; the first takes the L largest components, and so on.
    :param num_latents: L.
    :param seed: of the images that are looked at.
    """

    def __init__(self, images: ImageRows, clip: np.ndarray, num_modules: int, num_latents: int,
                 seed: int) -> None:
        self.images, self.clip, self.shape = images, clip, (num_modules, num_latents)
        self.means: dict[int, np.ndarray] = {}
        rng = np.random.default_rng(seed)
        rows = np.sort(rng.permutation(len(clip))[:MAX_COMPONENT_IMAGES])
        apart = self._apart(images[rows], rows)
        values, vectors = np.linalg.eigh(apart.T @ apart / len(apart))
        count = num_modules * num_latents
        values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
        self.weight = np.full((apart.shape[1], count), np.nan)
        told = values > LEAST_VARIANCE * values[0] if values[0] > 0 else np.zeros(count, bool)
        self.weight[:, told] = vectors[:, told] / np.sqrt(values[told])

    def coordinates(self, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """
        The modules' first guess of their coordinates.

        :param images: (B, S, S, 3) uint8.
        :param rows: (B,) their numbers among the training images.
        :return: (B, m, L) float32 of unit variance, NaN where a coordinate is free.
        """
        values = self._apart(images, rows) @ self.weight
        return values.reshape(-1, *self.shape).astype(np.float32)

    def _apart(self, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """:return: (B, 768), images (B, S, S, 3) less the mean of their clips."""
        return thumbnails(images) - np.stack([self._mean(int(k)) for k in self.clip[rows]])

    def _mean(self, clip: int) -> np.ndarray:
        """:return: (768,), of frames that are spread over the clip."""
        if clip not in self.means:
            frames = np.flatnonzero(self.clip == clip)
            few = frames[np.linspace(0, len(frames) - 1, MEAN_FRAMES).round().astype(int)]
            self.means[clip] = thumbnails(self.images[np.unique(few)]).mean(0)
        return self.means[clip]


def thumbnails(images: np.ndarray) -> np.ndarray:
    """:return: (K, 768) in [0, 1], the images (K, S, S, 3) uint8 at 16x16 pixels."""
    count, side = images.shape[:2]
    cells = images.reshape(count, SIDE, side // SIDE, SIDE, side // SIDE, 3)
    return cells.mean((2, 4), dtype=np.float32).reshape(count, -1) / 255.0


def independent_components(centred: np.ndarray, min_share: float,
                           seed: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Principal components that matter, turned so that they are independent (FastICA).

    :param centred: (K, D), mean zero.
    :param min_share: of all variance, that a principal component must hold.
    :param seed: of FastICA's start.
    :return: weights (D, C) to components of unit variance, and the variance (C,) that each holds.
    """
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    values, vectors = values[::-1], vectors[:, ::-1]
    count = int((values > min_share * values.sum()).sum())
    white = vectors[:, :count] / np.sqrt(values[:count])
    if count < 2:
        return white, values[:count]
    analysis = FastICA(whiten=False, max_iter=1000, random_state=seed)
    with warnings.catch_warnings():
        # Components within a circle are never independent; they need not settle.
        warnings.simplefilter('ignore', ConvergenceWarning)
        analysis.fit(centred @ white)
    rotation = analysis.components_.T                                    # (C, C)
    return white @ rotation, values[:count] @ rotation ** 2


def dependent_groups(components: np.ndarray, largest: int, seed: int) -> list[list[int]]:
    """
    Put components together that tell of each other, the most telling pair first.

    :param components: (K, C).
    :param largest: members of a group at most.
    :param seed: of the estimator of mutual information.
    :return: groups of two members or more.
    """
    count = components.shape[1]
    information = [mutual_info_regression(components, components[:, i], random_state=seed)
                   for i in range(count)]
    groups = [[i] for i in range(count)]
    pairs = ((information[i][j], i, j) for i in range(count) for j in range(i))
    for value, i, j in sorted(pairs, reverse=True):
        one, other = (next(group for group in groups if k in group) for k in (i, j))
        if value > MIN_INFORMATION and one is not other and len(one) + len(other) <= largest:
            one += other
            groups.remove(other)
    return [group for group in groups if len(group) > 1]
