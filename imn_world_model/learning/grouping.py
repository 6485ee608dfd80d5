"""
Which clips show the same object: those that the recognizer confuses.

Clips are joined by Ward's method (Ward 1963) on how rarely they are confused, as unsupervised
re-identification joins tracks (Lin et al. 2019, "A bottom-up clustering approach to unsupervised
person re-identification"). Without a given number, the grouping with the largest silhouette
(Rousseeuw 1987) is taken.
"""
from collections.abc import Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import silhouette_score

from imn_world_model.base.config import AUTO
from imn_world_model.model.recognition import TEMPERATURE

# Added to a mean probability before its logarithm.
FLOOR = 1e-4
# Clips that are grouped by each other; if there are more, the rest joins the nearest group.
MAX_GROUPED = 1500
# What a further clip in a group adds to the weight of what was given.
OTHER = 2 / 3


def group(features: np.ndarray, clip: np.ndarray, signature: np.ndarray,
          num_identities: int, given: Sequence[np.ndarray] = ()) -> np.ndarray:
    """
    Put clips together that the recognizer confuses.

    :param features: (N, d) of length 1.
    :param clip: (N,) from 0 on, each has a frame.
    :param signature: (K, d) of length 1, of the clips.
    :param num_identities: n; :data:`config.AUTO` for the n of the largest silhouette.
    :param given: (N, D) each, of length 1, features that no clip was needed for. How unlike the
        clips are in these counts beside how rarely they are confused: :data:`OTHER` times as much
        for each other clip in a clip's group, since confusion tells next neighbours alone.
    :return: (K,) int64 identities, the largest first.
    """
    count = len(signature)
    chosen: np.ndarray = np.arange(count)
    if count > MAX_GROUPED:
        chosen = np.sort(np.random.default_rng(0).permutation(count)[:MAX_GROUPED])
    place = np.full(count, -1)
    place[chosen] = np.arange(len(chosen))
    own = place[clip] >= 0
    confused = confusion_distance(features[own], place[clip[own]], signature[chosen])
    unlike = [_unlikeness(each[own], place[clip[own]]) for each in given]
    if num_identities == AUTO:
        distance = _together(confused, unlike, 1.0)
        num_identities = best_silhouette(distance, _tree(distance))
    weight = OTHER * max(0.0, len(chosen) / num_identities - 1.0)
    tree = _tree(_together(confused, unlike, weight))
    joined = fcluster(tree, num_identities, 'maxclust') - 1
    n = int(joined.max()) + 1
    mean = np.zeros((n, signature.shape[1]))
    np.add.at(mean, joined, signature[chosen])
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    identity = np.zeros(count, np.int64)
    identity[chosen] = joined
    for rest in np.flatnonzero(place < 0):
        identity[rest] = (features[clip == rest].mean(0) @ mean.T).argmax()
    rank = np.argsort(np.argsort(-np.bincount(identity, minlength=n), kind='stable'))
    return rank[identity]


def _together(confused: np.ndarray, unlike: list[np.ndarray], weight: float) -> np.ndarray:
    """:return: (K, K) distances, 0 on the diagonal, of confusion and so many times the rest."""
    if not unlike:
        return confused
    rest = np.sum([_standard(each) for each in unlike], axis=0)
    distance = _standard(confused) + weight * _standard(rest)
    distance -= distance.min()
    np.fill_diagonal(distance, 0.0)
    return distance


def _tree(distance: np.ndarray) -> np.ndarray:
    """:return: Ward's joins of (K, K) distances, see :func:`scipy.cluster.hierarchy.linkage`."""
    return linkage(squareform(distance, checks=False), 'ward')


def _standard(distance: np.ndarray) -> np.ndarray:
    """:return: distances (K, K) with mean 0 and deviation 1 off the diagonal."""
    off = distance[~np.eye(len(distance), dtype=bool)]
    return (distance - off.mean()) / max(float(off.std()), 1e-9)


def _unlikeness(features: np.ndarray, clip: np.ndarray) -> np.ndarray:
    """:return: (K, K), 1 - cosine of the clips' means of features (N, D)."""
    mean = np.zeros((int(clip.max()) + 1, features.shape[1]))
    np.add.at(mean, clip, features)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    return 1.0 - mean @ mean.T


def confusion_distance(features: np.ndarray, clip: np.ndarray,
                       signature: np.ndarray) -> np.ndarray:
    """
    How rarely two clips are taken for each other.

    :param features: (N, d) of length 1.
    :param clip: (N,) from 0 on.
    :param signature: (K, d) of length 1.
    :return: (K, K) symmetric, 0 on the diagonal: minus the logarithms of the mean probabilities
        of the other clip, the own left out, both ways; shifted so that the smallest is 0.
    """
    count = len(signature)
    logits = features @ signature.T / TEMPERATURE
    logits[np.arange(len(logits)), clip] = -np.inf
    odds = np.exp(logits - logits.max(1, keepdims=True))
    odds /= odds.sum(1, keepdims=True)
    mean = np.zeros((count, count))
    np.add.at(mean, clip, odds)
    mean /= np.bincount(clip, minlength=count)[:, None]
    distance = -np.log(mean + FLOOR) - np.log(mean.T + FLOOR)
    off = ~np.eye(count, dtype=bool)
    return np.where(off, distance - distance[off].min(), 0.0)


def best_silhouette(distance: np.ndarray, tree: np.ndarray) -> int:
    """:return: the number of groups, from 2 on, whose mean silhouette is largest."""
    count = len(distance)
    best, chosen = -np.inf, min(2, count)
    for n in range(2, count):
        joined = fcluster(tree, n, 'maxclust')
        if not 1 < len(np.unique(joined)) < count:
            continue
        value = silhouette_score(distance, joined, metric='precomputed')
        if value > best:
            best, chosen = value, n
    return chosen
