"""
How alike the outlines of objects are, for :mod:`grouping`: nothing is trained for it.

Outlines tell the kind of a thing where colours and confusion do not. They are compared as objects
lie, or turned level: whichever shows better which frames are of one clip.
"""
import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from imn_world_model.data.frames import ImageRows
from imn_world_model.learning.batches import Turned
from imn_world_model.model.components import PictureComponents
from imn_world_model.model.observe import pixels

# Components of the coarse and of the fine outlines.
COMPONENTS = 50
BATCH = 64
# Frames whose nearest ones are looked for, at most.
MAX_COMPARED = 2000


def outline_likeness(images: ImageRows, rows: np.ndarray, clip: np.ndarray) -> np.ndarray:
    """
    What the outlines of objects that are alone say.

    :param images: (N, S, S, 3) uint8, objects before plain grey.
    :param rows: (K,) image numbers.
    :param clip: (K,) their clips.
    :return: (K, D) of length 1.
    """
    ways = [_components(way, rows) for way in (images, Turned(images))]
    return max(ways, key=lambda way: own_clip_nearest(way, clip))


def own_clip_nearest(features: np.ndarray, clip: np.ndarray) -> float:
    """
    How often the nearest other frame is of the same clip.

    :param features: (K, D) of length 1.
    :param clip: (K,).
    :return: a share in [0, 1].
    """
    few = slice(None, None, -(-len(features) // MAX_COMPARED))
    asked = NearestNeighbors(n_neighbors=min(2, len(features))).fit(features)
    nearest = asked.kneighbors(features[few], return_distance=False)[:, -1]
    return float((clip[nearest] == clip[few]).mean())


@torch.no_grad()
def _components(images: ImageRows, rows: np.ndarray) -> np.ndarray:
    """:return: (K, D) of length 1, fitted to the same images."""
    parts = PictureComponents(0, COMPONENTS, 0, alone=True)
    raw: list[list[torch.Tensor]] = []
    for few in np.array_split(rows, -(-len(rows) // BATCH)):
        raw.append(parts.values(pixels(images[few])))
    values = [torch.cat(each) for each in zip(*raw, strict=True)]
    parts.fit(values)
    return parts.of(values).numpy()
