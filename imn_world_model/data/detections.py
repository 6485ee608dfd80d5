"""Boxes of a detector, as messages tell them: in logs, and as they come to the node."""
import math
from typing import Any

from imn_world_model.vision.regions import Box

ROI = 'sensor_msgs/msg/RegionOfInterest'
DETECTIONS = 'vision_msgs/msg/Detection2DArray'


def boxes_of(message: Any) -> tuple[int | None, list[Box]]:
    """
    Read boxes.

    :param message: Detection2DArray or RegionOfInterest.
    :return: stamp in nanoseconds, None where there is none; x, y, width, height in pixels of each
        box that has an area, upright about those that are turned.
    """
    if not hasattr(message, 'detections'):
        box = tuple(float(value) for value in (message.x_offset, message.y_offset, message.width,
                                               message.height))
        return None, [(box[0], box[1], box[2], box[3])] if min(box[2:]) > 0 else []
    boxes = []
    for detection in message.detections:
        bounds = detection.bbox
        # Before vision_msgs 4 the centre was a geometry_msgs/Pose2D, without position.
        centre = getattr(bounds.center, 'position', bounds.center)
        cosine, sine = abs(math.cos(bounds.center.theta)), abs(math.sin(bounds.center.theta))
        width = bounds.size_x * cosine + bounds.size_y * sine
        height = bounds.size_x * sine + bounds.size_y * cosine
        box = centre.x - width / 2, centre.y - height / 2, width, height
        if all(map(math.isfinite, box)) and min(width, height) > 0:
            boxes.append((box[0], box[1], box[2], box[3]))
    stamp = message.header.stamp
    return stamp.sec * 10 ** 9 + stamp.nanosec, boxes
