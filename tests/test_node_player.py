"""The player of recordings as a process of its own."""
import signal

import pytest
from ros_graph import PATIENCE, ROOT, NodeProcess, wait_until
from sensor_msgs.msg import CompressedImage

PLAYER = 'imn_world_model.nodes.player'
LOG = ROOT / 'demo' / 'log'
TOPIC = '/camera/image_raw/compressed'


@pytest.fixture
def play(tmp_path):
    """Start players; none outlives the test."""
    nodes = []

    def play(**parameters):
        nodes.append(NodeProcess(PLAYER, tmp_path / f'log{len(nodes)}', parameters))
        return nodes[-1]

    yield play
    for node in nodes:
        if node.process.poll() is None:
            node.stop(signal.SIGKILL)
        assert 'Traceback' not in node.output()


def test_player_plays_to_whoever_listens_and_ends(graph, play):
    node = play(bag=LOG, listener=TOPIC, rate=8)
    node.wait_for_output('waiting for a subscriber')
    images = graph.collect(CompressedImage, TOPIC)
    wait_until(lambda: len(images) > 20, 'images')
    assert node.process.wait(PATIENCE) == 0
    assert 'played 640 messages' in node.output()
    stamps = [(image.header.stamp.sec, image.header.stamp.nanosec) for image in images]
    assert stamps == sorted(set(stamps))


@pytest.mark.parametrize('listening', [False, True])
def test_player_ends_at_once_when_told_twice(graph, play, listening):
    node = play(bag=LOG, listener=TOPIC)
    node.wait_for_output('waiting for a subscriber')
    if listening:
        images = graph.collect(CompressedImage, TOPIC)
        wait_until(lambda: images, 'images')
    node.process.send_signal(signal.SIGINT)
    code, seconds = node.stop()
    assert code == 0
    assert seconds < 20.0
    assert 'played' not in node.output()


@pytest.mark.parametrize('parameters, words', [
    ({'bag': '/nowhere'}, '/nowhere is no readable rosbag2 recording'),
    ({'bag': LOG, 'rate': 0.0}, 'rate is 0.0; it must be above 0'),
    ({'bag': LOG, 'rate': 'fast'}, "rate is 'fast'; it must be a number"),
    ({'bag': LOG, 'rate': []}, 'rate is []; it must be a number'),
    ({'bag': LOG, 'listener': '/none'}, f'has no topic /none; it has {TOPIC}')])
def test_player_mistakes_are_one_line_and_an_exit_code(play, parameters, words):
    node = play(**parameters)
    assert node.process.wait(PATIENCE) == 2
    assert words in node.output()
