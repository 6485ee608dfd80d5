"""``python -m imn_world_model.simulate``: the recorded log, read back with rosbags."""
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from imn_world_model import simulate
from imn_world_model.base.errors import UserError
from imn_world_model.rendering import recording
from imn_world_model.rendering.robot_frames import objects_truth
from imn_world_model.rendering.robot_scene import clip_group

CLIPS, FRAMES, RATE = 4, 3, 20.0


def read(path: Path) -> dict[str, list[tuple[int, object]]]:
    """:return: (log time, message) of each topic, in order."""
    held: dict[str, list[tuple[int, object]]] = {}
    with AnyReader([path]) as reader:
        for connection, time, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            held.setdefault(connection.topic, []).append((time, message))
    return held


def record(path: Path, *more: str) -> None:
    simulate.main(['--out', str(path), '--clips', str(CLIPS), '--frames', str(FRAMES),
                   '--rate', str(RATE), '--seed', '3', '--jobs', '1', *more])


@pytest.fixture(scope='module')
def log(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    path = tmp_path_factory.mktemp('log') / 'drive'
    record(path)
    held = read(path)
    truths = [json.loads(message.data) for _, message in held[recording.TRUTH_TOPIC]]
    return SimpleNamespace(path=path, held=held, truths=truths)


def stamp_of(message: object) -> int:
    return message.header.stamp.sec * 10 ** 9 + message.header.stamp.nanosec


def test_log_is_a_rosbag2_folder_with_mcap(log: SimpleNamespace) -> None:
    assert sorted(path.name for path in log.path.iterdir()) == ['drive.mcap', 'metadata.yaml']
    assert 'drive.mcap' in (log.path / 'metadata.yaml').read_text()
    assert [path.name for path in log.path.parent.iterdir()] == ['drive']


def test_every_frame_has_its_picture_calibration_and_truth(log: SimpleNamespace) -> None:
    assert set(log.held) == {'/camera/image_raw/compressed', '/camera/camera_info',
                             '/ground_truth', '/ground_truth/object_pose'}
    stamps = [stamp_of(message) for _, message in log.held[recording.IMAGE_TOPIC]]
    assert len(stamps) == CLIPS * FRAMES
    for topic in (recording.IMAGE_TOPIC, recording.INFO_TOPIC, recording.POSE_TOPIC):
        assert [stamp_of(message) for _, message in log.held[topic]] == stamps
        assert {message.header.frame_id for _, message in log.held[topic]} == {
            'camera_optical_frame'}
    for messages in log.held.values():
        assert [time for time, _ in messages] == stamps
    assert [truth['stamp'] for truth in log.truths] == stamps


def test_clips_keep_the_rate_and_are_apart(log: SimpleNamespace) -> None:
    steps = np.diff([truth['stamp'] for truth in log.truths]) / 1e9
    within = np.diff([truth['clip'] for truth in log.truths]) == 0
    assert within.sum() == CLIPS * (FRAMES - 1)
    assert steps[within] == pytest.approx(1 / RATE)
    assert (steps[~within] > 1).all()


def test_clips_show_one_object_each(log: SimpleNamespace) -> None:
    keys = ('shape', 'size', 'floor_hue', 'wall_hue', 'object_hue')
    clips = [{tuple(truth[key] for key in keys) for truth in log.truths if truth['clip'] == clip}
             for clip in range(CLIPS)]
    assert all(len(clip) == 1 for clip in clips)
    assert {next(iter(clip))[0] for clip in clips} == {'cube', 'cylinder', 'sphere', 'capsule'}
    assert len({truth['distance'] for truth in log.truths}) == CLIPS * FRAMES


def test_pictures_decode_to_their_size(log: SimpleNamespace) -> None:
    for _, message in log.held[recording.IMAGE_TOPIC]:
        assert message.format == 'jpeg'
        image = cv2.imdecode(message.data, cv2.IMREAD_COLOR)
        assert image.shape == (480, 640, 3)
        assert image.std() > 15


def test_calibration_projects_the_object_onto_its_colour(log: SimpleNamespace) -> None:
    for (_, picture), (_, info), (_, pose), truth in zip(
            log.held[recording.IMAGE_TOPIC], log.held[recording.INFO_TOPIC],
            log.held[recording.POSE_TOPIC], log.truths, strict=True):
        place = pose.pose.position
        matrix = info.k.reshape(3, 3)
        column, row, depth = matrix @ [place.x, place.y, place.z]
        column, row = round(column / depth), round(row / depth)
        image = cv2.imdecode(picture.data, cv2.IMREAD_COLOR)
        assert (info.width, info.height) == (640, 480)
        patch = image[row - 4:row + 5, column - 4:column + 5]
        blue, green, red = patch.mean((0, 1))
        hue = cv2.cvtColor(np.float32([[[blue, green, red]]]), cv2.COLOR_BGR2HSV)[0, 0, 0] / 360
        assert abs((hue - truth['object_hue'] + 0.5) % 1 - 0.5) < 0.05
        assert np.linalg.norm([place.x, place.y, place.z]) == pytest.approx(
            truth['distance'], abs=1e-5)


@pytest.mark.parametrize('count', [2, 4])
def test_several_objects_have_boxes_that_bound_their_colour(tmp_path: Path, count: int) -> None:
    record(tmp_path / 'group', '--objects', str(count))
    held = read(tmp_path / 'group')
    assert recording.POSE_TOPIC not in held            # no one pose is that of the picture
    checked = 0
    for (_, message), (_, picture) in zip(held[recording.TRUTH_TOPIC],
                                          held[recording.IMAGE_TOPIC], strict=True):
        truths = json.loads(message.data)['objects']
        assert 1 <= len(truths) <= count
        assert len({truth['shape'] for truth in truths}) == len(truths)
        image = cv2.imdecode(picture.data, cv2.IMREAD_COLOR).astype(np.float32) / 255
        hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
        for truth in truths:
            assert 0 < truth['visible'] <= 1
            own = np.abs((hue / 360 - truth['object_hue'] + 0.5) % 1 - 0.5) < 0.04
            own &= (saturation > 0.3) & (value > 0.25)
            own = cv2.morphologyEx(own.astype(np.uint8), cv2.MORPH_OPEN, np.ones((7, 7), np.uint8))
            _, _, parts, _ = cv2.connectedComponentsWithStats(own)
            largest = parts[1:][parts[1:, cv2.CC_STAT_AREA].argmax(), :4]
            if truth['visible'] == 1.0:
                assert largest == pytest.approx(truth['box'], abs=12), truth
                checked += 1
    assert checked > CLIPS * FRAMES


def test_what_hides_an_object_shrinks_its_box() -> None:
    scene = clip_group(3, 0, 2)
    view = scene.view(0.0)
    alone = objects_truth(scene, view)[0]
    behind, front = scene.solid, scene.others[0]
    near = view.position + 0.6 * (np.array([behind.x, 0.0, behind.z]) - view.position)
    hiding = replace(scene, others=(replace(front, solid=replace(
        front.solid, shape='cube', width=0.05, height=2.0, x=near[0] + 0.04 * view.right[0],
        z=near[2] + 0.04 * view.right[2])),))
    hidden, _ = objects_truth(hiding, view)
    assert 0.1 < hidden['visible'] < 0.9 * alone['visible']
    assert hidden['box'][2] < alone['box'][2]
    gone = replace(hiding.others[0], solid=replace(hiding.others[0].solid, width=0.4))
    assert len(objects_truth(replace(hiding, others=(gone,)), view)) == 1


def test_a_differential_base_needs_commands(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='--base differential is without --commands'):
        simulate.main(['--out', str(tmp_path / 'log'), '--base', 'differential'])


def test_commands_drive_around_one_object_only(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='--objects 2 and --commands exclude each other'):
        simulate.main(['--out', str(tmp_path / 'log'), '--objects', '2', '--commands', 'all'])


def test_log_is_decided_by_its_seed(log: SimpleNamespace, tmp_path: Path) -> None:
    record(tmp_path / 'drive', '--jobs', '2')
    for name in ('drive.mcap', 'metadata.yaml'):
        assert (tmp_path / 'drive' / name).read_bytes() == (log.path / name).read_bytes()
    record(tmp_path / 'other', '--seed', '4')
    other = read(tmp_path / 'other')[recording.IMAGE_TOPIC][0][1]
    assert other.data.tobytes() != log.held[recording.IMAGE_TOPIC][0][1].data.tobytes()


def test_an_existing_log_is_replaced_only_when_asked(tmp_path: Path) -> None:
    one = ['--out', str(tmp_path / 'log'), '--clips', '1', '--frames', '1', '--jobs', '1']
    simulate.main(one)
    before = (tmp_path / 'log' / 'log.mcap').read_bytes()
    with pytest.raises(UserError, match='--overwrite'):
        simulate.main([*one, '--seed', '1'])
    assert (tmp_path / 'log' / 'log.mcap').read_bytes() == before
    simulate.main([*one, '--seed', '1', '--overwrite'])
    assert (tmp_path / 'log' / 'log.mcap').read_bytes() != before


def test_a_folder_of_something_else_is_never_deleted(tmp_path: Path) -> None:
    (tmp_path / 'thesis.tex').write_text('precious')
    with pytest.raises(UserError, match='no rosbag2 folder'):
        simulate.main(['--out', str(tmp_path), '--overwrite'])
    assert (tmp_path / 'thesis.tex').read_text() == 'precious'


@pytest.mark.parametrize(('argument', 'value'), [
    ('clips', '0'), ('objects', '5'), ('frames', '-1'), ('rate', '0'), ('rate', 'nan'),
    ('seed', '-1'), ('quality', '101'), ('jobs', '0')])
def test_bad_numbers_are_explained(argument: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f'--{argument} must be .* got {value}'):
        simulate.main(['--out', str(tmp_path / 'log'), f'--{argument}', value])
    assert not list(tmp_path.iterdir())


def test_command_line_leaves_one_line_and_status_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, '-m', 'imn_world_model.simulate', '--out', str(tmp_path), '--clips', '0'],
        capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == 'error: --clips must be 1 to 100000, got 0\n'


def test_demo_log_matches_its_command() -> None:
    folder = Path(__file__).parents[1] / 'demo' / 'log'
    assert '--clips 8 --frames 20 --rate 10 --seed 2026' in (folder / 'README.md').read_text()
    held = read(folder)
    assert {len(messages) for messages in held.values()} == {160}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5e6
    shapes = [json.loads(message.data)['shape'] for _, message in held[recording.TRUTH_TOPIC]]
    assert all(shapes.count(shape) == 40 for shape in ('cube', 'cylinder', 'sphere', 'capsule'))
    for clip in (0, 5):
        picture = held[recording.IMAGE_TOPIC][20 * clip + 7][1].data
        shipped = cv2.imdecode(picture, cv2.IMREAD_COLOR)
        now = recording.shoot(2026, clip, 7, 10.0, 85)
        made = cv2.imdecode(np.frombuffer(now.jpeg, np.uint8), cv2.IMREAD_COLOR)
        # Not bit by bit: JPEG coders differ between builds.
        assert np.abs(shipped.astype(int) - made).mean() < 0.5
        truth = json.loads(held[recording.TRUTH_TOPIC][20 * clip + 7][1].data)
        assert now.truth == {key: value for key, value in truth.items() if key != 'stamp'}
