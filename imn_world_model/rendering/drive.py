"""
A simulated drive whose camera moves by its commands alone: an omnidirectional base (REP 103).

The camera stands fixed on the base. Commands change at :data:`CONTROL_RATE` and hold in between;
the pose is their exact integral. The driver draws manoeuvres one after the other: a direction for
each command (forward or back, left or right, the object drifting across the picture), a speed for
each, some seconds; it stands still between them and turns back where the object would leave the
picture. Light and object do not change within a clip: what moves the picture is the commands.
"""
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from math import atan2, cos, hypot, sin

import numpy as np

from imn_world_model.rendering.robot_scene import Scene, View, clip_scene, mount

CONTROL_RATE = 50.0                   # Hz
# Where the driver keeps the object: metres along the floor, radians off the optical axis.
NEAREST, FARTHEST = 1.4, 2.25
WIDEST = 0.13
# Which directions of forward and left a log's manoeuvres join: all of them; those of unlike signs
# and single ones; or those of like signs (forward-left, back-right), which 'some' leaves out.
COMBINATIONS = ('all', 'some', 'others')

_AHEAD = 0.35                         # seconds that the driver looks ahead: it needs them to stop
_RAMP = 0.25                          # seconds from standstill to full speed
_FORWARD, _LEFT, _DRIFT = (0.15, 0.6), (0.15, 0.7), (0.03, 0.12)    # m/s, m/s, rad/s
_SECONDS = (0.8, 2.5)                 # of a manoeuvre
_PITCH, _HEIGHT = (-0.20, -0.15), (0.55, 0.65)                      # radians, metres


@dataclass(frozen=True)
class Pose:
    """
    A base on the floor.

    :param x: metres, axis of the room.
    :param z: metres, axis of the room.
    :param turn: radians, positive to the left; 0 looks along -z.
    """

    x: float
    z: float
    turn: float

    def moved(self, command: np.ndarray, seconds: float) -> 'Pose':
        """
        The exact motion under a command that holds.

        :param command: (3,) forward m/s, left m/s, turn rad/s.
        """
        forward, left, rate = (float(value) for value in command)
        angle = rate * seconds
        # Integral of the rotation: sinc keeps standstill of the turn exact.
        along = seconds * float(np.sinc(angle / np.pi))
        across = seconds * angle / 2 * float(np.sinc(angle / 2 / np.pi)) ** 2
        ahead, aside = along * forward - across * left, along * left + across * forward
        cosine, sine = cos(self.turn), sin(self.turn)
        return Pose(self.x - sine * ahead - cosine * aside,
                    self.z - cosine * ahead + sine * aside, self.turn + angle)

    def seen_from(self, start: 'Pose') -> tuple[float, float, float]:
        """:return: forward, left and turn in the frame of ``start``: what odometry counts."""
        x, z = self.x - start.x, self.z - start.z
        cosine, sine = cos(start.turn), sin(start.turn)
        return -sine * x - cosine * z, -cosine * x + sine * z, self.turn - start.turn


@dataclass(frozen=True)
class Drive:
    """
    One clip.

    :param scene: room, object and a light that stays.
    :param pitch: of the camera, radians.
    :param height: of the camera, metres.
    :param command: (K, 3) forward m/s, left m/s, turn rad/s; each holds for ``1 / CONTROL_RATE``.
    :param poses: K + 1 of them, before each command and after the last.
    """

    scene: Scene
    pitch: float
    height: float
    command: np.ndarray
    poses: tuple[Pose, ...]

    def pose(self, time: float) -> Pose:
        """:return: the base ``time`` seconds into the clip."""
        step = min(int(time * CONTROL_RATE + 1e-9), len(self.command) - 1)
        return self.poses[step].moved(self.command[step], time - step / CONTROL_RATE)

    def view(self, time: float) -> View:
        """:return: camera and light ``time`` seconds into the clip."""
        pose = self.pose(time)
        return self.scene.view_from(np.array([pose.x, self.height, pose.z]), pose.turn, self.pitch,
                                    0.0)


def relative(scene: Scene, pose: Pose) -> tuple[float, float]:
    """:return: distance of the object along the floor, and its bearing, positive to the left."""
    x, z = scene.solid.x - pose.x, scene.solid.z - pose.z
    bearing = atan2(-x, -z) - pose.turn
    return hypot(x, z), atan2(sin(bearing), cos(bearing))


@lru_cache(maxsize=2)
def clip_drive(seed: int, clip: int, seconds: float, arena: int = 0,
               combinations: str = 'all', mounted: bool = False) -> Drive:
    """
    Draw a clip's scene and drive.

    :param seed: of the log.
    :param clip: number of the clip; it depends on no other clip.
    :param seconds: how long it is.
    :param arena: number of the place.
    :param combinations: one of :data:`COMBINATIONS`.
    :param mounted: whether the camera stands the same in all clips.
    :return: the drive.
    """
    scene = still_light(clip_scene(seed, clip, arena))
    rng = np.random.default_rng((seed, 5, clip))
    pose = _start(scene, rng)
    pitch, height = rng.uniform(*_PITCH), rng.uniform(*_HEIGHT)
    if mounted:
        height, pitch = mount(arena)
    driver = _Driver(rng, combinations)
    commands, poses = [], [pose]
    for _ in range(max(1, int(np.ceil(seconds * CONTROL_RATE)))):
        commands.append(driver.command(*relative(scene, pose)))
        pose = pose.moved(commands[-1], 1 / CONTROL_RATE)
        poses.append(pose)
    return Drive(scene, pitch, height, np.array(commands), tuple(poses))


def still_light(scene: Scene) -> Scene:
    """:return: the scene with a lamp that neither moves nor changes."""
    return replace(scene, brightness=replace(scene.brightness, swing=0.0),
                   lamp_azimuth=replace(scene.lamp_azimuth, swing=0.0))


def _start(scene: Scene, rng: np.random.Generator) -> Pose:
    """:return: somewhere about the object, which is in view."""
    around, distance = rng.uniform(0, 2 * np.pi), rng.uniform(NEAREST + 0.1, FARTHEST - 0.1)
    return Pose(scene.solid.x + distance * sin(around), scene.solid.z + distance * cos(around),
                around - rng.uniform(-WIDEST, WIDEST))


class _Driver:
    """
    Draws manoeuvres.

    :param rng: of the draws.
    :param combinations: one of :data:`COMBINATIONS`.
    """

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
        forward, left, drift = self._share * self._speed
        # Sideways motion alone turns the object's direction: the driver follows it.
        return np.array([forward, left, -left / distance + drift])

    def _draw(self, distance: float, bearing: float) -> None:
        rng = self._rng
        self._left = rng.uniform(*_SECONDS)
        for _ in range(100):
            # Where nothing else fits, it stands still for a while and draws again.
            signs = (*self._signs[rng.integers(len(self._signs))], int(rng.integers(-1, 2)))
            self._speed = np.array([sign * rng.uniform(*span) for sign, span in zip(
                signs, (_FORWARD, _LEFT, _DRIFT), strict=True)])
            if self._fits(self._speed, distance, bearing):
                return
        self._speed = np.zeros(3)

    @staticmethod
    def _fits(speed: np.ndarray, distance: float, bearing: float) -> bool:
        """:return: whether the object stays in view for a while; out there, whether it helps."""
        then = distance - _AHEAD * speed[0]
        turned = bearing - _AHEAD * speed[2]
        near = then >= NEAREST or speed[0] < 0
        far = then <= FARTHEST or speed[0] > 0
        return near and far and (abs(turned) <= WIDEST or abs(turned) < abs(bearing))
