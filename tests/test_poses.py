"""Poses in metres: rays, outlines, Gaussian processes, the map, its covariance over time."""
import json
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from scipy.stats import chi2
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

from imn_world_model.base.errors import UserError
from imn_world_model.learning import poses as learning
from imn_world_model.learning.examples import keep_poses, passages
from imn_world_model.learning.poses import Example, fit
from imn_world_model.robot.gaussian import Kernel, Process
from imn_world_model.robot.poses import ANY_ANGLE, Pose, PoseMap, angle_of, axes_of
from imn_world_model.robot.steady import Steady
from imn_world_model.vision.pinhole import Pinhole, unit
from imn_world_model.vision.preprocess import Crop
from imn_world_model.vision.sight import PATCH, Look, look
from imn_world_model.vision.silhouette import silhouette

FOCAL = 500.0
CAMERA = Pinhole(np.array([[FOCAL, 0, 320], [0, FOCAL, 240], [0, 0, 1.0]]), np.zeros(5),
                 'plumb_bob', (640, 480))
LABELS = ('box', 'ball')
UP = np.array([0.0, -1.0, 0.0])
REST = np.array([0.1, 0.2, 1.5])


def arena(left=260, top=180, right=380, bottom=330):
    """A picture of an object before a wall and a floor, with a shadow, and the object's box."""
    picture = np.empty((480, 640, 3), np.uint8)
    picture[:260], picture[260:] = (120, 200, 40), (200, 30, 150)
    picture[bottom - 20:bottom + 15, right - 10:right + 60] = (100, 15, 75)     # its shadow
    picture[top:bottom, left:right] = (40, 70, 220)
    return picture, (float(left), float(top), float(right - left), float(bottom - top))


# Rays


def test_rays_undo_what_the_camera_does_to_points():
    camera = replace(CAMERA, distortion=np.array([-0.2, 0.05, 0.001, -0.002, 0.0]))
    there = np.array([[0.3, -0.2], [-0.4, 0.1], [0.0, 0.0]])
    pixels, _ = cv2.projectPoints(np.column_stack((there, np.ones(3))), np.zeros(3), np.zeros(3),
                                  camera.matrix, camera.distortion)
    np.testing.assert_allclose(camera.rays(pixels[:, 0], (640, 480)), there, atol=1e-4)
    np.testing.assert_allclose(camera.rays(pixels[:, 0] / 2, (320, 240)), there, atol=1e-4)


def test_fisheye_rays_undo_theirs():
    camera = replace(CAMERA, distortion=np.array([0.05, -0.01, 0.002, 0.0]), model='equidistant')
    there = np.array([[[0.5, -0.3]], [[-0.6, 0.2]]])
    pixels = cv2.fisheye.distortPoints(there, camera.matrix, camera.distortion)
    np.testing.assert_allclose(camera.rays(pixels[:, 0], (640, 480)), there[:, 0], atol=1e-4)


def test_unit_rays_have_length_one_and_their_direction():
    rays = unit(np.array([[0.0, 0.0], [1.0, -2.0]]))
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1.0)
    np.testing.assert_allclose(rays[1] / rays[1, 2], [1.0, -2.0, 1.0])


@pytest.mark.parametrize(('changes', 'cause'), [
    ({'k': np.zeros(9)}, 'holds no calibration'),
    ({'width': 0}, 'holds no calibration'),
    ({'distortion_model': 'odd', 'd': np.array([0.1])}, "distortion model 'odd'")])
def test_camera_infos_that_tell_nothing_are_refused(changes, cause):
    info = {'k': CAMERA.matrix.ravel(), 'd': np.zeros(5), 'distortion_model': 'plumb_bob',
            'width': 640, 'height': 480}
    assert Pinhole.of(SimpleNamespace(**info)).sides == (640, 480)
    with pytest.raises(UserError, match=cause):
        Pinhole.of(SimpleNamespace(**info | changes))


def test_pictures_of_other_proportions_than_the_calibration_are_refused():
    with pytest.raises(UserError, match='640x640 pixels, camera_info is for 640x480'):
        CAMERA.rays(np.zeros((1, 2)), (640, 640))


# Outlines


def test_silhouette_is_the_object_without_its_shadow():
    picture, (x, y, width, height) = arena()
    small = cv2.resize(picture[48:432, 128:512], (64, 64), interpolation=cv2.INTER_AREA)
    mask = silhouette(small)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) * 6 + [128, 48] * 2
    np.testing.assert_allclose(found, [x, y, x + width, y + height], atol=7)


def test_nothing_stands_out_of_one_colour():
    assert silhouette(np.full((64, 64, 3), 90, np.uint8)) is None
    assert look(np.full((480, 640, 3), 90, np.uint8), None, Crop(), CAMERA) is None


def test_look_is_the_same_by_a_given_box_and_by_the_outline():
    picture, box = arena()
    crop = Crop('center', (128, 48, 384, 384))
    given, found = look(picture, box, Crop(), CAMERA), look(picture, None, crop, CAMERA)
    edges = [(260 - 320) / FOCAL, (180 - 240) / FOCAL, (380 - 320) / FOCAL, (330 - 240) / FOCAL]
    np.testing.assert_allclose(given.box, edges, atol=1e-9)
    np.testing.assert_allclose(found.box, edges, atol=0.014)
    assert given.size == pytest.approx(np.sqrt(120 * 150) / FOCAL, rel=0.05)
    assert found.size == pytest.approx(given.size, rel=0.05)
    np.testing.assert_allclose(given.patch, 1.0, atol=0.35)


# Gaussian processes


def samples(seed=0, count=40):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(count, 3))
    values = inputs @ [1.0, -0.5, 0.2] + np.sin(2 * inputs[:, 0]) + 0.1 * rng.normal(size=count)
    return inputs, values


def test_process_matches_sklearn():
    inputs, values = samples()
    ours = learning.process(inputs, values, linear=True)
    kernel = ours.kernel
    theirs = GaussianProcessRegressor(
        ConstantKernel(kernel.linear) * DotProduct(1.0) + ConstantKernel(kernel.smooth)
        * RBF(kernel.length) + WhiteKernel(kernel.noise), optimizer=None, normalize_y=True
    ).fit(inputs, values)
    others = samples(1)[0]
    mean, deviation = theirs.predict(others, return_std=True)
    told = ours.predict(others)
    np.testing.assert_allclose(told[0], mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(np.sqrt(told[1]), deviation, rtol=1e-5)


def test_left_out_matches_processes_without_each_group():
    inputs, values = samples()
    group = np.arange(40) // 4
    ours = Process(Kernel(1.0, 0.5, 1.5, 0.02), inputs, values)
    residual, variance = ours.left_out(group)
    centred, scale = values - values.mean(), values.std()
    for number in np.unique(group):
        out, kept = group == number, group != number
        full = ours.kernel.between(inputs[kept], inputs[kept]) + 0.02 * np.eye(kept.sum())
        alike = ours.kernel.between(inputs[out], inputs[kept])
        told = alike @ np.linalg.solve(full, centred[kept])
        own = ours.kernel.between(inputs[out], inputs[out]) + 0.02 * np.eye(out.sum())
        wide = np.diag(own - alike @ np.linalg.solve(full, alike.T)) * scale ** 2
        np.testing.assert_allclose(residual[out], centred[out] - told, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(variance[out], wide, rtol=1e-6)


# The map


def world(seed, count=60, posed=True):
    """Examples of a box that is turned and of a ball, whose true size nobody knows exactly."""
    rng = np.random.default_rng(seed)
    examples = []
    for k in range(count):
        size = 0.4 * np.exp(0.05 * rng.normal())
        position = np.array([rng.uniform(-0.4, 0.4), rng.uniform(-0.1, 0.1), rng.uniform(1, 2.5)])
        angle = rng.uniform(-np.pi, np.pi)
        half = size / 2 / position[2]
        middle = position[:2] / position[2]
        label = LABELS[k % 2]
        waves = np.outer([np.cos(4 * angle), np.sin(4 * angle)] if label == 'box'
                         else rng.normal(size=2), np.ones(PATCH * PATCH // 2)).ravel()
        seen = Look(np.concatenate((middle - half, middle + half)), middle, 2 * half,
                    waves + 0.02 * rng.normal(size=waves.size))
        axes = axes_of(position, UP, angle)
        examples.append(Example(seen, label, rng.normal(size=4), k // 2, k * 1.0,
                                position if posed else None, axes if posed else None))
    return examples


def test_map_tells_positions_with_honest_bounds():
    poses, unseen = fit(world(0), LABELS), world(1, 300)
    squares, relative = [], []
    for each in unseen:
        pose = poses.tell(each.look, each.label, each.coordinates)
        error = pose.position - each.position
        # Directions are exact here, so that only the depth tells.
        squares.append(error[2] ** 2 / pose.covariance[2, 2])
        relative.append(np.linalg.norm(error) / np.linalg.norm(each.position))
    assert np.mean(relative) < 0.05                   # sizes vary by as much
    assert 0.90 <= np.mean(np.array(squares) <= chi2.ppf(0.95, 1)) <= 0.99


def test_map_finds_that_a_box_has_four_turns_and_a_ball_none():
    poses = fit(world(0), LABELS)
    assert {label: turn.fold for label, turn in poses.turns.items()} == {'box': 4}
    wrong = []
    for each in world(1):
        pose = poses.tell(each.look, each.label, each.coordinates)
        up = pose.axes[:, 2]
        variance = up @ pose.covariance[3:, 3:] @ up
        if each.label == 'ball':
            assert (pose.fold, variance) == (0, pytest.approx(ANY_ANGLE))
            continue
        error = angle_of(pose.position, pose.axes) - angle_of(each.position, each.axes)
        wrong.append(abs(np.angle(np.exp(4j * error))) / 4)
        assert variance < 0.02
    assert np.degrees(np.mean(wrong)) < 3


def test_turns_are_not_told_from_a_few_passages():
    few = [replace(each, group=k // 20) for k, each in enumerate(world(0))]
    assert fit(few, LABELS).turns == {}


def test_map_survives_its_file():
    poses = fit(world(0), LABELS)
    again = PoseMap.from_json(poses.to_json())
    for each in world(1, 6):
        one, other = (each_map.tell(each.look, each.label, each.coordinates)
                      for each_map in (poses, again))
        np.testing.assert_allclose(one.position, other.position, atol=1e-3)
        np.testing.assert_allclose(one.covariance, other.covariance, rtol=0.02, atol=1e-6)
    with pytest.raises(UserError, match='map to poses is broken'):
        PoseMap.from_json(json.dumps({'labels': []}))


def test_fit_refuses_few_poses_and_poses_behind_the_camera():
    few = [replace(each, position=None, axes=None) if k > 8 else each
           for k, each in enumerate(world(0))]
    with pytest.raises(UserError, match='9 frames have both an outline and a pose; at least 12'):
        fit(few, LABELS)
    behind = [replace(each, position=-each.position) for each in world(0)]
    with pytest.raises(UserError, match='behind the camera'):
        fit(behind, LABELS)


def test_errors_that_last_are_found_to_last():
    rng = np.random.default_rng(0)
    group, seconds = np.repeat(np.arange(30), 3), np.tile([0.0, 1.0, 2.0], 30)
    inputs = rng.normal(size=(90, 2))
    cover = np.exp(-np.abs(seconds[:3, None] - seconds[None, :3]) / 2.0)
    error = (rng.normal(size=(30, 3)) @ np.linalg.cholesky(cover).T).ravel()
    told = Process(Kernel(1.0, 0.0, 1.0, 0.5), inputs, inputs @ [3.0, 1.0] + error)
    assert 1.2 < learning.lasting((told,), group, seconds) < 3.5
    assert learning.lasting((told,), np.arange(90), seconds) == learning.LONGEST


def test_kept_poses_come_in_pairs_of_one_passage_spread_over_the_log():
    examples = [replace(each, group=k // 10, seconds=k // 10 * 20 + k % 10 * 0.5)
                for k, each in enumerate(world(0, 100))]
    kept = [each for each in keep_poses(examples, 20) if each.position is not None]
    assert len(kept) == 20
    assert len(keep_poses(examples, 20)) == 100
    for group in range(10):
        pair = [each.seconds for each in kept if each.group == group]
        assert len(pair) == 2
        assert 1.5 <= pair[1] - pair[0] <= 2.0
    assert list(passages(np.array([0, 0.1, 0.2, 3.0, 3.1, 1.0]) * 1e9)) == [0, 0, 0, 1, 1, 2]


# Over time


def still(seed, seconds, lasts):
    """What is measured of a thing that rests: errors that fade over ``lasts`` seconds."""
    rng = np.random.default_rng(seed)
    own = np.diag([0.01, 0.01, 0.04])
    root, error = np.linalg.cholesky(own), rng.normal(size=3)
    fade = np.exp(-0.1 / lasts)
    for k in range(round(seconds / 0.1)):
        covariance = np.zeros((6, 6))
        covariance[:3, :3] = own
        covariance[3:, 3:] = np.eye(3)
        yield k * 0.1, Pose(REST + root @ error, np.eye(3), covariance, 0)
        error = fade * error + np.sqrt(1 - fade ** 2) * rng.normal(size=3)


@pytest.mark.parametrize(('told_to_last', 'honest'), [(2.0, True), (1e-3, False)])
def test_covariance_after_a_second_is_honest_only_where_errors_are_told_to_last(
        told_to_last, honest):
    squares = []
    for seed in range(200):
        steady = Steady(told_to_last)
        for time, measured in still(seed, 2.0, 2.0):
            pose = steady.update(time, measured)
        error = pose.position - REST
        squares.append(error @ np.linalg.solve(pose.covariance[:3, :3], error))
    within = np.mean(np.array(squares) <= chi2.ppf(0.95, 3))
    assert (0.90 <= within <= 0.99) if honest else within < 0.85


def test_a_turn_does_not_flip_by_what_looks_the_same():
    steady, folds = Steady(1.0), 2 * np.pi / 4
    position = np.array([0.0, 0.0, 1.5])
    angles = []
    for k in range(30):
        true = 0.3 + 0.1 * k
        told = (true + np.pi / 4) % folds - np.pi / 4            # as Turn.tell gives it
        pose = Pose(position, axes_of(position, UP, told), np.eye(6) * 0.01, 4)
        angles.append(angle_of(position, steady.update(k * 0.1, pose).axes))
    np.testing.assert_allclose(np.unwrap(angles), 0.3 + 0.1 * np.arange(30), atol=1e-6)


def test_a_gap_makes_what_was_known_forgotten():
    steady = Steady(1.0)
    measured = [pose for _, pose in still(0, 0.5, 1.0)]
    for k, pose in enumerate(measured):
        steady.update(k * 0.1, pose)
    far = replace(measured[0], position=np.array([3.0, 0.0, 5.0]))
    np.testing.assert_allclose(steady.update(9.0, far).position, far.position, atol=0.01)
