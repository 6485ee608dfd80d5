"""How much two boxes (x, y, width, height) cover each other."""
import numpy as np

from imn_world_model.vision.regions import Box


def overlap(one: Box, other: Box) -> float:
    """:return: intersection over union of two boxes (x, y, width, height), in [0, 1]."""
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    both = max(0.0, across) * max(0.0, down)
    either = one[2] * one[3] + other[2] * other[3] - both
    return both / either if either > 0 else 0.0


def generalized_overlap(one: Box, other: Box) -> float:
    """:return: overlap in [0, 1] less the share of the common hull that neither covers."""
    low = np.minimum(one[:2], other[:2])
    high = np.maximum((one[0] + one[2], one[1] + one[3]), (other[0] + other[2],
                                                           other[1] + other[3]))
    inner = (np.minimum((one[0] + one[2], one[1] + one[3]), (other[0] + other[2],
                                                             other[1] + other[3]))
             - np.maximum(one[:2], other[:2])).clip(0.0)
    both, hull = float(inner.prod()), float((high - low).prod())
    either = one[2] * one[3] + other[2] * other[3] - both
    return both / max(either, 1e-9) - (hull - either) / max(hull, 1e-9)
