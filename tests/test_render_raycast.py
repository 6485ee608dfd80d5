"""The ray caster against brute force: marching along rays through the solids' definitions."""
import numpy as np
import pytest

from imn_world_model.rendering.raycast import FLOOR, SHAPES, SKY, UNSEEN, WALL, Room, Solid, Spot

WIDTH, HEIGHT = 1.1, 3.0
SOLID = {shape: Solid(shape, WIDTH, 2 * WIDTH if shape in ('cube', 'sphere') else HEIGHT,
                      x=0.4, z=-0.3, yaw=0.5) for shape in (*SHAPES, 'cone')}
SOLID['torus'] = Solid('torus', 1.6, 1.2, x=0.4, z=-0.3, yaw=0.5)


def inside(solid: Solid, point: np.ndarray) -> np.ndarray:
    """:return: which points (3, N) are inside, from the shape's definition."""
    x, y, z = point[0] - solid.x, point[1], point[2] - solid.z
    cosine, sine = np.cos(solid.yaw), np.sin(solid.yaw)
    # The solid's own axes lie along (cos, -sin) and (sin, cos) of the floor.
    own_x, own_z = x * cosine - z * sine, x * sine + z * cosine
    r = np.hypot(x, z)
    if solid.shape == 'cube':
        return ((np.abs(own_x) < solid.width) & (np.abs(own_z) < solid.width)
                & (y > 0) & (y < solid.height))
    if solid.shape == 'cylinder':
        return (r < solid.width) & (y > 0) & (y < solid.height)
    if solid.shape == 'cone':
        return (y > 0) & (y < solid.height) & (r < solid.width * (1 - y / solid.height))
    if solid.shape == 'torus':
        tube = solid.height / 2
        return (r - (solid.width - tube)) ** 2 + (y - tube) ** 2 < tube ** 2
    nearest = np.clip(y, solid.width, solid.height - solid.width)
    return r ** 2 + (y - nearest) ** 2 < solid.width ** 2


def random_rays(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    origin = rng.normal(size=(3, count)) * 2
    origin /= np.linalg.norm(origin, axis=0) / 7
    origin[1] = np.abs(origin[1])
    target = rng.uniform(-1.6, 1.6, (3, count)) + [[0.4], [1.5], [-0.3]]
    direction = target - origin
    return origin, direction / np.linalg.norm(direction, axis=0)


@pytest.mark.parametrize('shape', (*SHAPES, *UNSEEN))
def test_solid_hit_matches_marching(shape: str) -> None:
    solid = SOLID[shape]
    origin, direction = random_rays(400)
    distance, normal = solid.hit(origin, direction)

    step = 0.004
    steps = np.arange(0, 12, step)
    march = origin[:, :, None] + direction[:, :, None] * steps
    within = inside(solid, march.reshape(3, -1)).reshape(400, -1)
    found = within.any(1)
    first = np.where(found, steps[within.argmax(1)], np.inf)

    # A ray that only grazes may slip between two steps.
    agree = found == np.isfinite(distance)
    assert agree.mean() > 0.98
    assert 0.2 < found.mean() < 0.95
    both = found & np.isfinite(distance)
    gap = first[both] - distance[both]
    assert np.quantile(np.abs(gap), 0.98) < 2 * step

    # The normal points out: a step along it leaves the solid, a step against it enters.
    point = (origin + np.where(np.isfinite(distance), distance, 0) * direction)[:, both]
    assert np.allclose(np.linalg.norm(normal[:, both], axis=0), 1)
    assert inside(solid, point - 0.02 * normal[:, both]).mean() > 0.97
    assert not inside(solid, point + 0.02 * normal[:, both]).any()


def test_solid_blocks_what_lies_behind_it() -> None:
    solid = Solid('sphere', 1.0, 2.0)
    point = np.array([[4.0, 4.0, -4.0], [0.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    lamp = np.array([[-4.0], [2.0], [0.0]])
    assert solid.blocks(point, lamp - point).tolist() == [True, False, False]


def test_room_hit_is_on_the_surface_it_names() -> None:
    room = Room(half_width=5.0, wall_height=3.0)
    rng = np.random.default_rng(0)
    origin = np.array([[1.0], [1.5], [-2.0]])
    direction = rng.normal(size=(3, 500))
    material, distance, normal = room.hit(origin, direction)
    point = origin + distance * direction
    assert set(np.unique(material)) == {FLOOR, WALL, SKY}
    assert np.allclose(point[1, material == FLOOR], 0)
    wall = np.abs(point[[0, 2]]).max(0)
    assert np.allclose(wall[material != FLOOR], 5)
    assert (point[1, material == WALL] < 3).all() and (point[1, material == SKY] >= 3).all()
    assert ((normal * direction).sum(0) < 0).all()


def test_spot_shade_falls_off_its_axis_and_with_the_angle() -> None:
    lamp = Spot(position=(0.0, 10.0, 0.0), target=(0.0, 0.0), power=2.0, exponent=3.0)
    point = np.array([[0.0, 10.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    normal = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, -1.0], [0.0, 0.0, 0.0]])
    shade = lamp.shade(lamp.towards(point), normal)
    # Straight below; 45 degrees off (cosine for the surface, its cube for the axis); from behind.
    assert shade == pytest.approx([2.0, 0.5, 0.0])
