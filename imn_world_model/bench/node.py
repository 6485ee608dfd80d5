"""
The perception node under load: latency, drops, idle cost, answers of services, memory.

As ros2_benchmark does it: the highest rate with less than 5 % drops, then fixed rates. Images are
those of the demo log, published by this process to a node in a process of its own.

    python -m imn_world_model.bench --node              the table
    python -m imn_world_model.bench.node --soak 30      minutes of 30 Hz, memory every minute;
                                                        Ctrl-C ends it early and sums up
"""
import argparse
import contextlib
import itertools
import os
import signal
import struct
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from imn_world_model.base.cli import run_cli
from imn_world_model.base.errors import UserError
from imn_world_model.bench.services import asking
from imn_world_model.data.images import MAX_HALVINGS, REDUCED, decode_rgb, message_to_rgb
from imn_world_model.robot.inference import ImnModel

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = ROOT / 'export' / 'demo.onnx'
LOG = ROOT / 'demo' / 'log'
IMAGE_TOPIC = '/camera/image_raw/compressed'
SECONDS = 8.0
RATES = (10.0, 30.0, 60.0)
ALLOWED_DROPS = 0.05
START_TIMEOUT = 60.0
LAST_ANSWER = 0.3
# Of the parameter service, asked some 15 times a second while images flow.
ANSWERS = 100
TICKS = os.sysconf('SC_CLK_TCK')


@dataclass(frozen=True)
class Load:
    """
    What a node made of a load.

    :param drops: share of the images that got no answer.
    :param latency: seconds from publication to the answer, of each answered image.
    :param cpu: cores that the node used.
    """

    drops: float
    latency: np.ndarray
    cpu: float


class Bench:
    """
    A node under test and a ROS node beside it.

    :param model: exported .onnx file.
    :param cameras: number of camera topics.
    :param provider: that the node runs the model on.
    :param regions: the node's parameter; with one, answers are those on `objects`.
    """

    def __init__(self, model: Path, cameras: int, provider: str = 'auto',
                 regions: str = 'none') -> None:
        import rclpy
        from imn_msgs.msg import ObjectArray, Transform
        from rclpy.executors import SingleThreadedExecutor
        from sensor_msgs.msg import CompressedImage

        from imn_world_model.nodes.running import Spinner

        self._arrived: dict[tuple[int, int], float] = {}
        self._objects = 0
        self._turns = itertools.count(1)
        self.node = rclpy.create_node('bench')
        topics = [f'/bench{index}/compressed' for index in range(cameras)]
        self._publishers = [self.node.create_publisher(CompressedImage, topic, 10)
                            for topic in topics]
        kind, topic = ((Transform, '/imn/transform') if regions == 'none'
                       else (ObjectArray, '/imn/objects'))
        self.node.create_subscription(kind, topic, self._receive, 1000)
        executor = SingleThreadedExecutor()
        executor.add_node(self.node)
        self._spinner = Spinner(executor)
        self._model = model
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'imn_world_model.nodes.perception', '--ros-args',
             '--log-level', 'error', '-p', f'model:={model}', '-p', f'provider:={provider}',
             '-p', f'regions:={regions}', '-p', f'image_topics:=[{", ".join(topics)}]'],
            # Ctrl-C is for the bench, which then ends the node.
            start_new_session=True)

    def wait_until_ready(self, image: bytes) -> None:
        """
        Wait until every camera's images are answered.

        :param image: serialized CompressedImage message.
        :raises UserError: when that does not happen.
        """
        deadline = time.monotonic() + START_TIMEOUT
        while {camera for _, camera in self._arrived} != set(range(len(self._publishers))):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise UserError(f'the perception node does not answer with {self._model}')
            self.load([image], 10.0, 0.5)

    def _receive(self, message: Any) -> None:
        stamp = message.header.stamp
        self._arrived[stamp.sec, stamp.nanosec] = time.monotonic()
        self._objects += len(getattr(message, 'objects', ()))

    @property
    def objects(self) -> float:
        """Return how many objects an answer of the last load had in the mean."""
        return self._objects / max(1, len(self._arrived))

    def close(self) -> None:
        """End both nodes."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(10)
        self._spinner.close()
        self.node.destroy_node()

    def cpu_seconds(self) -> float:
        """Return the CPU time that the node has used."""
        fields = Path(f'/proc/{self.process.pid}/stat').read_text().rpartition(')')[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self) -> float:
        """Return the node's resident memory in MB."""
        pages = int(Path(f'/proc/{self.process.pid}/statm').read_text().split()[1])
        return pages * os.sysconf('SC_PAGE_SIZE') / 1e6

    def load(self, images: list[bytes], rate: float, seconds: float = SECONDS) -> Load:
        """
        Publish to every camera at once and wait for the answers.

        :param images: serialized CompressedImage messages, published in turn.
        :param rate: images per second and camera.
        :param seconds: how long.
        """
        self._arrived.clear()
        self._objects = 0
        published: dict[tuple[int, int], float] = {}
        before, started = self.cpu_seconds(), time.monotonic()
        for image in range(round(rate * seconds)):
            time.sleep(max(0.0, started + image / rate - time.monotonic()))
            # No two images have the same stamp, so a late answer is not taken for another's.
            turn = next(self._turns)
            for camera, publisher in enumerate(self._publishers):
                payload = bytearray(images[turn % len(images)])
                # A CDR message begins with 4 bytes of its own, then the header's stamp.
                struct.pack_into('<iI', payload, 4, turn, camera)
                published[turn, camera] = time.monotonic()
                publisher.publish(bytes(payload))
        cpu = (self.cpu_seconds() - before) / (time.monotonic() - started)
        time.sleep(LAST_ANSWER)
        latency = [self._arrived[key] - published[key] for key in published
                   if key in self._arrived]
        return Load(1 - len(latency) / len(published), np.array(latency or [np.nan]), cpu)


def demo_images() -> list[bytes]:
    """Return the demo log's serialized images."""
    from rosbags.rosbag2 import Reader
    with Reader(LOG) as reader:
        wanted = [item for item in reader.connections if item.topic == IMAGE_TOPIC]
        return [bytes(data) for _, _, data in reader.messages(wanted)]


@contextlib.contextmanager
def bench(model: Path, cameras: int, image: bytes, provider: str = 'auto',
          regions: str = 'none') -> Iterator[Bench]:
    """
    Start a node, and end it whatever happens.

    :param model: exported .onnx file.
    :param cameras: number of camera topics.
    :param image: serialized message, to see whether the node is ready.
    :param provider: that the node runs the model on.
    :param regions: see :class:`Bench`.
    """
    import rclpy
    from rclpy.signals import SignalHandlerOptions
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    # Ctrl-C is to leave ROS up, so that what was measured so far can be read.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        one = Bench(model, cameras, provider, regions)
        try:
            one.wait_until_ready(image)
            yield one
        finally:
            one.close()
    finally:
        rclpy.try_shutdown()


def model_seconds(model: Path, batch: int) -> float:
    """
    Return the median time of one inference in this process.

    :param model: exported .onnx file.
    :param batch: number of images.
    """
    network = ImnModel(model)
    images = np.random.default_rng(0).integers(
        0, 256, (batch, network.image_size, network.image_size, 3), dtype=np.uint8)
    times = []
    for _ in range(60):
        started = time.perf_counter()
        network.predict(images)
        times.append(time.perf_counter() - started)
    return float(np.median(times[10:]))


def image_path_seconds(model: Path) -> tuple[float, float]:
    """
    Return what a 640x480 image costs beyond decoding and resizing, raw and as JPEG.

    :param model: exported .onnx file.
    :return: median difference between the node's path, from the serialized message to what the
        network takes, and OpenCV alone, each time one right after the other.
    """
    from rclpy.serialization import deserialize_message, serialize_message
    from sensor_msgs.msg import CompressedImage, Image
    network = ImnModel(model)
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    pixels = np.asarray(cv2.GaussianBlur(noise, (0, 0), 4.0))
    jpeg = cv2.imencode('.jpg', pixels)[1]
    halved = REDUCED[min(network.halvings(480, 640), MAX_HALVINGS)]

    def beyond(kind: type, message: Any, bare: Callable[[], np.ndarray]) -> float:
        payload = serialize_message(message)
        differences = []
        for _ in range(200):
            started = time.perf_counter()
            network.prepare(message_to_rgb(deserialize_message(payload, kind), network.halvings))
            middle = time.perf_counter()
            network.prepare(bare())
            differences.append(2 * middle - started - time.perf_counter())
        return float(np.median(differences))

    raw = Image(height=480, width=640, encoding='rgb8', step=1920,
                data=array('B', pixels.tobytes()))
    compressed = CompressedImage(format='jpeg', data=array('B', jpeg.tobytes()))
    return (beyond(Image, raw, lambda: pixels),
            beyond(CompressedImage, compressed,
                   lambda: np.asarray(decode_rgb(jpeg, halved))))


def highest_rate(one: Bench, images: list[bytes]) -> float:
    """
    Search for the highest rate with less than 5 % drops, to a tenth.

    :param one: a node with one camera.
    :param images: serialized messages.
    """
    low, high = 10.0, 20.0
    while high < 2000 and one.load(images, high, 3.0).drops < ALLOWED_DROPS:
        low, high = high, 2 * high
    while high > 1.1 * low:
        middle = (low * high) ** 0.5
        if one.load(images, middle, 3.0).drops < ALLOWED_DROPS:
            low = middle
        else:
            high = middle
    return low


def run(model: Path = MODEL) -> dict[str, float]:
    """
    Measure everything but the soak.

    :param model: exported .onnx file.
    :return: figures by name; milliseconds, Hz, shares and cores as the names say.
    """
    if not model.is_file():
        raise UserError(f'model {model} does not exist; export one there')
    images = demo_images()
    raw, jpeg = image_path_seconds(model)
    figures = {'model_ms': model_seconds(model, 1) * 1e3,
               'model_ms_four_images': model_seconds(model, 4) * 1e3,
               'raw_image_beyond_resize_ms': raw * 1e3,
               'jpeg_image_beyond_decode_and_resize_ms': jpeg * 1e3}

    def note(name: str, load: Load, model_ms: float) -> None:
        p50, p99 = np.percentile(load.latency, (50, 99)) * 1e3
        figures.update({
            f'{name}_drops': load.drops, f'{name}_p50_ms': float(p50),
            f'{name}_p50_beyond_model_ms': float(p50) - model_ms, f'{name}_p99_ms': float(p99),
            f'{name}_p99_beyond_model_ms': float(p99) - model_ms, f'{name}_cores': load.cpu})

    with bench(model, 1, images[0]) as one:
        before, started = one.cpu_seconds(), time.monotonic()
        time.sleep(SECONDS)
        figures['idle_cores'] = (one.cpu_seconds() - before) / (time.monotonic() - started)
        for rate in RATES:
            note(f'one_camera_{rate:.0f}hz', one.load(images, rate), figures['model_ms'])
        figures['highest_rate_hz'] = highest_rate(one, images)
    with bench(model, 4, images[0]) as four:
        note('four_cameras_15hz', four.load(images, 15.0), figures['model_ms_four_images'])
        with asking(ANSWERS) as asked:
            note('four_cameras_60hz', four.load(images, 60.0), figures['model_ms_four_images'])
        figures['service_p50_ms_at_240hz'] = float(np.median(asked) * 1e3)
        figures['service_worst_ms_at_240hz'] = float(max(asked) * 1e3)
    return figures


def soak(model: Path, minutes: int, seconds: float = 60.0) -> None:
    """
    Run at 30 Hz, print the node's memory every minute, and sum up at the end or at Ctrl-C.

    :param model: exported .onnx file.
    :param minutes: how long.
    :param seconds: of each of these minutes.
    """
    images = demo_images()
    memory: list[float] = []
    drops: list[float] = []
    # `timeout` and service managers end programs by this signal.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with bench(model, 1, images[0]) as one:
        try:
            for minute in range(1, minutes + 1):
                load = one.load(images, 30.0, seconds)
                memory.append(one.memory())
                drops.append(load.drops)
                p50, p99 = np.percentile(load.latency, (50, 99)) * 1e3
                print(f'minute {minute}: {memory[-1]:.1f} MB, {load.drops:.2%} drops, latency '
                      f'{p50:.1f} ms (median), {p99:.1f} ms (99 %)', flush=True)
        except KeyboardInterrupt:
            print(f'interrupted in minute {len(memory) + 1}')
    if memory:
        print(f'{len(memory)} minutes, {np.mean(drops):.2%} drops; memory after the first minute '
              f'{memory[0]:.1f} MB, growth since then {memory[-1] - memory[0]:+.1f} MB, at most '
              f'{max(memory) - memory[0]:+.1f} MB', flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Command line of this part alone."""
    parser = argparse.ArgumentParser(prog='imn_world_model.bench.node', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', type=Path, default=MODEL)
    parser.add_argument('--soak', type=int, metavar='MINUTES', help='watch the memory instead')
    options = parser.parse_args(arguments)
    model = options.model.resolve()
    if options.soak:
        soak(model, options.soak)
        return
    for name, value in run(model).items():
        print(f'{name:32} {value:10.3f}')


if __name__ == '__main__':
    run_cli(main)
