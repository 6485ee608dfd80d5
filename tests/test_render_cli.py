"""``python -m imn_world_model.render``: what the file holds."""
from pathlib import Path

import h5py
import numpy as np
import pytest

from imn_world_model import render
from imn_world_model.base.errors import UserError
from imn_world_model.rendering import files
from imn_world_model.rendering.shapes3d import FACTOR_VALUES, NUM_IMAGES, Shapes3D


def factors_of_labels(labels: np.ndarray) -> np.ndarray:
    columns = [np.abs(values - labels[:, k, None]).argmin(1)
               for k, values in enumerate(FACTOR_VALUES)]
    return np.stack(columns, axis=-1)


def read(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: dataset[:] for name, dataset in file.items()}


def test_render_writes_the_published_format(tmp_path: Path) -> None:
    render.main(['--out', str(tmp_path / 'a.h5'), '--count', '37', '--seed', '5'])
    held = read(tmp_path / 'a.h5')
    assert set(held) == {'images', 'labels'}
    assert held['images'].shape == (37, 64, 64, 3) and held['images'].dtype == np.uint8
    assert held['labels'].shape == (37, 6) and held['labels'].dtype == np.float64
    factors = factors_of_labels(held['labels'])
    assert len(np.unique(factors, axis=0)) == 37
    assert (held['images'] == Shapes3D().images(factors)).all()
    assert list(tmp_path.iterdir()) == [tmp_path / 'a.h5']


def test_render_is_decided_by_its_seed(tmp_path: Path) -> None:
    for name, seed in (('a', '1'), ('b', '1'), ('c', '2')):
        render.main(['--out', str(tmp_path / name), '--count', '4', '--seed', seed])
    a, b, c = (read(tmp_path / name) for name in 'abc')
    assert (a['images'] == b['images']).all() and (a['labels'] == b['labels']).all()
    assert (a['labels'] != c['labels']).any()


def test_scene_clips_vary_only_the_orientation(tmp_path: Path) -> None:
    render.main(['--out', str(tmp_path / 'a.h5'), '--count', '20', '--clips', 'scene',
                 '--views', '5', '--size', '16'])
    held = read(tmp_path / 'a.h5')
    assert held['images'].shape == (20, 16, 16, 3)
    assert held['clip'].dtype == np.int64
    assert held['clip'].tolist() == np.repeat(range(4), 5).tolist()
    scenes = held['labels'].reshape(4, 5, 6)
    assert (scenes[:, :, :5] == scenes[:, :1, :5]).all()
    steps = np.diff(scenes[:, :, 5], axis=1)
    assert ((steps > 0).all(1) | (steps < 0).all(1)).all()       # the camera goes one way round
    assert len(np.unique(scenes[:, 0, :5], axis=0)) == 4


def test_object_clips_share_only_the_shape(tmp_path: Path) -> None:
    render.main(['--out', str(tmp_path / 'a.h5'), '--count', '96', '--clips', 'object',
                 '--views', '8', '--size', '8'])
    held = read(tmp_path / 'a.h5')
    clips = factors_of_labels(held['labels']).reshape(12, 8, 6)
    assert (clips[:, :, 4] == clips[:, :1, 4]).all()
    assert len(np.unique(clips[:, 0, 4])) == 4
    for factor in (0, 1, 2, 3, 5):
        assert all(len(np.unique(values)) > 2 for values in clips[:, :, factor])


def test_full_grid_is_in_published_order() -> None:
    factors, clip = render.choose(render.parse(['--out', 'full.h5', '--clips', 'scene']))
    assert len(factors) == NUM_IMAGES
    assert factors[271271].tolist() == [5, 6, 5, 1, 0, 11]
    assert clip[14] == 0 and clip[15] == 1 and clip[-1] == 31999
    assert render.choose(render.parse(['--out', 'full.h5']))[1] is None


def test_draw_repeats_nothing_before_all_were_drawn() -> None:
    drawn = files.draw(10, 25, np.random.default_rng(0))
    assert len(drawn) == 25
    assert sorted(drawn[:10]) == sorted(drawn[10:20]) == list(range(10))
    assert len(set(drawn[20:])) == 5


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--count', '0'], '--count must be at least 1, got 0'),
    (['--count', '5', '--seed', '-1'], '--seed must not be negative, got -1'),
    (['--count', '5', '--size', '4'], 'got 4'),
    (['--count', '10', '--clips', 'scene', '--views', '4'], 'use 8 or 12'),
    (['--count', '32', '--clips', 'scene', '--views', '16'], '15 orientations'),
    (['--count', '8', '--views', '4'], 'needs --clips'),
    (['--count', '8', '--clips', 'object', '--views', '0'], 'at least 1, got 0'),
    (['--clips', 'object'], 'needs --count'),
])
def test_bad_numbers_are_explained(arguments: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        render.main(['--out', str(tmp_path / 'a.h5'), *arguments])
    assert not list(tmp_path.iterdir())


def test_folder_as_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='is a folder'):
        render.main(['--out', str(tmp_path), '--count', '1'])
