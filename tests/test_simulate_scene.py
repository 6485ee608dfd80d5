"""The simulated scenes: the object stays in view, motion is smooth, light does its part."""
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from imn_world_model.rendering.raycast import SHAPES
from imn_world_model.rendering.robot_camera import CENTRE, FOCAL_LENGTH, HEIGHT, WIDTH, render
from imn_world_model.rendering.robot_frames import ground_truth, object_pose, quaternion
from imn_world_model.rendering.robot_scene import (
    clip_group,
    clip_scene,
    clip_shape,
    hue_colour,
    hue_difference,
)

TIMES = np.arange(0, 6, 0.4)


def outline(scene, view) -> np.ndarray:
    """:return: image points (N, 2) of the object's surface."""
    solid = scene.solid
    angle, level = np.meshgrid(np.linspace(0, 2 * np.pi, 17), np.linspace(0, 1, 9))
    radius = np.full(level.shape, solid.width)
    if solid.shape == 'cube':
        radius = radius / np.maximum(np.abs(np.cos(angle)), np.abs(np.sin(angle)))
        angle = angle - solid.yaw
    elif solid.shape in ('sphere', 'capsule'):
        height = level * solid.height
        gap = height - np.clip(height, solid.width, solid.height - solid.width)
        radius = np.sqrt(np.maximum(solid.width ** 2 - gap ** 2, 0))
    points = np.stack((solid.x + radius * np.cos(angle), level * solid.height,
                       solid.z + radius * np.sin(angle)), axis=-1).reshape(-1, 3)
    seen = np.stack([view.in_camera(point - view.position) for point in points])
    return FOCAL_LENGTH * seen[:, :2] / seen[:, 2:] + CENTRE


def test_object_stays_in_the_centre_square() -> None:
    margin = (WIDTH - HEIGHT) / 2
    widths = []
    for clip in range(80):
        scene = clip_scene(5, clip)
        for time in TIMES:
            points = outline(scene, scene.view(time))
            assert points[:, 0].min() > margin and points[:, 0].max() < WIDTH - margin
            assert points[:, 1].min() > 0 and points[:, 1].max() < HEIGHT
            widths.append(np.ptp(points[:, 0]))
    assert min(widths) > 50 and np.ptp(widths) > 80      # pixels; the distance really changes


def test_motion_is_smooth_and_stays_in_the_room() -> None:
    for clip in range(20):
        scene = clip_scene(5, clip)
        places = np.stack([scene.view(time).position for time in np.arange(0, 5, 0.1)])
        assert np.abs(places[:, [0, 2]]).max() < scene.room.half_width - 0.05
        speed = np.linalg.norm(np.diff(places, axis=0), axis=1) / 0.1
        assert speed.mean() > 0.05 and speed.max() < 1.2              # metres per second


def test_camera_axes_are_a_right_handed_frame() -> None:
    scene = clip_scene(5, 0)
    view = scene.view(1.3)
    axes = np.stack((view.right, -view.up, view.forward))
    assert axes @ axes.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1)


def test_truth_matches_the_path() -> None:
    for clip in range(6):
        scene = clip_scene(5, clip)
        truth = ground_truth(scene, scene.view(2.0), 2.0)
        away = np.hypot(scene.distance.at(2.0), scene.height.at(2.0) - scene.solid.height / 2)
        assert truth['distance'] == pytest.approx(away, abs=1e-5)
        assert truth['bearing'] == pytest.approx(scene.bearing.at(2.0), abs=0.01)
        assert truth['elevation'] == pytest.approx(-scene.above.at(2.0), abs=0.01)


def test_positive_bearing_is_left_in_the_picture() -> None:
    scene = clip_scene(5, 0)
    left = replace(scene, bearing=replace(scene.bearing, mean=0.1, swing=0.0))
    assert outline(left, left.view(0.0))[:, 0].mean() < CENTRE[0] - 30
    assert ground_truth(left, left.view(0.0), 0.0)['bearing'] > 0.09


def test_quaternion_matches_rotation() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        rotation *= np.sign(np.linalg.det(rotation))
        x, y, z, w = quaternion(rotation)
        assert w >= 0
        assert rotation == pytest.approx(np.array([
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]]))


def test_object_axes_point_up_against_the_rows() -> None:
    scene = clip_scene(5, 2)
    _, axes = object_pose(scene.solid, scene.view(0.5))
    assert np.linalg.det(axes) == pytest.approx(1)
    assert axes[1, 2] < -0.9                   # the object's up is the optical frame's -y


def test_shapes_are_balanced_and_clips_independent() -> None:
    for block in range(5):
        assert {clip_shape(9, 4 * block + k) for k in range(4)} == set(SHAPES)
    scenes = [clip_scene(9, clip) for clip in range(30)]
    assert len({scene.hues[2] for scene in scenes}) == 30
    assert len({(scene.room, *scene.hues[:2]) for scene in scenes}) == 1
    assert clip_scene(9, 3, arena=1).room != scenes[3].room
    for scene in scenes:
        assert min(hue_difference(scene.hues[2], hue) for hue in scene.hues[:2]) >= 0.08


@pytest.mark.parametrize('count', [2, 3, 4])
def test_several_objects_stand_apart_in_view_and_in_colours_of_their_own(count: int) -> None:
    for clip in range(25):
        scene = clip_group(5, clip, count)
        solids = scene.solids
        assert len({solid.shape for solid in solids}) == count
        hues = [*scene.hues, *(other.hue for other in scene.others)]
        for one, other in combinations(range(count), 2):
            away = np.hypot(solids[one].x - solids[other].x, solids[one].z - solids[other].z)
            assert away > solids[one].width + solids[other].width
        for one, other in combinations(hues, 2):
            assert hue_difference(one, other) >= 0.08
        for time in TIMES:
            view = scene.view(time)
            assert np.abs(view.position[[0, 2]]).max() < scene.room.half_width - 0.05
            for solid in solids:
                place = view.in_camera(np.array([solid.x, solid.height / 2, solid.z])
                                       - view.position)
                column, row = FOCAL_LENGTH * place[:2] / place[2] + CENTRE
                assert 0 < column < WIDTH and 0 < row < HEIGHT


def test_hue_colour_matches_the_colour_circle() -> None:
    assert hue_colour(0.0, 1.0, 1.0) == pytest.approx([1, 0, 0])
    assert hue_colour(1 / 3, 1.0, 0.5) == pytest.approx([0, 0.5, 0], abs=1e-12)
    assert hue_colour(0.6, 0.5, 1.0) == pytest.approx([0.5, 0.7, 1.0])


def test_brightness_lights_the_whole_picture() -> None:
    scene = clip_scene(5, 1)
    view = scene.view(0.0)
    dark = render(scene, replace(view, brightness=0.4), np.random.default_rng(0))
    bright = render(scene, replace(view, brightness=0.8), np.random.default_rng(0))
    assert bright.mean() / dark.mean() == pytest.approx(2, abs=0.1)


def test_object_casts_a_shadow_on_the_floor() -> None:
    scene = clip_scene(5, 1)
    view = scene.view(0.0)
    still = np.random.default_rng(0).bit_generator.state
    pictures = []
    for x in (scene.solid.x, 50.0):            # the object, and the object taken away
        noise = np.random.default_rng()
        noise.bit_generator.state = still
        moved = replace(scene, solid=replace(scene.solid, x=x))
        pictures.append(render(moved, view, noise).astype(int))
    # Darker than the ambient light that the object takes at its foot alone explains.
    ratio = (pictures[0].sum(-1) + 1) / (pictures[1].sum(-1) + 1)
    points = outline(scene, view)
    outside = np.ones((HEIGHT, WIDTH), bool)
    left, top, right, bottom = (*points.min(0).astype(int) - 4, *points.max(0).astype(int) + 4)
    outside[top:bottom, left:right] = False
    assert ((ratio < 0.6) & outside).sum() > 500
    assert (ratio > 1.1)[outside].mean() < 0.001
