"""What the perception node makes of its camera topics: their QoS, what is lost or missing."""
import re
import signal
import time

from images import picture, raw
from imn_msgs.msg import Identity
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from ros_graph import RELIABLE, Diagnostics, ask, wait_until
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

TOPIC = '/camera/image'
STATUS = f'imn.perception: {TOPIC}'
BEST_EFFORT = QoSProfile(depth=10, reliability=QoSReliabilityPolicy.BEST_EFFORT)


def photo(frame):
    return raw(frame, picture(1))


def test_qos_auto_follows_what_publishers_offer(graph, start, tiny_model):
    node = start(model=tiny_model, image_topics=[TOPIC])
    identities = graph.collect(Identity, '/imn/identity')
    diagnostics = Diagnostics(graph)
    # Nothing is known of the publishers yet; to subscribe anew may crash (ros2/rclpy#1644).
    diagnostics.wait(STATUS, lambda status, values: values['publishers'] == '0', 'no publisher')
    assert not graph.node.get_subscriptions_info_by_topic(TOPIC)

    def subscribed(reliability):
        wait_until(lambda: [info.qos_profile.reliability for info in
                            graph.node.get_subscriptions_info_by_topic(TOPIC)] == [reliability],
                   f'one subscription with {reliability!r}')
        diagnostics.wait(STATUS, lambda status, values:
                         values['reliability'] == reliability.name.lower(), reliability.name)

    def publish(qos, name):
        publisher = graph.node.create_publisher(Image, TOPIC, qos)
        ask(publisher, [identities], photo, name)
        return publisher

    best_effort = publish(BEST_EFFORT, 'best effort')
    subscribed(QoSReliabilityPolicy.BEST_EFFORT)
    reliable = publish(RELIABLE, 'both')
    ask(best_effort, [identities], photo, 'both, best effort')
    subscribed(QoSReliabilityPolicy.BEST_EFFORT)
    graph.node.destroy_publisher(best_effort)
    subscribed(QoSReliabilityPolicy.RELIABLE)
    ask(reliable, [identities], photo, 'reliable alone')
    # Incompatible with the present subscription, until it follows.
    publish(BEST_EFFORT, 'best effort again')
    subscribed(QoSReliabilityPolicy.BEST_EFFORT)
    assert diagnostics.statuses[STATUS].level < b'\x02'
    assert 'incompatible' not in node.output()


def test_lost_images_are_a_warning_with_the_remedy(graph, start, tiny_model):
    node = start(model=tiny_model, image_topics=[TOPIC], qos_reliability='best_effort')
    identities = graph.collect(Identity, '/imn/identity')
    diagnostics = Diagnostics(graph)
    publisher = graph.publisher(Image, TOPIC, BEST_EFFORT)
    ask(publisher, [identities], photo, 'heard')
    big = raw('big', picture(1, 480, 640))
    # What arrives while the process stands still overflows DDS' buffers.
    node.process.send_signal(signal.SIGSTOP)
    for _ in range(60):
        publisher.publish(big)
        time.sleep(0.005)
    node.process.send_signal(signal.SIGCONT)
    timer = graph.node.create_timer(0.1, lambda: publisher.publish(photo('after')))
    status = diagnostics.wait(STATUS, lambda status, values: 'lost' in status.message, 'a warning')
    timer.cancel()
    assert status.level == b'\x01'
    assert re.match('[0-9]+% of the images are lost on their way; set qos_reliability',
                    status.message)


def test_topic_that_nobody_publishes_is_told_once_with_the_image_topics_there_are(
        graph, start, tiny_model):
    for kind, topic in ((Image, '/front/image'), (CompressedImage, '/left/image/compressed'),
                        (String, '/chatter')):
        graph.node.create_publisher(kind, topic, 10)
    # Subscribed to only: no camera.
    graph.collect(Image, '/rear/image')
    node = start(model=tiny_model, image_topics=['/camra/image', '/front/image'])
    said = ('/camra/image: nobody publishes this topic; image topics that are published: '
            '/front/image, /left/image/compressed\n')
    node.wait_for_output(said)
    stamps = [float(re.search(r'\[([0-9]+\.[0-9]+)\]', line)[1])
              for line in node.output().splitlines() if 'active on' in line or 'nobody' in line]
    assert stamps[1] - stamps[0] >= 4.9
    # It looks around once a second.
    time.sleep(2.5)
    assert node.output().count('nobody publishes') == 1
    identities = graph.collect(Identity, '/imn/identity')
    ask(graph.publisher(Image, '/camra/image'), [identities], photo, 'at last')
