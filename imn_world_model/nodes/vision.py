"""Answers in the standard messages of vision_msgs, where that package is installed."""
from typing import Any

import numpy as np

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


def detections(message: Any) -> 'Detection2DArray':
    """
    Build the standard form of ObjectArray; poses are left empty.

    :param message: imn_msgs/ObjectArray.
    """
    found = Detection2DArray(header=message.header)
    for each in message.objects:
        x, y, width, height = (float(value) for value in each.box)
        hypothesis = ObjectHypothesis(class_id=str(each.identity), score=float(each.confidence))
        one = Detection2D(header=message.header, id=str(each.track),
                          results=[ObjectHypothesisWithPose(hypothesis=hypothesis)])
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
