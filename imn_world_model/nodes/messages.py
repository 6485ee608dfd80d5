"""Answers of the model as ROS messages, and Transform messages as numpy matrices and back."""
from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
from imn_msgs.msg import Identity, Transform

from imn_world_model.base.errors import UserError
from imn_world_model.robot.inference import Winner


@dataclass(frozen=True)
class TransformArrays:
    """
    A Transform message's numbers in their shapes; letters as in model.py.

    :param identity: index of the winning identity module.
    :param active: (m,) bool, the modules of the winning combination.
    :param transform: (u, u) float32, product of the active modules in increasing index order.
    :param module_transforms: (m, u, u) float32, every module's own matrix.
    :param latent_mean: (m, L) float32, Lie-algebra coordinates.
    :param latent_variance: (m, L) float32, their variances.
    """

    identity: int
    active: np.ndarray
    transform: np.ndarray
    module_transforms: np.ndarray
    latent_mean: np.ndarray
    latent_variance: np.ndarray


def floats(values: np.ndarray) -> array:
    """
    Turn numbers into the array type that message fields take without a copy to a list.

    :param values: any shape.
    :return: float32, row-major.
    """
    flat = array('f')
    flat.frombytes(np.ascontiguousarray(values, np.float32).tobytes())
    return flat


def identity_message(header: Any, topic: str, winner: Winner, row: int, model: str) -> Identity:
    """
    Build what is published on `identity`.

    :param header: std_msgs/Header of the source image, passed on unchanged.
    :param topic: full name of the topic that the image came on.
    :param winner: the model's answers to a batch.
    :param row: of this image in the batch.
    :param model: the model's name.
    """
    return Identity(
        header=header,
        identity=int(winner.identity[row]),
        label=winner.label[row],
        confidence=float(winner.confidence[row]),
        score=float(winner.score[row]),
        identity_scores=floats(winner.identity_scores[row]),
        novel=bool(winner.novel[row]),
        model=model,
        source_topic=topic,
    )


def transform_message(header: Any, topic: str, winner: Winner, row: int) -> Transform:
    """
    Build what is published on `transform`.

    :param header: std_msgs/Header of the source image, passed on unchanged.
    :param topic: full name of the topic that the image came on.
    :param winner: the model's answers to a batch.
    :param row: of this image in the batch.
    """
    return arrays_to_transform(header, topic, TransformArrays(
        int(winner.identity[row]), winner.active[row], winner.transform[row],
        winner.module_transforms[row], winner.latent_mean[row], winner.latent_variance[row]))


def arrays_to_transform(header: Any, topic: str, arrays: TransformArrays) -> Transform:
    """
    Flatten matrices into a message.

    :param header: std_msgs/Header.
    :param topic: that the image came on.
    :param arrays: the numbers, in their shapes.
    """
    return Transform(
        header=header,
        identity=arrays.identity,
        dim=arrays.transform.shape[-1],
        latent_dim=arrays.latent_mean.shape[-1],
        active=[bool(flag) for flag in arrays.active],
        transform=floats(arrays.transform),
        module_transforms=floats(arrays.module_transforms),
        latent_mean=floats(arrays.latent_mean),
        latent_variance=floats(arrays.latent_variance),
        source_topic=topic,
    )


def transform_to_arrays(message: Transform) -> TransformArrays:
    """
    Give a message's numbers their shapes; works on rclpy messages and on those read from bags.

    :param message: a Transform.
    :raises UserError: when the lengths do not agree with `dim`, `latent_dim` and `active`.
    """
    m, u, L = len(message.active), int(message.dim), int(message.latent_dim)
    shapes = {'transform': (u, u), 'module_transforms': (m, u, u),
              'latent_mean': (m, L), 'latent_variance': (m, L)}
    arrays = {}
    for name, shape in shapes.items():
        values = np.asarray(getattr(message, name), np.float32)
        if values.size != np.prod(shape):
            raise UserError(
                f'Transform.{name} holds {values.size} numbers; {m} modules, dim {u} and '
                f'latent_dim {L} need {int(np.prod(shape))}')
        arrays[name] = values.reshape(shape)
    return TransformArrays(int(message.identity), np.asarray(message.active, bool), **arrays)
