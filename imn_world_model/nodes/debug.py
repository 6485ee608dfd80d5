"""What people look at: a picture of each answer, raw and as JPEG, and a text in space for RViz."""
from array import array
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from cv_bridge import CvBridge
from imn_msgs.msg import Object
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from visualization_msgs.msg import Marker

from imn_world_model.nodes.overlay import draw, outlined, shrunk
from imn_world_model.nodes.worker import Frame
from imn_world_model.robot.inference import Winner

TOPIC = 'debug_image'
# A picture of 436 kB becomes one of about 20 kB.
JPEG_QUALITY = 80
# Bytes of a raw picture. With larger ones (759 kB) answers came up to 3 s late, also to those who
# looked at no pictures; why is not known (Fast DDS shares 512 kB of memory; UDP was late, too).
LARGEST = 440_000
MARKER_HEIGHT = 0.1


def camera_topics(base: str, topics: list[str]) -> list[str]:
    """
    Name a topic for each camera.

    :param base: such as `debug_image`.
    :param topics: full names of the camera topics.
    :return: `debug_image` for a single camera, else `debug_image/front/image_raw` for
        `/front/image_raw`; a camera of the same name but for /compressed gets a number as well.
    """
    if len(topics) == 1:
        return [base]
    names: list[str] = []
    for index, topic in enumerate(topics):
        name = f'{base}/{topic.strip("/").removesuffix("/compressed")}'
        names.append(f'{name}_{index}' if name in names else name)
    return names


class DebugOutputs:
    """
    Publishers of pictures and markers; nothing is drawn that nobody subscribes to.

    :param node: that publishes.
    :param topics: full names of the camera topics.
    :param create: makes a publisher from message class, topic and QoS.
    :param qos: of the publishers.
    """

    def __init__(self, node: LifecycleNode, topics: list[str],
                 create: Callable[[type, str, QoSProfile], Any], qos: QoSProfile) -> None:
        self._node = node
        names = camera_topics(TOPIC, topics)
        self._raw = [create(Image, name, qos) for name in names]
        self._compressed = [create(CompressedImage, f'{name}/compressed', qos) for name in names]
        self._marker = create(Marker, 'marker', qos)
        self._bridge = CvBridge()

    def publish(self, frame: Frame, winner: Winner, row: int, objects: list[Object]) -> None:
        """
        Publish what somebody subscribes to.

        :param frame: the largest object of an image.
        :param winner: answers to the batch.
        :param row: of that object in the batch.
        :param objects: all of the image.
        """
        text = f'{winner.label[row]} {winner.confidence[row]:.2f}' + ' novel' * winner.novel[row]
        raw, compressed = (each[frame.arrival.source] for each in (self._raw, self._compressed))
        look_at_raw, look_at_compressed = (
            publisher.get_subscription_count() for publisher in (raw, compressed))
        if look_at_raw or look_at_compressed:
            picture = draw(frame.image, winner.reconstruction[row], text)
            if frame.box is not None:
                picture = np.hstack((outlined(frame.rgb, objects), picture))
        if look_at_raw:
            message = self._bridge.cv2_to_imgmsg(shrunk(picture, LARGEST), 'rgb8')
            message.header = frame.header
            raw.publish(message)
        if look_at_compressed:
            _, data = cv2.imencode('.jpg', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR),
                                   [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            # The format is spelt as image_transport does.
            compressed.publish(CompressedImage(header=frame.header,
                                               data=array('B', data.tobytes()),
                                               format='rgb8; jpeg compressed bgr8'))
        if self._marker.get_subscription_count():
            self._marker.publish(self._make_marker(frame, text))

    def _make_marker(self, frame: Frame, text: str) -> Marker:
        marker = Marker(header=frame.header, ns=f'{self._node.get_fully_qualified_name()}',
                        id=frame.arrival.source, type=Marker.TEXT_VIEW_FACING,
                        action=Marker.ADD, text=text)
        # Gone when the camera has been silent for so long that diagnostics warn.
        silence = float(self._node.get_parameter('image_timeout').value)
        marker.lifetime = Duration(seconds=silence).to_msg()
        marker.pose.orientation.w = 1.0
        marker.scale.z = MARKER_HEIGHT
        marker.color.r = marker.color.g = marker.color.b = marker.color.a = 1.0
        return marker
