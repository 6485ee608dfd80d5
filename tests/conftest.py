"""What several test files share: a ROS domain of their own, small real models, a running graph."""
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Domains above 101 collide with ephemeral ports on Linux.
DOMAINS = range(1, 102)

# Of a package that stands beside this one in somebody's workspace.
MANIFEST = """<package format="3"><name>other</name><version>0.0.1</version>
<description>Another package that uses the messages.</description>
<maintainer email="nobody@example.com">nobody</maintainer><license>Apache-2.0</license>
<depend>imn_world_model</depend><export><build_type>ament_cmake</build_type></export></package>
"""
RECIPE = """cmake_minimum_required(VERSION 3.12)
project(other NONE)
find_package(ament_cmake REQUIRED)
find_package(imn_world_model REQUIRED)
find_package(imn_msgs REQUIRED)
ament_package()
"""

# vision_msgs comes with ROS 2 but not with PyPI's wheels: what is used of it, field by field.
VISION = {
    'BoundingBox2D': 'Pose2D center\nfloat64 size_x\nfloat64 size_y\n',
    'Classification': 'std_msgs/Header header\nObjectHypothesis[] results\n',
    'Detection2D': 'std_msgs/Header header\nObjectHypothesisWithPose[] results\n'
                   'BoundingBox2D bbox\nstring id\n',
    'Detection2DArray': 'std_msgs/Header header\nDetection2D[] detections\n',
    'LabelInfo': 'std_msgs/Header header\nVisionClass[] class_map\nfloat32 threshold\n',
    'ObjectHypothesis': 'string class_id\nfloat64 score\n',
    'ObjectHypothesisWithPose': 'ObjectHypothesis hypothesis\n'
                                'geometry_msgs/PoseWithCovariance pose\n',
    'Point2D': 'float64 x\nfloat64 y\n',
    'Pose2D': 'Point2D position\nfloat64 theta\n',
    'VisionClass': 'uint16 class_id\nstring class_name\n',
}
# The same of foxglove_msgs.
FOXGLOVE = {
    'Color': 'float64 r\nfloat64 g\nfloat64 b\nfloat64 a\n',
    'ImageAnnotations': 'PointsAnnotation[] points\nTextAnnotation[] texts\n',
    'Point2': 'float64 x\nfloat64 y\n',
    'PointsAnnotation': 'builtin_interfaces/Time timestamp\nuint8 LINE_LOOP=2\nuint8 type\n'
                        'Point2[] points\nColor outline_color\nfloat64 thickness\n',
    'TextAnnotation': 'builtin_interfaces/Time timestamp\nPoint2 position\nstring text\n'
                      'float64 font_size\nColor text_color\nColor background_color\n',
}
# And all of tf2_msgs that is on /tf.
TF2 = {'TFMessage': 'geometry_msgs/TransformStamped[] transforms\n'}
STANDARDS = {'vision_msgs': VISION, 'foxglove_msgs': FOXGLOVE, 'tf2_msgs': TF2}
STANDARD_MANIFEST = """<package format="3"><name>{name}</name><version>4.1.1</version>
<description>The part that tests use.</description>
<maintainer email="nobody@example.com">nobody</maintainer><license>Apache-2.0</license>
<buildtool_depend>ament_cmake</buildtool_depend>
<buildtool_depend>rosidl_default_generators</buildtool_depend>
<depend>builtin_interfaces</depend><depend>geometry_msgs</depend><depend>std_msgs</depend>
<member_of_group>rosidl_interface_packages</member_of_group>
<export><build_type>ament_cmake</build_type></export></package>
"""
STANDARD_RECIPE = """cmake_minimum_required(VERSION 3.12)
project({name})
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
find_package(builtin_interfaces REQUIRED)
find_package(geometry_msgs REQUIRED)
find_package(std_msgs REQUIRED)
file(GLOB definitions RELATIVE ${{CMAKE_CURRENT_SOURCE_DIR}} msg/*.msg)
rosidl_generate_interfaces(${{PROJECT_NAME}} ${{definitions}}
  DEPENDENCIES builtin_interfaces geometry_msgs std_msgs)
ament_package()
"""

LOCK = pytest.StashKey[int]()


def _claim_domain() -> tuple[int, int]:
    """Find a domain that no other test session uses; hold it while the descriptor is open."""
    for domain in DOMAINS:
        lock = os.open(f'/tmp/imn_world_model_ros_domain_{domain}.lock', os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return domain, lock
        except BlockingIOError:
            os.close(lock)
    raise RuntimeError('every ROS domain is taken by another test session')


def pytest_configure(config: pytest.Config) -> None:
    """Keep the tests' ROS traffic to this machine and to this session."""
    domain, config.stash[LOCK] = _claim_domain()
    os.environ['ROS_DOMAIN_ID'] = str(domain)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'


def _export_untrained(path: Path) -> Path:
    """Export the debug preset's network as it is before training, with identities set apart."""
    import torch

    from imn_world_model.data.frames import DataOptions
    from imn_world_model.exporting.calibration import Calibration
    from imn_world_model.exporting.graph import export_onnx, run_metadata
    from imn_world_model.learning.presets import preset
    from imn_world_model.learning.run import Run
    from imn_world_model.model.imn import IndependentModularNetwork

    torch.manual_seed(0)
    config = preset('debug')
    network = IndependentModularNetwork(config.model, config.loss)
    with torch.no_grad():
        # Fresh weights answer every image alike; larger ones make answers depend on the image.
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    run = Run(path.parent, config, network, DataOptions(), (), 'none', 0)
    labels = [f'thing {j}' for j in range(config.model.num_identities)]
    metadata = run_metadata(run, path.stem, labels, Calibration(float('-inf'), 1.0))
    export_onnx(network, path, metadata, np.zeros((0, 1, 1, 3), np.uint8))
    return path


@pytest.fixture(scope='session')
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small untrained model, exported the real way: fast, and its answers vary."""
    return _export_untrained(tmp_path_factory.mktemp('model') / 'tiny.onnx')


@pytest.fixture(scope='session')
def other_model(tiny_model: Path) -> Path:
    """Return the same network under another name and with other labels."""
    import onnx
    model = onnx.load(tiny_model)
    for entry in model.metadata_props:
        if entry.key == 'name':
            entry.value = 'other'
        elif entry.key == 'labels':
            entry.value = entry.value.replace('thing', 'item')
    path = tiny_model.with_name('other.onnx')
    onnx.save(model, path)
    return path


@pytest.fixture(scope='session')
def nan_model(tiny_model: Path) -> Path:
    """Return the same network with one weight of NaN, as a training that diverged leaves it."""
    import onnx
    model = onnx.load(tiny_model)
    weight = max(model.graph.initializer, key=lambda item: np.prod(item.dims))
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] = np.nan
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    path = tiny_model.with_name('nan.onnx')
    onnx.save(model, path)
    return path


@pytest.fixture(scope='session')
def knowing_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Return a small model that knows three things by name: views 1, 2, 3.

    Its recognizer has learnt to tell a dozen things apart, but not 7, 8 and 9.
    """
    import torch
    from images import views

    from imn_world_model.base.config import override
    from imn_world_model.data.frames import DataOptions
    from imn_world_model.exporting.calibration import calibrate, familiarity_for
    from imn_world_model.exporting.deployed import DeployedNetwork
    from imn_world_model.exporting.graph import export_onnx, run_metadata
    from imn_world_model.learning.presets import preset
    from imn_world_model.learning.run import Run
    from imn_world_model.model.imn import IndependentModularNetwork
    from imn_world_model.model.winner import exhaustive
    from imn_world_model.vision.preprocess import Crop, prepare

    torch.manual_seed(0)
    config = override(preset('debug'), [
        'model.recognizer=conv', 'model.recognizer_features=16',
        'model.recognizer_channels=[16, 32]', 'train.naming_steps=1',
        'loss.recognition_weight=100000.0'])
    network = IndependentModularNetwork(config.model, config.loss).eval()
    recognizer = network.recognizer
    assert recognizer is not None
    crop = Crop('none')
    things = (1, 2, 3, *range(11, 20))
    shown = np.stack([prepare(view, 32, crop) for thing in things for view in views(thing, 20)])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    image = torch.from_numpy(shown).movedim(-1, 1).float() / 255.0
    name = torch.arange(len(things)).repeat_interleave(20)
    signature = torch.randn(len(things), 16, requires_grad=True)
    optimizer = torch.optim.Adam([*recognizer.body.parameters(), *recognizer.head.parameters(),
                                  signature], lr=0.01)
    recognizer.train()
    for _ in range(40):
        cosine = recognizer.features(image) @ torch.nn.functional.normalize(signature, dim=1).T
        loss = torch.nn.functional.cross_entropy(cosine / 0.1, name)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    known = torch.nn.functional.normalize(signature.detach()[:3], dim=1)
    recognizer.read(network.identities(), known)
    shown = shown[:60]
    familiarity, _ = familiarity_for(network, shown, np.zeros(len(shown), int))
    others = np.stack([prepare(view, 32, crop) for thing in things[:3]
                       for view in views(thing, 20, 200)])
    calibration = calibrate(DeployedNetwork(network, exhaustive, familiarity).eval(), others)
    path = tmp_path_factory.mktemp('knowing') / 'knowing.onnx'
    run = Run(path.parent, config, network, DataOptions(size=32, crop=crop), (), 'none', 0)
    export_onnx(network, path, run_metadata(run, 'knowing', ['cup', 'box', 'ball'], calibration),
                shown[:4], exhaustive, familiarity=familiarity)
    return path


@pytest.fixture(scope='session')
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace of this repository and some more packages, built with `colcon build`."""
    path = tmp_path_factory.mktemp('workspace')
    other = path / 'src' / 'other'
    other.mkdir(parents=True)
    (other / 'package.xml').write_text(MANIFEST)
    (other / 'CMakeLists.txt').write_text(RECIPE)
    for name, definitions in STANDARDS.items():
        standard = path / 'src' / name
        (standard / 'msg').mkdir(parents=True)
        (standard / 'package.xml').write_text(STANDARD_MANIFEST.format(name=name))
        (standard / 'CMakeLists.txt').write_text(STANDARD_RECIPE.format(name=name))
        for message, definition in definitions.items():
            (standard / 'msg' / f'{message}.msg').write_text(definition)
    (path / 'src' / 'imn_world_model').symlink_to(Path(__file__).resolve().parent.parent)
    prefix = Path(sys.prefix)
    done = subprocess.run(
        [prefix / 'bin' / 'colcon', 'build'], cwd=path, capture_output=True, text=True,
        check=False, env={**os.environ, 'VIRTUAL_ENV': sys.prefix, 'AMENT_PREFIX_PATH': sys.prefix,
                          'CMAKE_PREFIX_PATH': sys.prefix,
                          'PATH': f'{prefix / "bin"}{os.pathsep}{os.environ["PATH"]}'})
    assert done.returncode == 0, done.stdout + done.stderr
    return path


@pytest.fixture
def graph() -> Iterator[Any]:
    """Yield a node of the tests' own."""
    from ros_graph import Graph
    graph = Graph()
    yield graph
    graph.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Yield what starts perception nodes; all end by themselves, none outlives the test."""
    from ros_graph import NodeProcess
    nodes: list[Any] = []

    def start(*arguments: str, **parameters: Any) -> Any:
        nodes.append(NodeProcess('imn_world_model.nodes.perception',
                                 tmp_path / f'log{len(nodes)}', parameters, arguments))
        return nodes[-1]

    yield start
    for node in nodes:
        if node.process.poll() is None:
            assert node.stop()[0] == 0
        assert 'Traceback' not in node.output()
