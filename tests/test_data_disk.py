"""What disks do: damaged caches, missing locks, strange names, files that others hold."""
import errno
import fcntl
import json
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from recordings import drive, scene, storage_file, write_bag
from rosbags.rosbag2 import StoragePlugin
from test_data_frames import write_video

from imn_world_model.base.errors import UserError
from imn_world_model.data import sqlite_storage
from imn_world_model.data.cache import CacheError, default_cache_dir
from imn_world_model.data.clips import unit_hash
from imn_world_model.data.frames import DataOptions, Frames, load_frames
from imn_world_model.data.inspect import contact_sheet
from imn_world_model.data.raw import Source, SourceReport
from imn_world_model.data.sources import find_sources, read_frames
from imn_world_model.robot.answers import write_answers
from imn_world_model.robot.inference import ImnModel

MODEL = Path(__file__).parents[1] / 'export' / 'demo.onnx'


@pytest.fixture
def options(tmp_path: Path) -> DataOptions:
    return DataOptions(size=16, cache_dir=tmp_path / 'cache', still=0.0, scene_change=1e9)


def load(path: Path, options: DataOptions) -> Frames:
    return load_frames([path], options, progress=False)


def pictures(folder: Path, count: int = 4, side: int = 48) -> Path:
    folder.mkdir(parents=True)
    for k in range(count):
        cv2.imwrite(str(folder / f'{k}.png'), scene(k, height=side, width=side))
    return folder


@pytest.mark.parametrize('harm', ['torn', 'zeros', 'text', 'short'])
def test_a_damaged_cache_entry_is_made_anew(tmp_path: Path, options: DataOptions, harm: str
                                            ) -> None:
    folder = pictures(tmp_path / 'log')
    whole = load(folder, options)
    (columns,) = (tmp_path / 'cache').glob('*/frames.npz')
    data = columns.read_bytes()
    if harm == 'short':
        np.savez(columns, **{name: value[:-1] for name, value in np.load(columns).items()})
    else:
        columns.write_bytes({'torn': data[:-40], 'zeros': bytes(len(data)), 'text': b'x'}[harm])
    again = load(folder, options)
    assert len(again.images) == len(whole.images) == 4
    assert (again.images[:] == whole.images[:]).all()


def test_what_failed_is_tried_again(tmp_path: Path, options: DataOptions) -> None:
    video = tmp_path / 'cam.mp4'
    video.write_bytes(b'no video yet')
    with pytest.raises(UserError, match='cannot be opened as a video'):
        load(video, options)
    (info,) = (tmp_path / 'cache').glob('*/info.json')
    assert json.loads(info.read_text())['used'] == 0
    info.write_text(info.read_text().replace('cannot be opened', 'was broken'))
    with pytest.raises(UserError, match='cannot be opened as a video'):
        load(video, options)                           # looked at again, not remembered


@pytest.mark.parametrize('code', [errno.ENOLCK, errno.EIO, errno.ESTALE])
def test_a_disk_without_locks_is_named_and_not_the_recording(
        tmp_path: Path, options: DataOptions, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    folder = pictures(tmp_path / 'log')

    def flock(descriptor: int, operation: int) -> None:
        if operation & fcntl.LOCK_EX:
            raise OSError(code, os.strerror(code))
    monkeypatch.setattr('fcntl.flock', flock)
    with pytest.raises(CacheError, match='cache cannot be locked .*set IMN_CACHE_DIR'):
        load(folder, options)


def test_the_cache_has_a_place_where_there_is_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('HOME', '/home/somebody')
    for cache, shared, place in (('~/mine', '', '/home/somebody/mine'),
                                 ('', '', '/home/somebody/.cache/imn_world_model'),
                                 ('', 'relative', '/home/somebody/.cache/imn_world_model'),
                                 ('', '/shared', '/shared/imn_world_model'),
                                 ('', '~/x', '/home/somebody/x/imn_world_model')):
        monkeypatch.setenv('IMN_CACHE_DIR', cache)
        monkeypatch.setenv('XDG_CACHE_HOME', shared)
        assert default_cache_dir() == Path(place)

    def nowhere(path: Path) -> Path:
        raise RuntimeError('Could not determine home directory.')
    monkeypatch.setattr(Path, 'expanduser', nowhere)
    with pytest.raises(CacheError, match='set IMN_CACHE_DIR'):
        default_cache_dir()


def test_names_that_are_no_utf8(tmp_path: Path, options: DataOptions) -> None:
    folder = pictures(tmp_path / 'a')
    os.rename(folder / '3.png', os.path.join(os.fsencode(folder), b'gr\xf6\xdfe.png'))
    assert len(load(folder, options).images) == 4
    odd = tmp_path / os.fsdecode(b'gr\xf6\xdfe')
    assert 0 <= unit_hash(str(odd)) < 1
    folder.rename(odd)
    assert len(load(odd, replace(options, sequences='none')).images) == 4
    bag = write_bag(tmp_path / 'bag', drive(clips=1))
    named = tmp_path / os.fsdecode(b'fahrt_\xfc')
    shutil.copytree(bag, named)
    frames = load(named, options)
    assert len(frames.images) == 6
    assert contact_sheet(frames).std() > 1


def test_a_video_named_after_the_time_is_read_from_where_one_stands(
        tmp_path: Path, options: DataOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / 'ok.mp4')
    (tmp_path / 'ok.mp4').rename(tmp_path / '2024-01-01T12:30:00.mp4')
    monkeypatch.chdir(tmp_path)
    assert len(load(Path('2024-01-01T12:30:00.mp4'), options).images) > 5
    # As infer reads it, without the cache.
    here = Source('video', Path('2024-01-01T12:30:00.mp4'))
    assert len(list(read_frames(here, (), None, SourceReport()))) > 5


def test_a_file_that_another_program_writes_is_said_to_be_locked(tmp_path: Path,
                                                                 options: DataOptions) -> None:
    path = tmp_path / 's.h5'
    with h5py.File(path, 'w') as file:
        file['images'] = np.zeros((4, 64, 64, 3), np.uint8)
        file['labels'] = np.zeros((4, 6))
    with path.open('rb') as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UserError, match='is locked: another program writes to it'):
            load(path, options)
    assert len(load(path, options).images) == 4


def test_infer_goes_on_after_what_cannot_be_read(tmp_path: Path) -> None:
    logs = tmp_path / 'logs'
    pictures(logs / 'imgs', side=640)
    (logs / 'broken.h5').write_bytes(b'no hdf5')
    with (tmp_path / 'answers').open('w') as stream:
        count, problems = write_answers(ImnModel(MODEL, ['cpu']), find_sources([logs]), (), 4,
                                        stream)
    assert count == 4
    assert any('broken.h5 is not in the 3Dshapes format' in problem for problem in problems)


def test_rows_of_a_killed_recorder_are_read_where_nothing_can_be_written(
        tmp_path: Path, options: DataOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = write_bag(tmp_path / 'bag', drive(clips=1), StoragePlugin.SQLITE3)
    live, log = tmp_path / 'live.db3', tmp_path / 'log'
    shutil.copy(storage_file(bag), live)
    log.mkdir()
    with closing(sqlite3.connect(live)) as database:
        database.execute('PRAGMA journal_mode=WAL')
        database.execute('PRAGMA wal_autocheckpoint=0')
        rows = database.execute('SELECT id, topic_id, timestamp, data FROM messages').fetchall()
        database.execute('DELETE FROM messages')
        database.commit()
        database.execute('PRAGMA wal_checkpoint(TRUNCATE)')
        database.executemany('INSERT INTO messages VALUES (?, ?, ?, ?)', rows)
        database.commit()
        for ending in ('', '-wal'):
            shutil.copy(f'{live}{ending}', log / f'r.db3{ending}')   # as after a crash
    # Whoever runs the tests may write everywhere, perhaps.
    monkeypatch.setattr(sqlite_storage.os, 'access', lambda path, mode: False)
    opened: list[Path] = []
    connect = sqlite_storage._connect

    def told(file: Path) -> sqlite3.Connection:
        opened.append(file)
        return connect(file)
    monkeypatch.setattr(sqlite_storage, '_connect', told)
    assert len(load(log, options).images) == 6
    assert opened and all(log not in file.parents for file in opened)
