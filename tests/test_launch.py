"""The launch files as they are installed, run as `ros2 launch` runs them; real nodes, real DDS."""
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from images import jpeg, picture, raw
from imn_msgs.msg import Identity
from rclpy.qos import QoSReliabilityPolicy
from ros_graph import PATIENCE, ROOT, ask, wait_until
from sensor_msgs.msg import CompressedImage, Image


@pytest.fixture
def launch(workspace, tmp_path):
    """Start launch files in an empty folder; whatever happens, no node outlives the test."""
    started = []
    install = workspace / 'install'
    folder = tmp_path / 'here'
    folder.mkdir()

    def launch(file, *words):
        log = tmp_path / f'log{len(started)}'
        with open(log, 'wb') as output:
            process = subprocess.Popen(
                ['bash', '-c', f'. {install}/setup.bash && exec "$@"', 'bash', sys.executable,
                 ROOT / 'tests' / 'run_launch.py',
                 install / 'imn_world_model' / 'share' / 'imn_world_model' / 'launch' / file,
                 *words], cwd=folder, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True, env={**os.environ, 'OMP_NUM_THREADS': '1',
                                             'AMENT_PREFIX_PATH': sys.prefix})
        started.append(process)
        return process, lambda: log.read_text(errors='replace')

    launch.folder = folder
    yield launch
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)


def test_demo_runs_without_arguments_shows_answers_and_ends(launch):
    # The rate only saves time.
    process, output = launch('demo.launch.py', 'rate:=8')
    assert process.wait(PATIENCE) == 0, output()
    assert 'played 640 messages' in output()
    shown = re.findall(r'/camera/image_raw/compressed  identity [0-4]  \w+.* confidence [01]\.',
                       output())
    # Of 160 images; the newest wins, so a slow machine answers fewer.
    assert len(shown) > 10, output()
    assert 'Traceback' not in output()


def test_arguments_reach_the_node_from_where_the_user_stands(graph, launch, tiny_model):
    shutil.copy(tiny_model, launch.folder / 'mine.onnx')
    _, output = launch('perception.launch.py', 'model:=mine.onnx', 'namespace:=robot2',
                       'image_topics:=cam/image, /front/compressed', 'log_level:=warning',
                       'qos_reliability:=reliable')
    identities = graph.collect(Identity, '/robot2/identity')
    relative = graph.publisher(Image, '/robot2/cam/image')
    absolute = graph.publisher(CompressedImage, '/front/compressed')
    for publisher, make, topic in ((relative, raw, '/robot2/cam/image'),
                                   (absolute, jpeg, '/front/compressed')):
        answer = ask(publisher, [identities], lambda name, make=make: make(name, picture(1)),
                     topic)[0]
        assert (answer.model, answer.source_topic) == ('tiny', topic)
        assert [info.qos_profile.reliability for info in
                graph.node.get_subscriptions_info_by_topic(topic)] == [
                    QoSReliabilityPolicy.RELIABLE]
    assert '[INFO] [1' not in output() and 'DEBUG' not in output(), output()


def test_without_arguments_perception_has_the_shipped_model_and_parameters(graph, launch):
    process, output = launch('perception.launch.py')
    wait_until(lambda: 'active on /camera/image_raw' in output() or process.poll() is not None,
               'an active node')
    assert 'model demo on' in output(), output()


@pytest.mark.parametrize('file, word, said', [
    ('perception.launch.py', 'modle:=x.onnx', 'perception.launch.py has no argument modle; it'),
    ('demo.launch.py', 'bog:=x', 'demo.launch.py has no argument bog; it has bag, model, rate'),
    ('perception.launch.py', 'image_topics:=[]', 'names no topic or an empty one'),
    ('demo.launch.py', 'log_level:=loud', 'log_level:=loud is no level; use one of: debug')])
def test_mistakes_are_one_line(launch, file, word, said):
    process, output = launch(file, word)
    assert process.wait(PATIENCE) == 1
    lines = [line for line in output().splitlines() if '[ERROR]' in line]
    assert len(lines) == 1 and said in lines[0], output()
    assert 'Traceback' not in output()
