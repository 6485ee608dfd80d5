"""How often a fast search finds the winner of the exhaustive one."""
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


def search_agreement(network: IndependentModularNetwork, images: np.ndarray, strategy: Strategy,
                     until_settled: bool = False, progress: bool = False) -> dict[str, float]:
    """
    Compare a search with the exhaustive one.

    :param network: in evaluation mode.
    :param images: (K, S, S, 3) uint8, K at least 1.
    :param strategy: the search.
    :param until_settled: compare no more images than it takes to tell :data:`GOOD` from
        :data:`BAD`.
    :param progress: whether to show a bar.
    :return: how many ``images`` were compared, share of them with the same ``identity``, and with
        the same ``subset`` too.
    """
    identity, both = 0, 0
    seen = 0
    block = BLOCK if until_settled else len(images)
    with tqdm(total=len(images), desc='fast search beside the exhaustive one', unit=' images',
              disable=not progress, leave=False) as bar:
        for start in range(0, len(images), block):
            part = images[start:start + block]
            fast = observe(network, part, strategy=strategy)
            whole = observe(network, part, strategy=exhaustive_winner)
            same = fast.identity == whole.identity
            identity += int(same.sum())
            both += int((same & (fast.subset == whole.subset)).sum())
            seen += len(part)
            bar.update(len(part))
            if until_settled and settled(identity, seen):
                break
    return {'images': seen, 'identity': identity / seen, 'identity_and_subset': both / seen}


def rounding_agreement(network: IndependentModularNetwork, images: np.ndarray
                       ) -> tuple[float, float]:
    """
    Round the weights and tell how often the winner of the exhaustive search is the same.

    :param network: in evaluation mode; rounded afterwards.
    :param images: (K, S, S, 3) uint8, K at least 1.
    :return: share of images with the same identity, and with the same modules, too.
    """
    before = observe(network, images, strategy=exhaustive_winner)
    round_weights(network)
    after = observe(network, images, strategy=exhaustive_winner)
    same = before.identity == after.identity
    return float(same.mean()), float((same & (before.subset == after.subset)).mean())


def settled(agreeing: int, compared: int) -> bool:
    """:return: whether the images compared tell a good search from a bad one."""
    evidence = (agreeing * math.log(GOOD / BAD)
                + (compared - agreeing) * math.log((1 - GOOD) / (1 - BAD)))
    return abs(evidence) > math.log((1 - WRONG) / WRONG)
