"""Actions along with frames: nearest stamps, means over the time to the next frame, named gaps."""
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from recordings import STORE, drive, header, write_bag

from imn_world_model.base.errors import UserError
from imn_world_model.data.actions import (
    JOINTS,
    ODOMETRY,
    STAMPED,
    TWIST,
    Actions,
    changes,
    load_actions,
)
from imn_world_model.data.frames import DataOptions, Frames, load_frames

SECOND = 10 ** 9


def make(name: str, /, **fields: object) -> object:
    return STORE.types[name](**fields)


def vector(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> object:
    return make('geometry_msgs/msg/Vector3', x=x, y=y, z=z)


def twist(forward: float, turn: float = 0.0) -> object:
    return make(TWIST, linear=vector(x=forward), angular=vector(z=turn))


def load(path: Path, tmp_path: Path) -> Frames:
    return load_frames([path], DataOptions(size=16, still=0.0, cache_dir=tmp_path / 'cache'),
                       progress=False)


def record(tmp_path: Path, actions: list[tuple[str, str, int, object]], clips: int = 1,
           frames: int = 6) -> Frames:
    """:return: frames at 10 Hz from 1 s on, with these messages."""
    messages = [*drive(clips, frames), *actions]
    path = write_bag(tmp_path / 'log', sorted(messages, key=lambda message: message[2]))
    return load(path, tmp_path)


def commands(values: dict[float, float], topic: str = '/cmd_vel') -> list:
    """:return: twists, forward speed by seconds."""
    return [(topic, TWIST, round(time * SECOND), twist(value)) for time, value in values.items()]


def test_an_action_is_the_mean_of_what_holds_until_the_next_frame(tmp_path: Path) -> None:
    # Frames at 1.0, 1.1, ...: the command changes in the middle of the second step.
    frames = record(tmp_path, commands({0.98: 1.0, 1.15: 3.0, 1.3: -1.0, 1.4: 0.0}))
    actions = load_actions(frames)
    assert actions.names == ('linear.x',) and actions.units == ('m/s',)
    assert actions.topic == '/cmd_vel'
    assert actions.value[:5, 0] == pytest.approx([1.0, 2.0, 3.0, -1.0, 0.0], abs=1e-5)
    assert np.isnan(actions.value[5]).all() and np.isnan(actions.seconds[5])
    assert actions.seconds[:5] == pytest.approx(0.1)


def test_a_stamped_twist_counts_by_its_own_stamp(tmp_path: Path) -> None:
    late = 30 * SECOND
    messages = [('/cmd', STAMPED, late + k, make(STAMPED, header=header(stamp), twist=twist(v)))
                for k, (stamp, v) in enumerate([(SECOND, 0.5), (SECOND * 12 // 10, 0.7)])]
    actions = load_actions(record(tmp_path, messages))
    assert actions.value[:4, 0] == pytest.approx([0.5, 0.5, 0.7, 0.7])


def test_odometry_gives_its_twist_and_commands_come_first(tmp_path: Path) -> None:
    pose = make('geometry_msgs/msg/PoseWithCovariance', pose=make(
        'geometry_msgs/msg/Pose', position=make('geometry_msgs/msg/Point', x=0.0, y=0.0, z=0.0),
        orientation=make('geometry_msgs/msg/Quaternion', x=0.0, y=0.0, z=0.0, w=1.0)),
        covariance=np.zeros(36))
    odometry = [('/odom', ODOMETRY, SECOND + k * SECOND // 10, make(
        ODOMETRY, header=header(SECOND + k * SECOND // 10), child_frame_id='base', pose=pose,
        twist=make('geometry_msgs/msg/TwistWithCovariance', twist=twist(0.2, 0.1),
                   covariance=np.zeros(36)))) for k in range(6)]
    frames = record(tmp_path, [*odometry, *commands({1.0 + k / 10: 0.9 for k in range(6)})])
    assert load_actions(frames).topic == '/cmd_vel'
    actions = load_actions(frames, '/odom')
    assert actions.names == ('linear.x', 'angular.z') and actions.units == ('m/s', 'rad/s')
    assert actions.value[0] == pytest.approx([0.2, 0.1])
    wanted = load_actions(frames, '/odom', ('angular.z', 'linear.y'))
    assert wanted.value[0] == pytest.approx([0.1, 0.0])


def test_joint_positions_become_rates(tmp_path: Path) -> None:
    def joints(k: int) -> object:
        return make(JOINTS, header=header(SECOND + k * SECOND // 10), name=['a', 'b'],
                    position=np.array([0.1 * k, -0.2 * k ** 2]), velocity=np.zeros(0),
                    effort=np.zeros(0))
    actions = load_actions(record(tmp_path, [
        ('/joint_states', JOINTS, SECOND + k * SECOND // 10, joints(k)) for k in range(6)]))
    assert actions.names == ('a', 'b')
    assert actions.value[:3] == pytest.approx(np.array([[1.0, -2.0], [1.0, -6.0], [1.0, -10.0]]))


def test_actions_that_stop_leave_a_named_gap(tmp_path: Path) -> None:
    frames = record(tmp_path, commands({1.0 + k / 10: 0.5 for k in range(6)}), frames=30)
    actions = load_actions(frames)
    # The last message, at 1.5 s, holds for half a second.
    assert np.isfinite(actions.value[:10]).all() and np.isnan(actions.value[10:]).all()
    note, = actions.notes
    assert '/cmd_vel does not cover 19 of 30 frames, the first 1.0 s after' in note


def test_a_slower_topic_is_held_and_named(tmp_path: Path) -> None:
    frames = record(tmp_path, commands({1.0: 0.5, 2.0: 0.7, 3.0: 0.9}), frames=20)
    actions = load_actions(frames)
    assert actions.value[:19, 0] == pytest.approx([0.5] * 10 + [0.7] * 9, abs=1e-5)
    assert any('comes at 1 Hz, slower than the images at 10 Hz' in note for note in actions.notes)


@pytest.mark.parametrize('messages, wanted, complaint', [
    ([], None, 'no actions in .*messages of any of geometry_msgs/Twist.*but /camera/image'),
    (commands({1.0: 0.5}), '/other', 'no messages of /other, but .*cmd_vel'),
    (commands({1.0: 0.0, 1.2: 0.0}), None, 'never tells of any motion'),
    (commands({900.0: 0.5}), None, 'were not recorded at the same time'),
    ([*commands({1.0: 0.5}), *commands({1.0: 0.5}, '/cmd_two')], None,
     'several topics .*/cmd_two, /cmd_vel; choose one with --actions'),
])
def test_bad_logs_are_one_clear_line(tmp_path: Path, messages: list, wanted: str | None,
                                     complaint: str) -> None:
    frames = record(tmp_path, messages)
    with pytest.raises(UserError, match=complaint) as raised:
        load_actions(frames, wanted)
    assert '\n' not in str(raised.value)


def test_lerobot_targets_become_rates_within_their_clip() -> None:
    frames = SimpleNamespace(
        clip=np.array([0, 0, 0, 1, 1]), stamp=np.array([0, 1, 2, 0, 1]) * SECOND // 10,
        values={'action.hand': np.array([1.0, 1.2, 1.1, 5.0, 5.5]), 'height': np.zeros(5)},
        sources=())
    actions: Actions = load_actions(frames)  # type: ignore[arg-type]
    assert actions.topic == 'lerobot' and actions.names == ('hand',)
    # A target is where the robot shall be at the next frame.
    assert actions.value[:, 0] == pytest.approx([np.nan, 2.0, np.nan, np.nan, np.nan], nan_ok=True)


def test_changes_of_positions_belong_to_the_step_in_which_they_happen() -> None:
    position, clip = np.array([[1.0], [2.0], [4.0]]), np.zeros(3, np.int64)
    seconds = np.array([0.5, 0.5, np.nan])
    assert changes(position, clip, seconds, ahead=False)[:2, 0] == pytest.approx([2.0, 4.0])
