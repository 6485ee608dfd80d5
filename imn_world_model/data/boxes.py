"""
Boxes of a detector in logs.

Read are vision_msgs/Detection2DArray (of the same stamp as the image, or the nearest) and
sensor_msgs/RegionOfInterest (no stamp: it holds until another one comes).
"""
from bisect import bisect_right
from pathlib import Path

from rosbags.typesys import get_types_from_msg

from imn_world_model.base.errors import UserError
from imn_world_model.data.bags import TYPESTORE, BagReport, read_bag
from imn_world_model.data.detections import DETECTIONS, ROI, boxes_of
from imn_world_model.data.raw import RawFrame
from imn_world_model.vision.regions import Box

# Nanoseconds by which the stamps of an image and its boxes may differ, as in the node.
TOLERANCE = 100_000_000
# vision_msgs 4, from Humble on; the rosbags library does not bring it.
_FIELDS = {
    'Point2D': 'float64 x\nfloat64 y',
    'Pose2D': 'vision_msgs/Point2D position\nfloat64 theta',
    'BoundingBox2D': 'vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y',
    'ObjectHypothesis': 'string class_id\nfloat64 score',
    'ObjectHypothesisWithPose': 'vision_msgs/ObjectHypothesis hypothesis\n'
                                'geometry_msgs/PoseWithCovariance pose',
    'Detection2D': 'std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n'
                   'vision_msgs/BoundingBox2D bbox\nstring id',
    'Detection2DArray': 'std_msgs/Header header\nvision_msgs/Detection2D[] detections'}
for _name, _fields in _FIELDS.items():
    TYPESTORE.register(get_types_from_msg(_fields, f'vision_msgs/msg/{_name}'))


class Detected:
    """
    A detector's boxes in a recording.

    :param path: of a bag.
    :param topic: of the boxes.
    """

    def __init__(self, path: Path, topic: str) -> None:
        told: dict[int, list[Box]] = {}
        self._hold = False
        for message in read_bag(path, BagReport(), kinds=(ROI, DETECTIONS)):
            if message.topic == topic:
                try:
                    stamp, boxes = boxes_of(message.decode())
                except UserError:                     # a broken message tells nothing
                    continue
                self._hold |= stamp is None
                told[message.stamp if stamp is None else stamp] = boxes
        self._stamps = sorted(told)
        self._boxes = [told[stamp] for stamp in self._stamps]

    def __bool__(self) -> bool:
        return any(self._boxes)

    def largest(self, frame: RawFrame) -> Box | None:
        """:return: the largest box of an image, as the node puts it first; ``None`` for none."""
        if not self._stamps:
            return None
        if self._hold:
            row = bisect_right(self._stamps, frame.truth_key) - 1
            if row < 0:
                return None
        else:
            after = bisect_right(self._stamps, frame.stamp)
            row = min(range(max(0, after - 1), min(len(self._stamps), after + 1)),
                      key=lambda each: abs(self._stamps[each] - frame.stamp))
            if abs(self._stamps[row] - frame.stamp) > TOLERANCE:
                return None
        return max(self._boxes[row], key=lambda box: box[2] * box[3], default=None)
