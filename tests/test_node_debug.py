"""What people look at: debug pictures of each camera, markers, the answers' standard forms."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from images import jpeg, picture, raw
from imn_msgs.msg import Identity
from ros_graph import PATIENCE, ask, wait_until
from sensor_msgs.msg import CompressedImage, Image
from visualization_msgs.msg import Marker

from imn_world_model.data.images import message_to_rgb
from imn_world_model.nodes.debug import TOPIC, camera_topics

NODE = 'imn_world_model.nodes.perception'
# Listens where vision_msgs is installed, and prints what it has once it has all.
LISTENER = """
import json, rclpy
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from vision_msgs.msg import Classification, LabelInfo
rclpy.init()
node = rclpy.create_node('listener')
got = {}
def classified(message):
    got['results'] = [(each.class_id, each.score) for each in message.results]
    got['frame'] = message.header.frame_id
def labelled(message):
    got['labels'] = [(each.class_id, each.class_name) for each in message.class_map]
    got['stamp'] = message.header.stamp.sec
node.create_subscription(Classification, '/imn/classification', classified, 10)
node.create_subscription(LabelInfo, '/imn/label_info', labelled, QoSProfile(
    depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL))
while len(got) < 4:
    rclpy.spin_once(node, timeout_sec=0.1)
print(json.dumps(got), flush=True)
"""


def photo(frame):
    return raw(frame, picture(1))


def assert_shows(message, seed):
    """Compare the left half, what the model saw, with the picture's centre square."""
    left = message_to_rgb(message)[:256, :256].astype(int)
    np.testing.assert_allclose(left[21::43, 21::43], picture(seed)[4::8, 12:56:8], atol=25)


def test_debug_topics_are_each_cameras_own():
    assert camera_topics(TOPIC, ['/front/image_raw/compressed']) == ['debug_image']
    assert camera_topics(TOPIC, ['/a/image', '/b/image/compressed', '/a/image/compressed']) == [
        'debug_image/a/image', 'debug_image/b/image', 'debug_image/a/image_2']


def test_debug_image_comes_compressed_and_small_and_the_marker_goes(graph, start, tiny_model):
    start(model=tiny_model, image_topics=['/camera/image'], image_timeout=3)
    small = graph.collect(CompressedImage, '/imn/debug_image/compressed')
    markers = graph.collect(Marker, '/imn/marker')
    seen, marker = ask(graph.publisher(Image, '/camera/image'), [small, markers], photo, 'look')
    assert seen.format == 'rgb8; jpeg compressed bgr8'
    assert len(seen.data) < 100_000
    assert_shows(seen, 1)
    assert (marker.lifetime.sec, marker.lifetime.nanosec) == (3, 0)


def test_each_camera_has_a_debug_image_of_its_own(graph, start, tiny_model):
    start(model=tiny_model, image_topics=['/front/image', '/left/image/compressed'])
    front = graph.collect(CompressedImage, '/imn/debug_image/front/image/compressed')
    left = graph.collect(Image, '/imn/debug_image/left/image')
    assert_shows(ask(graph.publisher(Image, '/front/image'), [front], photo, 'front')[0], 1)
    other = ask(graph.publisher(CompressedImage, '/left/image/compressed'), [left],
                lambda frame: jpeg(frame, picture(2)), 'left')[0]
    assert_shows(other, 2)
    assert {frame.split('#')[0] for frame in front.frames()} == {'front'}
    assert {frame.split('#')[0] for frame in left.frames()} == {'left'}


def test_answers_come_in_the_standard_messages_where_those_are_installed(
        graph, workspace, tiny_model):
    def run(*words, **options):
        return subprocess.Popen(
            ['bash', '-c', f'. {workspace}/install/setup.bash && exec "$@"', 'bash',
             sys.executable, *words], cwd=workspace, start_new_session=True, text=True,
            env={**os.environ, 'AMENT_PREFIX_PATH': sys.prefix, 'OMP_NUM_THREADS': '1'}, **options)

    node = run('-m', NODE, '--ros-args', '-p', f'model:={tiny_model}', '-p',
               'image_topics:=/camera/image')
    listener = run('-c', LISTENER, stdout=subprocess.PIPE)
    try:
        identities = graph.collect(Identity, '/imn/identity')
        publisher = graph.publisher(Image, '/camera/image')
        answer = ask(publisher, [identities], photo, 'seen')[0]
        wait_until(lambda: publisher.publish(photo('seen again'))
                   or listener.poll() is not None, 'the standard messages')
        got = json.loads(listener.communicate(timeout=PATIENCE)[0])
    finally:
        for process in (node, listener):
            process.kill()
            process.wait()
    ids, scores = zip(*got['results'])
    assert ids[0] == str(answer.identity)
    assert scores[0] == pytest.approx(answer.confidence, abs=1e-6)
    assert sum(scores) == pytest.approx(1.0, abs=0.01)
    assert list(scores) == sorted(scores, reverse=True)
    assert got['frame'].startswith('seen')
    assert got['labels'] == [[0, 'thing 0'], [1, 'thing 1'], [2, 'thing 2']]
    assert got['stamp'] > 0
