"""Which image topics of a recording are cameras, and which are the same pictures twice."""
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recordings import (
    COMPRESSED,
    IMAGE,
    compressed,
    drive,
    raw,
    scene,
    storage_file,
    write_bag,
)
from rosbags.rosbag2 import StoragePlugin

from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import DataOptions, Frames, load_frames
from imn_world_model.data.topics import unwanted

RAW, TWIN = '/cam/image_raw', '/cam/image_raw/compressed'


@pytest.fixture
def options(tmp_path: Path) -> DataOptions:
    return DataOptions(size=16, cache_dir=tmp_path / 'cache', still=0.0)


def load(path: Path, options: DataOptions) -> Frames:
    return load_frames([path], options, progress=False)


def noted(frames: Frames, words: str) -> bool:
    return any(words in note for note in frames.notes)


def twins(raws: range, packed: range, late: int = 10 ** 6, encoding: str = 'rgb8') -> list:
    """:return: a camera's raw and compressed messages at 10 Hz, the latter recorded later."""
    messages = []
    for k in range(max(raws.stop, packed.stop)):
        stamp = 10 ** 9 + k * 10 ** 8
        if k in raws:
            messages.append((RAW, IMAGE, stamp, raw(scene(0, k % 5), encoding, stamp)))
        if k in packed:
            messages.append((TWIN, COMPRESSED, stamp + late, compressed(scene(0, k % 5), stamp)))
    return sorted(messages, key=lambda message: message[2])


def assert_accounted(frames: Frames) -> None:
    report = frames.reports[0]
    parts = ('used', 'still', 'broken', 'left', 'lost')
    assert sum(report[part] for part in parts) == report['recorded']


@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize('late', [10 ** 6, -10 ** 6])
@pytest.mark.parametrize('bare', [False, True])
def test_raw_and_compressed_twins_are_read_once(tmp_path: Path, options: DataOptions, late: int,
                                                storage: StoragePlugin, bare: bool) -> None:
    bag = write_bag(tmp_path / 'bag', twins(range(12), range(12), late), storage)
    frames = load(storage_file(bag) if bare else bag, options)
    assert frames.topics == (RAW,) and len(frames.images) == 12
    assert noted(frames, f'{TWIN} left out, 12 messages (the same pictures as {RAW})')
    assert_accounted(frames)


def test_the_twin_with_more_pictures_is_read_and_the_other_fills_its_holes(
        tmp_path: Path, options: DataOptions) -> None:
    frames = load(write_bag(tmp_path / 'few', twins(range(0, 12, 4), range(12))), options)
    assert frames.topics == (TWIN,) and len(frames.images) == 12
    assert noted(frames, f'{RAW} left out, 3 messages (the same pictures as {TWIN})')
    # Recorded first raw, then compressed.
    frames = load(write_bag(tmp_path / 'then', twins(range(12), range(10, 20))), options)
    assert frames.topics == (RAW,) and len(frames.images) == 20
    assert np.allclose(np.diff(frames.stamp), 10 ** 8)
    assert noted(frames, f'{TWIN} left out, 2 messages (the same pictures as {RAW})')
    assert noted(frames, f'8 frames of {TWIN} where {RAW} has none')
    assert_accounted(frames)


def test_a_twin_that_cannot_be_decoded_does_not_hide_the_other(tmp_path: Path,
                                                               options: DataOptions) -> None:
    frames = load(write_bag(tmp_path / 'bag', twins(range(12), range(12), encoding='rgb9')),
                  options)
    assert frames.topics == (TWIN,) and len(frames.images) == 12
    assert noted(frames, f'{RAW} left out, 12 messages')
    assert_accounted(frames)


def test_a_twin_asked_for_alone_is_read(tmp_path: Path, options: DataOptions) -> None:
    bag = write_bag(tmp_path / 'bag', twins(range(12), range(12)))
    frames = load(bag, replace(options, topics=(TWIN,)))
    assert frames.topics == (TWIN,) and len(frames.images) == 12
    both = load(bag, replace(options, topics=('/cam/*',)))
    assert both.topics == (RAW,) and noted(both, f'the same pictures as {RAW}')


def test_twins_are_found_without_an_index(tmp_path: Path, options: DataOptions) -> None:
    file = storage_file(write_bag(tmp_path / 'bag', twins(range(12), range(12))))
    bare = tmp_path / 'cut.mcap'
    shutil.copy(file, bare)
    bare.write_bytes(bare.read_bytes()[:-100])
    frames = load(bare, options)
    assert frames.topics == (RAW,) and len(frames.images) == 12


@pytest.mark.parametrize('topic', [
    '/imn/debug_image', '/robot1/imn/reconstruction', '/detector/debug_image', '/yolo/dbg_image',
    '/tag_detections_image', '/tracker/overlay', '/seg/annotated/compressed', '/x/visualization'])
def test_outputs_of_nodes_are_no_cameras(topic: str) -> None:
    assert '--topics takes it' in unwanted(topic, ())
    assert not unwanted(topic, (topic,)) and not unwanted(topic, ('/*',))


@pytest.mark.parametrize('topic', ['/camera/image', '/detector/image_raw', '/vis_nir/image_raw',
                                   '/omni/image', '/minimn/image', '/cam/image_rect'])
def test_cameras_are_cameras(topic: str) -> None:
    assert not unwanted(topic, ())


def test_outputs_of_nodes_are_left_out_unless_asked_for(tmp_path: Path, options: DataOptions
                                                        ) -> None:
    messages = drive(2) + drive(2, topic='/imn/debug_image') + drive(
        2, topic='/detector/debug_image')
    bag = write_bag(tmp_path / 'bag', sorted(messages, key=lambda item: item[2]))
    frames = load(bag, options)
    assert frames.topics == ('/camera/image',)
    assert noted(frames, '/imn/debug_image left out, 12 messages (output of imn_world_model')
    assert noted(frames, '/detector/debug_image left out, 12 messages (output of a node by its '
                         'name; --topics takes it)')
    asked = load(bag, replace(options, topics=('/detector/*',)))
    assert asked.topics == ('/detector/debug_image',)
    only = write_bag(tmp_path / 'only', drive(1, topic='/imn/debug_image'))
    with pytest.raises(UserError, match='nothing usable.*--topics takes it'):
        load(only, options)
