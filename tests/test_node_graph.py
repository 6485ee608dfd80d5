"""The perception node among others: names, QoS, publishers and subscribers that come and go."""
import signal

import numpy as np
from images import jpeg, picture, raw
from imn_msgs.msg import Identity, Labels, State, Transform
from rclpy.executors import MultiThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from ros_graph import Diagnostics, ask, wait_until
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from visualization_msgs.msg import Marker

from imn_world_model.data.images import message_to_rgb
from imn_world_model.nodes.estimator import EstimatorNode
from imn_world_model.nodes.perception import PerceptionNode
from imn_world_model.nodes.running import Spinner

LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


def photo(frame):
    return raw(frame, picture(1))


def jpeg_photo(frame):
    return jpeg(frame, picture(1))


def test_params_file_namespace_and_remaps_are_obeyed(graph, start, tiny_model, tmp_path):
    file = tmp_path / 'params.yaml'
    file.write_text('/**:\n  ros__parameters:\n'
                    f'    model: {tiny_model}\n    image_topics: [camera, extra/compressed]\n'
                    '    use_sim_time: true\n')
    start('--params-file', str(file), '-r', '__ns:=/robot1/imn', '-r', '__node:=eyes',
          '-r', 'identity:=found', '-r', 'camera:=/front/image', '--log-level', 'warn')
    identities = graph.collect(Identity, '/robot1/imn/found')
    transforms = graph.collect(Transform, '/robot1/imn/transform')
    diagnostics = Diagnostics(graph)
    ask(graph.publisher(Image, '/front/image'), [identities, transforms], photo, 'front')
    ask(graph.publisher(CompressedImage, '/robot1/imn/extra/compressed'),
        [identities, transforms], jpeg_photo, 'extra')
    diagnostics.wait('robot1.imn.eyes: model', lambda status, values: True, 'diagnostics')
    # Somebody listens to simulated time, and its standing still held nothing up.
    graph.publisher(Clock, '/clock')


def test_two_nodes_in_one_domain_keep_apart(graph, start, tiny_model, other_model):
    for name, model in (('one', tiny_model), ('two', other_model)):
        start('-r', f'__ns:=/{name}/imn', model=model, image_topics=[f'/{name}/image'])
    for name, model in (('one', 'tiny'), ('two', 'other')):
        identities = graph.collect(Identity, f'/{name}/imn/identity')
        publisher = graph.publisher(Image, f'/{name}/image')
        assert ask(publisher, [identities], photo, name)[0].model == model
        assert {frame.split('#')[0] for frame in identities.frames()} == {name}


def test_cameras_that_fire_together_are_all_answered(graph, start, tiny_model):
    topics = [f'/camera{index}/compressed' for index in range(4)]
    start(model=tiny_model, image_topics=topics, qos_reliability='reliable')
    identities = graph.collect(Identity, '/imn/identity')
    transforms = graph.collect(Transform, '/imn/transform')
    publishers = [graph.publisher(CompressedImage, topic) for topic in topics]
    for publisher in publishers:
        ask(publisher, [identities], jpeg_photo, 'heard')
    identities.clear()
    for turn in range(5):
        for index, publisher in enumerate(publishers):
            publisher.publish(jpeg(f'{turn}/{index}', picture(index)))
        for index in range(4):
            identities.wait_for_frame(f'{turn}/{index}')
    for index, topic in enumerate(topics):
        assert {answer.source_topic for answer in [*identities, *transforms]
                if answer.header.frame_id.endswith(f'/{index}')} == {topic}
        scores = [answer.identity_scores for answer in identities
                  if answer.header.frame_id.endswith(f'/{index}')]
        np.testing.assert_allclose(scores, [scores[0]] * 5, rtol=1e-4)


def test_incompatible_publisher_is_named_in_diagnostics_and_log(graph, start, tiny_model):
    node = start(model=tiny_model, image_topics=['/camera/image'], qos_reliability='reliable')
    diagnostics = Diagnostics(graph)
    best_effort = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
    publisher = graph.node.create_publisher(Image, '/camera/image', best_effort)
    status = diagnostics.wait('imn.perception: /camera/image',
                              lambda status, values: status.level == b'\x02', 'an error')
    assert 'incompatible QoS' in status.message and 'RELIABILITY' in status.message
    node.wait_for_output('/camera/image: a publisher offers incompatible QoS')
    graph.node.destroy_publisher(publisher)
    identities = graph.collect(Identity, '/imn/identity')
    ask(graph.publisher(Image, '/camera/image'), [identities], photo, 'compatible')


def test_topic_that_appears_late_disappears_and_returns(graph, start, tiny_model):
    start(model=tiny_model, image_topics=['/late/image'], image_timeout=0.5)
    identities = graph.collect(Identity, '/imn/identity')
    diagnostics = Diagnostics(graph)
    name = 'imn.perception: /late/image'
    for turn in range(2):
        status = diagnostics.wait(name, lambda status, values: values['publishers'] == '0'
                                  and status.level == b'\x01', 'a silent topic')
        assert status.message == 'nobody publishes this topic'
        publisher = graph.publisher(Image, '/late/image')
        ask(publisher, [identities], photo, f'turn{turn}')
        diagnostics.wait(name, lambda status, values: values['publishers'] == '1', 'a publisher')
        graph.node.destroy_publisher(publisher)


def test_ten_subscribers_get_the_same_answers(graph, start, tiny_model):
    start(model=tiny_model, image_topics=['/camera/image'])
    collectors = [graph.collect(Identity, '/imn/identity') for _ in range(10)]
    publisher = graph.publisher(Image, '/camera/image')
    answers = ask(publisher, collectors, photo, 'everybody')
    assert answers == [answers[0]] * 10


def test_killed_node_is_replaced_while_subscribers_stay(graph, start, tiny_model):
    identities = graph.collect(Identity, '/imn/identity')
    publisher = graph.node.create_publisher(Image, '/camera/image', 10)
    first = start(model=tiny_model, image_topics=['/camera/image'])
    ask(publisher, [identities], photo, 'before')
    assert first.stop(signal.SIGKILL)[0] == -signal.SIGKILL
    start(model=tiny_model, image_topics=['/camera/image'])
    ask(publisher, [identities], photo, 'after')


def test_labels_debug_image_and_marker_come_to_those_who_subscribe(graph, start, tiny_model):
    start(model=tiny_model, image_topics=['/camera/image'])
    identities = graph.collect(Identity, '/imn/identity')
    publisher = graph.publisher(Image, '/camera/image')
    ask(publisher, [identities], photo, 'nobody looks')
    labels = graph.collect(Labels, '/imn/labels', LATCHED)
    pictures = graph.collect(Image, '/imn/debug_image')
    markers = graph.collect(Marker, '/imn/marker')
    wait_until(lambda: labels, 'latched labels')
    assert labels[0].labels == ['thing 0', 'thing 1', 'thing 2']
    seen, marker = ask(publisher, [pictures, markers], photo, 'look')
    # The left half is what the model saw: the picture's centre square.
    left = message_to_rgb(seen)[:256, :256].astype(int)
    block_centres = picture(1)[4::8, 12:56:8]
    np.testing.assert_allclose(left[21::43, 21::43], block_centres, atol=3)
    assert marker.text.startswith('thing')


def test_perception_and_estimator_work_in_one_process(graph, tiny_model):
    parameters = [Parameter('model', value=str(tiny_model)),
                  Parameter('image_topics', value=['/camera/image'])]
    executor = MultiThreadedExecutor(num_threads=2, context=graph.context)
    nodes = [PerceptionNode(context=graph.context, namespace='robot',
                            parameter_overrides=parameters),
             EstimatorNode(context=graph.context, namespace='robot')]
    for node in nodes:
        executor.add_node(node)
    spinner = Spinner(executor)
    try:
        states = graph.collect(State, '/robot/state')
        ask(graph.publisher(Image, '/camera/image'), [states], photo, 'seen')
    finally:
        spinner.close()
        for node in nodes:
            node.destroy_node()
    assert spinner.failure is None
