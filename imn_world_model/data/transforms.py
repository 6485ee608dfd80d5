"""Where frames are in each other (tf): from the newest transforms, live or recorded."""
from bisect import bisect_left
from collections import deque
from typing import Any

import numpy as np

# Transforms that are kept of each moving frame, and nanoseconds by which the nearest may be off.
KEPT, NEAR = 100_000, 100_000_000


def rotation(quaternion: Any) -> np.ndarray:
    """:return: (3, 3) of geometry_msgs/Quaternion; the unit matrix where it is all zeros."""
    vector = np.array([quaternion.x, quaternion.y, quaternion.z, quaternion.w], float)
    length = np.linalg.norm(vector)
    if length < 1e-9:
        return np.eye(3)
    x, y, z, w = vector / length
    return np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                     [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                     [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]])


def placed(position: Any, orientation: Any) -> np.ndarray:
    """:return: (4, 4) of a position and a quaternion, geometry_msgs/Pose's or Transform's."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(orientation)
    matrix[:3, 3] = position.x, position.y, position.z
    return matrix


class Transforms:
    """A tree of frames."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}
        self._stamps: dict[str, deque[int]] = {}
        self._matrices: dict[str, deque[np.ndarray]] = {}
        self._static: set[str] = set()

    def add(self, message: Any, static: bool) -> None:
        """
        Take in tf2_msgs/TFMessage.

        :param message: as it came.
        :param static: whether it holds for all times.
        """
        for each in message.transforms:
            child = each.child_frame_id.lstrip('/')
            self._parent[child] = each.header.frame_id.lstrip('/')
            if static:
                self._static.add(child)
            stamps = self._stamps.setdefault(child, deque(maxlen=KEPT))
            matrices = self._matrices.setdefault(child, deque(maxlen=KEPT))
            stamp = each.header.stamp.sec * 10 ** 9 + each.header.stamp.nanosec
            if stamps and stamp < stamps[-1]:         # a clock that was set back
                stamps.clear()
                matrices.clear()
            stamps.append(stamp)
            matrices.append(placed(each.transform.translation, each.transform.rotation))

    def between(self, target: str, source: str, stamp: int) -> np.ndarray | None:
        """
        Look up where a frame is.

        :param target: the frame in which it is told.
        :param source: the frame.
        :param stamp: when, ns; moving frames must have been told of within :data:`NEAR`.
        :return: (4, 4), from points in ``source`` to points in ``target``; ``None`` where it is
            not known.
        """
        one, other = (self._up(name.lstrip('/'), stamp) for name in (target, source))
        for name, to_name in other.items():
            if name in one:
                found: np.ndarray = np.linalg.inv(one[name]) @ to_name
                return found
        return None

    def _up(self, frame: str, stamp: int) -> dict[str, np.ndarray]:
        """:return: frame and those above it -> (4, 4) from ``frame``'s points to theirs."""
        matrix, above = np.eye(4), {frame: np.eye(4)}
        while frame in self._parent:
            step = self._at(frame, stamp)
            frame = self._parent[frame]
            if step is None or frame in above:
                break
            matrix = step @ matrix
            above[frame] = matrix
        return above

    def _at(self, frame: str, stamp: int) -> np.ndarray | None:
        stamps, matrices = self._stamps[frame], self._matrices[frame]
        if frame in self._static:
            return matrices[-1]
        right = min(bisect_left(stamps, stamp), len(stamps) - 1)
        left = max(0, right - 1)
        best = min((left, right), key=lambda k: abs(stamps[k] - stamp))
        return matrices[best] if abs(stamps[best] - stamp) <= NEAR else None
