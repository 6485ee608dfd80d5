"""Everything that the perception node publishes about images."""
from cv_bridge import CvBridge
from imn_msgs.msg import Identity, Labels, Transform
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker

from imn_world_model.inference import ImnModel, Winner
from imn_world_model.nodes.messages import identity_message, transform_message
from imn_world_model.nodes.overlay import draw
from imn_world_model.nodes.worker import Frame

# Reliable publishers serve reliable and best-effort subscribers alike.
RESULTS = QoSProfile(depth=10, reliability=QoSReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE,
                     durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
MARKER_HEIGHT = 0.1


class Outputs:
    """
    Publishers of the answers; they publish while the node is active.

    :param node: that publishes.
    :param topics: full names of the camera topics.
    """

    def __init__(self, node: LifecycleNode, topics: list[str]) -> None:
        self._node = node
        self._topics = topics
        self._identity = node.create_lifecycle_publisher(Identity, 'identity', RESULTS)
        self._transform = node.create_lifecycle_publisher(Transform, 'transform', RESULTS)
        self._labels = node.create_lifecycle_publisher(Labels, 'labels', LATCHED)
        self._debug = node.create_lifecycle_publisher(Image, 'debug_image', RESULTS)
        self._marker = node.create_lifecycle_publisher(Marker, 'marker', RESULTS)
        self._bridge = CvBridge()

    def publish_labels(self, model: ImnModel) -> None:
        """
        Tell present and later subscribers what the identity indices mean.

        :param model: whose labels they are.
        """
        self._labels.publish(Labels(model=model.name, labels=list(model.labels)))

    def publish(self, model: ImnModel, frame: Frame, winner: Winner, row: int) -> None:
        """
        Publish the answer to one image.

        :param model: that gave it.
        :param frame: the image.
        :param winner: answers to the batch.
        :param row: of the image in the batch.
        """
        topic = self._topics[frame.arrival.source]
        self._identity.publish(identity_message(frame.header, topic, winner, row, model.name))
        self._transform.publish(transform_message(frame.header, topic, winner, row))

    def publish_extras(self, frame: Frame, winner: Winner, row: int) -> None:
        """
        Publish what people look at, as far as somebody does.

        :param frame: the image.
        :param winner: answers to the batch.
        :param row: of the image in the batch.
        """
        text = f'{winner.label[row]} {winner.confidence[row]:.2f}' + ' novel' * winner.novel[row]
        if self._debug.get_subscription_count():
            picture = draw(frame.image, winner.reconstruction[row], text)
            message = self._bridge.cv2_to_imgmsg(picture, 'rgb8')
            message.header = frame.header
            self._debug.publish(message)
        if self._marker.get_subscription_count():
            self._marker.publish(self._make_marker(frame, text))

    def _make_marker(self, frame: Frame, text: str) -> Marker:
        marker = Marker(header=frame.header, ns=f'{self._node.get_fully_qualified_name()}',
                        id=frame.arrival.source, type=Marker.TEXT_VIEW_FACING,
                        action=Marker.ADD, text=text)
        marker.pose.orientation.w = 1.0
        marker.scale.z = MARKER_HEIGHT
        marker.color.r = marker.color.g = marker.color.b = marker.color.a = 1.0
        return marker

    def close(self) -> None:
        """Take the topics down."""
        for publisher in (self._identity, self._transform, self._labels, self._debug,
                          self._marker):
            self._node.destroy_publisher(publisher)
