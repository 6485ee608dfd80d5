"""
Thousands of damaged recordings: no crash, no hang, and every frame used or reported.

``IMN_FUZZ_CASES=3000`` tries as many of each kind of recording; ``IMN_FUZZ_SEED`` tries others.
"""
import os
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from recordings import IMAGE, STORE, STRING, drive, raw, scene, storage_file, write_bag
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import DataOptions, Frames, load_frames

CASES = int(os.environ.get('IMN_FUZZ_CASES', 300))
SEED = int(os.environ.get('IMN_FUZZ_SEED', 0))
MAX_SECONDS = 20.0
NUM_FRAMES, NUM_TEXTS = 11, 3
MCAP, SQLITE = StoragePlugin.MCAP, StoragePlugin.SQLITE3
VARIANTS = {
    'mcap': (MCAP, None), 'mcap, chunks packed': (MCAP, CompressionMode.STORAGE),
    'mcap, messages packed': (MCAP, CompressionMode.MESSAGE),
    'mcap, file packed': (MCAP, CompressionMode.FILE),
    'sqlite3': (SQLITE, None), 'sqlite3, messages packed': (SQLITE, CompressionMode.MESSAGE),
    'sqlite3, file packed': (SQLITE, CompressionMode.FILE),
}


def recording(path: Path, storage: StoragePlugin, compression: CompressionMode | None) -> Path:
    """:return: a recording of two cameras, JPEG and raw, and of text."""
    messages = drive(2, 4)
    messages += [('/rear/image', IMAGE, 10 ** 9 + k, raw(scene(5, k, 12, 16), 'rgb8', 10 ** 9 + k))
                 for k in range(3)]
    messages += [('/chatter', STRING, 10 ** 9 + 10 * k, STORE.types[STRING](data=f'word {k}'))
                 for k in range(NUM_TEXTS)]
    return write_bag(path, sorted(messages, key=lambda item: item[2]), storage, compression)


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """:return: the data with up to four flipped bits, half of them near an end, or cut off."""
    mutated = bytearray(data)
    for _ in range(int(rng.integers(0, 5))):
        end = len(mutated) if rng.random() < 0.5 else min(len(mutated), 800)
        place = int(rng.integers(end))
        mutated[place if rng.random() < 0.5 else -1 - place] ^= 1 << int(rng.integers(8))
    if rng.random() < 0.3:
        mutated = mutated[:int(rng.integers(len(mutated)))]
    return bytes(mutated)


def accounted(frames: Frames) -> int:
    """:return: frames used, and reported with their number."""
    report = frames.reports[0]
    known = sum(report[key] for key in ('used', 'still', 'broken', 'left', 'lost'))
    assert known == report['recorded']
    return known + sum(count for topic, count in report['left_count'].items()
                       if topic not in report['left_out'] and topic != '/chatter')


@pytest.mark.parametrize('variant', VARIANTS)
def test_damaged_recordings_lose_nothing_in_silence(variant: str, tmp_path: Path) -> None:
    bag = recording(tmp_path / 'bag', *VARIANTS[variant])
    pristine = storage_file(bag)
    data = pristine.read_bytes()
    rng = np.random.default_rng(SEED)
    outcomes: Counter[str] = Counter()
    options = DataOptions(size=16, cache_dir=tmp_path / 'cache', still=0.0, scene_change=1e9)
    for number in range(CASES):
        folder = tmp_path / 'case'
        folder.mkdir()
        (folder / pristine.name).write_bytes(mutate(data, rng))
        with_metadata = number % 2 == 0
        if with_metadata:
            shutil.copy(bag / 'metadata.yaml', folder)
        start = time.process_time()
        try:
            frames = load_frames([folder], options, progress=False)
        except UserError as error:
            assert str(error).startswith('nothing usable') and '\n' not in str(error)
            assert 'no image topic' not in str(error), (number, str(error))
            outcomes['nothing usable'] += 1
            shutil.rmtree(folder)
            shutil.rmtree(tmp_path / 'cache', ignore_errors=True)
            continue
        finally:
            assert time.process_time() - start < MAX_SECONDS, number
        assert all('\n' not in note for note in frames.notes)
        context = number, frames.notes
        assert frames.reports[0]['used'] <= NUM_FRAMES, context
        unknown = any('not known' in note for note in frames.notes)
        if with_metadata:                            # which tells how many there were
            assert accounted(frames) == NUM_FRAMES, context
        elif not unknown:
            # Of rows whose topic is lost it is not known whether they were images.
            texts = NUM_TEXTS if any('some topic' in note for note in frames.notes) else 0
            assert NUM_FRAMES <= accounted(frames) <= NUM_FRAMES + texts, context
        outcomes['told' if frames.notes else 'whole'] += 1
        if not frames.notes:
            assert frames.reports[0]['used'] == NUM_FRAMES, context
        shutil.rmtree(folder)
        shutil.rmtree(tmp_path / 'cache')
    print(f'{variant}: {dict(outcomes)}')
    assert outcomes['whole'] > CASES // 20, outcomes
    assert outcomes['told'] + outcomes['nothing usable'] > CASES // 20, outcomes
