"""How fast a JPEG log becomes decoded frames, against nothing but decoding and resizing."""
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from imn_world_model.data.frames import DataOptions, load_frames
from imn_world_model.vision.preprocess import Crop

KIND = 'sensor_msgs/msg/CompressedImage'
HEIGHT, WIDTH, SIZE = 480, 640, 64
ROUNDS = 3


def run(count: int = 1500) -> dict[str, float]:
    """
    Decode a log into the cache and, in turns, its JPEGs in a bare loop on as many threads.

    The log's way includes reading the recording, its fingerprint, the clips and writing the
    cache; the loop has the JPEGs in memory and keeps nothing.

    :param count: frames in the log, 640x480.
    :return: ``ratio`` of the rates (the median of the rounds' ratios; 1 is as fast as the loop),
        the same of processor time (what other work on the machine disturbs less), both rates in
        frames per second, ``threads``.
    """
    threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        jpegs = _write_log(folder / 'log', count)
        rates = []
        for number in range(ROUNDS + 1):
            options = DataOptions(size=SIZE, crop=Crop('none'), still=0.0,
                                  cache_dir=folder / f'cache{number}')
            log = _seconds(partial(load_frames, [folder / 'log'], options, progress=False))
            loop = _seconds(partial(_bare_loop, jpegs, threads))
            rates.append([(count / wall, cpu) for wall, cpu in (log, loop)])  # round 0 warms up
    (log_rate, log_cpu), (loop_rate, loop_cpu) = np.array(rates[1:]).transpose(1, 2, 0)
    return {'ratio': float(np.median(log_rate / loop_rate)),
            'ratio_of_processor_time': float(np.median(loop_cpu / log_cpu)),
            'log_frames_per_second': float(np.median(log_rate)),
            'loop_frames_per_second': float(np.median(loop_rate)), 'threads': threads}


def _seconds(work: Callable[[], object]) -> tuple[float, float]:
    """:return: seconds on the clock and of this process on the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def _bare_loop(jpegs: list[np.ndarray], threads: int) -> None:
    def decode(own: list[np.ndarray]) -> None:
        for jpeg in own:
            image = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
            assert image is not None
            cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(decode, [jpegs[k::threads] for k in range(threads)]))


def _write_log(path: Path, count: int) -> list[np.ndarray]:
    """:return: the JPEGs of a recording of moving soft texture, about 100 kB each."""
    store = get_typestore(Stores.ROS2_JAZZY)
    time_type, header_type = (store.types[name] for name in
                              ('builtin_interfaces/msg/Time', 'std_msgs/msg/Header'))
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, 2 * WIDTH, 3), dtype=np.uint8)
    # The blur leaves a standard deviation of 3.6 grey levels; scenes have some 30 to 60.
    soft = cv2.GaussianBlur(noise, (0, 0), 6.0).astype(np.float32)
    texture = np.clip(128 + 8 * (soft - soft.mean()), 0, 255).astype(np.uint8)
    jpegs = []
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection('/camera/image/compressed', KIND, typestore=store)
        for k in range(count):
            left = k % WIDTH
            jpegs.append(cv2.imencode('.jpg', texture[:, left:left + WIDTH])[1].ravel())
            stamp = (k + 1) * 33_000_000
            header = header_type(time_type(stamp // 10 ** 9, stamp % 10 ** 9), 'camera')
            message = store.types[KIND](header=header, format='jpeg', data=jpegs[-1])
            writer.write(connection, stamp, store.serialize_cdr(message, KIND))
    return jpegs
