"""
From an object's look and coordinates to its pose in metres, by examples with known poses.

The frame is the camera's optical one (REP 103: x right, y down, z ahead). The map is learnt by
:mod:`imn_world_model.learning.poses` and kept in the model's file; numpy is all it needs.
"""
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from imn_world_model.base.errors import UserError
from imn_world_model.robot.gaussian import Process
from imn_world_model.vision.pinhole import unit
from imn_world_model.vision.sight import Look

# Key of metadata_props.
KEY = 'poses'
# What is told, in this order: position as x / z, y / z and log z; the object's upward axis.
TOLD = ('across', 'down', 'log_depth', 'up_across', 'up_ahead')
# Variance of an angle of which nothing is known.
ANY_ANGLE = np.pi ** 2 / 3
# Least length of (cosine, sine) as told; shorter ones point nowhere.
SHORTEST = 0.1


@dataclass(frozen=True)
class Turn:
    """
    How an identity's turn about its upward axis is told from its patch.

    :param fold: after ``2 pi / fold`` it looks the same.
    :param mean: (P,) patch.
    :param axes: (c, P) principal axes of its patches.
    :param cosine: of ``fold`` times the turn, from c numbers.
    :param sine: likewise.
    """

    fold: int
    mean: np.ndarray
    axes: np.ndarray
    cosine: Process
    sine: Process

    def tell(self, patch: np.ndarray) -> tuple[float, float]:
        """:return: the turn in ``[-pi / fold, pi / fold)`` and its variance, radians."""
        where = (self.axes @ (patch - self.mean))[None]
        (cosine, one), (sine, other) = self.cosine.predict(where), self.sine.predict(where)
        length = max(SHORTEST, float(np.hypot(cosine[0], sine[0])))
        variance = float(one[0] + other[0]) / 2 / length ** 2
        return (float(np.arctan2(sine[0], cosine[0])) / self.fold,
                min(variance, ANY_ANGLE) / self.fold ** 2)


@dataclass(frozen=True)
class Pose:
    """
    An object's pose in the camera's optical frame.

    :param position: (3,) metres.
    :param axes: (3, 3), columns forward, left and up of the object; without a turn, forward is
        along the line of sight.
    :param covariance: (6, 6) of position and of small turns about the optical frame's axes.
    :param fold: the turn is known up to ``2 pi / fold``; 0 where it is not told at all.
    """

    position: np.ndarray
    axes: np.ndarray
    covariance: np.ndarray
    fold: int


@dataclass(frozen=True)
class PoseMap:
    """
    The map.

    :param labels: of the identities, in the order in which they are told apart here.
    :param mean: (d,) of the features.
    :param scale: (d,) of the features.
    :param inputs: (K, d) features of the examples, standardized.
    :param told: a process for each of :data:`TOLD`.
    :param turns: label -> how its turn is told; those that have none are left out.
    :param seconds: for which errors last: their correlation falls to 1 / e.
    """

    labels: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    inputs: np.ndarray
    told: tuple[Process, ...]
    turns: dict[str, Turn]
    seconds: float

    def tell(self, seen: Look, label: str, coordinates: np.ndarray) -> Pose:
        """
        Tell a pose.

        :param seen: the object.
        :param label: of its identity.
        :param coordinates: (m * L,) Lie-algebra coordinates.
        """
        row = (features(seen, label, coordinates, self.labels) - self.mean) / self.scale
        means, variances = (np.array(values)[:, 0] for values in zip(
            *(process.predict(row[None]) for process in self.told), strict=True))
        across, down, depth = means[0], means[1], float(np.exp(means[2]))
        position = depth * np.array([across, down, 1.0])
        slope = np.array([[depth, 0, position[0]], [0, depth, position[1]], [0, 0, depth]])
        covariance = np.zeros((6, 6))
        covariance[:3, :3] = slope @ np.diag(variances[:3]) @ slope.T

        up = np.array([means[3], -np.sqrt(max(1e-6, 1 - means[3] ** 2 - means[4] ** 2)),
                       means[4]])
        up /= np.linalg.norm(up)
        turn = self.turns.get(label)
        angle, variance = turn.tell(seen.patch) if turn else (0.0, ANY_ANGLE)
        axes = axes_of(position, up, angle)
        about = np.outer(up, up)
        covariance[3:, 3:] = variance * about + variances[3:].mean() * (np.eye(3) - about)
        return Pose(position, axes, covariance, turn.fold if turn else 0)

    def to_json(self) -> str:
        """:return: the map as it is kept in a file."""
        turns = {label: {'fold': turn.fold, 'mean': _short(turn.mean), 'axes': _short(turn.axes),
                         'inputs': _short(turn.cosine.inputs), 'cosine': turn.cosine.plain(),
                         'sine': turn.sine.plain()} for label, turn in self.turns.items()}
        return json.dumps({
            'labels': self.labels, 'mean': _short(self.mean), 'scale': _short(self.scale),
            'inputs': _short(self.inputs), 'told': [process.plain() for process in self.told],
            'turns': turns, 'seconds': self.seconds})

    @staticmethod
    def from_json(text: str) -> 'PoseMap':
        """
        Read a map back.

        :raises UserError: when the text is no map.
        """
        try:
            kept: dict[str, Any] = json.loads(text)
            inputs = np.array(kept['inputs'])
            turns = {}
            for label, turn in kept['turns'].items():
                own = np.array(turn['inputs'])
                turns[label] = Turn(turn['fold'], np.array(turn['mean']), np.array(turn['axes']),
                                    Process.of(turn['cosine'], own), Process.of(turn['sine'], own))
            return PoseMap(
                tuple(kept['labels']), np.array(kept['mean']), np.array(kept['scale']), inputs,
                tuple(Process.of(plain, inputs) for plain in kept['told']), turns,
                float(kept['seconds']))
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(f'its map to poses is broken ({error}); calibrate it again') from error


def features(seen: Look, label: str, coordinates: np.ndarray, labels: tuple[str, ...]
             ) -> np.ndarray:
    """
    What positions are told from.

    :param seen: the object.
    :param label: of its identity; one that is not among ``labels`` is like none of them.
    :param coordinates: (m * L,).
    :param labels: of the identities that are told apart.
    :return: (6 + m * L + n,).
    """
    left, upper, right, lower = seen.box
    shape = [np.log(right - left), np.log(lower - upper), np.log(seen.size), lower, upper,
             seen.middle[0]]
    return np.concatenate((shape, coordinates, [float(label == each) for each in labels]))


def axes_of(position: np.ndarray, up: np.ndarray, angle: float) -> np.ndarray:
    """
    Build an object's axes.

    :param position: (3,) of the object.
    :param up: (3,) its unit upward axis.
    :param angle: of its forward axis about ``up`` from the line of sight, radians.
    :return: (3, 3), columns forward, left and up.
    """
    sight = position - (position @ up) * up
    sight = sight / np.linalg.norm(sight)
    forward = np.cos(angle) * sight + np.sin(angle) * np.cross(up, sight)
    return np.stack((forward, np.cross(up, forward), up), 1)


def angle_of(position: np.ndarray, axes: np.ndarray) -> float:
    """:return: the angle that :func:`axes_of` was given, in ``[-pi, pi]``."""
    forward, up = axes[:, 0], axes[:, 2]
    sight = position - (position @ up) * up
    return float(np.arctan2(np.cross(sight, forward) @ up, sight @ forward))


def bearing(seen: Look) -> np.ndarray:
    """:return: (3,) unit ray to the middle of an object, in the optical frame."""
    return unit(seen.middle)


def _short(values: np.ndarray) -> Any:
    return np.round(values, 6).tolist()
