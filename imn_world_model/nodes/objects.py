"""All objects of an image as one message: found, answered and followed."""
from collections.abc import Callable
from typing import Any

import numpy as np
from imn_msgs.msg import Object, ObjectArray

from imn_world_model.nodes.intake import Arrival
from imn_world_model.nodes.messages import floats
from imn_world_model.nodes.worker import Empty, Frame
from imn_world_model.robot.inference import ImnModel, Winner
from imn_world_model.vision.following import Followed, Follower
from imn_world_model.vision.prompt import PromptProposals
from imn_world_model.vision.regions import Box, Region

# Boxes of one image that are looked at, the largest first.
MOST = 32

Finder = Callable[[Arrival, np.ndarray], list[Region]]


class ByItself:
    """
    Finds objects without a detector.

    :param cameras: how many there are.
    """

    def __init__(self, cameras: int) -> None:
        self._proposals = [PromptProposals() for _ in range(cameras)]

    def __call__(self, arrival: Arrival, rgb: np.ndarray) -> list[Region]:
        """:return: the objects in a picture."""
        return self._proposals[arrival.source](arrival.received, rgb)

    def learn(self, source: int, hurry: bool) -> None:
        """Do for a camera's next picture what nobody waits for, now that its answers are out."""
        self._proposals[source].learn(hurry)


def by_detector(warn: Callable[[int, str, str], None]) -> Finder:
    """
    Take the boxes that came with the image.

    :param warn: called with the camera, the kind of trouble and a text.
    """
    def find(arrival: Arrival, rgb: np.ndarray) -> list[Region]:
        height, width = rgb.shape[:2]
        boxes = sorted(arrival.boxes or (), key=area, reverse=True)
        inside = [box for box in boxes if box[0] < width and box[1] < height
                  and box[0] + box[2] > 0 and box[1] + box[3] > 0]
        if len(inside) < len(boxes):
            warn(arrival.source, 'box outside', f'{len(boxes) - len(inside)} of {len(boxes)} '
                 f'boxes lie outside the image of {width}x{height} pixels; they get no answer')
        if len(inside) > MOST:
            warn(arrival.source, 'boxes', f'{len(inside)} boxes came with an image; the {MOST} '
                 'largest are answered')
        return [Region(box) for box in inside[:MOST]]
    return find


def area(box: Box) -> float:
    """:return: square pixels."""
    return box[2] * box[3]


def box_of(frame: Frame) -> Box:
    """:return: of its object; of the whole image where none was looked for."""
    return frame.box or (0.0, 0.0, float(frame.sides[0]), float(frame.sides[1]))


def largest_first(frames: list[Frame]) -> list[list[int]]:
    """
    Tell which frames are of the same image.

    :param frames: of one batch.
    :return: for each image the rows of its frames, the largest box first.
    """
    images: list[list[int]] = []
    for row, frame in enumerate(frames):
        if row and frames[row - 1].arrival is frame.arrival:
            images[-1].append(row)
        else:
            images.append([row])
    return [sorted(rows, key=lambda row: area(box_of(frames[row])), reverse=True)
            for rows in images]


def follow(follower: Follower, header: Any, frames: list[Frame], winner: Winner,
           rows: list[int]) -> list[Followed]:
    """
    Give the objects of an image their tracks.

    :param follower: of the camera.
    :param header: std_msgs/Header of the image.
    :param frames: of the batch.
    :param winner: answers to them.
    :param rows: of the image's objects.
    """
    return follower.update(header.stamp.sec + header.stamp.nanosec * 1e-9,
                           [box_of(frames[row]) for row in rows],
                           [int(winner.identity[row]) for row in rows],
                           [float(winner.confidence[row]) for row in rows])


def objects_message(model: ImnModel, image: Frame | Empty, topic: str,
                    objects: list[Object]) -> ObjectArray:
    """
    Build what is published on `objects`.

    :param model: that answered.
    :param image: of which any frame will do.
    :param topic: full name of the topic that the image came on.
    :param objects: the largest first.
    """
    width, height = image.sides
    return ObjectArray(header=image.header, source_topic=topic, model=model.name, width=width,
                       height=height, objects=objects)


def object_message(model: ImnModel, frame: Frame, winner: Winner, row: int,
                   track: Followed) -> Object:
    """
    Build the part about one object.

    :param model: that answered.
    :param frame: the object.
    :param winner: answers to the batch.
    :param row: of the object in it.
    :param track: that the object belongs to.
    """
    return Object(
        box=np.array(box_of(frame), np.float32), track=track.number, seen=track.seen,
        identity=track.identity, label=model.labels[track.identity],
        confidence=float(track.confidence), image_identity=int(winner.identity[row]),
        image_confidence=float(winner.confidence[row]), novel=bool(winner.novel[row]),
        dim=winner.transform.shape[-1], latent_dim=winner.latent_mean.shape[-1],
        active=[bool(flag) for flag in winner.active[row]],
        transform=floats(winner.transform[row]), latent_mean=floats(winner.latent_mean[row]),
        latent_variance=floats(winner.latent_variance[row]))
