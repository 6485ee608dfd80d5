"""Folders of KITTI, TUM and EuRoC: times by lists beside pictures, and no depth among them."""
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from test_data_sequences import load, write

from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import DataOptions
from imn_world_model.data.sources import find_sources

SECOND = 10 ** 9
KITTI = 1_317_042_145 * SECOND                        # 2011-09-26 13:02:25
TIMES = [k * SECOND // 10 + k % 3 * 1001 for k in range(12)]


@pytest.fixture
def options(tmp_path: Path) -> DataOptions:
    return DataOptions(size=16, cache_dir=tmp_path / 'cache', still=0.0)


def kitti_line(time: int) -> str:
    return f'2011-09-26 13:02:{25 + time // SECOND}.{time % SECOND:09d}'


def test_kitti_has_its_times_in_a_list_beside_the_folder(tmp_path: Path, options: DataOptions
                                                         ) -> None:
    for number in (2, 3):
        camera = tmp_path / 'drive' / f'image_0{number}'
        write(camera / 'data', [f'{k:010d}.png' for k in range(12)], number)
        (camera / 'timestamps.txt').write_text(
            '\n'.join(kitti_line(time + number) for time in TIMES) + '\n')
    frames = load(tmp_path, options)
    for source, number in enumerate((2, 3)):
        assert (frames.stamp[frames.source == source] - KITTI - number).tolist() == TIMES
    assert frames.reports[0]['sequences'] == {'data': ['#.png', 'epoch']}
    assert not any('timestamps' in note or 'other file' in note for note in frames.notes)


def test_a_list_may_count_seconds_from_the_start(tmp_path: Path, options: DataOptions) -> None:
    write(tmp_path / '00' / 'image_0', [f'{k:06d}.png' for k in range(12)])
    (tmp_path / '00' / 'times.txt').write_text('\n'.join(f'{time / 1e9:e}' for time in TIMES))
    frames = load(tmp_path, options)
    assert np.abs(frames.stamp - TIMES).max() < 1000 and frames.stamp[0] == 1
    assert frames.reports[0]['sequences'] == {'image_0': ['#.png', 'time']}


@pytest.mark.parametrize(('list_name', 'line'), [
    ('rgb.txt', '{seconds} rgb/{name}'), ('rgb.csv', '{ns},{name}'),
    ('data.csv', '{number}, {seconds}, {name}'), ('times.txt', '{own:05d} {seconds} 0.5'),
    ('timestamps.csv', '{own},{ns}')])
@pytest.mark.parametrize('inside', [True, False])
def test_a_list_may_name_the_pictures(tmp_path: Path, options: DataOptions, list_name: str,
                                      line: str, inside: bool) -> None:
    folder = write(tmp_path / 'rgb', [f'{k}.png' for k in range(0, 24, 2)])
    lines = ['# a comment', 'time picture']
    for k, time in reversed(list(enumerate(TIMES))):
        ns = KITTI + time
        lines.append(line.format(seconds=f'{ns // SECOND}.{ns % SECOND:09d}', ns=ns, number=k,
                                 own=2 * k, name=f'{2 * k}.png'))
    ((folder if inside else tmp_path) / list_name).write_text('\r\n'.join(lines))
    assert (load(tmp_path, options).stamp - KITTI).tolist() == TIMES


def test_missing_pictures_do_not_shift_the_times_of_others(tmp_path: Path, options: DataOptions
                                                           ) -> None:
    for first in (0, 1):                              # numbers begin with either
        folder = write(tmp_path / f'take{first}', [f'{k + first}.png' for k in range(12)
                                                   if k not in (3, 4)])
        (folder / 'times.txt').write_text('\n'.join(f'{time / SECOND:.9f}' for time in TIMES))
        kept = [max(1, time) for k, time in enumerate(TIMES) if k not in (3, 4)]
        assert load(folder, options).stamp.tolist() == kept


def test_a_list_of_times_changes_what_is_cached(tmp_path: Path, options: DataOptions) -> None:
    folder = write(tmp_path / 'take', [f'{k}.png' for k in range(12)])
    assert not load(folder, options).stamp.any()
    (folder / 'times.txt').write_text('\n'.join(f'{time / SECOND:.9f}' for time in TIMES))
    assert load(folder, options).stamp.any()


@pytest.mark.parametrize('text', [
    '0.1\n0.2\n', 'a\nb\n', '\n'.join(str(12 - k) for k in range(12)),
    '\n'.join(f'{k},{k}.png,{k // 4}' for k in range(12)),
    '\n'.join(f'{k},{k // 4}' for k in range(12)), '\n'.join(str(k * 33) for k in range(12)),
    '\n'.join(f'x/{k}.png' for k in range(12)), '', '\n'.join(f'{k} 0.5 7' for k in range(12))])
def test_a_list_that_does_not_fit_is_named(tmp_path: Path, options: DataOptions, text: str
                                           ) -> None:
    folder = write(tmp_path / 'take', [f'{k}.png' for k in range(12)])
    (folder / 'times.txt').write_text(text)
    frames = load(folder, options)
    assert not frames.stamp.any() and len(np.unique(frames.clip)) == 1
    assert f'{folder}/times.txt is not used: it has no time for each image' in frames.notes


def test_lists_without_pictures_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path / 'take', [f'{k}.png' for k in range(3)])
    (tmp_path / 'oxts').mkdir()
    (tmp_path / 'oxts' / 'timestamps.txt').write_text('x')
    notes: list[str] = []
    find_sources([tmp_path], notes)
    assert [note for note in notes if 'other file' in note] == [
        f'1 other file passed over (.txt 1), such as {tmp_path}/oxts/timestamps.txt: of kinds '
        'that are not read']


def test_depth_and_masks_beside_pictures_are_left_out_and_named(tmp_path: Path,
                                                                options: DataOptions) -> None:
    names = [f'{1305031102 + k / 10:.6f}.png' for k in range(6)]
    write(tmp_path / 'rgb', names)
    for folder in ('depth', 'masks', 'segmentation'):
        (tmp_path / folder).mkdir()
    palette = Image.fromarray(np.zeros((48, 64), np.uint8), 'P')
    palette.putpalette([0, 0, 0, 255, 0, 0])
    for k, name in enumerate(names):
        assert cv2.imwrite(str(tmp_path / 'depth' / name), np.full((48, 64), 5000 + k, np.uint16))
        assert cv2.imwrite(str(tmp_path / 'masks' / name), np.full((48, 64), k, np.uint8))
        palette.save(tmp_path / 'segmentation' / name)
    (tmp_path / 'rgb.txt').write_text('\n'.join(f'{name[:-4]} rgb/{name}' for name in names))
    (tmp_path / 'depth.txt').write_text('\n'.join(f'{name[:-4]} depth/{name}' for name in names))
    frames = load(tmp_path, options)
    assert frames.topics == ('rgb',) and len(frames.images) == 6
    assert [report['recorded'] - report['left'] for report in frames.reports] == [0, 0, 6, 0]
    for folder, what in (('depth', '16-bit grey, depth'), ('masks', 'depth or mask'),
                         ('segmentation', 'depth or mask')):
        assert (f'{tmp_path}/{folder}: {folder} left out, 6 images ({what} by the name of its '
                'folder; --topics takes it)') in frames.notes
    assert len(load(tmp_path, DataOptions(16, cache_dir=options.cache_dir, still=0.0,
                                          topics=('masks',))).images) > 0
    with pytest.raises(UserError, match='depth left out, 6 images'):
        load(tmp_path / 'depth', options)


def test_pictures_in_colour_are_no_masks_whatever_their_folder(tmp_path: Path, options: DataOptions
                                                           ) -> None:
    write(tmp_path / 'mask', [f'{k}.png' for k in range(6)])       # of a carnival
    assert len(load(tmp_path, options).images) == 6
