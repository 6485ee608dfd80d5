"""How often a fast search, or a rounded network, finds the winner of the exhaustive search."""
import copy
import math

import numpy as np
from tqdm import tqdm

from imn_world_model.model.compact import round_weights
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.observe import observe
from imn_world_model.model.winner import Strategy, exhaustive_winner

# A search that agrees in so many images is good, one in so few is not; Wald's sequential test
# (1945) tells them apart, wrong once in so many times.
GOOD, BAD, WRONG = 0.995, 0.95, 0.05
LEAST_IMAGES, MAX_IMAGES = 16, 512
BLOCK = 16


def some_images(network: IndependentModularNetwork, images: np.ndarray) -> np.ndarray:
    """
    Images to compare searches on, in random order.

    :param network: without a recognizer the exhaustive search decodes all its n identities, so
        that fewer images must do.
    :param images: (K, S, S, 3) uint8.
    :return: at most :data:`MAX_IMAGES` of them.
    """
    n = network.config.num_identities
    count = MAX_IMAGES if network.recognizer else max(LEAST_IMAGES, MAX_IMAGES * 5 // n)
    return images[np.random.default_rng(0).permutation(len(images))[:count]]


class Winners:
    """
    Winners of images, each searched for once, when first asked for.

    :param network: in evaluation mode.
    :param images: (K, S, S, 3) uint8, K at least 1.
    :param strategy: the search; by default one that is exact.
    """

    def __init__(self, network: IndependentModularNetwork, images: np.ndarray,
                 strategy: Strategy = exhaustive_winner) -> None:
        self.network, self.images, self.strategy = network, images, strategy
        self.identity = self.subset = np.zeros(0, np.int64)

    def first(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """:return: identity and subset (count,) of the first images."""
        done = len(self.identity)
        if count > done:
            seen = observe(self.network, self.images[done:count], strategy=self.strategy)
            self.identity = np.concatenate((self.identity, seen.identity))
            self.subset = np.concatenate((self.subset, seen.subset))
        return self.identity[:count], self.subset[:count]


def agreement(first: Winners, second: Winners, until_settled: bool, title: str,
              progress: bool = False) -> dict[str, float]:
    """
    Compare two searches of the same images.

    :param first: of one search.
    :param second: of the other.
    :param until_settled: compare no more images than it takes to tell :data:`GOOD` from
        :data:`BAD`.
    :param title: of the bar.
    :param progress: whether to show a bar.
    :return: how many ``images`` were compared, share of them with the same ``identity``, and with
        the same ``subset`` too (``identity_and_subset``).
    """
    total = len(first.images)
    block = BLOCK if until_settled else total
    seen = identity = both = 0
    with tqdm(total=total, desc=title, unit=' images', disable=not progress, leave=False) as bar:
        while seen < total and not (until_settled and settled(identity, seen)):
            bar.update(min(seen + block, total) - seen)
            seen = min(seen + block, total)
            here, there = first.first(seen), second.first(seen)
            same = here[0] == there[0]
            identity, both = int(same.sum()), int((same & (here[1] == there[1])).sum())
    return {'images': seen, 'identity': identity / seen, 'identity_and_subset': both / seen}


def search_agreement(network: IndependentModularNetwork, images: np.ndarray, strategy: Strategy,
                     until_settled: bool = False, progress: bool = False,
                     exact: Winners | None = None) -> dict[str, float]:
    """
    Compare a search with the exhaustive one.

    :param network: in evaluation mode.
    :param images: (K, S, S, 3) uint8, K at least 1.
    :param strategy: the search.
    :param until_settled: see :func:`agreement`.
    :param progress: whether to show a bar.
    :param exact: winners of these images by the exhaustive search, as far as they are known.
    :return: see :func:`agreement`.
    """
    return agreement(Winners(network, images, strategy), exact or Winners(network, images),
                     until_settled, 'fast search beside the exhaustive one', progress)


def rounding_agreement(network: IndependentModularNetwork, images: np.ndarray,
                       progress: bool = False) -> tuple[dict[str, float], Winners]:
    """
    Round the weights and tell how often the winner of the exhaustive search is the same.

    No more images are compared than settle it.

    :param network: in evaluation mode; rounded afterwards.
    :param images: (K, S, S, 3) uint8 in random order, K at least 1.
    :param progress: whether to show a bar.
    :return: see :func:`agreement`; and the rounded network's winners, as far as they are known.
    """
    before = Winners(copy.deepcopy(network), images)
    round_weights(network)
    after = Winners(network, images)
    return agreement(before, after, True, 'rounded weights beside exact ones', progress), after


def settled(agreeing: int, compared: int) -> bool:
    """:return: whether the images compared tell a good search from a bad one."""
    evidence = (agreeing * math.log(GOOD / BAD)
                + (compared - agreeing) * math.log((1 - GOOD) / (1 - BAD)))
    return abs(evidence) > math.log((1 - WRONG) / WRONG)
