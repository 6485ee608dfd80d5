"""A log with ground truth, answered and filtered image by image."""
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imn_world_model.base.cli import atomic_path
from imn_world_model.base.errors import UserError
from imn_world_model.base.marks import MARK
from imn_world_model.data.encodings import Levels
from imn_world_model.data.images import message_to_rgb
from imn_world_model.robot.inference import ImnModel
from imn_world_model.robot.tracking import Track, TrackingOptions

IMAGE_TOPIC = '/camera/image_raw/compressed'
TRUTH_TOPIC = '/ground_truth'
# Against a singular fit, where a coordinate never moves.
RIDGE = 1e-3
BATCH = 16


@dataclass(frozen=True)
class Log:
    """
    What a log holds about K images.

    :param time: (K,) stamps, seconds since the first.
    :param images: (K, S, S, 3) uint8, as the model takes them.
    :param truth: name to (K,) true values.
    """

    time: np.ndarray
    images: np.ndarray
    truth: dict[str, np.ndarray]


def read_log(path: Path, model: ImnModel, quantities: list[str]) -> Log:
    """
    Read images and true values with the same stamp.

    :param path: rosbag2 folder as `imn_world_model.simulate` writes it.
    :param model: prepares the images.
    :param quantities: names of true values.
    :raises UserError: when the log has no images with such values.
    """
    from rosbags.rosbag2 import Reader, ReaderError
    from rosbags.typesys import Stores, get_typestore
    store = get_typestore(Stores.ROS2_JAZZY)
    images: dict[int, np.ndarray] = {}
    levels = Levels()
    truth: dict[int, dict] = {}
    try:
        with Reader(path) as reader:
            for connection, stamp, data in reader.messages():
                if connection.topic in (IMAGE_TOPIC, TRUTH_TOPIC):
                    # rosbags makes its message classes at run time.
                    message: Any = store.deserialize_cdr(data, connection.msgtype)
                    if connection.topic == IMAGE_TOPIC:
                        images[stamp] = model.prepare(message_to_rgb(
                            message, model.halvings, levels))
                    else:
                        truth[stamp] = json.loads(message.data)
    except (ReaderError, OSError) as error:
        raise UserError(f'{path} is no readable rosbag2 recording: {error}') from error
    stamps = sorted(set(images) & set(truth))
    if not stamps or not set(quantities) <= set(truth[stamps[0]]):
        raise UserError(f'{path} has no images on {IMAGE_TOPIC} with {", ".join(quantities)} on '
                        f'{TRUTH_TOPIC}')
    return Log((np.array(stamps) - stamps[0]) / 1e9, np.stack([images[s] for s in stamps]),
               {name: np.array([truth[s][name] for s in stamps]) for name in quantities})


def follow(model: ImnModel, log: Log, options: TrackingOptions) -> tuple[np.ndarray, np.ndarray]:
    """
    Measure the coordinates and filter them.

    :param model: answers the images.
    :param log: K images.
    :param options: of the filter.
    :return: (K, D) measured and (K, D) filtered coordinates.
    """
    parts = np.array_split(log.images, max(1, len(log.time) // BATCH))
    winners = [model.predict(part) for part in parts]
    mean = np.concatenate([winner.latent_mean for winner in winners]).reshape(len(log.time), -1)
    variance = np.concatenate([winner.latent_variance for winner in winners]).reshape(mean.shape)
    identity = np.concatenate([winner.identity for winner in winners])
    track = Track(options)
    filtered = np.stack([track.update(*row).mean for row in zip(
        log.time, identity.tolist(), mean, variance, strict=True)])
    return mean, filtered


def occlude(images: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """
    Put something dark in the way, such as a gripper or a passer-by, in images drawn at random.

    :param images: (K, S, S, 3) uint8.
    :param share: of the images, in [0, 1].
    :param seed: of the draw.
    :return: (K, S, S, 3) uint8; in that share a rectangle covers a ninth to a quarter.
    """
    rng = np.random.default_rng(seed)
    result, side = images.copy(), images.shape[1]
    for k in np.flatnonzero(rng.random(len(images)) < share):
        width, height = rng.integers(side // 3, side // 2 + 1, 2)
        left, top = rng.integers(0, side - width + 1), rng.integers(0, side - height + 1)
        result[k, top:top + height, left:left + width] = rng.integers(20, 60, 3)
    return result


def linear_fit(coordinates: np.ndarray, values: np.ndarray) -> np.ndarray:
    """
    Fit values = [coordinates, 1] @ weights.

    :param coordinates: (K, D).
    :param values: (K,).
    :return: (D + 1,) weights.
    """
    rows = np.column_stack((coordinates, np.ones(len(coordinates))))
    return np.linalg.solve(rows.T @ rows + RIDGE * np.eye(rows.shape[1]), rows.T @ values)


def apply(weights: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """
    Apply a fit.

    :param weights: of `linear_fit`.
    :param coordinates: (K, D).
    :return: (K,) values.
    """
    return coordinates @ weights[:-1] + weights[-1]


def draw(log: Log, raw: dict[str, np.ndarray], filtered: dict[str, np.ndarray],
         path: Path) -> None:
    """
    Plot truth, raw and filtered values over time.

    :param log: with the truth.
    :param raw: name to (K,) values from measured coordinates.
    :param filtered: name to (K,) values from filtered coordinates.
    :param path: of the picture.
    """
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(len(raw), 1, figsize=(11, 3 * len(raw)), sharex=True,
                                squeeze=False)
    for axis, name in zip(axes[:, 0], raw, strict=True):
        axis.plot(log.time, log.truth[name], 'k.', markersize=3, label='truth')
        axis.plot(log.time, raw[name], '.', markersize=4, alpha=0.6, label='measured')
        axis.plot(log.time, filtered[name], '.', markersize=4, label='filtered')
        axis.set_ylabel(name)
    axes[0, 0].legend(loc='upper right')
    axes[-1, 0].set_xlabel('time, s')
    figure.tight_layout()
    with atomic_path(path) as scratch:
        figure.savefig(scratch, dpi=100, format='png', metadata=MARK)
    plt.close(figure)
