"""Independent subspaces: a hue's two coordinates are found together, whatever else is mixed in."""
import numpy as np
import pytest

from imn_world_model.judging.metrics import factor_matrix
from imn_world_model.learning.subspaces import (
    IndependentSubspaces,
    dependent_groups,
    independent_components,
)
from imn_world_model.rendering.shapes3d import FACTOR_SIZES, FACTORS, Shapes3D


@pytest.mark.parametrize('seed', [0, 1])
def test_each_hue_of_rendered_shapes_is_one_subspace(seed: int) -> None:
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(size, size=3000) for size in FACTOR_SIZES], axis=1)
    images = Shapes3D(32).images(factors)
    subspaces = IndependentSubspaces(images[:2000], num_modules=5, num_latents=2, seed=seed)
    values = subspaces.coordinates(images[2000:])
    assert values.shape == (1000, 5, 2) and values.dtype == np.float32
    assert np.isnan(values[:, 3:]).all()             # all but hues is left to training
    coordinates = values[:, :3].reshape(1000, 6)
    np.testing.assert_allclose(coordinates.std(0), 1.0, atol=0.1)
    share = factor_matrix(coordinates, {name: factors[2000:, k] for k, name in enumerate(FACTORS)})
    found = [FACTORS[k] for k in share.argmax(1)]
    assert found[::2] == found[1::2]
    assert set(found) == {'floor_hue', 'wall_hue', 'object_hue'}
    assert share.max(1).min() > 0.85


def mixed_circles(count: int) -> tuple[np.ndarray, np.ndarray]:
    """:return: two circles (count, 4), and a turn of the two in each other (4, 4)."""
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 2 * np.pi, (count, 2))
    circles = np.concatenate((np.cos(angles), np.sin(angles)), axis=1) * np.sqrt(2)
    return circles, np.linalg.qr(rng.normal(size=(4, 4)))[0]


def test_independent_components_undo_a_mixture_of_circles() -> None:
    circles, turn = mixed_circles(4000)
    scale = np.array([3.0, 2.9, 3.0, 2.9])
    mixed = (circles * scale) @ turn
    weight, size = independent_components(mixed - mixed.mean(0), 0.05, seed=0)
    components = (mixed - mixed.mean(0)) @ weight
    np.testing.assert_allclose(components.std(0), 1.0, atol=0.02)
    np.testing.assert_allclose(size.sum(), (scale ** 2).sum(), rtol=0.05)
    groups = dependent_groups(components, largest=2, seed=0)
    assert len(groups) == 2
    for group in groups:                             # of one circle: the radius stays the same
        radius = np.linalg.norm(components[:, group], axis=1)
        assert radius.std() / radius.mean() < 0.1


def test_components_that_are_independent_stay_alone() -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, (2000, 4))
    assert dependent_groups(noise, largest=2, seed=0) == []


@pytest.mark.parametrize('images', [
    np.full((200, 16, 16, 3), 7, np.uint8),
    np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)])
def test_images_without_variance_or_number_leave_every_coordinate_free(images) -> None:
    assert np.isnan(IndependentSubspaces(images, 3, 2, 0).coordinates(images)).all()
