"""Independent subspaces: a hue's two coordinates are found together, whatever else is mixed in."""
import numpy as np
import pytest

from imn_world_model.judging.metrics import factor_matrix
from imn_world_model.learning.subspaces import (
    ClipComponents,
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
    values = subspaces.coordinates(images[2000:], np.arange(1000))
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
    assert np.isnan(IndependentSubspaces(images, 3, 2, 0).coordinates(
        images, np.arange(len(images)))).all()


def turning(colours: list[int], turns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """:return: a clip for each colour, in which a bar goes round; (N, 32, 32, 3), clip, angle."""
    x, y = np.meshgrid(np.linspace(-1, 1, 32), np.linspace(-1, 1, 32))
    images, clip, angle = [], [], []
    for number, colour in enumerate(colours):
        for turn in np.linspace(0, 2 * np.pi, turns, endpoint=False):
            near = np.exp(-8 * ((x - np.cos(turn) / 2) ** 2 + (y - np.sin(turn) / 2) ** 2))
            images.append(np.stack([80 * near + colour, 80 * near + 60, 80 * near + 60], -1))
            clip.append(number)
            angle.append(turn)
    return np.array(images).astype(np.uint8), np.array(clip), np.array(angle)


def test_clip_components_tell_the_turn_and_not_the_clip() -> None:
    images, clip, angle = turning([20, 90, 160], 40)
    components = ClipComponents(images, clip, num_modules=2, num_latents=1, seed=0)
    rows = np.random.default_rng(0).permutation(len(images))
    values = components.coordinates(images[rows], rows)[..., 0]
    np.testing.assert_allclose(values.std(0), 1.0, atol=0.05)
    # A circle's two coordinates: one angle, but for where it begins and which way it runs.
    told = np.exp(1j * np.arctan2(values[:, 1], values[:, 0]))
    ways = [abs(np.mean(told * np.exp(way * 1j * angle[rows]))) for way in (-1, 1)]
    assert max(ways) > 0.98
    for number in range(3):
        np.testing.assert_allclose(values[clip[rows] == number].mean(0), 0.0, atol=0.05)


def test_clips_of_one_frame_leave_all_coordinates_free() -> None:
    images, _, _ = turning([20], 12)
    components = ClipComponents(images, np.arange(12), num_modules=2, num_latents=2, seed=0)
    assert np.isnan(components.coordinates(images, np.arange(12))).all()
