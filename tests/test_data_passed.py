"""Nothing is passed over without a word: what lies beside the data, and this package's output."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
from recordings import drive, scene, write_bag
from rosbags.rosbag2 import StoragePlugin

from imn_world_model.base.errors import UserError
from imn_world_model.base.marks import MARK, is_marked
from imn_world_model.data.frames import DataOptions, Frames, load_frames
from imn_world_model.data.inspect import write_sheet
from imn_world_model.data.sources import find_sources
from imn_world_model.learning.run import CONFIG, DATA
from imn_world_model.model.pictures import write_png

ROOT = Path(__file__).parents[1]


@pytest.fixture
def options(tmp_path: Path) -> DataOptions:
    return DataOptions(size=16, cache_dir=tmp_path / 'cache', still=0.0)


def load(path: Path, options: DataOptions) -> Frames:
    return load_frames([path], options, progress=False)


def images(folder: Path, count: int = 9) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        write = cv2.imwrite(str(folder / f'{"abcdefghijk"[k]}.png'), scene(k))
        assert write
    return folder


def notes_of(path: Path) -> list[str]:
    notes: list[str] = []
    find_sources([path], notes)
    return notes


def test_pictures_that_are_not_read_are_named_by_kind(tmp_path: Path,
                                                       options: DataOptions) -> None:
    folder = images(tmp_path / 'photos')
    (folder / 'move.gif').write_bytes(b'GIF89a' + bytes(20))
    shutil.copy(folder / 'a.png', folder / 'picture')
    shutil.copy(folder / 'b.png', folder / 'other.dat')
    frames = load(folder, options)
    assert len(frames.images) == 9
    assert f'1 .gif file passed over, such as {folder}/move.gif: ' in ' '.join(frames.notes)
    assert [note for note in frames.notes if 'PNG by content' in note] == [
        f'2 files that are PNG by content passed over, such as {folder}/other.dat: their names '
        'do not say so; add .png']


def test_each_kind_has_one_line_with_a_count_and_an_example(tmp_path: Path) -> None:
    images(tmp_path / 'x')
    for name in ('a.heic', 'b.heic', 'c.HEIC', 'logs.zip', 'ride.wmv', 'list.txt', 'more.txt',
                 'calib.yaml', 'features.npy', '._a.png', '.DS_Store'):
        (tmp_path / 'x' / name).write_bytes(b'something')
    (tmp_path / 'x' / 'gone.png').symlink_to(tmp_path / 'nowhere.png')
    notes = notes_of(tmp_path)
    assert len(notes) == 7, notes
    first = tmp_path / 'x'
    for line in (f'3 .heic files passed over, such as {first}/a.heic: ',
                 f'1 .zip file passed over, such as {first}/logs.zip: ',
                 f'1 .wmv file passed over, such as {first}/ride.wmv: ',
                 f'1 .npy file passed over, such as {first}/features.npy: ',
                 f'1 hidden file passed over, such as {first}/._a.png',
                 f'1 link to an image that is not there passed over, such as {first}/gone.png',
                 f'3 other files passed over (.txt 2, .yaml 1), such as {first}/calib.yaml: '
                 'of kinds that are not read'):
        assert any(note.startswith(line) for note in notes), (line, notes)


def test_what_is_no_file_is_named_as_well(tmp_path: Path) -> None:
    images(tmp_path / 'x')
    images(tmp_path / 'x' / '.trash')
    (tmp_path / 'x' / 'list').symlink_to(tmp_path / 'nowhere')
    os.mkfifo(tmp_path / 'x' / 'pipe')
    (tmp_path / 'x' / 'ride.svo2').write_bytes(b'something')
    assert notes_of(tmp_path) == [
        f'1 hidden folder passed over, such as {tmp_path}/x/.trash',
        f'1 link to something that is not there passed over, such as {tmp_path}/x/list',
        f'1 socket, pipe or device passed over, such as {tmp_path}/x/pipe',
        f'1 .svo2 file passed over, such as {tmp_path}/x/ride.svo2: recordings of this kind are '
        'not read; convert to MCAP or PNG']


@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_what_belongs_to_a_recording_is_not_passed_over(tmp_path: Path, storage: StoragePlugin
                                                        ) -> None:
    bag = write_bag(tmp_path / 'bag', drive(1), storage)
    for file in list(bag.glob('*.db3')):
        file.with_name(f'{file.name}-shm').write_bytes(b'')
    assert notes_of(tmp_path) == []


def test_own_pictures_are_marked_and_no_data(tmp_path: Path, options: DataOptions) -> None:
    images(tmp_path)
    picture = scene(3)
    write_sheet(tmp_path / 'sheet.png', picture)
    write_png(tmp_path / 'reconstructions.png', picture)
    figure, _ = plt.subplots()
    figure.savefig(tmp_path / 'plot.png', metadata=MARK)
    plt.close(figure)
    for name in ('sheet.png', 'reconstructions.png', 'plot.png'):
        assert is_marked(tmp_path / name) and cv2.imread(str(tmp_path / name)) is not None
    assert not is_marked(tmp_path / 'a.png')
    assert np.array_equal(cv2.imread(str(tmp_path / 'sheet.png'))[..., ::-1], picture)
    frames = load(tmp_path, options)
    assert len(frames.images) == 9
    assert any(note.startswith('3 pictures by imn_world_model itself passed over')
               for note in frames.notes)


def test_run_folders_and_older_contact_sheets_are_no_data(tmp_path: Path) -> None:
    run = images(tmp_path / 'runs' / 'log-seed0' / 'pictures').parent
    for name in (CONFIG, DATA):
        (run / name).write_text('{}')
    images(tmp_path / 'inspect', 1)
    (tmp_path / 'inspect' / 'inspect.json').write_text('{}')
    (tmp_path / 'inspect' / 'a.png').rename(tmp_path / 'inspect' / 'contact_sheet.png')
    notes: list[str] = []
    assert find_sources([tmp_path], notes) == []
    assert any(note.startswith(f'1 run folder of imn_world_model passed over, such as {run}')
               for note in notes)
    assert any(note.startswith('1 picture by imn_world_model itself passed over')
               for note in notes)
    # Named by itself the folder of pictures is what was asked for.
    assert len(find_sources([run / 'pictures'])) == 1


def test_inspecting_the_folder_one_stands_in_twice_finds_the_same(tmp_path: Path) -> None:
    write_bag(tmp_path / 'work' / 'log', drive(3))
    found = []
    for _ in range(2):
        result = subprocess.run(
            [sys.executable, '-m', 'imn_world_model.data', 'inspect', '.'], cwd=tmp_path / 'work',
            capture_output=True, text=True,
            env={'PATH': '', 'PYTHONPATH': str(ROOT), 'IMN_CACHE_DIR': str(tmp_path / 'cache')})
        assert result.returncode == 0, result.stderr
        summary = json.loads((tmp_path / 'work' / 'inspect' / 'inspect.json').read_text())
        found.append([report['source'] for report in summary['sources']])
    assert found == [['log'], ['log']]
    assert 'picture by imn_world_model itself passed over' in result.stderr


def test_a_renamed_folder_has_its_new_name_and_its_old_splits(tmp_path: Path, options: DataOptions
                                                              ) -> None:
    first = images(tmp_path / 'first')
    broken = first / 'broken.png'
    broken.write_bytes(b'broken')
    before = load(first, options)
    second = tmp_path / 'a'                           # a word that a problem may well hold
    shutil.copytree(first, second)
    after = load(second, options)
    assert len(list((tmp_path / 'cache').glob('*/images.bin'))) == 1
    assert after.topics == ('a',) and after.content_hash == before.content_hash
    assert np.array_equal(before.split, after.split)
    assert after.reports[0]['encodings'] == {'a': 'png'}
    assert any(f'{second}/broken.png' in note for note in after.notes)
    assert not any('first' in note.replace('the first', '') for note in after.notes)
    shutil.rmtree(tmp_path / 'cache')
    again = load(second, options)
    assert again.topics == after.topics and np.array_equal(again.split, after.split)
    assert again.notes == after.notes


def test_the_cause_is_named_before_what_was_passed_over(tmp_path: Path, options: DataOptions
                                                        ) -> None:
    (tmp_path / 'x').mkdir()
    (tmp_path / 'x' / 'readme.txt').write_text('x')
    with pytest.raises(UserError, match=r'nothing usable in .*: 1 other file passed over \(.txt'):
        load(tmp_path / 'x', options)
    (tmp_path / 'x' / 'log.mcap').write_bytes(b'junk')
    with pytest.raises(UserError, match='nothing usable in .*: .*log.mcap'):
        load(tmp_path / 'x', options)


def test_pages_beyond_the_first_are_told(tmp_path: Path, options: DataOptions) -> None:
    images(tmp_path, 3)
    pages = [scene(k) for k in range(3)]
    assert cv2.imwritemulti(str(tmp_path / 'pages.tif'), pages)
    assert cv2.imwrite(str(tmp_path / 'page.tif'), pages[0])
    assert cv2.imwrite(str(tmp_path / 'still.webp'), pages[0])
    count = 1
    if hasattr(cv2, 'Animation'):                     # OpenCV 4.11 and later write them
        moving = cv2.Animation()
        moving.frames, moving.durations = pages, [100] * 3
        count += sum(cv2.imwriteanimation(str(tmp_path / name), moving)
                     for name in ('moving.png', 'moving.webp'))
    frames = load(tmp_path, options)
    assert len(frames.images) == 5 + count
    assert any(f'{count} image' in note and 'only the first is read' in note
               for note in frames.notes)
