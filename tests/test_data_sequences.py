"""Folders of numbered or time-stamped pictures are sequences."""
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from recordings import scene

from imn_world_model.base.errors import UserError
from imn_world_model.data.__main__ import main
from imn_world_model.data.frames import DataOptions, Frames, load_frames
from imn_world_model.data.sequences import arrange, place
from imn_world_model.learning.presets import preset
from imn_world_model.learning.run import _data_options, kept_options

SECOND = 10 ** 9
EPOCH = 1_305_031_102 * SECOND


@pytest.fixture
def options(tmp_path: Path) -> DataOptions:
    return DataOptions(size=16, cache_dir=tmp_path / 'cache', still=0.0)


def load(path: Path, options: DataOptions) -> Frames:
    return load_frames([path], options, progress=False)


def write(folder: Path, names: list[str], number: int = 0) -> Path:
    """:return: the folder, with a picture per name, each a step further on."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(names):
        picture = cv2.cvtColor(scene(number, k % 12), cv2.COLOR_RGB2BGR)
        assert cv2.imwrite(str(folder / name), picture)
    return folder


@pytest.mark.parametrize(('name', 'pattern', 'clock', 'value'), [
    ('frame_000123.png', 'frame_#.png', 'number', 123),
    ('0000000001.png', '#.png', 'number', 1),
    ('cam1_7.JPG', 'cam1_#.jpg', 'number', 7),
    ('1305031102.175304.png', '#.png', 'epoch', EPOCH + 175_304_000),
    ('left-1305031102.5.png', 'left-#.png', 'epoch', EPOCH + SECOND // 2),
    ('1305031102_000000007.png', '#.png', 'epoch', EPOCH + 7),
    ('1403636579763555584.png', '#.png', 'epoch', 1_403_636_579_763_555_584),
    ('img_1305031102175.jpg', 'img_#.jpg', 'epoch', EPOCH + 175_000_000),
    ('1305031102175304.png', '#.png', 'epoch', EPOCH + 175_304_000),
    ('1305031102.png', '#.png', 'epoch', EPOCH),
    ('12.25.png', '#.png', 'time', 12_250_000_000),
    ('IMG_20110510_123822.jpg', 'IMG_#.jpg', 'epoch', EPOCH),
    ('2011-05-10-12-38-22.175304.png', '#.png', 'epoch', EPOCH + 175_304_000),
    ('cam_20110510123822175.png', 'cam_#.png', 'epoch', EPOCH + 175_000_000),
    ('frame_0012_cam3.png', 'frame_#_cam3.png', 'number', 12),
    ('camera_3.png', 'camera_#.png', 'number', 3),
    ('20119910_123822.png', '20119910_#.png', 'number', 123822),
])
def test_names_tell_number_or_time(name: str, pattern: str, clock: str, value: int) -> None:
    found = place(name)
    assert found and (found.pattern, found.clock, found.value) == (pattern, clock, value)


@pytest.mark.parametrize(('names', 'pattern', 'clock'), [
    ([f'frame_{k:04d}_640x480.png' for k in range(9)], 'frame_#_#x#.png', 'number'),
    ([f'{k:04d}_130503110{k}.5.png' for k in range(9)], '#_#.png', 'epoch'),
    ([f'depth4_{k}_v2.png' for k in range(9)], 'depth#_#_v#.png', 'number'),
])
def test_a_second_number_in_a_name_does_not_hide_the_first(names: list[str], pattern: str,
                                                           clock: str) -> None:
    pictures = arrange([Path(name) for name in reversed(names)], 'auto')
    assert [picture.file.name for picture in pictures] == names
    assert {(picture.sequence, picture.clock) for picture in pictures} == {(pattern, clock)}


def test_where_two_numbers_vary_neither_counts() -> None:
    names = [f'{k}_of_a_{k * k + 7}.png' for k in range(9)]
    assert not any(picture.sequence for picture in arrange(map(Path, names), 'auto'))
    huge = [f'{10 ** 30 + k}_1.png' for k in range(9)]
    assert not any(picture.sequence for picture in arrange(map(Path, huge), 'auto'))


def test_names_without_a_number_tell_nothing() -> None:
    assert place('cup.png') is None


def test_only_dense_numbers_are_a_sequence() -> None:
    def sequence(*numbers: int) -> bool:
        return bool(arrange([Path(f'{number:06d}.png') for number in numbers], 'auto')[0].sequence)

    assert sequence(1, 2) and sequence(0, 5, 10, 15) and sequence(1, 2, 4, 7, 8, 50, 51, 52)
    assert not sequence(1271, 12406, 16537, 46588, 59295, 63487, 162230, 379479)
    assert not sequence(7)


@pytest.mark.parametrize(('names', 'stamps'), [
    ([f'frame_{k}.png' for k in range(8, 20)], [0] * 12),
    ([f'{k:010d}.png' for k in range(12)], [0] * 12),
    ([f'1305031102.{k:02d}.png' for k in range(12)], [EPOCH + k * SECOND // 100
                                                      for k in range(12)]),
    ([f'{EPOCH + k * 7}.png' for k in range(12)], [EPOCH + k * 7 for k in range(12)]),
    ([f'{EPOCH // 10 ** 6 + k}.png' for k in range(12)], [EPOCH + k * 10 ** 6
                                                          for k in range(12)]),
])
def test_a_folder_of_numbers_or_times_is_one_clip(tmp_path: Path, options: DataOptions,
                                                  names: list[str], stamps: list[int]) -> None:
    frames = load(write(tmp_path / 'take', names), options)
    assert len(np.unique(frames.clip)) == 1 and frames.stamp.tolist() == stamps
    assert frames.topics == ('take',)
    for k in range(12):                               # in order of time, not of the alphabet
        expected = cv2.resize(scene(0, k)[:, 8:56], (16, 16), interpolation=cv2.INTER_AREA)
        assert np.abs(frames.images[k].astype(int) - expected).mean() < 2
    assert any('1 folder of numbered or time-stamped images' in note and '--sequences none' in note
               for note in frames.notes)


def test_gaps_in_time_and_scenes_cut_a_sequence(tmp_path: Path, options: DataOptions) -> None:
    times = [0.0, 0.1, 0.2, 5.0, 5.1, 5.2]
    write(tmp_path / 'take', [f'{1305031102 + time:.6f}.png' for time in times])
    assert load(tmp_path, options).clip.tolist() == [0, 0, 0, 1, 1, 1]
    write(tmp_path / 'other', [f'{k}.png' for k in range(3)], 1)
    write(tmp_path / 'other', [f'{k}.png' for k in range(3, 6)], 5)
    frames = load(tmp_path / 'other', replace(options, scene_change=10.0))
    assert frames.clip.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_folder_of_folders_is_a_clip_each_and_the_option_says_otherwise(
        tmp_path: Path, options: DataOptions) -> None:
    for k in range(12):
        write(tmp_path / 'takes' / f'take{k}', [f'{n:03d}.png' for n in range(5)], k)
    frames = load(tmp_path / 'takes', options)
    assert np.bincount(frames.clip).tolist() == [5] * 12 and set(frames.split) == {0, 1, 2}
    single = load(tmp_path / 'takes', replace(options, sequences='none'))
    assert len(np.unique(single.clip)) == 60
    assert not any('--sequences' in note for note in single.notes)
    write(tmp_path / 'mixed', ['b.png', 'a.png', 'c.png'])
    assert len(np.unique(load(tmp_path / 'mixed', options).clip)) == 3
    whole = load(tmp_path / 'mixed', replace(options, sequences='folder'))
    assert len(np.unique(whole.clip)) == 1
    with pytest.raises(UserError, match="sequences is 'sometimes'; known: auto, folder, none"):
        load(tmp_path / 'mixed', replace(options, sequences='sometimes'))


def test_several_sequences_and_single_pictures_in_one_folder(tmp_path: Path,
                                                             options: DataOptions) -> None:
    write(tmp_path / 'x', [f'cup_{k}.png' for k in range(4)] + ['box.png', 'jar.png'])
    write(tmp_path / 'x', [f'box-{k}.png' for k in range(3)])
    frames = load(tmp_path / 'x', options)
    assert frames.topics == ('x', 'x/box-#.png', 'x/cup_#.png')
    assert sorted(np.bincount(frames.clip).tolist()) == [1, 1, 3, 4]


@pytest.mark.parametrize(('cameras', 'names'), [
    (('mav0/cam0/data', 'mav0/cam1/data'), [f'{EPOCH + k * SECOND // 20}.png' for k in range(60)]),
    (('image_02/data', 'image_03/data'), [f'{k:010d}.png' for k in range(60)]),
    (('left', 'right'), [f'frame{k:04d}.png' for k in range(60)]),
    (('cam1/rgb', 'cam2/rgb'), [f'{k:04d}_64x48.png' for k in range(60)]),
])
def test_cameras_in_folders_share_their_splits(tmp_path: Path, options: DataOptions,
                                               cameras: tuple[str, ...], names: list[str]) -> None:
    for number, camera in enumerate(cameras):
        write(tmp_path / camera, names[number:], number)
    frames = load(tmp_path, replace(options, max_clip=9, scene_change=1e9))
    assert set(frames.split) == {0, 1, 2}
    first, second = (frames.split[frames.source == k] for k in range(2))
    assert np.array_equal(first[1:], second)


def test_a_run_keeps_what_sequences_are(options: DataOptions) -> None:
    config = preset('debug')
    kept = kept_options(replace(options, sequences='folder'))
    assert _data_options(kept, config).sequences == 'folder'
    del kept['sequences']                             # of a run before there were any
    assert _data_options(kept, config).sequences == 'none'


def test_inspect_takes_the_option_and_shows_the_sequence(tmp_path: Path,
                                                         capsys: pytest.CaptureFixture[str],
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('IMN_CACHE_DIR', str(tmp_path / 'cache'))
    folder = str(write(tmp_path / 'take', [f'{1305031102 + k / 10:.6f}.png' for k in range(12)]))
    out = ['--out', str(tmp_path / 'out')]
    main(['inspect', folder, *out])
    shown = capsys.readouterr().out
    assert '10.0  0     0          1      12-12' in shown and 'train 12 frames of 1 clips' in shown
    main(['inspect', folder, *out, '--sequences', 'none'])
    assert '12     1-1' in capsys.readouterr().out
