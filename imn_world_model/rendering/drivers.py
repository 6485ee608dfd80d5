"""
Who steers the simulated base: drivers that draw manoeuvres one after the other.

A manoeuvre has a direction for each of its rates, a speed for each and some seconds. The driver
stands still between them, and begins another where the object would leave the picture.
"""
from itertools import product
from math import cos, sin

import numpy as np

CONTROL_RATE = 50.0                   # Hz
# Where a driver keeps the object, metres along the floor.
NEAREST, FARTHEST = 1.4, 2.25
# Which directions of forward and left a log's manoeuvres join: all of them; those of unlike signs
# and single ones; or those of like signs (forward-left, back-right), which 'some' leaves out. On a
# differential base left is a turn to the left.
COMBINATIONS = ('all', 'some', 'others')

_AHEAD = 0.35                         # seconds that a driver looks ahead: it needs them to stop
_RAMP = 0.25                          # seconds from standstill to full speed
_FORWARD = (0.15, 0.6)                # m/s


class OmnidirectionalDriver:
    """
    Goes forward or back, left or right, and follows the object that drifts across the picture.

    :param rng: of the draws.
    :param combinations: one of :data:`COMBINATIONS`.
    """

    # Radians off the optical axis within which it keeps the object.
    widest = 0.13
    # Metres per second, radians per second, seconds of a manoeuvre.
    _second, _drift, _seconds = (0.15, 0.7), (0.03, 0.12), (0.8, 2.5)

    def __init__(self, rng: np.random.Generator, combinations: str) -> None:
        self._rng = rng
        signs = [pair for pair in product((-1, 0, 1), repeat=2)
                 if combinations == 'all' or (pair[0] * pair[1] > 0) == (combinations == 'others')]
        # Standing still on the way is for every log: no action, no motion.
        self._signs = signs if (0, 0) in signs else [*signs, (0, 0)]
        self._speed: np.ndarray = np.zeros(3)
        self._share = 0.0
        self._left = 0.0

    def command(self, distance: float, bearing: float) -> np.ndarray:
        """
        What to do for the next ``1 / CONTROL_RATE`` seconds.

        :param distance: of the object, metres.
        :param bearing: of the object, radians, positive to the left.
        :return: (3,) forward m/s, left m/s, turn rad/s.
        """
        going = self._left > 0 and self._fits(self._speed, distance, bearing)
        step = 1 / (_RAMP * CONTROL_RATE)
        self._share = min(1.0, self._share + step) if going else max(0.0, self._share - step)
        self._left -= 1 / CONTROL_RATE
        if not going and self._share == 0.0:
            self._draw(distance, bearing)
        return self._twist(self._share * self._speed, distance)

    def _draw(self, distance: float, bearing: float) -> None:
        rng = self._rng
        self._left = rng.uniform(*self._seconds)
        for _ in range(100):
            # Where nothing else fits, it stands still for a while and draws again.
            signs = (*self._signs[rng.integers(len(self._signs))], int(rng.integers(-1, 2)))
            self._speed = np.array([sign * rng.uniform(*span) for sign, span in zip(
                signs, (_FORWARD, self._second, self._drift), strict=True)])
            if self._fits(self._speed, distance, bearing):
                return
        self._speed = np.zeros(3)

    @staticmethod
    def _twist(speed: np.ndarray, distance: float) -> np.ndarray:
        """:return: the command for a speed: forward, left and how fast the object drifts."""
        forward, left, drift = speed
        # Sideways motion alone turns the object's direction: the driver follows it.
        return np.array([forward, left, -left / distance + drift])

    def _fits(self, speed: np.ndarray, distance: float, bearing: float) -> bool:
        """:return: whether the object stays in view for a while; out there, whether it helps."""
        then = distance - _AHEAD * speed[0]
        turned = bearing - _AHEAD * speed[2]
        near = then >= NEAREST or speed[0] < 0
        far = then <= FARTHEST or speed[0] > 0
        return near and far and (abs(turned) <= self.widest or abs(turned) < abs(bearing))


class DifferentialDriver(OmnidirectionalDriver):
    """
    Goes forward or back and turns, never sideways: arcs, and the object wanders.

    :param rng: of the draws.
    :param combinations: one of :data:`COMBINATIONS`.
    """

    # The picture reaches 0.52 to either side, that of the demo's model 0.33.
    widest = 0.2
    # Radians per second; there is no drift beside the turn.
    _second, _drift, _seconds = (0.1, 0.6), (0.0, 0.0), (0.5, 2.0)

    @staticmethod
    def _twist(speed: np.ndarray, distance: float) -> np.ndarray:
        """:return: the command for a speed: forward and turn."""
        return np.array([speed[0], 0.0, speed[1]])

    def _fits(self, speed: np.ndarray, distance: float, bearing: float) -> bool:
        """:return: whether the object stays in view for a while; out there, whether it helps."""
        nearer, wider = speed[0] * cos(bearing), speed[0] * sin(bearing) / distance - speed[1]
        then, turned = distance - _AHEAD * nearer, bearing + _AHEAD * wider
        near = then >= NEAREST or nearer < 0
        far = then <= FARTHEST or nearer > 0
        return near and far and (abs(turned) <= self.widest or abs(turned) < abs(bearing))


DRIVERS = {'omnidirectional': OmnidirectionalDriver, 'differential': DifferentialDriver}
