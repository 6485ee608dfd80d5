"""
Memory does not grow with the log.

``IMN_TEST_LOG_MB=3000 pytest -s tests/test_data_memory.py`` measures on a larger one.
"""
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from recordings import IMAGE, STORE, drive, raw, storage_file, write_bag
from rosbags.rosbag2 import StoragePlugin, Writer

from imn_world_model.data.cache import MAX_WAITING, _decoded
from imn_world_model.data.images import compressed_to_rgb
from imn_world_model.data.raw import RawFrame, Source, SourceReport
from imn_world_model.data.sources import read_frames
from imn_world_model.vision.preprocess import Crop

SMALL_MB, LARGE_MB = 25, int(os.environ.get('IMN_TEST_LOG_MB', 250))
HEIGHT, WIDTH = 720, 1280
# Anonymous memory: what is mapped from files, such as the decoded frames, is the page cache's.
PROGRAM = """
import re, sys, threading
from pathlib import Path
from imn_world_model.data.frames import DataOptions, load_frames

def held():
    return int(re.search(r'RssAnon:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024

def watch():
    global peak
    while not done.wait(0.02):
        peak = max(peak, held())

peak = before = held()
done = threading.Event()
watcher = threading.Thread(target=watch)
watcher.start()
frames = load_frames([sys.argv[1]], DataOptions(size=64, still=0.0, scene_change=1e9,
                                                cache_dir=Path(sys.argv[2])), progress=False)
total = sum(int(frames.images[i:i + 64].max()) for i in range(0, len(frames.images), 64))
done.set()
watcher.join()
print(len(frames.images), max(peak, held()) - before)
"""


def write_log(path: Path, megabytes: int, storage: StoragePlugin) -> int:
    """:return: how many raw frames make up that many MB."""
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    count = megabytes * 10 ** 6 // image.nbytes
    with Writer(path, version=9, storage_plugin=storage) as writer:
        connection = writer.add_connection('/camera', IMAGE, typestore=STORE)
        for k in range(count):
            image[k % HEIGHT] = k % 256
            writer.write(connection, k + 1, STORE.serialize_cdr(raw(image, 'rgb8', k + 1), IMAGE))
    return count


def peak_megabytes(path: Path, cache: Path, count: int) -> float:
    """:return: MB of memory that loading takes at most, beyond that of the imported libraries."""
    program = subprocess.run([sys.executable, '-c', PROGRAM, str(path), str(cache)], text=True,
                             capture_output=True, check=True, cwd=Path(__file__).parents[1])
    number, peak = program.stdout.split()
    assert int(number) == count
    return float(peak)


@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_memory_does_not_grow_with_the_log(storage: StoragePlugin, tmp_path: Path) -> None:
    peaks = []
    for megabytes in (SMALL_MB, LARGE_MB):
        count = write_log(tmp_path / 'bag', megabytes, storage)
        peaks.append(peak_megabytes(tmp_path / 'bag', tmp_path / 'cache', count))
        print(f'{storage.name}: {megabytes} MB, {count} frames of {WIDTH}x{HEIGHT}: peak '
              f'{peaks[-1]:.0f} MB')
        shutil.rmtree(tmp_path / 'bag')
    # 100 bytes a frame beside the pixels, and what the allocator keeps.
    assert peaks[1] < peaks[0] + 40 and peaks[1] < 400


def test_frames_wait_for_a_decoder_up_to_so_many_bytes() -> None:
    pulled = 0

    def frames() -> Iterator[RawFrame]:
        nonlocal pulled
        for _ in range(100):
            pulled += 1
            yield RawFrame('', 0, lambda halvings: np.zeros((8, 8, 3), np.uint8),
                           held=MAX_WAITING // 3)

    next(_decoded(frames(), 8, Crop(), 64))
    assert pulled == 4


def test_every_message_tells_how_many_bytes_it_holds(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'bag', drive(1, 3))
    frames = list(read_frames(Source('bag', bag), (), None, SourceReport()))
    assert sum(frame.held for frame in frames) > storage_file(bag).stat().st_size / 2


@pytest.mark.parametrize('kind', ['.jpg', '.png'])
def test_resolution_is_that_of_the_whole_image(kind: str) -> None:
    data = cv2.imencode(kind, np.zeros((480, 640, 3), np.uint8))[1].tobytes()
    frame = RawFrame('', 0, lambda halvings: compressed_to_rgb(data, kind, halvings))
    (_, (pixels, resolution)), = _decoded(iter([frame]), 32, Crop(), 1)
    assert pixels.shape == (32, 32, 3) and resolution == '640x480'
