"""Bearing and pose of the largest object over DDS, in the camera's frame and by tf in another."""
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from geometry_msgs.msg import PoseWithCovarianceStamped, Vector3Stamped
from images import raw
from imn_msgs.msg import Identity, ObjectArray
from ros_graph import PATIENCE, ROOT, ask, wait_until
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image

from imn_world_model import calibrate
from imn_world_model.data.poses import read_recorded
from imn_world_model.data.raw import SourceReport
from imn_world_model.data.sources import find_sources, read_frames
from imn_world_model.robot.inference import ImnModel
from imn_world_model.robot.poses import PoseMap, bearing
from imn_world_model.vision.pinhole import Pinhole
from imn_world_model.vision.sight import look

LOG = ROOT / 'demo' / 'log'
POSES = '/ground_truth/object_pose'
INFO = CameraInfo(width=640, height=480, distortion_model='plumb_bob', d=[0.0] * 5,
                  k=[554.0, 0.0, 320.0, 0.0, 554.0, 240.0, 0.0, 0.0, 1.0])
CAMERA = Pinhole.of(INFO)
# Tells where the camera is, and hears what is told of poses, where tf2_msgs is installed.
LISTENER = """
import json, rclpy
from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray
rclpy.init()
node = rclpy.create_node('listener')
latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
publisher = node.create_publisher(TFMessage, '/tf_static', latched)
there = TransformStamped(child_frame_id='eye')
there.header.frame_id = 'map'
there.transform.translation.x = 10.0
there.transform.rotation.x, there.transform.rotation.w = -0.5 ** 0.5, 0.5 ** 0.5
publisher.publish(TFMessage(transforms=[there]))
got = {}
def told(message):
    at, turn = message.pose.pose.position, message.pose.pose.orientation
    got['map'] = [message.header.frame_id, [at.x, at.y, at.z], [turn.x, turn.y, turn.z, turn.w],
                  message.pose.covariance.tolist()]
def detected(message):
    pose = message.detections[0].results[0].pose
    at = pose.pose.position
    if pose.covariance[0] > 0:
        got['eye'] = [message.header.frame_id, [at.x, at.y, at.z], pose.covariance.tolist()]
node.create_subscription(PoseWithCovarianceStamped, '/imn/pose', told, 10)
node.create_subscription(Detection2DArray, '/imn/detections', detected, 10)
while len(got) < 2:
    rclpy.spin_once(node, timeout_sec=0.1)
print(json.dumps(got), flush=True)
"""


@pytest.fixture(scope='module')
def posed(tmp_path_factory):
    out = tmp_path_factory.mktemp('posed') / 'posed.onnx'
    calibrate.main(['--model', str(ROOT / 'export' / 'demo.onnx'), '--data', str(LOG),
                    '--pose-topic', POSES, '--out', str(out)])
    return out


@pytest.fixture(scope='module')
def shown():
    """A picture of the log's middle, and where its object truly was."""
    source, = find_sources([LOG], [])
    frame = list(read_frames(source, (), None, SourceReport()))[70]
    return frame.load(None), read_recorded(LOG, POSES).at(frame.stamp, '')


def offline(posed, rgb):
    """What the map tells of a picture: the first pose of a track is not filtered."""
    model = ImnModel(posed, ['cpu'])
    winner = model.predict(model.prepare(rgb)[None])
    seen = look(rgb, None, model.crop, CAMERA)
    return seen, PoseMap.from_json(model.poses).tell(seen, winner.label[0],
                                                     winner.latent_mean[0].ravel())


def image(rgb, infos=None, info=INFO):
    """What makes pictures; as drivers do, each goes with its calibration."""
    def make(frame):
        if infos is not None:
            infos.publish(info)
        return raw(frame, rgb)
    return make


def test_pose_and_bearing_are_those_of_the_map_and_near_the_truth(graph, start, posed, shown):
    rgb, truth = shown
    start(model=posed, image_topics=['/camera/image'])
    poses = graph.collect(PoseWithCovarianceStamped, '/imn/pose')
    rays = graph.collect(Vector3Stamped, '/imn/bearing')
    infos = graph.publisher(CameraInfo, '/camera/camera_info')
    publisher = graph.publisher(Image, '/camera/image')
    pose, ray = ask(publisher, [poses, rays], image(rgb, infos), 'eye')
    seen, told = offline(posed, rgb)
    assert pose.header == ray.header
    np.testing.assert_allclose([ray.vector.x, ray.vector.y, ray.vector.z], bearing(seen),
                               atol=1e-6)
    at, turn = pose.pose.pose.position, pose.pose.pose.orientation
    place = np.array([at.x, at.y, at.z])
    np.testing.assert_allclose(place, told.position, atol=2e-3)
    axes = Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]).as_matrix()
    np.testing.assert_allclose(axes, told.axes, atol=1e-3)
    covariance = np.reshape(pose.pose.covariance, (6, 6))
    np.testing.assert_allclose(covariance, covariance.T, atol=1e-12)
    assert (np.linalg.eigvalsh(covariance) > 0).all()
    np.testing.assert_allclose(covariance[3:, 3:], told.covariance[3:, 3:], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(covariance[:3, :3], told.covariance[:3, :3], rtol=0.1, atol=1e-5)
    assert np.linalg.norm(place - truth[:3, 3]) < 0.1 * np.linalg.norm(truth[:3, 3])
    # The object's upward axis, against the camera's.
    assert axes[:, 2] @ truth[:3, 2] > 0.99


def test_without_calibration_the_topic_that_is_missing_is_named(graph, start, posed, shown):
    node = start(model=posed, image_topics=['/camera/image'], camera_info_topics=['/my/info'],
                 fixed_frame='map')
    poses = graph.collect(PoseWithCovarianceStamped, '/imn/pose')
    identities = graph.collect(Identity, '/imn/identity')
    publisher = graph.publisher(Image, '/camera/image')
    wait_until(lambda: ask(publisher, [identities], image(shown[0]), 'blind')
               and 'no calibration on /my/info' in node.output(), 'a line about /my/info')
    assert len(poses) == 0
    assert "tf2_msgs is not installed: poses are told in the cameras' frames" in node.output()
    make = image(shown[0], graph.publisher(CameraInfo, '/my/info'),
                 CameraInfo(width=640, height=480))
    wait_until(lambda: ask(publisher, [identities], make, 'bad')
               and '/my/info: camera_info holds no calibration' in node.output(), 'the cause')


def test_a_model_without_poses_tells_the_bearing_of_a_detectors_box(graph, start, tiny_model):
    from sensor_msgs.msg import RegionOfInterest
    from test_poses import arena
    rgb, box = arena()
    start(model=tiny_model, image_topics=['/camera/image'], regions='topic',
          region_topics=['/camera/box'])
    rays = graph.collect(Vector3Stamped, '/imn/bearing')
    objects = graph.collect(ObjectArray, '/imn/objects')
    infos = graph.publisher(CameraInfo, '/camera/camera_info')
    graph.publisher(RegionOfInterest, '/camera/box').publish(RegionOfInterest(
        x_offset=260, y_offset=180, width=120, height=150))
    ray, _ = ask(graph.publisher(Image, '/camera/image'), [rays, objects],
                 image(rgb, infos), 'eye')
    assert ray.vector.x / ray.vector.z == pytest.approx((320 - 320) / 554, abs=1e-6)
    assert ray.vector.y / ray.vector.z == pytest.approx((255 - 240) / 554, abs=1e-6)


def test_pose_is_told_in_a_fixed_frame_where_tf_leads_there(graph, workspace, posed, shown):
    def run(*words, **options):
        return subprocess.Popen(
            ['bash', '-c', f'. {workspace}/install/setup.bash && exec "$@"', 'bash',
             sys.executable, *words], cwd=workspace, start_new_session=True, text=True,
            env={**os.environ, 'AMENT_PREFIX_PATH': sys.prefix, 'OMP_NUM_THREADS': '1'}, **options)

    node = run('-m', 'imn_world_model.nodes.perception', '--ros-args', '-p', f'model:={posed}',
               '-p', 'image_topics:=/camera/image', '-p', 'fixed_frame:=map')
    listener = run('-c', LISTENER, stdout=subprocess.PIPE)
    try:
        infos = graph.publisher(CameraInfo, '/camera/camera_info')
        images = graph.publisher(Image, '/camera/image')

        def heard():
            images.publish(image(shown[0], infos)('eye'))
            return listener.poll() is not None
        wait_until(heard, 'a pose in the map')
        got = json.loads(listener.communicate(timeout=PATIENCE)[0])
    finally:
        for process in (node, listener):
            process.send_signal(signal.SIGKILL)
            process.wait()
    _, told = offline(posed, shown[0])
    assert (got['map'][0], got['eye'][0]) == ('map', 'eye')
    np.testing.assert_allclose(got['eye'][1], told.position, atol=5e-3)
    lead = Rotation.from_quat([-0.5 ** 0.5, 0, 0, 0.5 ** 0.5])
    np.testing.assert_allclose(got['map'][1], lead.apply(told.position) + [10, 0, 0], atol=5e-3)
    turned = Rotation.from_quat(got['map'][2]).as_matrix()
    np.testing.assert_allclose(turned, lead.as_matrix() @ told.axes, atol=1e-3)
    own, there = (np.reshape(got[frame][-1], (6, 6)) for frame in ('eye', 'map'))
    for part in (slice(0, 3), slice(3, 6)):
        np.testing.assert_allclose(
            there[part, part], lead.as_matrix() @ own[part, part] @ lead.as_matrix().T,
            rtol=0.05, atol=1e-4)
