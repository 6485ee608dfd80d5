"""The perception node as a managed node: its states, its model, its end; each on real DDS."""
import json
import signal
import subprocess
import sys
import threading
import time

import pytest
from images import picture, raw
from imn_msgs.msg import Identity, Labels
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import DescribeParameters
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from ros_graph import PATIENCE, Diagnostics, NodeProcess, ask, slowdown, wait_until
from sensor_msgs.msg import Image

NODE = 'imn_world_model.nodes.perception'
TOPIC = '/camera/image_raw'
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def start(tmp_path):
    """Start nodes; whatever happens, none outlives the test."""
    nodes = []

    def start(**parameters):
        nodes.append(NodeProcess(NODE, tmp_path / f'log{len(nodes)}', {
            'image_topics': [TOPIC], 'qos_reliability': 'reliable', **parameters}))
        return nodes[-1]

    yield start
    for node in nodes:
        if node.process.poll() is None:
            node.stop(signal.SIGKILL)
        assert 'Traceback' not in node.output()


def state(graph):
    answer = graph.call(GetState, '/imn/perception/get_state', GetState.Request())
    return answer.current_state.label


def change(graph, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    return graph.call(ChangeState, '/imn/perception/change_state', request).success


def photo(frame):
    return raw(frame, picture(1))


def test_node_whose_camera_thread_died_says_why_and_ends(graph, tiny_model):
    program = ("from imn_world_model.nodes import intake, perception\n"
               "def put(self, arrival):\n"
               "    raise ValueError('the mailbox fell off')\n"
               "intake.Intake.put = put\n"
               "perception.main()\n")
    node = subprocess.Popen(
        [sys.executable, '-c', program, '--ros-args', '-p', f'model:={tiny_model}', '-p',
         f'image_topics:=[{TOPIC}]'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    publisher = graph.node.create_publisher(Image, TOPIC, 10)
    try:
        wait_until(lambda: publisher.publish(photo('fatal')) or node.poll() is not None,
                   'the node to end')
        assert node.returncode not in (0, None)
        assert 'the mailbox fell off' in node.communicate()[0]
    finally:
        node.kill()


def test_managed_node_goes_through_its_states_and_answers_only_when_active(
        graph, start, tiny_model):
    node = start(model=tiny_model, autostart=False)
    identities = graph.collect(Identity, '/imn/identity')
    publisher = graph.node.create_publisher(Image, TOPIC, 10)
    assert state(graph) == 'unconfigured'
    for round_trip in range(2):
        assert change(graph, Transition.TRANSITION_CONFIGURE)
        assert state(graph) == 'inactive'
        assert publisher.get_subscription_count() == 0
        assert change(graph, Transition.TRANSITION_ACTIVATE)
        assert state(graph) == 'active'
        ask(publisher, [identities], photo, f'active{round_trip}')
        assert not graph.set_parameter('/imn/perception', 'image_topics', ['/other']).successful
        assert change(graph, Transition.TRANSITION_DEACTIVATE)
        wait_until(lambda: publisher.get_subscription_count() == 0, 'the node to unsubscribe')
        before = len(identities)
        publisher.publish(raw('inactive', picture(1)))
        assert change(graph, Transition.TRANSITION_CLEANUP)
        assert state(graph) == 'unconfigured'
        assert len(identities) == before
    assert change(graph, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert state(graph) == 'finalized'
    assert node.stop()[0] == 0


@pytest.mark.parametrize('fault', ['missing', 'corrupt', 'none'])
def test_node_without_a_good_model_says_so_and_starts_once_it_gets_one(
        graph, start, tiny_model, tmp_path, fault):
    bad = tmp_path / 'bad.onnx'
    if fault == 'corrupt':
        bad.write_bytes(tiny_model.read_bytes()[:5000])
    node = start(model="''" if fault == 'none' else bad)
    diagnostics = Diagnostics(graph)
    status = diagnostics.wait('imn.perception: model',
                              lambda status, values: status.level == b'\x02', 'an error')
    assert ('parameter model is empty' if fault == 'none' else 'bad.onnx') in status.message
    node.wait_for_output('cannot configure')
    result = graph.set_parameter('/imn/perception', 'model', str(tmp_path / 'also missing.onnx'))
    assert not result.successful
    assert graph.set_parameter('/imn/perception', 'model', str(tiny_model)).successful
    wait_until(lambda: state(graph) == 'active', 'the node to activate')
    diagnostics.wait('imn.perception: model',
                     lambda status, values: status.level == b'\x00', 'a good state')


def test_new_model_is_swapped_in_and_a_bad_one_leaves_the_old(
        graph, start, tiny_model, other_model, tmp_path):
    start(model=tiny_model)
    identities = graph.collect(Identity, '/imn/identity')
    labels = graph.collect(Labels, '/imn/labels', LATCHED)
    publisher = graph.publisher(Image, TOPIC)
    assert ask(publisher, [identities], photo, 'old')[0].model == 'tiny'
    corrupt = tmp_path / 'corrupt.onnx'
    corrupt.write_bytes(b'no model')
    foreign = tmp_path / 'foreign.onnx'
    foreign.write_bytes(tiny_model.read_bytes().replace(b'imn_format', b'xxx_format'))
    for path in (corrupt, foreign, tmp_path / 'missing.onnx'):
        result = graph.set_parameter('/imn/perception', 'model', str(path))
        assert not result.successful
        assert path.name in result.reason
        assert ask(publisher, [identities], photo, f'after {path.name}')[0].model == 'tiny'
    assert graph.set_parameter('/imn/perception', 'model', str(other_model)).successful
    answer = ask(publisher, [identities], photo, 'new')[0]
    assert answer.model == 'other'
    assert answer.label.startswith('item')
    wait_until(lambda: any(message.model == 'other' for message in labels), 'new labels')
    assert labels[-1].labels == ['item 0', 'item 1', 'item 2']


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_node_under_load_ends_within_a_second(graph, start, tiny_model, number):
    node = start(model=tiny_model)
    publisher = graph.publisher(Image, TOPIC)
    message = raw('load', picture(1, 480, 640))
    timer = graph.node.create_timer(0.01, lambda: publisher.publish(message))
    node.wait_for_output('active on')
    time.sleep(0.5)
    # In a terminal, a node under launch gets Ctrl-C twice.
    threading.Timer(0.03, node.process.send_signal, [number]).start()
    code, seconds = node.stop(number)
    limit = 1.0 * slowdown()
    timer.cancel()
    assert code == 0, node.output()
    assert seconds < limit


@pytest.mark.parametrize('program', ['perception', 'play', 'state_estimator'])
def test_ctrl_c_during_the_imports_leaves_no_traceback(program):
    script = f'from imn_world_model.nodes import programs; programs.{program}()'
    # -X importtime tells on stderr how far it has come.
    process = subprocess.Popen([sys.executable, '-X', 'importtime', '-c', script], text=True,
                               stderr=subprocess.PIPE)
    assert any('numpy' in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGINT
    assert 'Traceback' not in errors


def test_work_that_cannot_be_interrupted_does_not_hold_up_the_end(tmp_path):
    script = tmp_path / 'busy.py'
    script.write_text("""
import sys
import time
import rclpy
from rclpy.executors import MultiThreadedExecutor
from imn_world_model.nodes.running import run_until_stopped

def busy():
    print('busy', flush=True)
    time.sleep(60)

def make():
    node = rclpy.create_node('busy')
    node.create_timer(0.01, busy)
    return node

sys.exit(run_until_stopped(make, lambda: MultiThreadedExecutor(num_threads=2), None))
""")
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'busy\n'
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - started < 20.0
    assert process.returncode == 0
    assert 'cut off' in errors


def test_services_answer_quickly_under_full_load(graph, start, tiny_model):
    start(model=tiny_model)
    identities = graph.collect(Identity, '/imn/identity')
    publisher = graph.publisher(Image, TOPIC)
    ask(publisher, [identities], photo, 'heard')
    client = graph.node.create_client(GetState, '/imn/perception/get_state')
    state(graph)
    before = len(identities)
    message = raw('load', picture(1, 480, 640))
    timer = graph.node.create_timer(0.005, lambda: publisher.publish(message))
    times = []
    for _ in range(20):
        started = time.monotonic()
        future = client.call_async(GetState.Request())
        wait_until(future.done, 'an answer under load')
        times.append(time.monotonic() - started)
    limit = 0.1 * slowdown()
    timer.cancel()
    assert len(identities) > before
    assert sorted(times)[10] < limit


def test_states_change_under_load_without_harm(graph, start, tiny_model):
    node = start(model=tiny_model, autostart=False)
    assert change(graph, Transition.TRANSITION_CONFIGURE)
    publisher = graph.node.create_publisher(Image, TOPIC, 10)
    timer = graph.node.create_timer(0.002, lambda: publisher.publish(photo('load')))
    for _ in range(15):
        # Subscriptions go while images for them come in (ros2/rclpy#1206).
        assert change(graph, Transition.TRANSITION_ACTIVATE)
        time.sleep(0.05)
        assert change(graph, Transition.TRANSITION_DEACTIVATE)
    timer.cancel()
    assert state(graph) == 'inactive'
    assert node.stop()[0] == 0, node.output()


def test_every_image_is_answered_or_counted_as_dropped_and_the_newest_is_answered(
        graph, start, tiny_model):
    start(model=tiny_model, qos_depth=100)
    identities = graph.collect(Identity, '/imn/identity')
    diagnostics = Diagnostics(graph)
    publisher = graph.publisher(Image, TOPIC)
    ask(publisher, [identities], photo, 'heard')
    heard = len(identities)
    for count in range(60):
        publisher.publish(photo(str(count)))
    identities.wait_for_frame('59')

    def received(status, values):
        return identities[-1].header.frame_id == '59' and int(values['received']) >= heard + 60

    diagnostics.wait(f'imn.perception: {TOPIC}', received, 'every image')
    values = diagnostics.values(f'imn.perception: {TOPIC}')
    assert int(values['received']) == int(values['answered']) + int(values['dropped'])
    order = [int(frame) for frame in identities.frames()[heard:]]
    assert order == sorted(order)


def test_bad_settings_are_refused_with_the_choices(graph, start, tiny_model):
    for parameters, words in (
            ({'provider': 'quantum'}, 'use one of: auto'),
            ({'provider': 'cuda'}, 'install onnxruntime-gpu'),
            ({'qos_reliability': 'maybe'}, 'use one of: auto, best_effort, reliable'),
            ({'image_topics': []}, 'image_topics is []; name at least one topic'),
            ({'image_topics': ['no/topic!']}, 'topic name')):
        node = start(model=tiny_model, **parameters)
        node.wait_for_output('cannot configure')
        assert words in node.output()
        assert node.stop()[0] == 0


def test_every_parameter_is_described(graph, start, tiny_model):
    start(model=tiny_model)
    names = ['model', 'image_topics', 'provider', 'threads', 'qos_reliability', 'qos_depth',
             'batch_wait', 'image_timeout', 'autostart']
    described = graph.call(DescribeParameters, '/imn/perception/describe_parameters',
                           DescribeParameters.Request(names=names)).descriptors
    assert all(len(descriptor.description) > 20 for descriptor in described)
    assert described[names.index('qos_depth')].integer_range[0].to_value == 100
    assert not graph.set_parameter('/imn/perception', 'batch_wait', 7.0).successful
    assert graph.set_parameter('/imn/perception', 'batch_wait', 0.01).successful


def test_diagnostics_name_provider_model_and_rates(graph, start, tiny_model):
    start(model=tiny_model)
    diagnostics = Diagnostics(graph)
    publisher = graph.publisher(Image, TOPIC)
    message = raw('steady', picture(1))
    graph.node.create_timer(0.05, lambda: publisher.publish(message))
    status = diagnostics.wait(
        f'imn.perception: {TOPIC}', lambda status, values: float(values['rate out (Hz)']) > 5
        and values['publishers'] == '1', 'a rate and its publisher')
    assert status.level == b'\x00'
    values = diagnostics.values(f'imn.perception: {TOPIC}')
    assert values['publishers'] == '1'
    assert 0 < int(values['answered']) <= int(values['received'])
    model = diagnostics.values('imn.perception: model')
    assert model['provider'] == 'CPUExecutionProvider'
    assert model['model'] == 'tiny'
    assert json.loads(model['latency p99 (ms)']) >= json.loads(model['latency p50 (ms)']) > 0


@pytest.mark.parametrize('arguments, words', [
    (('-p', 'batch_wait:=1'), 'batch_wait is 1.0, out of range; it may be 0.0 to 0.1'),
    (('-p', 'batch_wait:=long'), "batch_wait is 'long'; it must be a number"),
    (('-p', 'image_topics:=7'), 'image_topics is 7; it must be a list of texts'),
    (('-p', 'autostart:=[]'), 'autostart is []; it must be true or false'),
    (('-p', 'threads:=-1'), 'out of range'),
    (('-r', 'nonsense'), 'remap rule'),
    (('--params-file', '/none.yaml'), '/none.yaml')])
def test_mistakes_on_the_command_line_are_one_line_and_an_exit_code(tmp_path, arguments, words):
    for module in (NODE, 'imn_world_model.nodes.estimator')[:1 if '-p' in arguments else 2]:
        node = NodeProcess(module, tmp_path / 'log', {}, arguments)
        assert node.process.wait(PATIENCE) == 2
        assert 'Traceback' not in node.output()
        error = next(line for line in node.output().splitlines() if line.startswith('error: '))
        assert words in error
