"""
Following coordinates by what the robot does: the world model as a filter over time.

In place of constant velocity (:mod:`tracking`) the flow of the dynamics carries coordinates from
image to image and on to any later time, and images correct them. Needs no torch, no ROS.
"""
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from imn_world_model.base.errors import UserError
from imn_world_model.robot.world_model import Perceived, State, WorldModel

# A command holds until the next, but not longer: robots stop where commands do.
HOLD = 0.5
# Commands older than this are forgotten, seconds.
MEMORY = 10.0
# A longer gap between images means another scene.
MAX_GAP = 5.0
# Of a difference that stands for a rate, seconds.
SHORT = 0.01


@dataclass(frozen=True)
class Moved:
    """
    What is known at some time.

    :param state: of one object.
    :param rate: (m, L) of its coordinates, 1/s.
    :param time: seconds.
    :param accepted: whether the newest image fitted.
    :param updates: images used since the last start.
    """

    state: State
    rate: np.ndarray
    time: float
    accepted: bool
    updates: int


class DrivenTrack:
    """
    Follows one camera's object by commands and images.

    :param model: with dynamics.
    """

    def __init__(self, model: WorldModel) -> None:
        self._model = model
        self._times: list[float] = []
        self._actions: list[np.ndarray] = []
        self._state: State | None = None
        self._time = 0.0
        self._front: tuple[float, State] | None = None
        self._accepted, self._updates = True, 0

    def command(self, time: float, action: np.ndarray) -> None:
        """
        Take in what the robot does from a time on.

        :param time: seconds, of the same clock as the images.
        :param action: (A,), see :attr:`WorldModel.action_units`.
        :raises UserError: when a number is not finite.
        """
        action = np.asarray(action, np.float32)
        if not np.isfinite(action).all():
            raise UserError('a command holds numbers that are not finite; it is left out')
        place = bisect_right(self._times, time)
        self._times.insert(place, time)
        self._actions.insert(place, action)
        if self._front is not None and self._front[0] > time:
            self._front = None                        # what was foreseen took it for held
        old = bisect_right(self._times, self._times[-1] - MEMORY)
        if old > 1:
            del self._times[:old - 1], self._actions[:old - 1]

    def see(self, time: float, seen: Perceived) -> Moved | None:
        """
        Take in an image.

        :param time: of the image, seconds.
        :param seen: what the perception says of it, B = 1.
        :return: what is known at that time; ``None`` for an image older than the last.
        """
        if self._state is not None and time < self._time - 1e-9:
            if self._time - time < MAX_GAP:
                return None
            self._state = None                        # the clock was set back
        if self._state is not None and time - self._time > MAX_GAP:
            self._state = None
        before = None if self._state is None else self._carried(self._state, self._time, time)
        self._state = self._model.correct(before, seen)
        doubts = int(self._state.doubts[0])
        self._accepted = doubts == 0
        anew = before is None or (doubts == 0 and before.doubts[0] > 0
                                  and np.array_equal(self._state.mean, seen.latent_mean))
        self._updates = 1 if anew else self._updates + self._accepted
        self._time, self._front = time, None
        return self._moved(self._state, time)

    def at(self, time: float) -> Moved | None:
        """
        Foresee.

        :param time: seconds; not before the last image.
        :return: what is known then; ``None`` before there was an image.
        """
        if self._state is None:
            return None
        start, state = self._time, self._state
        if self._front is not None and self._front[0] <= time:
            start, state = self._front
        state = self._carried(state, start, max(time, start))
        self._front = max(time, start), state
        return self._moved(state, max(time, start))

    def _moved(self, state: State, time: float) -> Moved:
        rate = rate_of(self._model, state, self._action(time))
        return Moved(state, rate, time, self._accepted, self._updates)

    def _action(self, time: float) -> np.ndarray:
        """:return: (A,), what the robot does at a time; nothing where commands have stopped."""
        place = bisect_right(self._times, time + 1e-9) - 1
        if place < 0 or time - self._times[place] >= HOLD - 1e-9:
            return np.zeros(len(self._model.action_names), np.float32)
        return self._actions[place]

    def _carried(self, state: State, start: float, end: float) -> State:
        """:return: the state moved by what was commanded between two times."""
        first, last = bisect_right(self._times, start), bisect_right(self._times, end)
        ends = [*self._times[first:last], end]
        # A command that is the last for long ends when it is no longer held.
        stops = [time + HOLD for time in self._times if start < time + HOLD < end]
        for stop in sorted({*ends, *stops}):
            if stop > start:
                state = self._model.predict(state, self._action(start), stop - start)
                start = stop
        return state


def rate_of(model: WorldModel, state: State, action: np.ndarray) -> np.ndarray:
    """:return: (m, L), how fast an action moves the coordinates of one object, 1/s."""
    then = model.predict(state, action, SHORT)
    return (then.mean - state.mean)[0] / SHORT
