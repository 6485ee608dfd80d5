"""
Every fault of a recording, with what becomes of its frames.

``python tests/test_data_fault_table.py`` prints the table.
"""
import re
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from recordings import (
    COMPRESSED,
    IMAGE,
    STORE,
    STRING,
    compressed,
    damage,
    drive,
    mcap_with_checksums,
    noise_bag,
    raw,
    scene,
    storage_file,
    write_bag,
)
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import DataOptions, load_frames

SQLITE, MCAP = StoragePlugin.SQLITE3, StoragePlugin.MCAP
POINTER = 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n'


def cut(file: Path, share: float) -> None:
    file.write_bytes(file.read_bytes()[:int(file.stat().st_size * share)])


def truncated(folder: Path, storage: StoragePlugin, metadata: bool) -> None:
    bag = noise_bag(folder / 'bag', storage)
    cut(storage_file(bag), 0.6)
    if not metadata:
        (bag / 'metadata.yaml').unlink()


def corrupt_chunk(folder: Path) -> None:
    damage(mcap_with_checksums(folder / 'log.mcap'), 0.4, 2000)


def corrupt_page(folder: Path) -> None:
    bag = write_bag(folder / 'bag', [('/camera', IMAGE, k + 1, raw(
        scene(k, 0, 24, 32), 'rgb8', k + 1)) for k in range(200)], SQLITE)
    damage(storage_file(bag), 0.5, 4096)


def corrupt_jpeg(folder: Path) -> None:
    messages = drive(1, 10)
    messages[3][3].data = messages[3][3].data[:300]
    messages[5][3].data = np.frombuffer(b'junk', np.uint8)
    write_bag(folder / 'bag', messages)


def unknown_type(folder: Path) -> None:
    bag = write_bag(folder / 'bag', drive(1, 10) + drive(1, 3, topic='/other'), SQLITE)
    with sqlite3.connect(storage_file(bag)) as database:
        database.execute("UPDATE topics SET type = 'robot_msgs/msg/Picture' WHERE name = '/other'")
    database.close()
    (bag / 'metadata.yaml').unlink()


def stamps(folder: Path, values: list[int]) -> None:
    write_bag(folder / 'bag', [('/camera', COMPRESSED, k + 1, compressed(scene(0, k), stamp))
                               for k, stamp in enumerate(values)])


def no_metadata(folder: Path) -> None:
    (write_bag(folder / 'bag', drive()) / 'metadata.yaml').unlink()


def other_metadata(folder: Path) -> None:
    metadata = write_bag(folder / 'bag', drive()) / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace('/camera/image', '/elsewhere').replace(
        'sensor_msgs/msg/', 'sensor_msgs/'))


def unmarked_compression(folder: Path) -> None:
    bag = write_bag(folder / 'bag', drive(), MCAP, CompressionMode.MESSAGE)
    (bag / 'metadata.yaml').unlink()


def empty_topic(folder: Path) -> None:
    file = storage_file(write_bag(folder / 'bag', drive(), SQLITE))
    with sqlite3.connect(file) as database:
        database.execute("INSERT INTO topics SELECT id + 1, '/empty', type, "
                         'serialization_format, offered_qos_profiles, type_description_hash '
                         'FROM topics')
    database.close()


def lfs_pointer(folder: Path) -> None:
    storage_file(write_bag(folder / 'bag', drive())).write_text(POINTER)
    write_bag(folder / 'other', drive(1, 4))


def missing_part(folder: Path) -> None:
    bag = write_bag(folder / 'bag', drive())
    metadata = bag / 'metadata.yaml'
    text = metadata.read_text().replace('message_count: 18', 'message_count: 30')
    metadata.write_text(text.replace('- bag.mcap', '- bag.mcap\n  - bag_1.mcap'))


def only_metadata(folder: Path) -> None:
    storage_file(write_bag(folder / 'bag', drive())).unlink()
    write_bag(folder / 'other', drive(1, 4))


def depth_and_mask(folder: Path) -> None:
    depth = raw(np.full((48, 64), 1000, np.uint16), '16UC1', step=128)
    packed = compressed(scene(0), 1, 'png')
    packed.format = '16UC1; png compressed '
    extra = [('/range', IMAGE, 1, depth), ('/range/compressed', COMPRESSED, 1, packed),
             ('/camera/mask', COMPRESSED, 1, compressed(scene(0), 1))]
    write_bag(folder / 'bag', extra + drive())


def no_images(folder: Path) -> None:
    write_bag(folder / 'bag', [('/chatter', STRING, 1, STORE.types[STRING](data='hello'))])


def unreadable_neighbours(folder: Path) -> None:
    write_bag(folder / 'bag', drive())
    (folder / 'gone.mcap').symlink_to(folder / 'nowhere.mcap')
    (folder / 'old.bag').write_bytes(b'#ROSBAG V2.0\n')
    (folder / 'loop').symlink_to(folder)


# Fault -> how it is made, frames recorded, used and reported, words of the line that names it.
FAULTS: dict[str, tuple[Callable[[Path], object], int, int, int, str]] = {
    'MCAP cut off in a chunk': (lambda p: truncated(p, MCAP, True), 20, 12, 8,
                                'metadata.yaml counts 20 messages of /camera, 8 more'),
    'the same without metadata.yaml': (lambda p: truncated(p, MCAP, False), 12, 12, 0,
                                       'cut off or corrupt at byte .* how much is lost is not'),
    'sqlite3 cut off': (lambda p: truncated(p, SQLITE, False), 20, 11, 9,
                        'cut off or corrupt after row 10 of 20'),
    'corrupt chunk': (corrupt_chunk, 20, 17, 3, '1 corrupt chunk or record, the first at byte'),
    'corrupt sqlite3 page': (corrupt_page, 200, 199, 1, 'cut off or corrupt after row'),
    'two corrupt JPEGs': (corrupt_jpeg, 10, 8, 2, '2 broken frames left out, the first: '
                          "/camera/image: compressed image of 300 bytes, format 'jpeg', cannot"),
    'unknown message type': (unknown_type, 10, 10, 0,
                             "3 messages of /other left out, type 'robot_msgs/msg/Picture'"),
    'zero stamps': (lambda p: stamps(p, [0] * 6), 6, 6, 0,
                    '6 frames of /camera without a stamp of its own; the time of recording'),
    'stamps going back': (lambda p: stamps(p, [10 ** 10, 2 * 10 ** 9, 3 * 10 ** 9]), 3, 3, 0,
                          '/camera has 1 stamp going back'),
    'metadata.yaml missing': (no_metadata, 18, 18, 0, ''),
    'metadata.yaml of other topics': (other_metadata, 18, 18, 0,
                                      'metadata.yaml speaks of /elsewhere, which the files do'),
    'messages compressed, unmarked': (unmarked_compression, 18, 18, 0, ''),
    'topic without messages': (empty_topic, 18, 18, 0, ''),
    'Git LFS pointer': (lfs_pointer, 22, 4, 18, 'is a Git LFS pointer.* run `git lfs pull`'),
    'part of a split recording missing': (missing_part, 30, 18, 12, 'bag_1.mcap is named in'),
    'storage file missing': (only_metadata, 22, 4, 18, 'bag.mcap is named in metadata.yaml but'),
    'depth and mask topics': (depth_and_mask, 21, 18, 3, '/range/compressed left out, 1 message'),
    'dead link, empty ROS 1, loop of links': (unreadable_neighbours, 18, 18, 0,
                                              'old.bag has no index'),
    'no images at all': (no_images, 0, 0, 0, 'no image topic'),
}


def outcome(fault: str, folder: Path) -> tuple[int, int, int, tuple[str, ...]]:
    """:return: frames recorded, used and reported, and what the user is told."""
    FAULTS[fault][0](folder)
    options = DataOptions(size=16, cache_dir=folder.parent / 'cache', still=0.0, scene_change=1e9)
    try:
        frames = load_frames([folder], options, progress=False)
    except UserError as error:
        return 0, 0, 0, (f'error: {error}',)
    total = {key: sum(report[key] for report in frames.reports)
             for key in ('recorded', 'used', 'still', 'broken', 'left', 'lost')}
    reported = total['still'] + total['broken'] + total['left'] + total['lost']
    return total['recorded'], total['used'], reported, frames.notes


@pytest.mark.parametrize('fault', FAULTS)
def test_frames_used_and_reported_are_those_recorded(fault: str, tmp_path: Path) -> None:
    (tmp_path / 'logs').mkdir()
    *counts, notes = outcome(fault, tmp_path / 'logs')
    assert tuple(counts) == FAULTS[fault][1:4], notes
    assert counts[0] == counts[1] + counts[2]
    words = FAULTS[fault][4]
    assert bool(notes) == bool(words), notes
    if words:
        assert any(re.search(words, note) for note in notes), notes
    assert all('\n' not in note for note in notes)


def print_table() -> None:
    """Print the faults and their outcomes as Markdown."""
    print('| fault | recorded | used | reported | what the user reads |\n|---|---|---|---|---|')
    for fault in FAULTS:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / 'logs'
            folder.mkdir()
            recorded, used, reported, notes = outcome(fault, folder)
            lines = '; '.join(notes).replace(f'{folder}/', '').replace(str(folder), 'logs')
            print(f'| {fault} | {recorded} | {used} | {reported} | {lines or "-"} |')


if __name__ == '__main__':
    print_table()
