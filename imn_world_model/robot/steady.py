"""
Poses of one object over time, whose errors last from image to image.

What a measurement is wrong by stays nearly the same from one image to the next: the object is a
little larger than others, the camera stands a little higher. A filter that took such errors for
noise would believe itself more with every image. Here they are part of the state: a bias that
fades (Ornstein-Uhlenbeck) beside position and velocity, so that the covariance tells what can be
known after a second of images, not only after one.
"""
from dataclasses import replace

import numpy as np
from filterpy.common import Q_discrete_white_noise
from filterpy.kalman import KalmanFilter
from scipy.linalg import block_diag

from imn_world_model.robot.poses import Pose

# Share of a measurement's variance that is noise of this image alone.
NOISE = 0.05
# Standard deviations of what the object and the camera do: m/s at first, then m/s^2.
FIRST_RATE, ACCELERATION = 1.0, 1.0
# Metres; nothing at all is known at first.
ANYWHERE = 100.0
# Seconds without a pose after which what was known is forgotten.
LONGEST_GAP = 1.0


class Steady:
    """
    Follows one object.

    :param seconds: for which errors last, see :class:`poses.PoseMap`.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._filter: KalmanFilter | None = None
        self.time = -np.inf
        self._forward: np.ndarray | None = None

    def update(self, time: float, pose: Pose) -> Pose:
        """
        Take in what an image tells.

        :param time: of the image, seconds.
        :param pose: as :meth:`poses.PoseMap.tell` gives it.
        :return: position and its covariance by all images so far; the turn is this image's, by as
            many of the identity's folds as bring it nearest to the last one.
        """
        step = time - self.time
        if self._filter is None or not 0 <= step <= LONGEST_GAP:
            self._filter, self._forward, step = _started(pose.position), None, 0.0
        self.time = time
        state = self._filter
        fade = np.exp(-step / self._seconds)
        state.F = block_diag(*[[[1.0, step], [0.0, 1.0]]] * 3, fade * np.eye(3))
        moved = Q_discrete_white_noise(dim=2, dt=step, var=ACCELERATION ** 2, block_size=3)
        state.Q = block_diag(moved, (1 - fade ** 2) * np.eye(3))
        state.predict()
        own = pose.covariance[:3, :3]
        state.H = np.zeros((3, 9))
        state.H[range(3), range(0, 6, 2)] = 1.0
        state.H[:, 6:] = np.linalg.cholesky((1 - NOISE) * own)
        state.R = NOISE * own
        state.update(pose.position)
        covariance = pose.covariance.copy()
        covariance[:3, :3] = state.P[0:6:2, 0:6:2]
        axes = self._unflipped(pose)
        self._forward = axes[:, 0]
        return replace(pose, position=state.x[0:6:2].copy(), axes=axes, covariance=covariance)

    def _unflipped(self, pose: Pose) -> np.ndarray:
        """:return: (3, 3) the axes, turned by the fold that brings them nearest to the last."""
        if self._forward is None or pose.fold < 2:
            return pose.axes
        forward, left, up = pose.axes.T
        angles = 2 * np.pi * np.arange(pose.fold) / pose.fold
        turned = np.outer(np.cos(angles), forward) + np.outer(np.sin(angles), left)
        best = turned[int((turned @ self._forward).argmax())]
        return np.stack((best, np.cross(up, best), up), 1)


def _started(position: np.ndarray) -> KalmanFilter:
    """:return: a filter that knows nothing; state: x, its rate, y, ..., three of the bias."""
    state = KalmanFilter(dim_x=9, dim_z=3)
    state.x = np.zeros(9)
    state.x[0:6:2] = position
    state.P = np.diag([ANYWHERE ** 2, FIRST_RATE ** 2] * 3 + [1.0] * 3)
    return state
