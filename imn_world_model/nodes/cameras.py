"""Subscriptions to camera topics: from DDS into the mailboxes, and what goes wrong on the way."""
import time
from typing import Any

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy, qos_policy_name_from_kind
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from imn_world_model.data.encodings import Levels
from imn_world_model.data.images import Halvings, message_to_rgb
from imn_world_model.nodes.boxes import Pairing
from imn_world_model.nodes.health import Health
from imn_world_model.nodes.intake import Arrival, Intake
from imn_world_model.nodes.running import Spinner

try:
    from rclpy.experimental import EventsExecutor as ImageExecutor
except ImportError:  # ROS 2 Humble
    from rclpy.executors import SingleThreadedExecutor as ImageExecutor
try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

MAX_LOST_AT_ONCE = 10_000
# Seconds between looks at who publishes; the same for topics that nobody published yet.
LOOK_AROUND_PERIOD, LOOK_OUT_PERIOD = 1.0, 0.1
# Seconds without a publisher after which the log says which image topics there are.
UNPUBLISHED_PATIENCE = 5.0
TYPES = {'sensor_msgs/msg/Image': Image, 'sensor_msgs/msg/CompressedImage': CompressedImage}
RELIABILITIES = {'best_effort': QoSReliabilityPolicy.BEST_EFFORT,
                 'reliable': QoSReliabilityPolicy.RELIABLE}


class Cameras:
    """
    One subscription per camera topic, in a node and an executor thread of their own.

    rclpy's usual executors go through all entities of their nodes, in Python, for every message:
    beside the services of a lifecycle node that is most of what an image costs. The executor here
    is told by DDS what has come, and no service holds an image up.

    Messages are taken serialized: an image that is dropped costs no more than its copy, and a
    message that cannot be deserialized is a bad image rather than an exception in the executor.

    A topic is subscribed to once somebody publishes it, as it is published: to destroy a
    subscription may crash the executor (ros2/rclpy#1644), so it is left to publishers that change.

    :param node: that the cameras belong to; gives its name, its logger and its context.
    :param health: where images are counted; its topics are full names.
    :param intake: where images go.
    :param reliability: of the subscriptions; `auto` follows what the publishers offer.
    :param depth: images that DDS keeps for each of them.
    """

    def __init__(self, node: Node, health: Health, intake: Intake | Pairing, reliability: str,
                 depth: int) -> None:
        self._logger = node.get_logger()
        # The command line's remappings are the owner's; they are applied to the topics already.
        # The underscore hides it from `ros2 param`, which would wait for its parameter services.
        self._node = Node(f'_{node.get_name()}_cameras', namespace=node.get_namespace(),
                          context=node.context, use_global_arguments=False,
                          start_parameter_services=False, enable_rosout=False)
        self._health = health
        self._intake = intake
        self._reliability = reliability
        self._depth = depth
        self._own = f'{node.get_fully_qualified_name().rpartition("/")[0]}/debug_image'
        self._types = [CompressedImage if source.topic.endswith('/compressed') else Image
                       for source in health.sources]
        self._stamps = [0] * len(self._types)
        self._levels = [Levels() for _ in self._types]
        now = time.monotonic()
        self._published = [now] * len(self._types)
        self._missed = [False] * len(self._types)
        for source in health.sources:
            source.reliability = self._wanted_reliability(source.topic, 'best_effort')
        self._subscriptions: list[Subscription | None] = [None] * len(self._types)
        self._look_around()
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timers = [self._node.create_timer(LOOK_AROUND_PERIOD, self._look_around,
                                                clock=clock),
                        self._node.create_timer(LOOK_OUT_PERIOD, self._look_out, clock=clock)]
        executor = ImageExecutor(context=node.context)
        executor.add_node(self._node)
        self._spinner = Spinner(executor)

    @property
    def node(self) -> Node:
        """The hidden node, on whose thread images come."""
        return self._node

    @property
    def failure(self) -> Exception | None:
        """What ended the executor's thread, if anything did."""
        return self._spinner.failure

    def _subscribe(self, source: int) -> Subscription | None:
        """Subscribe, or return None while this process uses the topic with another type."""
        kind = self._types[source]
        health = self._health.sources[source]
        qos = QoSProfile(depth=self._depth, reliability=RELIABILITIES[health.reliability])

        def receive(payload: bytes) -> None:
            self._receive(source, kind, payload)

        try:
            return self._node.create_subscription(
                kind, health.topic, receive, qos, raw=True,
                event_callbacks=SubscriptionEventCallbacks(
                    incompatible_qos=lambda event: self._incompatible(source, event),
                    message_lost=lambda event: self._lost(source, event)))
        except rclpy_implementation.RCLError as error:
            self.warn(source, 'subscribe', f'cannot subscribe yet: {" ".join(str(error).split())}')
            return None

    def _wanted_reliability(self, topic: str, present: str) -> str:
        """:return: what suits the topic's publishers; as it is while there are none."""
        if self._reliability != 'auto':
            return self._reliability
        offers = {info.qos_profile.reliability
                  for info in self._node.get_publishers_info_by_topic(topic)}
        if not offers:
            return present
        # Best effort matches every publisher, reliable loses nothing.
        return 'reliable' if offers == {QoSReliabilityPolicy.RELIABLE} else 'best_effort'

    def _receive(self, source: int, kind: type, payload: bytes) -> None:
        now = time.monotonic()
        health = self._health.sources[source]
        replaced = self._intake.put(Arrival(source, payload, now, kind))
        with self._health.lock:
            health.received += 1
            health.dropped += replaced
            health.last_received = now

    def _incompatible(self, source: int, event: Any) -> None:
        if self._reliability == 'auto':
            return    # a publisher that just came; the next look around follows it
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        health = self._health.sources[source]
        problem = (f'a publisher offers incompatible QoS ({policy}); no image comes from it. '
                   'Set qos_reliability to auto or best_effort, or change the publisher')
        with self._health.lock:
            health.qos_problem = problem
        self.warn(source, 'qos', problem)

    def _lost(self, source: int, event: Any) -> None:
        # Fast DDS sometimes reports a change of billions; one image at least was lost then.
        change = event.total_count_change
        with self._health.lock:
            self._health.sources[source].lost += change if change < MAX_LOST_AT_ONCE else 1

    def warn(self, source: int, cause: str, text: str) -> None:
        """
        Log a warning about a topic unless the same cause was logged just now.

        :param source: index of the camera.
        :param cause: kind of trouble, throttled by itself.
        :param text: what to say.
        """
        topic = self._health.sources[source].topic
        note = self._health.may_log(topic, cause)
        if note is not None:
            self._logger.warning(f'{topic}: {text}{note}')

    def decode(self, arrival: Arrival, halvings: Halvings) -> tuple[Any, np.ndarray]:
        """
        Read an image message.

        :param arrival: as it came.
        :param halvings: how often the image may be halved on the way.
        :return: its header; (H, W, 3) uint8 RGB.
        :raises UserError: naming what is wrong with it.
        """
        message = deserialize_message(arrival.payload, arrival.kind)
        self._check_stamp(arrival.source, message.header.stamp)
        levels = self._levels[arrival.source]
        said = levels.said
        rgb = message_to_rgb(message, halvings, levels)
        if levels.said not in ('', said):
            self._logger.info(f'{self._health.sources[arrival.source].topic}: {levels.said}')
        return message.header, rgb

    def _check_stamp(self, source: int, stamp: Any) -> None:
        # The answer carries its image's stamp whatever it is, so odd stamps are told, not refused.
        now = stamp.sec * 1_000_000_000 + stamp.nanosec
        before, self._stamps[source] = self._stamps[source], now
        if now == 0:
            self.warn(source, 'zero stamp', 'images carry stamp zero; answers will, too')
        elif now < before:
            with self._health.lock:
                self._health.sources[source].time_jumps += 1
            self.warn(source, 'time jump', f'stamps went back by {(before - now) / 1e9:.3f} s '
                      '(a bag that loops, or a clock that was set)')

    def _look_around(self) -> None:
        """Look at the publishers of all topics."""
        for source in range(len(self._types)):
            self._look_at(source)

    def _look_out(self) -> None:
        """Look for publishers of topics that are not subscribed to."""
        for source, subscription in enumerate(self._subscriptions):
            if subscription is None:
                self._look_at(source)

    def _look_at(self, source: int) -> None:
        """Count a topic's publishers; subscribe as they publish, and anew when that changes."""
        health = self._health.sources[source]
        types = [info.topic_type
                 for info in self._node.get_publishers_info_by_topic(health.topic)]
        with self._health.lock:
            health.publishers = len(types)
            if not types:
                health.qos_problem = ''
        self._miss(source, bool(types))
        offered = {TYPES[name] for name in types if name in TYPES}
        if types and not offered:
            self.warn(source, 'type', f'carries {types[0]}, which is no image')
        if not offered:
            return
        reliability = self._wanted_reliability(health.topic, health.reliability)
        subscription, other = self._subscriptions[source], self._types[source] not in offered
        if subscription is not None:
            if not other and reliability == health.reliability:
                return
            self._node.destroy_subscription(subscription)
            self._subscriptions[source] = None
        if other:
            self._types[source] = offered.pop()
            self._logger.info(
                f'{health.topic} carries {self._types[source].__name__}; subscribing to that')
        if reliability != health.reliability:
            health.reliability = reliability
            self._logger.info(f'{health.topic}: subscribing as {reliability}, which its '
                              'publishers offer')
        if subscription is None or not other:
            # Else the executor lets go of it a little later; only then the type can be another.
            self._subscriptions[source] = self._subscribe(source)

    def _miss(self, source: int, published: bool) -> None:
        """Say once that nobody publishes a topic, and what there is in its place."""
        now = time.monotonic()
        if published:
            self._published[source], self._missed[source] = now, False
        elif not self._missed[source] and now - self._published[source] >= UNPUBLISHED_PATIENCE:
            self._missed[source] = True
            there = sorted(
                name for name, types in self._node.get_topic_names_and_types()
                if any(kind in TYPES for kind in types) and not name.startswith(self._own)
                and self._node.count_publishers(name))
            self._logger.warning(
                f'{self._health.sources[source].topic}: nobody publishes this topic; image topics '
                f'that are published: {", ".join(there) or "none"}')

    def close(self) -> None:
        """Unsubscribe."""
        self._spinner.close()
        self._node.destroy_node()
