"""Answers in the standard messages of vision_msgs, where that package is installed."""
from typing import Any

import numpy as np

from imn_world_model.nodes.poses import fill
from imn_world_model.robot.poses import Pose

try:
    from vision_msgs.msg import (
        Classification,
        Detection2D,
        Detection2DArray,
        LabelInfo,
        ObjectHypothesis,
        ObjectHypothesisWithPose,
        VisionClass,
    )
    INSTALLED = True
except ImportError:
    INSTALLED = False

# Less probable identities are left out.
LEAST = 0.001


def classification(header: Any, identity: int, confidences: np.ndarray) -> 'Classification':
    """
    Build the standard form of Identity.

    :param header: std_msgs/Header of the source image, passed on unchanged.
    :param identity: that won; it comes first.
    :param confidences: (n,) in [0, 1], of every identity.
    """
    order = [identity, *(int(j) for j in np.argsort(-confidences, kind='stable') if j != identity)]
    return Classification(header=header, results=[
        ObjectHypothesis(class_id=str(j), score=float(confidences[j]))
        for j in order if j == identity or confidences[j] >= LEAST])


def detections(message: Any, poses: list[Pose | None]) -> 'Detection2DArray':
    """
    Build the standard form of ObjectArray.

    :param message: imn_msgs/ObjectArray.
    :param poses: of each object; where it has none, its pose is left empty.
    """
    found = Detection2DArray(header=message.header)
    for each, pose in zip(message.objects, poses, strict=True):
        x, y, width, height = (float(value) for value in each.box)
        result = ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(
            class_id=str(each.identity), score=float(each.confidence)))
        if pose is not None:
            fill(result.pose, pose)
        one = Detection2D(header=message.header, id=str(each.track), results=[result])
        one.bbox.center.position.x, one.bbox.center.position.y = x + width / 2, y + height / 2
        one.bbox.size_x, one.bbox.size_y = width, height
        found.detections.append(one)
    return found


def label_info(header: Any, labels: tuple[str, ...]) -> 'LabelInfo':
    """
    Build the standard form of Labels.

    :param header: std_msgs/Header.
    :param labels: of the identities.
    """
    return LabelInfo(header=header, threshold=0.0, class_map=[
        VisionClass(class_id=j, class_name=label) for j, label in enumerate(labels)])
