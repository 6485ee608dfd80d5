"""What an operator types: cleanup, parameters, lists of them; against the node's own process."""
import gc
import itertools
import signal

import pytest
from images import picture, raw
from imn_msgs.msg import Identity
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import ListParameters
from ros_graph import ROOT, Diagnostics, NodeProcess, ask, wait_until
from sensor_msgs.msg import Image

NODE = 'imn_world_model.nodes.perception'
NAME = '/imn/perception'
TOPIC = '/camera/image_raw'


@pytest.fixture
def start(tmp_path):
    """Start nodes; whatever happens, none outlives the test."""
    nodes = []

    def start(*arguments, **parameters):
        nodes.append(NodeProcess(NODE, tmp_path / f'log{len(nodes)}', parameters, arguments))
        return nodes[-1]

    yield start
    for node in nodes:
        if node.process.poll() is None:
            node.stop(signal.SIGKILL)
        assert 'Traceback' not in node.output()


def state(graph):
    return graph.call(GetState, f'{NAME}/get_state', GetState.Request()).current_state.label


def change(graph, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    return graph.call(ChangeState, f'{NAME}/change_state', request).success


def photo(frame):
    return raw(frame, picture(1))


def test_after_cleanup_a_new_model_waits_for_the_operator_and_changes_are_logged(
        graph, start, tiny_model, other_model):
    node = start(model=tiny_model, image_topics=[TOPIC])
    node.wait_for_output(f'active on {TOPIC}')
    assert 'configured' in node.output()
    assert change(graph, Transition.TRANSITION_DEACTIVATE)
    assert change(graph, Transition.TRANSITION_CLEANUP)
    node.wait_for_output('deactivated: no image is answered')
    node.wait_for_output('cleaned up: model and topics are gone')
    before = node.output().count('configured')
    # Both would start a node that had not been able to start.
    assert graph.set_parameter(NAME, 'model', str(other_model)).successful
    assert graph.set_parameter(NAME, 'image_topics', '/front/image').successful
    assert state(graph) == 'unconfigured'
    assert node.output().count('configured') == before
    assert change(graph, Transition.TRANSITION_CONFIGURE)
    assert change(graph, Transition.TRANSITION_ACTIVATE)
    node.wait_for_output('active on /front/image')
    answers = graph.collect(Identity, '/imn/identity')
    publisher = graph.publisher(Image, '/front/image')
    assert ask(publisher, [answers], photo, 'again')[0].model == 'other'
    assert change(graph, Transition.TRANSITION_ACTIVE_SHUTDOWN)
    node.wait_for_output('shut down')


def test_values_are_taken_as_people_type_them_and_nonsense_is_refused(graph, start, tiny_model):
    start(model=tiny_model, image_topics=[TOPIC], autostart=False)
    assert state(graph) == 'unconfigured'
    for name, value in (('image_timeout', 5), ('batch_wait', 0), ('image_topics', '/a, /b'),
                        ('image_topics', [TOPIC]), ('qos_reliability', 'reliable')):
        assert graph.set_parameter(NAME, name, value).successful, name
    for name, value, words in (
            ('qos_reliability', 'realiable', 'use one of: auto, best_effort, reliable'),
            ('provider', 'gpu', 'use one of: auto'),
            ('image_topics', '/a,/a', 'names a topic twice'),
            ('image_timeout', 0, 'out of range'), ('image_timeout', 'soon', 'must be a number')):
        result = graph.set_parameter(NAME, name, value)
        assert not result.successful
        assert words in result.reason
    assert change(graph, Transition.TRANSITION_CONFIGURE)
    assert change(graph, Transition.TRANSITION_ACTIVATE)
    assert not graph.set_parameter(NAME, 'qos_reliability', 'realiable').successful
    assert graph.set_parameter(NAME, 'image_timeout', 1).successful
    diagnostics = Diagnostics(graph)
    diagnostics.wait(f'imn.perception: {TOPIC}', lambda status, values: status.level == b'\x01',
                     'silence')


def test_every_node_that_tools_see_lists_its_parameters(graph, start, tiny_model):
    start(model=tiny_model, image_topics=[TOPIC])
    wait_until(lambda: any('cameras' in name for name in graph.node.get_node_names()),
               'the hidden node')

    def seen() -> list[tuple[str, str]]:
        return [(name, space) for name, space in graph.node.get_node_names_and_namespaces()
                if not name.startswith('_') and name != graph.node.get_name()]
    # Destroyed nodes of this process, of other tests, go when Python collects them.
    gc.collect()
    # What `ros2 param list` and `ros2 node list` go through: no name that begins with _.
    wait_until(lambda: seen() == [('perception', '/imn')],
               lambda: f'one node that tools see, not {seen()}')
    names = graph.call(ListParameters, f'{NAME}/list_parameters', ListParameters.Request())
    assert {'model', 'image_topics', 'qos_reliability'} <= set(names.result.names)
    services = itertools.chain(*(
        [name for name, _ in graph.node.get_service_names_and_types_by_node(name, space)]
        for name, space in graph.node.get_node_names_and_namespaces() if 'cameras' in name))
    assert not any('parameter' in name for name in services)


@pytest.mark.parametrize('arguments', [
    (), ('--params-file', str(ROOT / 'config' / 'perception.yaml'))])
def test_without_a_model_the_shipped_one_is_used(start, arguments):
    node = start(*arguments)
    node.wait_for_output('active on')
    assert 'model demo on' in node.output()
    assert ('/camera/image_raw' if arguments else '/imn/image_raw') in node.output()


@pytest.mark.parametrize('module', ['perception', 'estimator', 'player'])
def test_parameters_that_there_are_not_are_named(start, tmp_path, module):
    node = NodeProcess(f'imn_world_model.nodes.{module}', tmp_path / 'log', {},
                       ('-p', 'image_topic:=/front', '-p', 'use_sim_time:=false'))
    try:
        node.wait_for_output('there is no parameter image_topic; there are ')
    finally:
        node.process.kill()
        node.process.wait()


def test_model_with_nan_is_refused_at_the_start_and_as_a_new_one(
        graph, start, tiny_model, nan_model):
    node = start(model=nan_model, image_topics=[TOPIC])
    node.wait_for_output('cannot configure')
    lines = [line for line in node.output().splitlines() if 'nan.onnx' in line]
    assert len(lines) == len(node.output().splitlines()) == 1
    assert 'no numbers (NaN)' in lines[0]
    assert graph.set_parameter(NAME, 'model', str(tiny_model)).successful
    node.wait_for_output('active on')
    result = graph.set_parameter(NAME, 'model', str(nan_model))
    assert not result.successful
    assert 'no numbers (NaN)' in result.reason
    identities = graph.collect(Identity, '/imn/identity')
    answer = ask(graph.publisher(Image, TOPIC), [identities], photo, 'old model')[0]
    assert answer.model == 'tiny'
