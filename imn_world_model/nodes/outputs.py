"""Everything that the perception node publishes about images."""
from typing import Any

from imn_msgs.msg import Identity, Labels, Object, ObjectArray, Transform
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from std_msgs.msg import Header

from imn_world_model.nodes import annotations, vision
from imn_world_model.nodes.debug import DebugOutputs, camera_topics
from imn_world_model.nodes.messages import identity_message, transform_message
from imn_world_model.nodes.objects import objects_message
from imn_world_model.nodes.parameters import Settings
from imn_world_model.nodes.poses import Poses
from imn_world_model.nodes.worker import Empty, Frame
from imn_world_model.robot.inference import ImnModel, Winner
from imn_world_model.robot.poses import Pose
from imn_world_model.vision.following import Followed

# Reliable publishers serve reliable and best-effort subscribers alike.
RESULTS = QoSProfile(depth=10, reliability=QoSReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE,
                     durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


class Outputs:
    """
    Publishers of the answers; they publish while the node is active.

    :param node: that publishes.
    :param topics: full names of the camera topics.
    :param settings: of the node.
    """

    def __init__(self, node: LifecycleNode, topics: list[str], settings: Settings) -> None:
        self._node = node
        self._topics = topics
        self._publishers: list[Any] = []
        self._identity = self._create(Identity, 'identity', RESULTS)
        self._transform = self._create(Transform, 'transform', RESULTS)
        self._objects = self._create(ObjectArray, 'objects', RESULTS)
        self._labels = self._create(Labels, 'labels', LATCHED)
        self._poses = Poses(node, topics, settings.camera_info_topics, settings.fixed_frame,
                            self._create, RESULTS)
        self._debug = DebugOutputs(node, topics, self._create, RESULTS)
        if vision.INSTALLED:
            self._classification = self._create(vision.Classification, 'classification', RESULTS)
            self._label_info = self._create(vision.LabelInfo, 'label_info', LATCHED)
            self._detections = self._create(vision.Detection2DArray, 'detections', RESULTS)
        if annotations.INSTALLED:
            self._annotations = [self._create(annotations.ImageAnnotations, name, RESULTS)
                                 for name in camera_topics('annotations', topics)]

    def _create(self, kind: type, topic: str, qos: QoSProfile) -> Any:
        publisher = self._node.create_lifecycle_publisher(kind, topic, qos)
        self._publishers.append(publisher)
        return publisher

    def publish_labels(self, model: ImnModel) -> None:
        """
        Tell present and later subscribers what the identity indices mean.

        :param model: whose labels they are.
        """
        self._labels.publish(Labels(model=model.name, labels=list(model.labels)))
        if vision.INSTALLED:
            now = self._node.get_clock().now().to_msg()
            self._label_info.publish(vision.label_info(Header(stamp=now), model.labels))

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
        if vision.INSTALLED and self._classification.get_subscription_count():
            confidences = model.confidences(winner.identity_scores[row:row + 1])[0]
            self._classification.publish(vision.classification(
                frame.header, int(winner.identity[row]), confidences))

    def publish_objects(self, model: ImnModel, image: Frame | Empty,
                        objects: list[Object]) -> None:
        """
        Publish all objects of an image; where there are some, detections follow with poses.

        :param model: that answered.
        :param image: of which any frame will do.
        :param objects: the largest first.
        """
        source = image.arrival.source
        message = objects_message(model, image, self._topics[source], objects)
        self._objects.publish(message)
        if not objects and vision.INSTALLED and self._detections.get_subscription_count():
            self._detect(model, image, [], [])
        if annotations.INSTALLED and self._annotations[source].get_subscription_count():
            self._annotations[source].publish(annotations.annotations(message))

    def publish_poses(self, model: ImnModel, frames: list[Frame], winner: Winner, rows: list[int],
                      tracks: list[Followed], objects: list[Object]) -> None:
        """
        Publish where an image's objects are in space, as far as somebody listens.

        :param model: that answered.
        :param frames: of the batch.
        :param winner: answers to it.
        :param rows: of the image's objects, the largest first.
        :param tracks: of each.
        :param objects: the message about each.
        """
        listened = vision.INSTALLED and bool(self._detections.get_subscription_count())
        poses: list[Pose | None] = [None] * len(rows)
        if self._poses.wanted(model) or listened and model.poses:
            poses = self._poses.tell(model, frames, winner, rows, tracks)
        if listened:
            self._detect(model, frames[rows[0]], objects, poses)

    def _detect(self, model: ImnModel, image: Frame | Empty, objects: list[Object],
                poses: list[Pose | None]) -> None:
        message = objects_message(model, image, self._topics[image.arrival.source], objects)
        self._detections.publish(vision.detections(message, poses))

    def publish_extras(self, frame: Frame, winner: Winner, row: int,
                       objects: list[Object]) -> None:
        """
        Publish what people look at, as far as somebody does.

        :param frame: the largest object of an image.
        :param winner: answers to the batch.
        :param row: of that object in the batch.
        :param objects: all of the image.
        """
        self._debug.publish(frame, winner, row, objects)

    def close(self) -> None:
        """Take the topics down."""
        self._poses.close()
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)
