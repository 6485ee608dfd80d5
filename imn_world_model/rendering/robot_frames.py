"""One frame of a simulated log: the compressed picture and the truth about it."""
from dataclasses import dataclass
from math import atan2, hypot

import cv2
import numpy as np

from imn_world_model.rendering.drive import clip_drive
from imn_world_model.rendering.raycast import Solid
from imn_world_model.rendering.robot_camera import render, silhouettes
from imn_world_model.rendering.robot_scene import Scene, View, clip_group, clip_scene


@dataclass(frozen=True)
class Frame:
    """
    A picture and its ground truth.

    :param jpeg: the compressed picture.
    :param truth: what JSON can hold, see :func:`ground_truth`.
    :param position: of the (first) object's middle in the optical frame (right, down, forward),
        metres.
    :param quaternion: (x, y, z, w) of the (first) object in the optical frame.
    """

    jpeg: bytes
    truth: dict[str, object]
    position: np.ndarray
    quaternion: np.ndarray


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """
    Quaternion of a rotation matrix: the leading eigenvector of Bar-Itzhack's matrix (2000).

    :param rotation: (3, 3).
    :return: (x, y, z, w), w not negative.
    """
    trace = np.trace(rotation)
    skew = rotation - rotation.T
    matrix = np.empty((4, 4))
    matrix[:3, :3] = rotation + rotation.T - trace * np.eye(3)
    matrix[3, :3] = matrix[:3, 3] = skew[2, 1], skew[0, 2], skew[1, 0]
    matrix[3, 3] = trace
    vector = np.linalg.eigh(matrix)[1][:, -1]
    return -vector if vector[3] < 0 else vector


def object_pose(solid: Solid, view: View) -> tuple[np.ndarray, np.ndarray]:
    """:return: in the optical frame, its middle (3,) and axes forward, left, up (3, 3)."""
    middle = np.array([solid.x, solid.height / 2, solid.z])
    forward = np.array([np.cos(solid.yaw), 0.0, -np.sin(solid.yaw)])
    up = np.array([0.0, 1.0, 0.0])
    axes = np.stack([view.in_camera(axis) for axis in (forward, np.cross(up, forward), up)])
    return view.in_camera(middle - view.position), axes.T


def ground_truth(scene: Scene, view: View, time: float) -> dict[str, object]:
    """
    What is true of a frame: names, metres, radians, hues in [0, 1).

    :return: ``shape``, ``size`` (1 is a cube of 0.46 m), ``floor_hue``, ``wall_hue``,
        ``object_hue``; of the object's middle ``distance``, ``bearing`` (positive to the left) and
        ``elevation`` (positive up), off the optical axis; ``brightness`` of the light,
        ``lamp_azimuth`` and ``lamp_elevation`` in the room. Where there are several objects,
        ``objects`` holds what is true of each, see :func:`objects_truth`.
    """
    place = {'floor_hue': scene.hues[0], 'wall_hue': scene.hues[1]}
    light = {'brightness': view.brightness, 'lamp_azimuth': scene.lamp_azimuth.at(time),
             'lamp_elevation': scene.lamp_elevation}
    if scene.others:
        return {**_rounded(place | light), 'objects': objects_truth(scene, view)}
    truth = {'size': scene.size} | place | {'object_hue': scene.hues[2]}
    told = _rounded(truth | _direction(scene.solid, view) | light)
    return {'shape': scene.solid.shape, **told}


def objects_truth(scene: Scene, view: View) -> list[dict[str, object]]:
    """
    Tell what is true of each object; an object that cannot be seen is left out.

    :return: ``shape``, ``size``, ``object_hue``, ``distance``, ``bearing``, ``elevation`` as of
        one; ``box``, x, y, width, height in pixels of what is seen of it; ``visible``, the share
        of its outline in the picture that no other object hides, in (0, 1].
    """
    truths: list[dict[str, object]] = []
    looks = [(scene.size, scene.hues[2]), *((each.size, each.hue) for each in scene.others)]
    for solid, (size, hue), seen, whole in zip(scene.solids, looks, *silhouettes(scene, view)):
        if seen.any():
            told = {'size': size, 'object_hue': hue, 'visible': seen.sum() / whole.sum()}
            truths.append({'shape': solid.shape,
                           'box': list(cv2.boundingRect(seen.astype(np.uint8))),
                           **_rounded(told | _direction(solid, view))})
    return truths


def _direction(solid: Solid, view: View) -> dict[str, float]:
    """:return: metres and radians from the camera to an object's middle."""
    middle, _ = object_pose(solid, view)
    right, down, forward = middle
    return {'distance': float(np.linalg.norm(middle)), 'bearing': atan2(-right, forward),
            'elevation': atan2(-down, hypot(right, forward))}


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in values.items()}


def shoot(seed: int, clip: int, index: int, rate: float, quality: int, arena: int = 0,
          commands: str | None = None, seconds: float = 0.0, mounted: bool = False,
          objects: int = 1, base: str = 'omnidirectional') -> Frame:
    """
    Make one frame. It depends on the arguments only, not on frames made before.

    :param seed: of the log.
    :param clip: number of the clip.
    :param index: number of the frame within the clip.
    :param rate: frames per second.
    :param quality: of the JPEG, 1 to 100.
    :param arena: number of the place.
    :param commands: which combinations of commands move the camera, see :mod:`drivers`; ``None``
        for a smooth path.
    :param seconds: length of the clip, where commands move it.
    :param mounted: whether the camera stands the same in all clips.
    :param objects: how many there are; more than one only on a smooth path.
    :param base: what commands drive, one of :data:`drivers.DRIVERS`.
    :return: the frame.
    """
    time = index / rate
    if commands is None:
        scene = (clip_scene(seed, clip, arena, mounted) if objects == 1
                 else clip_group(seed, clip, objects, arena, mounted))
        view = scene.view(time)
    else:
        drive = clip_drive(seed, clip, seconds, arena, commands, mounted, base)
        scene, view = drive.scene, drive.view(time)
    image = render(scene, view, np.random.default_rng((seed, 2, clip, index)))
    done, data = cv2.imencode('.jpg', image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, 'an 8-bit image always compresses'
    middle, axes = object_pose(scene.solid, view)
    truth = {'clip': clip, 'frame': index} | ground_truth(scene, view, time)
    return Frame(data.tobytes(), truth, middle, quaternion(axes))
