"""Filtering of Lie-algebra coordinates over time: a constant-velocity Kalman filter per camera."""
import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from filterpy.common import Q_discrete_white_noise
from filterpy.kalman import KalmanFilter
from scipy.linalg import block_diag
from scipy.stats import chi2

from imn_world_model.base.errors import UserError

# A variance of zero would make the filter follow every measurement exactly.
LEAST_VARIANCE = 1e-6


@dataclass(frozen=True)
class TrackingOptions:
    """
    How the filter trusts its measurements and its model.

    :param acceleration: standard deviation of the coordinates' unmodelled acceleration, 1/s^2.
    :param initial_rate: standard deviation of their rate at the start, 1/s.
    :param variance_scale: factor on the published variances.
    :param gate: probability with which a measurement that fits is accepted.
    :param patience: outliers or foreign identities in a row after which they are believed.
    :param max_gap: seconds without a measurement after which the filter starts anew.
    :raises UserError: for values outside their ranges.
    """

    acceleration: float = 4.0
    initial_rate: float = 2.0
    variance_scale: float = 1.0
    gate: float = 0.999
    patience: int = 2
    max_gap: float = 1.0

    def __post_init__(self) -> None:
        for name in ('acceleration', 'initial_rate', 'variance_scale', 'patience', 'max_gap'):
            if getattr(self, name) <= 0:
                raise UserError(f'{name} is {getattr(self, name)}; it must be above 0')
        if not 0.0 < self.gate < 1.0:
            raise UserError(f'gate is {self.gate}; it must lie between 0 and 1')


@dataclass(frozen=True)
class Estimate:
    """
    What is known of D coordinates after a measurement.

    :param identity: that is being followed.
    :param mean: (D,) the coordinates.
    :param rate: (D,) their rates, 1/s.
    :param covariance: (D, 3) per coordinate: variance, covariance with its rate, rate's variance.
    :param accepted: whether the newest measurement passed the gate.
    :param updates: measurements used since the last start.
    """

    identity: int
    mean: np.ndarray
    rate: np.ndarray
    covariance: np.ndarray
    accepted: bool
    updates: int


class Track:
    """
    Follows the coordinates of one identity at a time; starts anew when another one takes over.

    :param options: of the filter.
    """

    def __init__(self, options: TrackingOptions) -> None:
        self._options = options
        self._filter: Any = None
        self._identity = -1
        self._time = 0.0
        self._updates = 0
        self._refused = 0
        self._foreign = 0
        self._limit = 0.0

    def update(self, time: float, identity: int, mean: np.ndarray,
               variance: np.ndarray) -> Estimate:
        """
        Use one measurement.

        :param time: of the image, in seconds.
        :param identity: that won.
        :param mean: (D,) measured coordinates.
        :param variance: (D,) their variances.
        :raises UserError: when a number is not finite or a variance is negative.
        """
        mean, variance = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
        if not (np.isfinite(mean).all() and np.isfinite(variance).all() and (variance >= 0).all()):
            raise UserError('a measurement holds numbers that are not finite, or a negative '
                            'variance; it is left out')
        noise = np.maximum(variance * self._options.variance_scale, LEAST_VARIANCE)
        step = time - self._time
        if self._filter is None or len(mean) != self._filter.dim_z or not (
                0.0 <= step <= self._options.max_gap):
            return self._start(time, identity, mean, noise)
        self._time = time
        if step > 0:
            self._predict(step)
        self._filter.R = np.diag(noise)
        fits = self._fits(mean)
        self._refused = 0 if fits else self._refused + 1
        # The modules do not see the identity: a single wrong winner leaves their coordinates true.
        self._foreign = 0 if identity == self._identity else self._foreign + 1
        if max(self._refused, self._foreign) >= self._options.patience:
            return self._start(time, identity, mean, noise)
        if fits:
            self._filter.update(mean)
            self._updates += 1
        return self._estimate(accepted=fits)

    def at(self, time: float) -> Estimate | None:
        """
        Foresee at constant velocity, without touching what is known.

        :param time: seconds; not before the last measurement.
        :return: what is known then; ``None`` before there was a measurement.
        """
        if self._filter is None:
            return None
        kept = copy.deepcopy(self._filter)
        if time > self._time:
            self._predict(time - self._time)
        estimate = self._estimate(accepted=self._refused == 0)
        self._filter = kept
        return estimate

    def _start(self, time: float, identity: int, mean: np.ndarray, noise: np.ndarray) -> Estimate:
        size = len(mean)
        # State: coordinate 0, its rate, coordinate 1, its rate, ...
        kalman = KalmanFilter(dim_x=2 * size, dim_z=size)
        kalman.x = np.zeros(2 * size)
        kalman.x[::2] = mean
        kalman.P = np.zeros((2 * size, 2 * size))
        kalman.P[range(0, 2 * size, 2), range(0, 2 * size, 2)] = noise
        kalman.P[range(1, 2 * size, 2), range(1, 2 * size, 2)] = self._options.initial_rate ** 2
        kalman.H = np.zeros((size, 2 * size))
        kalman.H[range(size), range(0, 2 * size, 2)] = 1.0
        self._filter, self._identity, self._time = kalman, identity, time
        self._updates, self._refused, self._foreign = 1, 0, 0
        self._limit = float(chi2.ppf(self._options.gate, size))
        return self._estimate(accepted=True)

    def _predict(self, step: float) -> None:
        size = self._filter.dim_z
        self._filter.F = block_diag(*[[[1.0, step], [0.0, 1.0]]] * size)
        self._filter.Q = Q_discrete_white_noise(
            dim=2, dt=step, var=self._options.acceleration ** 2, block_size=size)
        self._filter.predict()

    def _fits(self, mean: np.ndarray) -> bool:
        """Gate on the squared Mahalanobis distance to the prediction."""
        residual = mean - self._filter.x[::2]
        spread = np.diag(self._filter.P)[::2] + np.diag(self._filter.R)
        return float((residual ** 2 / spread).sum()) <= self._limit

    def _estimate(self, accepted: bool) -> Estimate:
        P = self._filter.P
        rows = np.arange(0, len(P), 2)
        covariance = np.stack((P[rows, rows], P[rows, rows + 1], P[rows + 1, rows + 1]), axis=1)
        return Estimate(self._identity, self._filter.x[::2].copy(), self._filter.x[1::2].copy(),
                        covariance, accepted, self._updates)
