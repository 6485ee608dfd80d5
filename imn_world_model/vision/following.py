"""
Which box is which from picture to picture of one camera: tracks, and a vote on what each shows.

Boxes are foreseen at constant velocity (a Kalman filter each) and given to tracks so that all
together fit best (Hungarian method), by generalized overlap (Rezatofighi et al. 2019) and by
identity. Needs neither torch nor ROS.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from filterpy.common import Q_discrete_white_noise
from filterpy.kalman import KalmanFilter
from scipy.linalg import block_diag
from scipy.optimize import linear_sum_assignment

from imn_world_model.vision.overlaps import generalized_overlap
from imn_world_model.vision.regions import Box

# Cost of another identity, and of an area e times as large, beside (1 - generalized overlap) / 2;
# the cost that is too much.
FOREIGN, SIZE, TOO_MUCH = 0.1, 0.1, 0.95
# Standard deviations, as shares of the box's longer side: of a measured box, of the unmodelled
# acceleration (1/s^2), of the rate at the start (1/s), of the growth in a second.
NOISE, ACCELERATION, RATE, GROWTH = 0.05, 1.0, 0.5, 0.3
# A track ends when it was not seen in so many pictures and for so many seconds.
MISSED, PATIENCE = 5, 1.0
# So many seconds without any picture, and so many times as long as between the two before: what is
# seen then may be other things in the same places.
PAUSE, LONGER = 3.0, 4.0
# Share of its weight that a vote keeps from one picture of the track to the next.
MEMORY = 0.95


@dataclass(frozen=True)
class Followed:
    """
    The track of a box.

    :param number: of the track, from 1.
    :param identity: that the track's pictures agree on.
    :param confidence: share of the votes for it, in [0, 1].
    :param seen: pictures in which it was seen.
    """

    number: int
    identity: int
    confidence: float
    seen: int


class Follower:
    """Follows the boxes of one camera."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._time, self._step = 0.0, 0.0
        self._number = 0

    def update(self, time: float, boxes: Sequence[Box], identities: Sequence[int],
               confidences: Sequence[float]) -> list[Followed]:
        """
        Give each box its track.

        :param time: of the picture, seconds; when it goes back, or after a pause (:data:`PAUSE`),
            all tracks end.
        :param boxes: x, y, width, height in pixels.
        :param identities: what each shows.
        :param confidences: how sure that is, in [0, 1].
        :return: one for each box, in their order.
        """
        step = time - self._time
        if step < 0 or step > max(PAUSE, LONGER * self._step):
            self._tracks = []
        for track in self._tracks:
            track.predict(step)
        cost = np.array([[track.cost(box, identity) for box, identity in zip(boxes, identities)]
                         for track in self._tracks]).reshape(len(self._tracks), len(boxes))
        given: dict[int, _Track] = {}
        for row, column in zip(*linear_sum_assignment(np.minimum(cost, TOO_MUCH))):
            if cost[row, column] < TOO_MUCH:
                given[int(column)] = self._tracks[row]
        self._time, self._step = time, step
        answers = []
        for column, (box, identity, confidence) in enumerate(zip(boxes, identities, confidences)):
            if column not in given:
                self._number += 1
                given[column] = _Track(self._number, box)
                self._tracks.append(given[column])
            answers.append(given[column].see(time, box, identity, confidence))
        self._tracks = [track for track in self._tracks if not track.lost(time)]
        return answers


class _Track:
    def __init__(self, number: int, box: Box) -> None:
        self._number, self._seen, self._missed, self._time = number, 0, 0, 0.0
        self._votes: dict[int, float] = {}
        # State: middle's x, its rate, y, its rate, width, height.
        self._filter: Any = KalmanFilter(dim_x=6, dim_z=4)
        self._filter.H = np.eye(6)[[0, 2, 4, 5]]
        self._filter.x = _middle(box) @ self._filter.H
        side = max(box[2:])
        known, rate = (NOISE * side) ** 2, (RATE * side) ** 2
        self._filter.P = np.diag([known, rate, known, rate, known, known])

    @property
    def box(self) -> Box:
        """Where it is foreseen."""
        x, y, width, height = self._filter.H @ self._filter.x
        width, height = max(1.0, width), max(1.0, height)
        return x - width / 2, y - height / 2, width, height

    def predict(self, step: float) -> None:
        """Go on by seconds."""
        self._missed += 1
        if step <= 0:
            return
        side = max(self.box[2:])
        self._filter.F = block_diag(*[[[1.0, step], [0.0, 1.0]]] * 2, np.eye(2))
        motion = Q_discrete_white_noise(dim=2, dt=step, var=(ACCELERATION * side) ** 2)
        self._filter.Q = block_diag(motion, motion, np.eye(2) * step * (GROWTH * side) ** 2)
        self._filter.predict()

    def cost(self, box: Box, identity: int) -> float:
        """:return: how badly a box fits, from 0."""
        own = self.box
        size = abs(np.log(max(1.0, box[2] * box[3]) / (own[2] * own[3])))
        return ((1.0 - generalized_overlap(own, box)) / 2 + SIZE * size
                + FOREIGN * (identity != self._identity()))

    def see(self, time: float, box: Box, identity: int, confidence: float) -> Followed:
        """Use a box; tell what is known with it."""
        self._filter.R = np.eye(4) * (NOISE * max(1.0, *box[2:])) ** 2
        self._filter.update(_middle(box))
        self._time, self._missed, self._seen = time, 0, self._seen + 1
        self._votes = {key: MEMORY * value for key, value in self._votes.items()}
        self._votes[identity] = self._votes.get(identity, 0.0) + max(confidence, 1e-6)
        best = self._identity()
        return Followed(self._number, best, self._votes[best] / sum(self._votes.values()),
                        self._seen)

    def lost(self, time: float) -> bool:
        """:return: whether it has not been seen for too long."""
        return self._missed >= MISSED and time - self._time >= PATIENCE

    def _identity(self) -> int:
        return max(self._votes, key=self._votes.__getitem__)


def _middle(box: Box) -> np.ndarray:
    return np.array([box[0] + box[2] / 2, box[1] + box[3] / 2, box[2], box[3]])
