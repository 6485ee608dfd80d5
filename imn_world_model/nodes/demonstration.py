"""A log played through the node; what came back, summed up and drawn."""
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imn_world_model.base.cli import atomic_path
from imn_world_model.base.errors import UserError
from imn_world_model.base.marks import MARK

ROOT = Path(__file__).resolve().parents[2]
MESSAGE_DEFINITIONS = ROOT / 'ros2_ws' / 'src' / 'imn_msgs' / 'msg'
IMAGE_TOPIC = '/camera/image_raw/compressed'
TRUTH_TOPIC = '/ground_truth'
START_TIMEOUT = 60.0
LAST_ANSWER_TIMEOUT = 3.0
SETTLE = 1.0
LONGEST_GAP = 0.3
PICTURES = 8


@dataclass
class Answers:
    """
    What came back, by the stamp of the image in nanoseconds.

    :param published: when each image was published, time.monotonic().
    :param truth: true shape of the object in each image.
    :param identities: Identity messages.
    :param latency: seconds from publication to the answer's arrival.
    :param active: which modules won.
    :param pictures: debug images, (H, W, 3) uint8 RGB.
    """

    published: dict[int, float] = field(default_factory=dict)
    truth: dict[int, str] = field(default_factory=dict)
    identities: dict[int, Any] = field(default_factory=dict)
    latency: dict[int, float] = field(default_factory=dict)
    active: dict[int, list[bool]] = field(default_factory=dict)
    pictures: dict[int, np.ndarray] = field(default_factory=dict)


def nanoseconds(stamp: Any) -> int:
    """
    Return a builtin_interfaces/Time as one number.

    :param stamp: the time.
    """
    return stamp.sec * 10 ** 9 + stamp.nanosec


class Listener:
    """
    Subscribes to what the node publishes and prints every identity.

    :param node: that subscribes; spun elsewhere.
    :param answers: filled.
    """

    def __init__(self, node: Any, answers: Answers) -> None:
        from imn_msgs.msg import Identity, Transform
        from sensor_msgs.msg import Image
        self._answers = answers
        node.create_subscription(Identity, '/imn/identity', self._identity, 100)
        node.create_subscription(Transform, '/imn/transform', self._transform, 100)
        node.create_subscription(Image, '/imn/debug_image', self._picture, 100)

    def _identity(self, message: Any) -> None:
        arrived = time.monotonic()
        stamp = nanoseconds(message.header.stamp)
        answers = self._answers
        answers.identities[stamp] = message
        answers.latency[stamp] = arrived - answers.published.get(stamp, arrived)
        print(f'{len(answers.identities):4d}  identity {message.identity}  {message.label:<12}'
              f' confidence {message.confidence:4.2f}  latency {answers.latency[stamp] * 1e3:5.1f}'
              f' ms{"  novel" if message.novel else ""}', flush=True)

    def _transform(self, message: Any) -> None:
        self._answers.active[nanoseconds(message.header.stamp)] = list(message.active)

    def _picture(self, message: Any) -> None:
        from imn_world_model.data.images import message_to_rgb
        self._answers.pictures[nanoseconds(message.header.stamp)] = message_to_rgb(message).copy()


def start_node(model: Path, log: Path) -> subprocess.Popen:
    """
    Start the perception node as launch would.

    :param model: exported .onnx file.
    :param log: file for what the node prints.
    """
    with open(log, 'wb') as output:
        return subprocess.Popen(
            [sys.executable, '-m', 'imn_world_model.nodes.perception', '--ros-args', '-p',
             f'model:={model}', '-p', f'image_topics:=[{IMAGE_TOPIC}]'],
            stdout=output, stderr=subprocess.STDOUT)


def wait_for_node(node: subprocess.Popen, publisher: Any, log: Path) -> None:
    """
    Wait until the node listens to the camera.

    :param node: its process.
    :param publisher: of the camera's images.
    :param log: what the node prints.
    :raises UserError: with the node's own words when it ends or never listens.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while not publisher.get_subscription_count():
        text = log.read_text(errors='replace')
        if node.poll() is not None or '[ERROR]' in text or time.monotonic() > deadline:
            raise UserError(f'the perception node does not start: {text.strip()[-600:]}')
        time.sleep(0.02)


def run(model: Path, log: Path, rate: float, recording: Path) -> Answers:
    """
    Play the log into a node and collect its answers.

    :param model: exported .onnx file.
    :param log: rosbag2 folder.
    :param rate: 1 for the recorded speed.
    :param recording: folder for the recorded outputs, must not exist.
    """
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.qos import QoSProfile

    from imn_world_model.nodes.player import Player
    from imn_world_model.nodes.recorder import Recorder
    from imn_world_model.nodes.running import Spinner

    answers = Answers()
    node_log = recording.with_name('node.log')
    rclpy.init()
    ros = rclpy.create_node('demo')
    executor = SingleThreadedExecutor()
    executor.add_node(ros)
    spinner = Spinner(executor)
    process = None
    try:
        qos = QoSProfile(depth=100)
        player = Player(ros, log, qos)
        if IMAGE_TOPIC not in player.publishers:
            raise UserError(f'{log} has no topic {IMAGE_TOPIC}; it has '
                            f'{", ".join(player.publishers)}')
        process = start_node(model, node_log)
        topics = {'/imn/identity': 'imn_msgs/msg/Identity',
                  '/imn/transform': 'imn_msgs/msg/Transform'}
        with Recorder(ros, recording, topics, MESSAGE_DEFINITIONS, qos):
            Listener(ros, answers)
            wait_for_node(process, player.publishers[IMAGE_TOPIC], node_log)
            # Each side finds the other's publishers at its own pace.
            time.sleep(SETTLE)
            play(player, rate, answers)
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)
            process.wait(10)
        # In this order: a thread that still waits on DDS when the interpreter ends aborts it.
        spinner.close()
        ros.destroy_node()
        rclpy.try_shutdown()
    return answers


def play(player: Any, rate: float, answers: Answers) -> None:
    """
    Play to the end and wait for the last answers.

    :param player: of the log.
    :param rate: 1 for the recorded speed.
    :param answers: what is published when is noted here.
    """
    for message in player.play(rate, LONGEST_GAP):
        if message.topic == IMAGE_TOPIC:
            answers.published[message.stamp] = message.published
        elif message.topic == TRUTH_TOPIC:
            # CDR: 4 bytes of encapsulation, 4 of length, the text, a zero.
            answers.truth[message.stamp] = json.loads(message.payload[8:].rstrip(b'\0'))['shape']
    deadline = time.monotonic() + LAST_ANSWER_TIMEOUT
    while len(answers.identities) < len(answers.published) and time.monotonic() < deadline:
        time.sleep(0.02)


def summary(answers: Answers) -> str:
    """
    Put the run in a few lines.

    :param answers: of the run.
    :raises UserError: when nothing came back.
    """
    if not answers.identities or not answers.active:
        raise UserError(f'{len(answers.published)} images were published and '
                        f'{len(answers.identities)} identities, {len(answers.active)} transforms '
                        'came back; see demo/node.log')
    p50, p99 = np.percentile(list(answers.latency.values()), (50, 99)) * 1e3
    lines = [f'{len(answers.published)} images, {len(answers.identities)} answers, latency '
             f'{p50:.1f} ms (median), {p99:.1f} ms (99 %)']
    table = Counter((answers.truth[stamp], message.label)
                    for stamp, message in answers.identities.items() if stamp in answers.truth)
    for shape in sorted({shape for shape, _ in table}):
        found = ', '.join(f'{label} {count}' for (truth, label), count in table.most_common()
                          if truth == shape)
        lines.append(f'  true {shape:<9} answered as: {found}')
    return '\n'.join(lines)


def draw(answers: Answers, path: Path) -> None:
    """
    Draw some of the images: what the model saw, its reconstruction, identity and modules.

    :param answers: of the run.
    :param path: of the picture.
    """
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    stamps = sorted(set(answers.pictures) & set(answers.identities) & set(answers.active))
    if not stamps:
        raise UserError('no debug image came back; see demo/node.log')
    chosen = [stamps[index] for index in
              np.linspace(0, len(stamps) - 1, min(PICTURES, len(stamps))).astype(int)]
    figure, axes = plt.subplots(2, len(chosen), figsize=(2 * len(chosen), 5.2), squeeze=False)
    for column, stamp in enumerate(chosen):
        # The debug image is the input and the reconstruction, square, side by side, above a text.
        picture, message = answers.pictures[stamp], answers.identities[stamp]
        side = picture.shape[1] // 2
        axes[0, column].imshow(picture[:side, :side])
        axes[1, column].imshow(picture[:side, side:])
        active = ''.join('■' if flag else '□' for flag in answers.active[stamp])
        axes[0, column].set_title(f'true: {answers.truth.get(stamp, "?")}', fontsize=10)
        axes[1, column].set_xlabel(f'identity {message.identity}: {message.label}\nconfidence '
                                   f'{message.confidence:.2f}\nmodules {active}', fontsize=10)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0, 0].set_ylabel('input')
    axes[1, 0].set_ylabel('reconstruction')
    figure.suptitle('What the robot camera showed and what the model made of it (■ active module)')
    figure.tight_layout()
    with atomic_path(path) as scratch:
        figure.savefig(scratch, dpi=100, metadata=MARK)
    plt.close(figure)
