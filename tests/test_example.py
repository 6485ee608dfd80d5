"""The example's planner: in a world that is known it finds the way."""
import importlib.util
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from imn_world_model.rendering.drive import clip_drive
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


@pytest.mark.parametrize(('start', 'goal'), [((0.0, 0.0), (0.6, -0.4)), ((0.2, 0.1), (0.0, 0.4))])
def test_the_plan_ends_at_the_goal(example: ModuleType, base: WorldModel,
                                   start: tuple[float, float], goal: tuple[float, float]) -> None:
    limit = example.LIMITS['omnidirectional']
    commands = example.plan(base, state(*start), state(*goal), np.random.default_rng(0),
                            np.zeros((sum(example.PIECES), 3)), limit, example.PIECES)
    assert (np.abs(commands) <= limit + 1e-9).all()
    end = base.imagine(state(*start), commands, example.HELD, pictures=False).mean[0, -1, 0]
    assert end == pytest.approx([*goal, 0.0], abs=0.1)


def test_a_plan_is_no_worse_than_what_was_left_of_the_last(example: ModuleType,
                                                           base: WorldModel) -> None:
    # Held unevenly within a piece: no plan that is drawn says the same.
    before = np.zeros((sum(example.PIECES), 3))
    before[:5, 0] = 0.3, 0.3, 0.3, 0.6, 0.6
    commands = example.plan(base, state(0.0, 0.0), state(before[:, 0].sum() * example.HELD, 0.0),
                            np.random.default_rng(0), before, np.zeros(3), example.PIECES)
    assert commands == pytest.approx(before)


def test_a_differential_base_gets_aside_without_going_sideways(example: ModuleType,
                                                               base: WorldModel) -> None:
    limit = example.LIMITS['differential']
    commands = example.plan(base, state(0.0, 0.0), state(0.0, 0.6), np.random.default_rng(0),
                            np.zeros((sum(example.PIECES), 3)), limit, example.PIECES)
    assert (commands[:, 1] == 0).all()
    end = base.imagine(state(0.0, 0.0), commands, example.HELD, pictures=False).mean[0, -1, 0]
    assert end == pytest.approx([0.0, 0.6, 0.0], abs=0.15)


def test_a_goal_beside_is_in_view_on_either_side(example: ModuleType) -> None:
    tasks = [example.task(1, clip, 'differential', False) for clip in range(20)]
    aside = [goal.seen_from(drive.poses[0])[1] for drive, goal, _ in tasks]
    assert min(map(abs, aside)) > 0.1 and min(aside) < 0 < max(aside)
    for drive, goal, strip in tasks:
        distance, bearing = example.relative(drive.scene, goal)
        assert example.NEAREST < distance < example.FARTHEST and strip is None
        assert abs(bearing) < example.IN_VIEW


def test_a_strip_lies_between_start_and_goal(example: ModuleType) -> None:
    for clip in range(4):
        drive, goal, strip = example.task(1, clip, 'omnidirectional', True)
        start = drive.poses[0]
        assert np.hypot(goal.x - start.x, goal.z - start.z) == pytest.approx(example.APART,
                                                                            abs=0.02)
        share = np.linspace(0, 1, 81)
        inside = strip.holds(start.x + share * (goal.x - start.x),
                             start.z + share * (goal.z - start.z))
        assert inside.sum() * example.APART / 80 == pytest.approx(2 * example.DEEP, abs=0.03)
        assert not inside[0] and not inside[-1] and inside[40]


def test_commands_are_closed_where_they_lead_into_the_strip(example: ModuleType) -> None:
    start, strip = example.Pose(0.3, -0.2, 0.7), example.Strip(example.Pose(0.3, -0.2, 0.7),
                                                               example.Pose(0.9, -0.7, 0.0))
    limit = example.LIMITS['omnidirectional']
    actions = np.random.default_rng(0).uniform(-limit, limit, (60, 8, 3))
    told, true = strip.closed(start, actions), np.zeros((60, 8), bool)
    for n, commands in enumerate(actions):
        pose = start
        for k, command in enumerate(commands):
            pose = pose.moved(command, example.HELD)
            true[n, k] = strip.holds(np.array(pose.x), np.array(pose.z))
    # The commands' midpoints stand for their arcs: a place in some hundred lies on the border.
    assert 20 < true.sum() < 400 and (told != true).mean() < 0.01


def test_the_planner_goes_round_the_strip_and_the_greedy_driver_does_not(
        example: ModuleType, base: WorldModel) -> None:
    start = example.Pose(0.0, 0.0, 0.0)
    strip = example.Strip(start, example.Pose(0.0, -0.8, 0.0))
    limit, rng = example.LIMITS['omnidirectional'], np.random.default_rng(0)
    commands = example.plan(base, state(0.0, 0.0), state(0.8, 0.0), rng,
                            np.zeros((sum(example.PIECES), 3)), limit, example.PIECES,
                            partial(strip.closed, start))
    assert not strip.closed(start, commands[None]).any()
    end = base.imagine(state(0.0, 0.0), commands, example.HELD, pictures=False).mean[0, -1, 0]
    assert end == pytest.approx([0.8, 0.0, 0.0], abs=0.1)
    now, pose = state(0.0, 0.0), start
    for _ in range(example.MOST):
        command, = example.plan(base, now, state(0.8, 0.0), rng, np.zeros((1, 3)), limit, (1,),
                                partial(strip.closed, pose))
        now, pose = base.predict(now, command, example.HELD), pose.moved(command, example.HELD)
    assert 0.1 < now.mean[0, 0, 0] < 0.4 - example.DEEP + 0.05


def test_after_the_nearest_moment_the_plan_stands_still(example: ModuleType,
                                                        base: WorldModel) -> None:
    commands = example.plan(base, state(0.0, 0.0), state(0.1, 0.0), np.random.default_rng(0),
                            np.zeros((sum(example.PIECES), 3)),
                            example.LIMITS['omnidirectional'], example.PIECES)
    assert commands[:2].any() and not commands[2:].any()


def test_the_camera_stops_short_of_the_strip(example: ModuleType) -> None:
    drive, goal, strip = example.task(1, 0, 'omnidirectional', True)
    camera = example.Camera(drive, SimpleNamespace(), strip)
    camera.pose = example.Pose(*(strip.middle + 0.2 * strip.axes[0]), 0.0)
    before = camera.pose
    x, z = -strip.axes[0] * 0.6                       # back towards the start, through the strip
    camera.go(np.array([-z, -x, 0.0]))
    assert camera.pose == before
    camera.go(np.array([z, x, 0.0]))
    assert camera.pose != before


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
        example: ModuleType, base: WorldModel, driver: str) -> None:
    drive = clip_drive(1, 0, 1.0)
    perceive = SimpleNamespace(identity=np.array([0]), active=np.ones((1, 1), bool),
                               latent_mean=np.zeros((1, 1, 3), np.float32),
                               latent_variance=np.full((1, 1, 3), 0.01, np.float32))
    base._perceive = lambda images: perceive
    camera = example.Camera(drive, SimpleNamespace(prepare=lambda rgb: rgb[::60, ::80]))
    goal, rng = camera.look(), np.random.default_rng(0)
    limit = example.LIMITS['omnidirectional']
    done, commands, _ = example.drive_to(camera, base, goal, driver, limit, 0.01, rng)
    assert done and commands == 0
    done, commands, times = example.drive_to(camera, base, goal, driver, limit, 0.0, rng)
    assert not done and commands == example.MOST
    assert len(times) == example.MOST


def test_the_planner_goes_on_from_what_is_left_of_its_plan(
        example: ModuleType, base: WorldModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def perceive(images: np.ndarray) -> SimpleNamespace:
        wanted = state(0.6, 0.3) if not images.any() else state(0.0, 0.0)
        return SimpleNamespace(identity=wanted.identity, active=wanted.active,
                               latent_mean=wanted.mean, latent_variance=wanted.variance)

    base._perceive = perceive
    drive = clip_drive(1, 0, 1.0)
    camera = example.Camera(drive, SimpleNamespace(prepare=lambda rgb: rgb[::60, ::80]))
    planned, befores, real = [], [], example.plan

    def watched(*arguments: Any) -> np.ndarray:
        befores.append(arguments[4])
        planned.append(real(*arguments))
        return planned[-1]

    monkeypatch.setattr(example, 'plan', watched)
    monkeypatch.setattr(example, 'MOST', 3)
    start = camera.pose
    example.drive_to(camera, base, np.zeros_like(camera.look()), 'planner',
                     example.LIMITS['omnidirectional'], 0.0, np.random.default_rng(0))
    assert not befores[0].any() and len(planned) == 3
    for before, last in zip(befores[1:], planned, strict=False):
        assert before == pytest.approx(np.concatenate((last[1:], np.zeros((1, 3)))))
    for commands in planned:
        start = start.moved(commands[0], example.HELD)
    assert camera.pose.seen_from(start) == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)
