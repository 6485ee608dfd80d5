"""The state estimator with a dynamics, as a node on real DDS: commands carry the state."""
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from geometry_msgs.msg import Twist
from imn_msgs.msg import State, Transform
from imn_msgs.srv import Imagine
from ros_graph import PATIENCE, NodeProcess, wait_until

from imn_world_model.base.errors import UserError
from imn_world_model.nodes.messages import TransformArrays, arrays_to_transform
from imn_world_model.nodes.motion import MotionSettings
from imn_world_model.prediction.flow import FlowConfig, GroupFlow
from imn_world_model.prediction.graph import export_dynamics
from imn_world_model.robot.inference import ImnModel
from imn_world_model.robot.world_model import WorldModel


@pytest.fixture(scope='module')
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """:return: a model with an untrained dynamics that moves, beside it."""
    from imn_world_model.learning.presets import preset
    from imn_world_model.model.imn import IndependentModularNetwork
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('model') / 'model.onnx'
    path.write_bytes(tiny_model.read_bytes())
    config = preset('debug')
    network = IndependentModularNetwork(config.model, config.loss).eval()
    sizes = ImnModel(path, ['cpu'])
    flow = GroupFlow(FlowConfig(sizes.num_modules, sizes.latent_dim, sizes.num_identities,
                                ('linear.x', 'angular.z'), ('m/s', 'rad/s'), hidden=8)).eval()
    torch.nn.init.normal_(flow.fields.weight, std=0.3)
    export_dynamics(network, flow, path, sizes.weights_hash)
    return path


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Path], NodeProcess]]:
    """Start estimators; whatever happens, none outlives the test."""
    nodes: list[NodeProcess] = []

    def start(model: Path) -> NodeProcess:
        nodes.append(NodeProcess('imn_world_model.nodes.estimator', tmp_path / 'log',
                                 {'motion': 'cmd_vel', 'model': str(model)}))
        return nodes[-1]

    yield start
    for node in nodes:
        node.stop()


def test_states_go_with_commands_and_the_service_imagines(graph, model, start) -> None:
    node = start(model)
    states = graph.collect(State, '/imn/state')
    transforms = graph.publisher(Transform, '/imn/transform')
    commands = graph.publisher(Twist, '/cmd_vel')
    sizes = ImnModel(model, ['cpu'])
    mean = np.linspace(-1, 1, sizes.num_modules * sizes.latent_dim, dtype=np.float32)

    def image() -> Transform:
        from std_msgs.msg import Header
        stamp = Header(frame_id='camera', stamp=graph.node.get_clock().now().to_msg())
        u = sizes.matrix_dim
        return arrays_to_transform(stamp, '/front', TransformArrays(
            1, np.ones(sizes.num_modules, bool), np.eye(u), np.zeros((sizes.num_modules, u, u)),
            mean.reshape(sizes.num_modules, -1),
            np.full((sizes.num_modules, sizes.latent_dim), 0.01)))

    def heard() -> bool:
        transforms.publish(image())
        time.sleep(0.05)
        return len(states) > 0

    wait_until(heard, 'a first state')
    still = states[-1]
    # Without a command nothing moves, whatever the time.
    assert np.allclose(still.mean, mean, atol=1e-5) and np.allclose(still.rate, 0.0)
    count, begun = len(states), time.monotonic()
    wait_until(lambda: len(states) >= count + 50, '50 more states without an image')
    assert 50 / (time.monotonic() - begun) < 75          # a busy machine may be slower
    twist = Twist()
    twist.linear.x, twist.angular.z = 1.0, -0.5

    def moved() -> bool:
        commands.publish(twist)
        time.sleep(0.02)
        return not np.allclose(states[-1].mean, mean, atol=0.02)

    wait_until(moved, 'a state that moved')
    last = states[-1]
    assert last.label == '' and last.identity == 1 and last.source_topic == '/front'
    assert last.header.frame_id == 'camera' and last.accepted
    # Since the last image it has become less sure.
    since = next(state for state in states if state.updates == last.updates)
    variance, before = (np.reshape(state.covariance, (-1, 3))[:, 0] for state in (last, since))
    assert (variance > before).all()

    client = graph.node.create_client(Imagine, '/imn/imagine')
    assert client.wait_for_service(20.0)

    def ask(**fields: object) -> Imagine.Response:
        future = client.call_async(Imagine.Request(**fields))
        wait_until(future.done, 'an answer')
        return future.result()

    answer = ask(actions=[0.5, 0.1, -0.5, -0.1], seconds=0.2, pictures=True)
    assert answer.success and answer.message == ''
    assert answer.action_names == ['linear.x', 'angular.z']
    assert len(answer.states) == len(answer.pictures) == 2
    first, second = answer.states
    # What the second does undoes the first: the state is the one it began with.
    gone = WorldModel.load(model)
    assert not np.allclose(first.mean, second.mean, atol=1e-3)
    assert gone.action_units == tuple(answer.action_units)
    size = answer.pictures[0]
    assert size.encoding == 'rgb8' and len(size.data) == size.height * size.step
    assert not ask(actions=[1.0], seconds=0.2).success
    assert 'there are states of: /front' in ask(
        actions=[1.0, 0.0], seconds=0.2, source_topic='/left').message
    assert ask().action_names == ['linear.x', 'angular.z']
    assert node.stop()[0] == 0


@pytest.mark.parametrize('values, complaint', [
    ({'motion': 'wheels'}, 'use one of: none, cmd_vel, cmd_vel_stamped, odom'),
    ({'motion': 'odom'}, 'needs a model with a dynamics'),
    ({'publish_rate': 0.0}, 'publish_rate is 0.0; it must be above 0'),
])
def test_settings_that_make_no_sense_are_one_line(values: dict, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        MotionSettings(**values)


def test_a_model_without_dynamics_ends_the_node_in_one_line(tiny_model, start) -> None:
    node = start(tiny_model)
    node.wait_for_output('the model has no dynamics')
    assert node.process.wait(PATIENCE) == 2            # by itself
