"""Learns the map from looks and coordinates to poses, from some dozen frames with known poses."""
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import norm, t
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

from imn_world_model.base.errors import UserError
from imn_world_model.robot.gaussian import CONSTANT, Kernel, Process
from imn_world_model.robot.poses import PoseMap, Turn, angle_of, features
from imn_world_model.vision.sight import Look

# Fewer examples tell neither a map nor how wrong it is; of an identity's turn likewise.
LEAST, LEAST_TURNED = 12, 8
# Frames of a few passages agree by chance: an identity's turn needs so many passages.
LEAST_PASSAGES = 6
# Turns after which an identity may look the same, as a share of the circle. The first is taken
# that patches tell: the mean cosine of what examples that were left out are wrong by. By chance
# alone that is 0, with a standard deviation of 0.25 for the least number of examples.
FOLDS, AGREED = (1, 2, 3, 4, 6), 0.75
# Principal axes of an identity's patches.
AXES = 8
# Bounds of the kernels' lengths, in standard deviations of the inputs.
LENGTHS = (0.5, 50.0)
# Bounds of the time for which errors last, seconds.
SHORTEST, LONGEST = 0.1, 60.0
# A process is never believed to be better than it says by more than this factor.
LEAST_SPREAD = 0.25


@dataclass(frozen=True)
class Example:
    """
    One frame of a log.

    :param look: the object.
    :param label: of its identity, as the model says.
    :param coordinates: (m * L,) Lie-algebra coordinates.
    :param group: number of its passage; frames of one passage are alike.
    :param seconds: of its stamp.
    :param position: (3,) in the optical frame, metres; ``None`` where it is not known.
    :param axes: (3, 3), columns forward, left and up of the object; likewise.
    """

    look: Look
    label: str
    coordinates: np.ndarray
    group: int
    seconds: float
    position: np.ndarray | None = None
    axes: np.ndarray | None = None


def fit(examples: list[Example], labels: tuple[str, ...]) -> PoseMap:
    """
    Learn the map.

    :param examples: frames of a log; those without a pose help to know what an identity looks
        like.
    :param labels: of the model's identities.
    :raises UserError: where too few have a pose.
    """
    posed = [each for each in examples if each.position is not None]
    if len(posed) < LEAST:
        raise UserError(f'{len(posed)} frames have both an outline and a pose; at least {LEAST} '
                        'are needed, some dozen from many places are better')
    rows = np.stack([features(each.look, each.label, each.coordinates, labels)
                     for each in posed])
    mean, scale = rows.mean(0), rows.std(0)
    scale[scale < 1e-9] = 1.0
    inputs = (rows - mean) / scale
    group = np.array([each.group for each in posed])
    told = tuple(spread(process(inputs, values, linear=True), group) for values in targets(posed))
    seconds = lasting(told[:3], group, np.array([each.seconds for each in posed]))
    turns = {label: turn for label in labels if (turn := _turn(
        [each for each in examples if each.label == label])) is not None}
    return PoseMap(labels, mean, scale, inputs, told, turns, seconds)


def targets(posed: list[Example]) -> np.ndarray:
    """:return: (5, K), what :data:`robot.poses.TOLD` names."""
    position = np.array([each.position for each in posed])
    up = np.array([each.axes for each in posed])[:, :, 2]
    if (position[:, 2] <= 0).any():
        raise UserError('a pose lies behind the camera (z is not above 0 in the optical frame); '
                        "poses must be told in, or by tf led to, the camera's optical frame")
    return np.stack((position[:, 0] / position[:, 2], position[:, 1] / position[:, 2],
                     np.log(position[:, 2]), up[:, 0], up[:, 2]))


def process(inputs: np.ndarray, values: np.ndarray, linear: bool) -> Process:
    """
    Fit a Gaussian process by its marginal likelihood.

    :param inputs: (K, d).
    :param values: (K,).
    :param linear: whether values may go linearly with the inputs, too.
    """
    if values.std() < CONSTANT:                           # nothing to learn: it never changes
        return Process(Kernel(0.0, 0.0, 1.0, 1e-6), inputs, values)
    told: Any = ConstantKernel(0.1, (1e-5, 1e3)) * RBF(5.0, LENGTHS)
    if linear:
        told = ConstantKernel(1.0, (1e-6, 1e3)) * DotProduct(1.0, 'fixed') + told
    with warnings.catch_warnings():
        # Of parameters at their bounds: what is not needed goes to zero.
        warnings.simplefilter('ignore', ConvergenceWarning)
        fitted = GaussianProcessRegressor(told + WhiteKernel(0.1, (1e-6, 1e1)), normalize_y=True,
                                          random_state=0).fit(inputs, values).kernel_
    told, noise = fitted.k1, float(fitted.k2.noise_level)
    smooth = told.k2 if linear else told
    slope = float(told.k1.k1.constant_value) if linear else 0.0
    return Process(Kernel(slope, float(smooth.k1.constant_value),
                          float(smooth.k2.length_scale), noise), inputs, values)


def spread(one: Process, group: np.ndarray) -> Process:
    """
    Widen or narrow a process until groups that were left out lie within its bounds.

    :param group: (K,) of each example. Few groups tell little of the bounds: Student's t.
    """
    residual, variance = one.left_out(group)
    freedom = max(2, len(np.unique(group)) - 1)
    student = (t.ppf(0.975, freedom) / norm.ppf(0.975)) ** 2
    wide = float((residual ** 2 / variance).mean()) * student
    return replace(one, spread=max(LEAST_SPREAD, wide))


def lasting(told: tuple[Process, ...], group: np.ndarray, seconds: np.ndarray) -> float:
    """
    Tell for how long errors last: the time after which their correlation has fallen to 1 / e.

    :param told: processes of a position.
    :param group: (K,) passage of each example.
    :param seconds: (K,) its time.
    :return: seconds; :data:`LONGEST` where too few passages have two examples.
    """
    first, second = np.nonzero(np.triu(group[:, None] == group[None], 1))
    apart = np.abs(seconds[first] - seconds[second])
    if len(first) < LEAST // 2 or not apart.any():
        return LONGEST
    products = []
    for one in told:
        residual, variance = one.left_out(group)
        error = residual / np.sqrt(variance)
        products.append(error[first] * error[second] / (error ** 2).mean())
    product = np.mean(products, 0)

    def misfit(log: float) -> float:
        return float(((product - np.exp(-apart / np.exp(log))) ** 2).sum())

    return float(np.exp(minimize_scalar(misfit, bounds=np.log([SHORTEST, LONGEST]),
                                        method='bounded').x))


def _turn(own: list[Example]) -> Turn | None:
    """
    Find after which turn an identity looks the same, and how to tell the turn.

    :param own: the identity's examples.
    :return: ``None`` where its patches do not tell a turn: it looks the same from all sides.
    """
    posed = [each for each in own if each.position is not None and each.axes is not None]
    if len(posed) < LEAST_TURNED or len({each.group for each in posed}) < LEAST_PASSAGES:
        return None
    patches = np.stack([each.look.patch for each in own])
    components = PCA(min(AXES, len(own) - 1), random_state=0).fit(patches)
    axes = components.components_ / np.sqrt(components.explained_variance_[0])
    inputs = (np.stack([each.look.patch for each in posed]) - components.mean_) @ axes.T
    angle = np.array([angle_of(each.position, each.axes) for each in posed
                      if each.position is not None and each.axes is not None])
    group = np.array([each.group for each in posed])
    for fold in FOLDS:
        pair = [process(inputs, wave(fold * angle), linear=False) for wave in (np.cos, np.sin)]
        told = [one.values - one.left_out(group)[0] for one in pair]
        wrong = np.arctan2(told[1], told[0]) - fold * angle
        if np.cos(wrong).mean() >= AGREED:
            cosine, sine = (spread(one, group) for one in pair)
            return Turn(fold, components.mean_, axes, cosine, sine)
    return None


def summary(poses: PoseMap, examples: list[Example]) -> str:
    """:return: what came of a fit, in words."""
    posed = [each for each in examples if each.position is not None]
    residual = poses.told[2].left_out(np.array([each.group for each in posed]))[0]
    turns = ', '.join(f'{label} ({"all turns differ" if turn.fold == 1 else f"{turn.fold}-fold"})'
                      for label, turn in poses.turns.items())
    return (f'learnt from {len(posed)} poses in {len({each.group for each in posed})} passages; '
            f'passages that were left out are wrong by {100 * np.sqrt((residual ** 2).mean()):.1f}'
            f' % of the depth (root mean square), errors last {poses.seconds:.1f} s; '
            f'turns are told of: {turns or "no identity"}')
