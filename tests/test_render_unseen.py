"""Pictures of what no model of 3Dshapes has seen."""
import numpy as np
import pytest

from imn_world_model.rendering.raycast import SHAPES
from imn_world_model.rendering.shapes3d import FACTOR_SIZES, Shapes3D
from imn_world_model.rendering.unseen import KINDS, pictures


@pytest.mark.parametrize('kind', KINDS)
def test_pictures_are_a_function_of_kind_and_seed(kind: str) -> None:
    first, again, other = (pictures(kind, 6, 16, seed) for seed in (0, 0, 1))
    assert first.shape == (6, 16, 16, 3) and first.dtype == np.uint8
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert len(np.unique(first.reshape(6, -1), axis=0)) == 6


def test_pictures_of_a_known_shape_are_those_of_3dshapes() -> None:
    picture = pictures('cylinder', 1, 32, seed=3)[0].astype(int)
    grid = np.array(np.meshgrid(*map(range, (10, 10, 10)), indexing='ij')).reshape(3, -1).T
    world, shape = Shapes3D(32), SHAPES.index('cylinder')
    # The seed's geometry is not told; one of the 120 must give the very picture.
    nearest = []
    for scale in range(FACTOR_SIZES[3]):
        for orientation in range(FACTOR_SIZES[5]):
            factors = np.column_stack((grid, np.tile((scale, shape, orientation), (1000, 1))))
            difference = np.abs(world.images(factors).astype(int) - picture).mean((1, 2, 3))
            nearest.append(difference.min())
    assert min(nearest) < 0.1


def test_unseen_solids_stand_where_the_known_ones_do() -> None:
    for kind in ('cone', 'torus'):
        middle = pictures(kind, 20, 32)[:, 14:26, 10:22].astype(int)
        rim = pictures(kind, 20, 32)[:, 30:, :2].astype(int).mean((1, 2))
        # The object has a colour of its own in nearly all pictures.
        differs = np.abs(middle - rim[:, None, None]).sum(-1).max((1, 2)) > 60
        assert differs.mean() > 0.8
