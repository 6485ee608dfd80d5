"""
A simulated drive whose camera moves by its commands alone (REP 103).

The camera stands fixed on the base. Commands change at :data:`CONTROL_RATE` and hold in between;
the pose is their exact integral. Who draws them: :mod:`drivers`. Light and object do not change
within a clip: what moves the picture is the commands.
"""
from dataclasses import dataclass, replace
from functools import lru_cache
from math import atan2, cos, hypot, sin

import numpy as np

from imn_world_model.rendering.drivers import CONTROL_RATE, DRIVERS, FARTHEST, NEAREST
from imn_world_model.rendering.robot_scene import Scene, View, clip_scene, mount

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
               combinations: str = 'all', mounted: bool = False,
               base: str = 'omnidirectional') -> Drive:
    """
    Draw a clip's scene and drive.

    :param seed: of the log.
    :param clip: number of the clip; it depends on no other clip.
    :param seconds: how long it is.
    :param arena: number of the place.
    :param combinations: one of :data:`drivers.COMBINATIONS`.
    :param mounted: whether the camera stands the same in all clips.
    :param base: one of :data:`drivers.DRIVERS`.
    :return: the drive.
    """
    scene = still_light(clip_scene(seed, clip, arena))
    rng = np.random.default_rng((seed, 5, clip))
    pose = _start(scene, rng, DRIVERS[base].widest)
    pitch, height = rng.uniform(*_PITCH), rng.uniform(*_HEIGHT)
    if mounted:
        height, pitch = mount(arena)
    driver = DRIVERS[base](rng, combinations)
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


def _start(scene: Scene, rng: np.random.Generator, widest: float) -> Pose:
    """:return: somewhere about the object, at most ``widest`` radians off the axis."""
    around, distance = rng.uniform(0, 2 * np.pi), rng.uniform(NEAREST + 0.1, FARTHEST - 0.1)
    return Pose(scene.solid.x + distance * sin(around), scene.solid.z + distance * cos(around),
                around - rng.uniform(-widest, widest))
