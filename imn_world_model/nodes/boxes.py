"""
Boxes of a detector for the cameras' images: subscriptions, and which box belongs to which image.

Read are vision_msgs/Detection2DArray (of the same stamp as the image, or the nearest) and
sensor_msgs/RegionOfInterest (no stamp: it holds until another one comes).
"""
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import RegionOfInterest

from imn_world_model.data.detections import DETECTIONS, ROI, boxes_of
from imn_world_model.nodes.intake import Arrival, Intake
from imn_world_model.vision.regions import Box

INSTALL = ('vision_msgs is not installed, so its detections cannot be read; '
           'install ros-$ROS_DISTRO-vision-msgs')
# Images of a camera that wait for their boxes.
HELD = 10
LOOK_AROUND_PERIOD = 0.5
# Seconds without boxes after which the log says so.
PATIENCE = 5.0


class Pairing:
    """
    Between the cameras and the intake: an image goes on once its boxes are there.

    :param intake: where images go.
    :param tolerance: seconds by which the stamps of an image and its boxes may differ.
    :param replaced: called with the camera when an image took the place of another in the intake.
    """

    def __init__(self, intake: Intake, tolerance: float, replaced: Callable[[int], None]) -> None:
        self._intake = intake
        self._tolerance = round(tolerance * 1e9)
        self._replaced = replaced
        self._lock = threading.Lock()
        self._held: list[deque[tuple[int, Arrival]]] = [deque(maxlen=HELD)
                                                        for _ in range(intake.num_sources)]
        self._waiting: list[tuple[int, list[Box]] | None] = [None] * intake.num_sources
        self._standing: list[list[Box] | None] = [None] * intake.num_sources

    def put(self, arrival: Arrival) -> bool:
        """
        Take an image.

        :param arrival: the image.
        :return: True when it replaced an older image in the intake.
        """
        source = arrival.source
        with self._lock:
            standing = self._standing[source]
            if standing is not None:
                return self._intake.put(replace(arrival, boxes=tuple(standing)))
            self._held[source].append((stamp_of(arrival.payload), arrival))
            waiting = self._waiting[source]
            paired = self._pair(source, *waiting) if waiting else None
        return self._intake.put(paired) if paired else False

    def add(self, source: int, stamp: int | None, boxes: list[Box]) -> None:
        """
        Take the boxes of an image.

        :param source: index of the camera.
        :param stamp: nanoseconds; ``None`` for boxes that hold until others come.
        :param boxes: of the image.
        """
        with self._lock:
            if stamp is None:
                self._standing[source] = boxes
                return
            paired = self._pair(source, stamp, boxes)
        if paired and self._intake.put(paired):
            self._replaced(source)

    def _pair(self, source: int, stamp: int, boxes: list[Box]) -> Arrival | None:
        """:return: the image that boxes belong to, which waits no longer, if it can be told."""
        held = self._held[source]
        self._waiting[source] = None
        near = min(held, key=lambda each: abs(each[0] - stamp), default=None)
        if near is None or near[0] != stamp and held[-1][0] < stamp:
            self._waiting[source] = stamp, boxes      # the image itself may still come
            return None
        if abs(near[0] - stamp) > self._tolerance:
            return None
        while held and held[0][0] <= near[0]:
            held.popleft()
        return replace(near[1], boxes=tuple(boxes))


class BoxTopics:
    """
    One subscription of boxes for each camera, once somebody publishes them.

    :param node: that subscribes; images come on its thread.
    :param topics: full names, one for each camera.
    :param pairing: where boxes go.
    :param warn: called with the camera, the kind of trouble and a text.
    """

    def __init__(self, node: Node, topics: list[str], pairing: Pairing,
                 warn: Callable[[int, str, str], None]) -> None:
        self._node, self._topics, self._pairing, self._warn = node, topics, pairing, warn
        self._subscribed = [False] * len(topics)
        self._last = [time.monotonic()] * len(topics)
        self._look_around()
        node.create_timer(LOOK_AROUND_PERIOD, self._look_around,
                          clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _look_around(self) -> None:
        """Subscribe to what is published; say what is not."""
        for source, topic in enumerate(self._topics):
            types = [] if self._subscribed[source] else [
                info.topic_type for info in self._node.get_publishers_info_by_topic(topic)]
            if types:
                kind = message_class(types[0])
                if kind is None:
                    self._warn(source, 'boxes', INSTALL if types[0] == DETECTIONS else
                               f'{topic} carries {types[0]}; boxes are {DETECTIONS} or {ROI}')
                else:
                    self._subscribe(source, topic, kind)
            elif time.monotonic() - self._last[source] >= PATIENCE:
                self._last[source] = time.monotonic()
                self._warn(source, 'no boxes', f'no boxes come on {topic}, and images without '
                           'boxes get no answer; start the detector, or set regions to auto')

    def _subscribe(self, source: int, topic: str, kind: type) -> None:
        def receive(message: Any) -> None:
            self._last[source] = time.monotonic()
            self._pairing.add(source, *boxes_of(message))

        self._node.create_subscription(kind, topic, receive, HELD)
        self._subscribed[source] = True


def message_class(name: str) -> type | None:
    """
    Tell what boxes come as.

    :param name: of the message type, such as `sensor_msgs/msg/RegionOfInterest`.
    :return: its class; None where it holds no boxes or is not installed.
    """
    if name == ROI:
        return RegionOfInterest
    if name == DETECTIONS:
        try:
            from vision_msgs.msg import Detection2DArray
            return Detection2DArray
        except ImportError:
            return None
    return None


def stamp_of(payload: bytes) -> int:
    """
    Read the stamp of a serialized message that begins with a header, and nothing else of it.

    :param payload: CDR: four bytes of which the second tells the byte order, then the stamp.
    :return: nanoseconds; 0 for less than a stamp.
    """
    if len(payload) < 12:
        return 0
    seconds, nanoseconds = struct.unpack_from('<iI' if payload[1] & 1 else '>iI', payload, 4)
    return seconds * 10 ** 9 + nanoseconds
