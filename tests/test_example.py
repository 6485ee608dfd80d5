"""The example's planner: in a world that is known it finds the way."""
import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from imn_world_model.rendering.drive import Pose, clip_drive
from imn_world_model.robot.world_model import State, WorldModel


@pytest.fixture(scope='module')
def example() -> ModuleType:
    path = Path(__file__).parent.parent / 'examples' / 'drive_to_picture.py'
    spec = importlib.util.spec_from_file_location('drive_to_picture', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def state(x: float, y: float) -> State:
    return State(np.array([0]), np.ones((1, 1), bool), np.array([[[x, y, 0.0]]], np.float32),
                 np.full((1, 1, 3), 0.01, np.float32), np.array([0]))


@pytest.fixture
def base(example: ModuleType) -> WorldModel:
    """:return: a point that goes where it is sent, turned by where it looks."""
    def move(mean, variance, identity, action, seconds):
        turn = mean[:, 0, 2] + action[:, 2] * seconds / 2
        then = mean.copy()
        then[:, 0, 0] += seconds * (np.cos(turn) * action[:, 0] - np.sin(turn) * action[:, 1])
        then[:, 0, 1] += seconds * (np.sin(turn) * action[:, 0] + np.cos(turn) * action[:, 1])
        then[:, 0, 2] += seconds * action[:, 2]
        return then, variance

    return WorldModel(None, move, None, example.NAMES, ('m/s', 'm/s', 'rad/s'))


def base_pose(x: float, y: float, turn: float) -> Pose:
    """:return: where the world's point is on the robot's map: x ahead is -z, y to the left -x."""
    return Pose(-y, -x, turn)


@pytest.mark.parametrize('width', [0.0, 0.4])
def test_the_plan_ends_at_the_goal_and_goes_around_the_wall(
        example: ModuleType, base: WorldModel, width: float) -> None:
    start, goal = state(0.0, 0.0), state(0.6, 0.0)
    wall = example.wall_between(base_pose(0, 0, 0), base_pose(0.6, 0.0, 0), width)
    rng = np.random.default_rng(0)
    before = np.zeros((example.AHEAD, 3))
    for _ in range(2):                                # looks again and begins with what it had
        before = example.plan(base, start, goal, base_pose(0, 0, 0), wall, rng, before)
    assert (np.abs(before) <= example.LIMIT + 1e-9).all()
    way = base.imagine(start, before, example.HELD, pictures=False).mean[0, :, 0]
    assert way[-1] == pytest.approx([0.6, 0.0, 0.0], abs=0.2)
    assert not wall.crossed(example.places(base_pose(0, 0, 0), before[None]))[0]
    aside = np.abs(way[:, 1]).max()
    assert aside > 0.15 if width else aside < 0.1


def test_a_wall_is_crossed_by_ways_that_lead_through_it(example: ModuleType) -> None:
    wall = example.wall_between(Pose(0, 0, 0), Pose(0, -1, 0), 0.4)
    ways = np.array([[[0, 0], [0, -1]], [[0.1, -0.2], [-0.1, -0.7]], [[0, 0], [0, -0.4]],
                     [[0.3, 0], [0.3, -1]], [[0, -0.6], [0, -1]]])
    assert wall.crossed(ways).tolist() == [True, True, False, False, False]
    none = example.wall_between(Pose(0, 0, 0), Pose(0, -1, 0), 0.0)
    assert not none.crossed(ways).any()


def test_places_are_where_the_base_goes(example: ModuleType) -> None:
    pose = Pose(0.3, -0.2, 0.7)
    actions = np.random.default_rng(0).uniform(-example.LIMIT, example.LIMIT, (2, 4, 3))
    found = example.places(pose, actions)
    for row, commands in zip(found, actions, strict=True):
        now = pose
        assert row[0] == pytest.approx([pose.x, pose.z])
        for place, command in zip(row[1:], commands, strict=True):
            now = now.moved(command, example.HELD)
            assert place == pytest.approx([now.x, now.z])


def test_the_camera_goes_where_it_is_sent(example: ModuleType) -> None:
    drive = clip_drive(1, 0, 1.0)
    camera = example.Camera(drive, SimpleNamespace(prepare=lambda rgb: rgb[::15, ::20]))
    before = camera.look()
    assert before.shape == (32, 32, 3)
    start = camera.pose
    camera.go(np.array([0.4, 0.0, 0.0]))
    assert camera.pose.seen_from(start) == pytest.approx((0.4 * example.HELD, 0.0, 0.0))
    assert example.away(camera.look(), before) > 1e-4
    assert example.away(before, before) == 0.0


@pytest.mark.parametrize('driver', ['planner', 'greedy', 'random'])
def test_a_driver_that_is_there_stops_and_one_that_is_not_gives_up(
        example: ModuleType, base: WorldModel, driver: str, monkeypatch: pytest.MonkeyPatch
        ) -> None:
    monkeypatch.setattr(example, 'MOST', 5)
    drive = clip_drive(1, 0, 1.0)
    perceive = SimpleNamespace(identity=np.array([0]), active=np.ones((1, 1), bool),
                               latent_mean=np.zeros((1, 1, 3), np.float32),
                               latent_variance=np.full((1, 1, 3), 0.01, np.float32))
    base._perceive = lambda images: perceive
    camera = example.Camera(drive, SimpleNamespace(prepare=lambda rgb: rgb[::60, ::80]))
    wall = example.Wall(np.zeros((2, 2)))
    goal, rng = camera.look(), np.random.default_rng(0)
    done, commands, _ = example.drive_to(camera, base, goal, wall, driver, 0.01, rng)
    assert done and commands == 0
    done, commands, times = example.drive_to(camera, base, goal, wall, driver, 0.0, rng)
    assert not done and commands == len(times) == 5


def test_no_driver_goes_through_a_wall(example: ModuleType, base: WorldModel,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example, 'MOST', 8)
    camera = example.Camera(clip_drive(1, 0, 1.0), SimpleNamespace(
        prepare=lambda rgb: rgb[::60, ::80]))
    start = camera.pose
    ahead = start.moved(np.array([0.2, 0.0, 0.0]), 1.0)
    wall = example.wall_between(start, ahead, 50.0)
    goal = np.zeros_like(camera.look())               # it lies a metre ahead
    base._perceive = lambda images: SimpleNamespace(
        identity=np.array([0]), active=np.ones((1, 1), bool),
        latent_mean=np.array([[[float(not images.any()), 0.0, 0.0]]], np.float32),
        latent_variance=np.full((1, 1, 3), 0.01, np.float32))
    for driver in ('planner', 'greedy', 'random'):
        camera.pose = start
        example.drive_to(camera, base, goal, wall, driver, 0.0, np.random.default_rng(3))
        way = np.array([[[start.x, start.z], [camera.pose.x, camera.pose.z]]])
        assert not wall.crossed(way)[0]
