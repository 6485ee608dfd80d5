"""
What a robot did between its frames: velocities from topics of motion or from LeRobot's actions.

An action belongs to a frame and says what was done from it to the next frame of its clip: the mean
over that time of velocities that hold until the next message, or the change of positions divided
by the time. Its units are those of the recording (m/s, rad/s, a joint's unit per second).
"""
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imn_world_model.base.errors import UserError
from imn_world_model.data.bags import BagMessage, BagReport, is_bag, is_recording, read_bag
from imn_world_model.data.frames import Frames

TWIST, STAMPED, ODOMETRY, JOINTS = (
    'geometry_msgs/msg/Twist', 'geometry_msgs/msg/TwistStamped', 'nav_msgs/msg/Odometry',
    'sensor_msgs/msg/JointState')
# A command moves the robot; odometry and joints say what became of it.
ACTION_TYPES = (TWIST, STAMPED, ODOMETRY, JOINTS)
# A message holds until the next, but not longer: seconds, and periods of its topic.
HOLD_SECONDS, HOLD_PERIODS = 0.5, 3.0
AXES = tuple(f'{part}.{axis}' for part in ('linear', 'angular') for axis in 'xyz')
LEROBOT = 'action.'                    # of the names in ``Frames.values``
AHEAD = 'lerobot'


@dataclass(frozen=True)
class Actions:
    """
    What was done from each frame to the next.

    :param value: (N, A) float64, NaN where it is unknown: before a clip's end or in a gap.
    :param seconds: (N,) from each frame to the next of its clip, NaN for its last.
    :param names: of the A numbers, such as ``linear.x`` or a joint's name.
    :param units: of each, such as ``m/s``.
    :param topic: where they come from, ``lerobot`` for LeRobot's actions.
    :param notes: gaps and what else is odd, a line each.
    """

    value: np.ndarray
    seconds: np.ndarray
    names: tuple[str, ...]
    units: tuple[str, ...]
    topic: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recorded:
    """
    One topic of motion in one recording, K messages in order of time.

    :param kind: the message type.
    :param stamp: (K,) int64 ns.
    :param value: (K, A).
    :param names: of the numbers.
    :param units: of each, once it is a rate.
    :param positions: whether the numbers are positions, whose change is the action.
    """

    kind: str
    stamp: np.ndarray
    value: np.ndarray
    names: tuple[str, ...]
    units: tuple[str, ...]
    positions: bool


def load_actions(frames: Frames, topic: str | None = None,
                 names: tuple[str, ...] | None = None) -> Actions:
    """
    Find what was done between frames, in the recordings that they come from.

    :param frames: of one or several recordings, in order of time within each clip.
    :param topic: of the actions; by default the one there is, a command before odometry before
        joints.
    :param names: the numbers wanted, in this order; by default all that ever differ from zero.
    :raises UserError: when there are no actions, or not those.
    """
    seconds = interval(frames)
    if topic in (None, AHEAD):
        columns = [name for name in frames.values if name.startswith(LEROBOT)]
        if columns:
            value = changes(np.stack([frames.values[name] for name in columns], 1), frames.clip,
                            seconds, ahead=True)
            plain = tuple(name.removeprefix(LEROBOT) for name in columns)
            return _chosen(value, seconds, plain, ('unit/s',) * len(plain), AHEAD, (), names)
    recorded: dict[int, Recorded] = {}
    held: list[str] = []
    for number, source in enumerate(frames.sources):
        path = Path(source)
        if not (is_bag(path) if path.is_file() else is_recording(path)):
            continue
        topics = read_motion(path, held)
        chosen = topic if topic is not None else _preferred(topics, path)
        if chosen in topics:
            recorded[number] = topics[chosen]
            found = chosen
    if not recorded:
        wanted = 'any of geometry_msgs/Twist, TwistStamped, nav_msgs/Odometry, ' \
            'sensor_msgs/JointState' if topic is None else topic
        raise UserError(f'no actions in {", ".join(frames.sources)}: it has no messages of '
                        f'{wanted}, but {", ".join(sorted(set(held))) or "no topics"}; record the '
                        'topic that moves the robot along with its images, or name it with '
                        '--actions')
    return _aligned(frames, seconds, recorded, found, names)


def interval(frames: Frames) -> np.ndarray:
    """:return: (N,) seconds to the next frame of the clip; NaN for its last."""
    seconds = np.full(len(frames.clip), np.nan)
    if len(seconds) > 1:
        step = np.diff(frames.stamp) / 1e9
        same = (np.diff(frames.clip) == 0) & (step > 0)
        seconds[:-1][same] = step[same]
    return seconds


def read_motion(path: Path, held: list[str] | None = None) -> dict[str, Recorded]:
    """
    Read a recording's topics of motion.

    :param path: of a rosbag2 recording.
    :param held: gets every topic that is there, with its type.
    :return: topic -> its messages; topics without a readable message are left out.
    """
    report = BagReport()
    rows: dict[str, list[tuple[int, dict[str, float]]]] = {}
    kinds: dict[str, str] = {}
    positions: Counter[str] = Counter()
    for message in read_bag(path, report, kinds=ACTION_TYPES):
        try:
            stamp, numbers, is_position = _READERS[message.kind](message)
        except UserError:
            continue
        kinds[message.topic] = message.kind
        positions[message.topic] += is_position
        rows.setdefault(message.topic, []).append((stamp, numbers))
    if held is not None:
        held += [f'{topic} ({kind})' for topic, kind in report.topics.items()]
    return {topic: _table(kinds[topic], held_rows, positions[topic] > 0)
            for topic, held_rows in rows.items()}


def _table(kind: str, rows: list[tuple[int, dict[str, float]]], positions: bool) -> Recorded:
    names = tuple(dict.fromkeys(name for _, numbers in rows for name in numbers))
    stamp = np.array([stamp for stamp, _ in rows], np.int64)
    value = np.array([[numbers.get(name, np.nan) for name in names] for _, numbers in rows])
    order = np.argsort(stamp, kind='stable')
    if kind == JOINTS:
        units = ('rad/s or m/s',) * len(names)
    else:
        units = tuple('m/s' if name.startswith('linear') else 'rad/s' for name in names)
    return Recorded(kind, stamp[order], value[order].reshape(len(rows), len(names)), names, units,
                    positions)


def _twist(twist: Any) -> dict[str, float]:
    return dict(zip(AXES, (float(getattr(part, axis)) for part in (twist.linear, twist.angular)
                           for axis in 'xyz'), strict=True))


def _stamp_of(message: BagMessage, decoded: Any) -> int:
    """:return: ns by the message's own header, or of recording where that is not set."""
    time = decoded.header.stamp
    return time.sec * 10 ** 9 + time.nanosec or message.stamp


def _read_twist(message: BagMessage) -> tuple[int, dict[str, float], bool]:
    return message.stamp, _twist(message.decode()), False


def _read_stamped(message: BagMessage) -> tuple[int, dict[str, float], bool]:
    decoded = message.decode()
    return _stamp_of(message, decoded), _twist(decoded.twist), False


def _read_odometry(message: BagMessage) -> tuple[int, dict[str, float], bool]:
    decoded = message.decode()
    return _stamp_of(message, decoded), _twist(decoded.twist.twist), False


def _read_joints(message: BagMessage) -> tuple[int, dict[str, float], bool]:
    decoded = message.decode()
    moving = len(decoded.velocity) == len(decoded.name) > 0
    numbers = decoded.velocity if moving else decoded.position
    if len(numbers) != len(decoded.name):
        raise UserError('a JointState names joints without telling their positions')
    return (_stamp_of(message, decoded), dict(zip(decoded.name, map(float, numbers), strict=True)),
            not moving)


_READERS: dict[str, Callable[[BagMessage], tuple[int, dict[str, float], bool]]] = {
    TWIST: _read_twist, STAMPED: _read_stamped, ODOMETRY: _read_odometry, JOINTS: _read_joints}


def _preferred(topics: dict[str, Recorded], path: Path) -> str | None:
    for kind in ACTION_TYPES:
        of_kind = [topic for topic, recorded in topics.items() if recorded.kind == kind]
        if len(of_kind) > 1:
            raise UserError(f'{path} has several topics of {kind}: {", ".join(sorted(of_kind))}; '
                            'choose one with --actions')
        if of_kind:
            return of_kind[0]
    return None


def _aligned(frames: Frames, seconds: np.ndarray, recorded: dict[int, Recorded], topic: str,
             wanted: tuple[str, ...] | None) -> Actions:
    names = tuple(dict.fromkeys(name for one in recorded.values() for name in one.names))
    units = {name: unit for one in recorded.values()
             for name, unit in zip(one.names, one.units, strict=True)}
    value = np.full((len(frames.clip), len(names)), np.nan)
    notes: list[str] = []
    for number, source in enumerate(frames.sources):
        rows = np.flatnonzero(frames.source == number)
        if number not in recorded:
            notes.append(f'{source}: no {topic}, its {len(rows)} frames are without actions')
            continue
        one = recorded[number]
        columns = np.array([names.index(name) for name in one.names])
        value[np.ix_(rows, columns)] = resample(one, frames.stamp[rows], seconds[rows])
        notes += _gaps(source, topic, one, frames.stamp[rows],
                       np.isnan(value[rows][:, columns]).any(1) & ~np.isnan(seconds[rows]))
    return _chosen(value, seconds, names, tuple(units[name] for name in names), topic,
                   tuple(notes), wanted)


def hold(stamp: np.ndarray) -> float:
    """:return: seconds for which a message of that topic holds where the next one is missing."""
    step = np.diff(stamp)
    step = step[step > 0]
    return max(HOLD_SECONDS, HOLD_PERIODS * float(np.median(step)) / 1e9 if len(step) else 0.0)


def resample(one: Recorded, stamp: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """
    Bring a topic to the times of frames.

    :param one: the topic.
    :param stamp: (K,) ns of the frames.
    :param seconds: (K,) from each to the next, NaN for none.
    :return: (K, A) mean velocity over that time; NaN where the topic does not cover it.
    """
    reach = hold(one.stamp)
    if one.positions:
        start, end = (_nearest(one, at, reach) for at in
                      (stamp, stamp + np.nan_to_num(seconds * 1e9).astype(np.int64)))
        return (end - start) / seconds[:, None]
    # Integral of what holds until the next message, as a function of time.
    origin = one.stamp[0]
    time = (one.stamp - origin) / 1e9
    length = np.append(np.diff(time), reach)
    covered = np.minimum(length, reach)
    integral = np.vstack((np.zeros(one.value.shape[1]),
                          np.cumsum(one.value * covered[:, None], 0)))
    known = np.append(0.0, np.cumsum(covered))

    def until(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """:return: integral (K, A) and covered seconds (K,) from the first message on."""
        index = np.searchsorted(time, at, side='right') - 1
        since = np.clip(at - time[np.maximum(index, 0)], 0.0, covered[np.maximum(index, 0)])
        since = np.where(index < 0, 0.0, since)
        index = np.maximum(index, 0)
        return integral[index] + one.value[index] * since[:, None], known[index] + since

    begin = (stamp - origin) / 1e9
    (whole, have), (part, had) = until(begin + np.nan_to_num(seconds)), until(begin)
    # A thousandth of the time: stamps are rounded.
    enough = have - had >= seconds * 0.999 - 1e-6
    return np.where(enough[:, None], (whole - part) / seconds[:, None], np.nan)


def _nearest(one: Recorded, at: np.ndarray, reach: float) -> np.ndarray:
    """:return: (K, A), the message nearest to each time; NaN where it is too far away."""
    right = np.clip(np.searchsorted(one.stamp, at), 0, len(one.stamp) - 1)
    left = np.maximum(right - 1, 0)
    nearer = np.where(np.abs(one.stamp[left] - at) <= np.abs(one.stamp[right] - at), left, right)
    far = np.abs(one.stamp[nearer] - at) > reach * 1e9
    return np.where(far[:, None], np.nan, one.value[nearer])


def changes(position: np.ndarray, clip: np.ndarray, seconds: np.ndarray,
            ahead: bool) -> np.ndarray:
    """
    Rates from positions that come with the frames.

    :param position: (N, A).
    :param clip: (N,) clip of each frame.
    :param seconds: (N,) to the next frame.
    :param ahead: whether a frame's position is where the robot shall be at the next one (a
        target), rather than where it is.
    :return: (N, A), NaN where unknown.
    """
    step = np.full_like(position, np.nan)
    same = np.diff(clip) == 0
    change = np.where(same[:, None], np.diff(position, axis=0), np.nan)
    if ahead:
        step[1:] = change
    else:
        step[:-1] = change
    return step / seconds[:, None]


def _gaps(source: str, topic: str, one: Recorded, stamp: np.ndarray,
          missing: np.ndarray) -> Iterator[str]:
    """:return: a line for what the topic does not cover, one for a slow topic."""
    if len(stamp) and (one.stamp[-1] < stamp.min() or one.stamp[0] > stamp.max()):
        yield (f'{source}: {topic} and the images were not recorded at the same time '
               f'({one.stamp[0] / 1e9:.3f} to {one.stamp[-1] / 1e9:.3f} s, images '
               f'{stamp.min() / 1e9:.3f} to {stamp.max() / 1e9:.3f} s)')
    elif missing.any():
        first = (stamp[missing][0] - stamp[0]) / 1e9
        silent = np.diff(one.stamp).max(initial=0) / 1e9
        yield (f'{source}: {topic} does not cover {missing.sum()} of {len(stamp)} frames, the '
               f'first {first:.1f} s after the first image; its longest silence lasts '
               f'{silent:.1f} s, messages hold for {hold(one.stamp):.1f} s')
    steps, own = np.diff(np.sort(stamp)), np.diff(one.stamp)
    if len(steps) and len(own) and np.median(own) > 1.5 * max(np.median(steps), 1):
        yield (f'{source}: {topic} comes at {1e9 / np.median(own):.3g} Hz, slower than the images '
               f'at {1e9 / np.median(steps):.3g} Hz; each message holds until the next')


def _chosen(value: np.ndarray, seconds: np.ndarray, names: tuple[str, ...],
            units: tuple[str, ...], topic: str, notes: tuple[str, ...],
            wanted: tuple[str, ...] | None) -> Actions:
    if wanted is None:
        moving = np.nan_to_num(value).any(0)
        if not moving.any():
            raise UserError(f'{topic} never tells of any motion while there are images'
                            + (f': {notes[0]}' if notes else
                               '; record a drive in which the robot moves'))
        columns = list(np.flatnonzero(moving))
    else:
        missing = [name for name in wanted if name not in names]
        if missing:
            raise UserError(f'{topic} does not tell {", ".join(missing)}, but '
                            f'{", ".join(names)}; give a log of the same robot')
        columns = [names.index(name) for name in wanted]
    if np.isnan(value[:, columns]).any(1).all():
        raise UserError(f'{topic} covers no step from one image to the next'
                        + (f': {notes[0]}' if notes else ''))
    return Actions(value[:, columns], seconds, tuple(names[k] for k in columns),
                   tuple(units[k] for k in columns), topic, notes)
