"""The perception node on real DDS: every kind of image gets the right answer or none."""
import time
from array import array

import numpy as np
import pytest
from images import bad_images, fuzzed, jpeg, picture, raw
from imn_msgs.msg import Identity, Transform
from ros_graph import Diagnostics, NodeProcess, ask, wait_until
from sensor_msgs.msg import CompressedImage, Image

from imn_world_model.base.errors import UserError
from imn_world_model.data.images import message_to_rgb
from imn_world_model.nodes.messages import transform_to_arrays
from imn_world_model.robot.inference import ImnModel

NODE = 'imn_world_model.nodes.perception'
TOPICS = ['/front/image_raw', '/left/image_raw/compressed', '/right/picture', '/deep/image_raw']


@pytest.fixture(scope='module')
def node(tiny_model, tmp_path_factory):
    process = NodeProcess(NODE, tmp_path_factory.mktemp('node') / 'log', {
        # Reliable, since a best-effort image may get lost and a test would wait for its answer.
        'model': tiny_model, 'image_topics': TOPICS, 'qos_reliability': 'reliable',
        'batch_wait': 0.0})
    process.wait_for_output('active on')
    yield process
    code, _ = process.stop()
    assert code == 0, process.output()
    assert 'Traceback' not in process.output()


@pytest.fixture
def outputs(node, graph):
    identities = graph.collect(Identity, '/imn/identity')
    transforms = graph.collect(Transform, '/imn/transform')
    ask(graph.publisher(Image, TOPICS[0]), [identities, transforms],
        lambda frame: raw(frame, picture(0)), 'heard')
    return identities, transforms


def send(publisher, answers, message):
    """Publish one image and wait for its answer."""
    publisher.publish(message)
    return answers.wait_for_frame(message.header.frame_id)


def test_answers_carry_the_header_and_match_offline_inference(graph, outputs, tiny_model):
    identities, transforms = outputs
    model = ImnModel(tiny_model)
    for topic, kind, make in ((TOPICS[0], Image, raw), (TOPICS[1], CompressedImage, jpeg)):
        publisher = graph.publisher(kind, topic)
        for seed in range(4):
            message = make(f'{topic}{seed}', picture(seed, 480, 640), seconds=5.25 + seed)
            answer = send(publisher, identities, message)
            moves = transforms.wait_for_frame(message.header.frame_id)
            winner = model.predict(model.prepare(message_to_rgb(message, model.halvings))[None])
            assert answer.header == moves.header == message.header
            assert answer.identity == moves.identity == winner.identity[0]
            assert answer.label == winner.label[0]
            assert answer.model == model.name
            assert answer.novel == winner.novel[0]
            assert answer.confidence == pytest.approx(winner.confidence[0], abs=1e-5)
            assert answer.score == pytest.approx(winner.score[0], rel=1e-4)
            np.testing.assert_allclose(answer.identity_scores, winner.identity_scores[0], 1e-4)
            arrays = transform_to_arrays(moves)
            for name in ('active', 'transform', 'module_transforms', 'latent_mean',
                         'latent_variance'):
                np.testing.assert_allclose(getattr(arrays, name), getattr(winner, name)[0],
                                           rtol=1e-3, atol=1e-5, err_msg=name)


def test_encodings_resolutions_and_padding_change_in_mid_stream(graph, outputs, tiny_model):
    identities, _ = outputs
    model = ImnModel(tiny_model)
    publisher = graph.publisher(Image, TOPICS[0])
    cases = [('rgb8', 0, (48, 64)), ('bgr8', 0, (48, 64)), ('bgr8', 5, (48, 64)),
             ('rgb8', 13, (90, 31)), ('mono8', 0, (48, 64)), ('mono16', 2, (48, 64)),
             ('rgb8', 0, (1, 1)), ('rgb8', 0, (480, 640))]
    for index, (encoding, padding, shape) in enumerate(cases):
        rgb = picture(index, *shape)
        if encoding.startswith('mono'):
            rgb = rgb.mean(2, keepdims=True).repeat(3, 2).astype(np.uint8)
        name = f'{encoding}+{padding}@{shape}'
        answer = send(publisher, identities, raw(name, rgb, encoding, padding))
        scores = model.predict(model.prepare(rgb)[None]).identity_scores[0]
        np.testing.assert_allclose(answer.identity_scores, scores, 1e-4, err_msg=name)


def test_twelve_bits_of_a_topic_are_answered_as_eight_and_told_once(graph, outputs, node,
                                                                    tiny_model):
    identities, _ = outputs
    model = ImnModel(tiny_model)
    publisher = graph.publisher(Image, TOPICS[3])
    for seed in range(3):
        rgb = picture(seed).mean(2, keepdims=True).repeat(3, 2).astype(np.uint8)
        message = raw(f'deep{seed}', rgb, 'mono16')
        twelve = np.frombuffer(message.data, '>u2') >> 4
        message.data = array('B', twelve.astype('>u2').tobytes())
        answer = send(publisher, identities, message)
        scores = model.predict(model.prepare(rgb)[None]).identity_scores[0]
        np.testing.assert_allclose(answer.identity_scores, scores, 1e-4)
    assert node.output().count(f'{TOPICS[3]}: samples use 12 of 16 bits') == 1


def test_bad_images_get_no_answer_and_are_counted(graph, outputs, node):
    identities, transforms = outputs
    diagnostics = Diagnostics(graph)
    front, left = (f'imn.perception: {topic}' for topic in TOPICS[:2])
    diagnostics.wait(left, lambda status, values: True, 'anything')
    before = {name: sum(int(diagnostics.values(name)[key]) for key in ('bad', 'dropped'))
              for name in (front, left)}
    publisher = graph.publisher(Image, TOPICS[0])
    compressed = graph.publisher(CompressedImage, TOPICS[1])
    bad = bad_images()
    for count, (name, message) in enumerate(bad.items(), 1):
        publisher.publish(message)
        # A newer image would replace one that still waits.
        time.sleep(0.05)
        send(publisher, identities, raw(f'after {name}', picture(count)))
    corrupt = [jpeg('cut', picture(1)), jpeg('noise', picture(1)), jpeg('nothing', picture(1))]
    corrupt[0].data = corrupt[0].data[:100]
    corrupt[1].data = corrupt[1].data[::-1]
    corrupt[2].data = corrupt[2].data[:0]
    for message in corrupt:
        compressed.publish(message)
        time.sleep(0.05)
        send(compressed, identities, jpeg(f'after {message.header.frame_id}', picture(2)))
    status = diagnostics.wait(
        left, lambda status, values:
        int(values['bad']) + int(values['dropped']) == before[left] + len(corrupt),
        'every corrupt JPEG')
    assert 'cannot be decoded' in status.message
    diagnostics.wait(front, lambda status, values:
                     int(values['bad']) + int(values['dropped']) == before[front] + len(bad),
                     'every bad image')
    refused = {*bad, *(message.header.frame_id for message in corrupt)}
    assert not refused & {*identities.frames(), *transforms.frames()}
    assert f'{TOPICS[1]}: no answer to an image' in node.output()


def test_huge_image_is_answered(graph, outputs):
    identities, _ = outputs
    publisher = graph.publisher(Image, TOPICS[0])
    send(publisher, identities, raw('huge', picture(3, 6000, 8000)))


def test_odd_stamps_are_answered_and_told(graph, outputs, node):
    identities, _ = outputs
    diagnostics = Diagnostics(graph)
    publisher = graph.publisher(Image, TOPICS[0])
    for seconds in (50.0, 20.0, 0.0, 21.0):
        answer = send(publisher, identities, raw(f'at {seconds}', picture(4), seconds=seconds))
        assert answer.header.stamp.sec == int(seconds)
    diagnostics.wait(f'imn.perception: {TOPICS[0]}',
                     lambda status, values: int(values['time jumps']) >= 1, 'a time jump')
    assert f'{TOPICS[0]}: stamps went back by ' in node.output()
    assert f'{TOPICS[0]}: images carry stamp zero' in node.output()


def test_compressed_topic_of_any_name_is_understood(graph, outputs):
    identities, _ = outputs
    publisher = graph.node.create_publisher(CompressedImage, TOPICS[2], 10)
    counts = iter(range(10_000))

    def answered():
        # The node subscribes anew once it sees the type, so its first images may be missed.
        publisher.publish(jpeg(f'right{next(counts)}', picture(5)))
        time.sleep(0.1)
        return any(frame.startswith('right') for frame in identities.frames())

    wait_until(answered, f'an answer on {TOPICS[2]}')


def test_ten_thousand_fuzzed_images_get_no_answer_unless_they_are_images(graph, outputs):
    identities, transforms = outputs
    diagnostics = Diagnostics(graph)
    publisher = graph.publisher(Image, TOPICS[0])
    images = fuzzed(10_000, seed=0)
    bad = set()
    for count, image in enumerate(images):
        publisher.publish(image)
        # Slow enough for most of them to be looked at rather than dropped, on a busy machine, too.
        time.sleep(0.0005)
        if count % 10 == 0:
            send(publisher, identities, raw(f'amid the fuzz {count}', picture(6)))
        try:
            message_to_rgb(image)
        except UserError:
            bad.add(image.header.frame_id)
    assert len(bad) > 5000
    send(publisher, identities, raw('after the fuzz', picture(6)))
    diagnostics.wait(f'imn.perception: {TOPICS[0]}',
                     lambda status, values: int(values['bad']) > 1000, 'many bad images')
    assert not bad & {*identities.frames(), *transforms.frames()}
