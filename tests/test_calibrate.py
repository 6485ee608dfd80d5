"""``python -m imn_world_model.calibrate``: poses as logs hold them, the file that knows them."""
import numpy as np
import pytest
from recordings import STORE, header, write_bag
from ros_graph import ROOT
from scipy.spatial.transform import Rotation

from imn_world_model import calibrate
from imn_world_model.base.errors import UserError
from imn_world_model.data.poses import camera_for, info_topic, read_camera, read_recorded
from imn_world_model.learning.examples import read_examples
from imn_world_model.robot.inference import ImnModel
from imn_world_model.robot.poses import PoseMap

LOG, MODEL = ROOT / 'demo' / 'log', ROOT / 'export' / 'demo.onnx'
POSES = '/ground_truth/object_pose'
STAMPS = [10 ** 9 * k for k in range(1, 4)]


def make(name, **fields):
    return STORE.types[name.replace('/', '/msg/')](**fields)


def pose(x, turn):
    quaternion = Rotation.from_euler('z', turn).as_quat()
    return make('geometry_msgs/Pose',
                position=make('geometry_msgs/Point', x=x, y=2.0, z=3.0),
                orientation=make('geometry_msgs/Quaternion', **dict(zip('xyzw', quaternion))))


def transform(stamp, parent, child, x, turn=0.0):
    held = pose(x, turn)
    return make('geometry_msgs/TransformStamped', header=header(stamp, parent),
                child_frame_id=child, transform=make(
                    'geometry_msgs/Transform', rotation=held.orientation,
                    translation=make('geometry_msgs/Vector3', x=x, y=2.0, z=3.0)))


def tf(topic, stamp, *transforms):
    return (topic, 'tf2_msgs/msg/TFMessage', stamp,
            make('tf2_msgs/TFMessage', transforms=list(transforms)))


def stamped(frame='camera'):
    return [('/pose', 'geometry_msgs/msg/PoseStamped', stamp, make(
        'geometry_msgs/PoseStamped', header=header(stamp, frame), pose=pose(k + 1.0, 0.5)))
        for k, stamp in enumerate(STAMPS)]


def odometry():
    unknown = np.zeros(36)
    nothing = make('geometry_msgs/Vector3', x=0.0, y=0.0, z=0.0)
    return [('/odom', 'nav_msgs/msg/Odometry', stamp, make(
        'nav_msgs/Odometry', header=header(stamp), child_frame_id='thing',
        pose=make('geometry_msgs/PoseWithCovariance', pose=pose(k + 1.0, 0.5),
                  covariance=unknown),
        twist=make('geometry_msgs/TwistWithCovariance', covariance=unknown, twist=make(
            'geometry_msgs/Twist', linear=nothing, angular=nothing))))
        for k, stamp in enumerate(STAMPS)]


def moving():
    return [tf('/tf', stamp, transform(stamp, 'camera', 'thing', k + 1.0, 0.5))
            for k, stamp in enumerate(STAMPS)]


@pytest.mark.parametrize(('messages', 'topic', 'child'), [
    (stamped(), '/pose', ''), (odometry(), '/odom', ''), (moving(), '/tf', 'thing')])
def test_poses_are_read_from_every_kind_of_topic(tmp_path, messages, topic, child):
    recorded = read_recorded(write_bag(tmp_path / 'log', messages), topic, child)
    for k, stamp in enumerate(STAMPS):
        found = recorded.at(stamp + 15_000_000, 'camera')
        np.testing.assert_allclose(found[:3, 3], [k + 1.0, 2.0, 3.0])
        np.testing.assert_allclose(found[:3, :3], Rotation.from_euler('z', 0.5).as_matrix(),
                                   atol=1e-12)
    assert recorded.at(STAMPS[0] + 30_000_000, 'camera') is None


def test_tf_leads_poses_of_the_map_to_the_camera(tmp_path):
    turn = 0.7
    messages = stamped('map') + [
        tf('/tf_static', 1, transform(1, 'robot', 'camera', 0.1, turn))] + [
        tf('/tf', stamp, transform(stamp, 'map', 'robot', 0.5 * k))
        for k, stamp in enumerate(STAMPS)]
    recorded = read_recorded(write_bag(tmp_path / 'log', messages), '/pose')
    for k, stamp in enumerate(STAMPS):
        found = recorded.at(stamp, 'camera')
        robot = np.array([k + 1.0, 2.0, 3.0]) - [0.5 * k, 2.0, 3.0]
        there = Rotation.from_euler('z', -turn).apply(robot - [0.1, 2.0, 3.0])
        np.testing.assert_allclose(found[:3, 3], there, atol=1e-12)
        np.testing.assert_allclose(found[:3, :3], Rotation.from_euler('z', 0.5 - turn).as_matrix(),
                                   atol=1e-12)


def test_what_is_missing_is_named(tmp_path):
    plain = write_bag(tmp_path / 'plain', stamped('map'))
    with pytest.raises(UserError, match=r"told in 'map' and no transform leads .* 'camera'"):
        read_recorded(plain, '/pose').at(STAMPS[0], 'camera')
    with pytest.raises(UserError, match=r'no poses of /nothing; it has /pose \(geometry_msgs'):
        read_recorded(plain, '/nothing')
    with pytest.raises(UserError, match="no poses of 'cup' in /tf"):
        read_recorded(write_bag(tmp_path / 'tf', moving()), '/tf', 'cup')


def test_camera_info_is_the_images_neighbour_or_the_only_one():
    assert info_topic('/front/image_raw/compressed') == '/front/camera_info'
    assert info_topic('/front/image_raw') == '/front/camera_info'
    two = {'/front/camera_info': 1, '/left/camera_info': 2}
    assert camera_for(two, '/left/image_raw') == 2
    assert camera_for({'/odd/info': 3}, '/left/image_raw') == 3
    with pytest.raises(UserError, match='/back/camera_info is not in the log, which has /front'):
        camera_for(two, '/back/image')


def test_calibration_files_are_read(tmp_path):
    file = tmp_path / 'camera.yaml'
    file.write_text('image_width: 640\nimage_height: 480\ncamera_name: front\n'
                    'camera_matrix: {rows: 3, cols: 3, data: '
                    '[500, 0, 320, 0, 510, 240, 0, 0, 1]}\n'
                    'distortion_model: plumb_bob\n'
                    'distortion_coefficients: {rows: 1, cols: 5, data: [0, 0, 0, 0, 0]}\n')
    camera = read_camera(file)
    np.testing.assert_allclose(camera.rays(np.array([[820.0, 240.0]]), (640, 480)), [[1.0, 0.0]])
    file.write_text('image_width: 640\n')
    with pytest.raises(UserError, match='is no camera calibration'):
        read_camera(file)


@pytest.fixture(scope='module')
def posed(tmp_path_factory):
    out = tmp_path_factory.mktemp('posed') / 'posed.onnx'
    calibrate.main(['--model', str(MODEL), '--data', str(LOG), '--pose-topic', POSES,
                    '--poses', '60', '--out', str(out)])
    return out


def test_the_file_answers_as_before_and_knows_poses(posed):
    before, after = ImnModel(MODEL, ['cpu']), ImnModel(posed, ['cpu'])
    examples = read_examples(after, [LOG], POSES, '', None, ())
    poses = PoseMap.from_json(after.poses)
    assert before.poses == ''
    assert poses.labels == before.labels == after.labels
    wrong = [np.linalg.norm(poses.tell(each.look, each.label, each.coordinates).position
                            - each.position) / np.linalg.norm(each.position)
             for each in examples]
    assert len(wrong) == 160
    assert np.mean(wrong) < 0.05                      # clips that it learnt from


def test_command_line_names_what_is_wrong(tmp_path):
    words = ['--model', str(MODEL), '--data', str(LOG), '--out', str(tmp_path / 'new.onnx')]
    with pytest.raises(UserError, match='no poses of /no/such'):
        calibrate.main([*words, '--pose-topic', '/no/such'])
    with pytest.raises(UserError, match='--poses is 0; it must be 1 to 2000'):
        calibrate.main([*words, '--pose-topic', POSES, '--poses', '0'])
    assert not (tmp_path / 'new.onnx').exists()
