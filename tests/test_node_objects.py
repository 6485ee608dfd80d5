"""Objects of whole pictures over DDS: found by the node or by a detector, answered, followed."""
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from images import header, picture, raw
from imn_msgs.msg import Identity, ObjectArray, Transform
from ros_graph import PATIENCE, ask, wait_until
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from test_proposals import moving

from imn_world_model.data.images import message_to_rgb
from imn_world_model.nodes.debug import LARGEST
from imn_world_model.nodes.overlay import colour_of
from imn_world_model.robot.inference import ImnModel
from imn_world_model.vision.overlaps import overlap
from imn_world_model.vision.regions import Region, cut

NODE = 'imn_world_model.nodes.perception'
BOX = (8.0, 4.0, 20.0, 30.0)
# A detector where vision_msgs is installed: a box for every image, the second one empty.
DETECTOR = """
import rclpy
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D, Detection2DArray
rclpy.init()
node = rclpy.create_node('detector')
publisher = node.create_publisher(Detection2DArray, '/boxes', 10)
def detect(image):
    found = Detection2DArray(header=image.header)
    if not image.header.frame_id.startswith('nothing'):
        box = Detection2D()
        box.bbox.center.position.x, box.bbox.center.position.y = 18.0, 19.0
        box.bbox.size_x, box.bbox.size_y = 20.0, 30.0
        found.detections = [box]
    publisher.publish(found)
node.create_subscription(Image, '/camera/image', detect, 10)
rclpy.spin(node)
"""
# What is published in standard messages, as JSON once all of it has come.
LISTENER = """
import json, rclpy
from foxglove_msgs.msg import ImageAnnotations
from vision_msgs.msg import Detection2DArray
rclpy.init()
node = rclpy.create_node('listener')
got = {}
def detected(message):
    if message.detections:
        one, = message.detections
        got['id'] = one.id, one.results[0].hypothesis.class_id, message.header.frame_id
        got['score'] = one.results[0].hypothesis.score
        got['box'] = [one.bbox.center.position.x, one.bbox.center.position.y, one.bbox.size_x,
                      one.bbox.size_y]
def annotated(message):
    if message.points:
        got['text'] = message.texts[0].text
        got['points'] = [(point.x, point.y) for point in message.points[0].points]
        got['sizes'] = message.texts[0].font_size, message.points[0].thickness
node.create_subscription(Detection2DArray, '/imn/detections', detected, 10)
node.create_subscription(ImageAnnotations, '/imn/annotations', annotated, 10)
while len(got) < 6:
    rclpy.spin_once(node, timeout_sec=0.1)
print(json.dumps(got), flush=True)
"""


def photo(frame):
    return raw(frame, picture(1))


def assert_tells(found, identity, transform, model_file, box):
    """Check the first object, and what `identity` and `transform` say, against the model."""
    model = ImnModel(model_file)
    part = cut(picture(1), Region(box), model.image_size, model.crop)
    alone = model.predict(part[None])
    first = found.objects[0]
    np.testing.assert_allclose(first.box, box)
    np.testing.assert_allclose(identity.identity_scores, alone.identity_scores[0], rtol=1e-4)
    assert first.image_identity == identity.identity == alone.identity[0]
    assert first.image_confidence == pytest.approx(alone.confidence[0], rel=1e-4)
    assert first.label == alone.label[0]
    assert [first.dim, first.latent_dim] == [model.matrix_dim, model.latent_dim]
    np.testing.assert_array_equal(first.active, alone.active[0])
    for name in ('transform', 'latent_mean', 'latent_variance'):
        values = getattr(alone, name)[0].ravel()
        np.testing.assert_allclose(getattr(first, name), values, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(getattr(transform, name), values, rtol=1e-3, atol=1e-5)


def test_node_finds_and_follows_two_things_by_itself(graph, start, tiny_model):
    start(model=tiny_model, image_topics=['/camera/image'], regions='auto')
    arrays = graph.collect(ObjectArray, '/imn/objects')
    identities = graph.collect(Identity, '/imn/identity')
    publisher = graph.publisher(Image, '/camera/image')
    shown = moving()
    ask(publisher, [arrays], lambda frame: raw(frame, shown[0][0]), 'heard')
    for k, (rgb, _) in enumerate(shown):
        publisher.publish(raw(f'{k}', rgb, seconds=10 + k / 2))
        arrays.wait_for_frame(f'{k}')
    answers = [arrays.wait_for_frame(f'{k}') for k in range(len(shown))]
    tracks = set()
    for answer, (_, boxes) in list(zip(answers, shown))[3:]:
        assert (answer.width, answer.height, answer.model) == (320, 240, 'tiny')
        assert answer.source_topic == '/camera/image'
        assert len(answer.objects) == 2
        areas = [found.box[2] * found.box[3] for found in answer.objects]
        assert areas == sorted(areas, reverse=True)
        for found in answer.objects:
            near = [overlap(found.box, box) >= 0.5 for box in boxes]
            assert sum(near) == 1
            tracks.add((near.index(True), found.track))
        first = identities.wait_for_frame(answer.header.frame_id)
        assert first.identity == answer.objects[0].image_identity
    assert len(tracks) == 2                           # a number each
    assert [found.seen for found in answers[-1].objects] == [answers[-1].objects[0].seen] * 2


def test_debug_image_shows_the_picture_with_boxes_and_names(graph, start, tiny_model):
    start(model=tiny_model, image_topics=['/camera/image'], regions='topic',
          region_topics=['/camera/box'])
    arrays = graph.collect(ObjectArray, '/imn/objects')
    shown = graph.collect(Image, '/imn/debug_image')
    publisher = graph.publisher(Image, '/camera/image')
    graph.publisher(RegionOfInterest, '/camera/box').publish(
        RegionOfInterest(x_offset=8, y_offset=4, width=20, height=30))
    found, debug = ask(publisher, [arrays, shown], photo, 'look')
    seen = message_to_rgb(debug)
    assert seen.nbytes <= LARGEST < 284 * (379 + 512) * 3
    assert seen.shape[1] / seen.shape[0] == pytest.approx((379 + 512) / 284, rel=0.01)
    scale = seen.shape[0] / 48
    plain = np.repeat(np.repeat(picture(1), 6, 0), 6, 1)
    colour = colour_of(found.objects[0].track)
    for x, y in ((8, 20), (28, 20), (18, 34)):        # left, right and lower edge of the box
        np.testing.assert_allclose(seen[round(y * scale), round(x * scale)], colour, atol=40)
    np.testing.assert_allclose(seen[round(42 * scale), round(60 * scale)], plain[252, 360], atol=5)


def test_without_regions_the_whole_picture_is_the_object(graph, start, tiny_model):
    start(model=tiny_model, image_topics=['/camera/image'])
    arrays = graph.collect(ObjectArray, '/imn/objects')
    identities = graph.collect(Identity, '/imn/identity')
    found, identity = ask(graph.publisher(Image, '/camera/image'), [arrays, identities], photo,
                          'whole')
    assert [list(each.box) for each in found.objects] == [[0, 0, 64, 48]]
    assert found.objects[0].image_identity == identity.identity
    assert found.objects[0].image_confidence == identity.confidence


def test_halved_jpegs_have_boxes_in_pixels_of_the_image_that_came(graph, start, tiny_model):
    import cv2
    start(model=tiny_model, image_topics=['/camera/image/compressed'])
    arrays = graph.collect(ObjectArray, '/imn/objects')

    def large(frame):
        data = cv2.imencode('.jpg', picture(1, 960, 1280))[1].tobytes()
        return CompressedImage(header=header(frame), format='jpeg', data=data)

    found, = ask(graph.publisher(CompressedImage, '/camera/image/compressed'), [arrays], large,
                 'large')
    assert (found.width, found.height) == (1280, 960)
    assert list(found.objects[0].box) == [0, 0, 1280, 960]


def test_region_of_interest_of_each_camera_is_cut_out(graph, start, tiny_model):
    node = start(model=tiny_model, image_topics=['/a/image', '/b/image'], regions='topic',
                 region_topics=['/a/box', '/b/box'])
    topics = ('objects', 'identity', 'transform')
    answers = [graph.collect(kind, f'/imn/{name}')
               for kind, name in zip((ObjectArray, Identity, Transform), topics)]
    images = {name: graph.publisher(Image, f'/{name}/image') for name in 'ab'}
    boxes = {name: graph.publisher(RegionOfInterest, f'/{name}/box') for name in 'ab'}
    for name, x in (('a', 8), ('b', 30)):
        boxes[name].publish(RegionOfInterest(x_offset=x, y_offset=4, width=20, height=30))
        told = ask(images[name], answers, photo, name)
        assert_tells(*told, tiny_model, (float(x), 4.0, 20.0, 30.0))
        assert told[0].source_topic == f'/{name}/image'
    # The empty region: an answer that says so, and no identity.
    boxes['a'].publish(RegionOfInterest())
    count = iter(range(1000))

    def none_seen():
        images['a'].publish(photo(f'none#{next(count)}'))
        return any(not each.objects for each in answers[0])
    wait_until(none_seen, 'an answer without objects')
    empty = [each.header.frame_id for each in answers[0] if not each.objects]
    assert not set(empty) & set(answers[1].frames())
    boxes['b'].publish(RegionOfInterest(x_offset=100, y_offset=4, width=20, height=30))
    images['b'].publish(photo('outside'))
    node.wait_for_output('/b/image: 1 of 1 boxes lie outside the image of 64x48 pixels')


def test_wrong_topics_of_boxes_are_told(graph, start, tiny_model):
    node = start(model=tiny_model, image_topics=['/a/image'], regions='topic',
                 region_topics=['/a/other'])
    graph.node.create_publisher(Image, '/a/other', 10)
    node.wait_for_output('/a/image: /a/other carries sensor_msgs/msg/Image; boxes are '
                         'vision_msgs/msg/Detection2DArray or sensor_msgs/msg/RegionOfInterest')
    unequal = start(model=tiny_model, image_topics=['/a/image', '/b/image'], regions='topic',
                    region_topics=['/a/box'])
    unequal.wait_for_output('cannot configure: parameter region_topics is')
    silent = start(model=tiny_model, image_topics=['/c/image'], regions='topic',
                   region_topics=['/c/box'])
    silent.wait_for_output('/c/image: no boxes come on /c/box')


def test_model_learnt_from_regions_asks_for_them_and_is_content_with_them(
        graph, start, tiny_model, tmp_path):
    import onnx
    model = onnx.load(tiny_model)
    for entry in model.metadata_props:
        if entry.key == 'config':
            config = json.loads(entry.value)
            config['regions'] = {'boxes': None, 'auto': True}
            entry.value = json.dumps(config)
    file = tmp_path / 'cut.onnx'
    onnx.save(model, file)
    start(model=file, image_topics=['/a/image']).wait_for_output('set regions to auto or topic')
    content = start(model=file, image_topics=['/b/image'], regions='auto')
    content.wait_for_output('active on')
    assert 'cut out' not in content.output()


def test_detections_of_a_detector_are_answered_where_vision_msgs_is_installed(
        graph, workspace, tiny_model):
    def run(*words, **options):
        return subprocess.Popen(
            ['bash', '-c', f'. {workspace}/install/setup.bash && exec "$@"', 'bash',
             sys.executable, *words], cwd=workspace, start_new_session=True, text=True,
            env={**os.environ, 'AMENT_PREFIX_PATH': sys.prefix, 'OMP_NUM_THREADS': '1'}, **options)

    node = run('-m', NODE, '--ros-args', '-p', f'model:={tiny_model}', '-p',
               'image_topics:=/camera/image', '-p', 'regions:=topic', '-p',
               'region_topics:=/boxes', '-p', 'region_tolerance:=0.001')  # its own box, or none
    detector = run('-c', DETECTOR)
    listener = run('-c', LISTENER, stdout=subprocess.PIPE)
    try:
        answers = [graph.collect(kind, f'/imn/{name}') for kind, name in
                   ((ObjectArray, 'objects'), (Identity, 'identity'), (Transform, 'transform'))]
        publisher = graph.publisher(Image, '/camera/image', subscribers=2)
        told = ask(publisher, answers, photo, 'seen')
        assert_tells(*told, tiny_model, BOX)
        wait_until(lambda: publisher.publish(photo('seen again'))
                   or listener.poll() is not None, 'the standard messages')
        got = json.loads(listener.communicate(timeout=PATIENCE)[0])
        assert ask(publisher, answers[:1], photo, 'nothing')[0].objects == []
    finally:
        for process in (node, detector, listener):
            process.send_signal(signal.SIGKILL)
            process.wait()
    first = told[0].objects[0]
    assert got['id'][:2] == [str(first.track), str(first.identity)]
    assert got['id'][2].startswith('seen')
    assert got['score'] == pytest.approx(first.confidence)
    assert got['box'] == [18.0, 19.0, 20.0, 30.0]
    assert got['points'] == [[8, 4], [28, 4], [28, 34], [8, 34]]
    assert got['text'] == f'{first.track} {first.label} {first.confidence:.2f}'
    assert got['sizes'] == pytest.approx([1.6, 0.2])         # of 64 pixels, not of 640
