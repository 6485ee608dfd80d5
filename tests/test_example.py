"""The example's planner: in a world that is known it finds the way."""
import importlib.util
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
    commands = example.plan(base, state(*start), state(*goal), np.random.default_rng(0), limit,
                            example.PIECES)
    assert (np.abs(commands) <= limit + 1e-9).all()
    end = base.imagine(state(*start), commands, example.HELD, pictures=False).mean[0, -1, 0]
    assert end == pytest.approx([*goal, 0.0], abs=0.1)


def test_a_plan_ends_at_its_nearest_moment(example: ModuleType, base: WorldModel) -> None:
    limit, rng = example.LIMITS['omnidirectional'], np.random.default_rng(0)
    assert len(example.plan(base, state(0.0, 0.0), state(0.1, 0.0), rng, limit,
                            example.PIECES)) == 1
    assert len(example.plan(base, state(0.0, 0.0), state(1.2, 0.0), rng, limit,
                            example.PIECES)) >= 1.2 / (limit[0] * example.HELD)


def test_plans_are_drawn_by_how_far_the_object_wanders(example: ModuleType,
                                                       base: WorldModel) -> None:
    tried, real = [], base.imagine

    def imagine(state: State, actions: np.ndarray, *rest: Any, **more: Any) -> Any:
        tried.append(actions)
        return real(state, actions, *rest, **more)

    base.imagine = imagine
    example.plan(base, state(0.0, 0.0), state(0.5, 0.0), np.random.default_rng(0),
                 example.LIMITS['omnidirectional'], example.PIECES, 1, 2000)
    actions, = tried
    wandered = example.HELD * (actions[..., 2] + actions[..., 1] / example.ABOUT).cumsum(1)
    for moment in (1, 7, 15):                         # it does not add up
        assert wandered[:, moment].std() == pytest.approx(example.LOOK, rel=0.3)


def test_a_differential_base_gets_aside_by_turning_there_and_back(example: ModuleType,
                                                                  base: WorldModel) -> None:
    limit, rng = example.LIMITS['differential'], np.random.default_rng(0)
    commands = example.plan(base, state(0.0, 0.0), state(0.0, 0.6), rng, limit, example.PIECES)
    assert (commands[:, 1] == 0).all()
    end = base.imagine(state(0.0, 0.0), commands, example.HELD, pictures=False).mean[0, -1, 0]
    assert end == pytest.approx([0.0, 0.6, 0.0], abs=0.15)
    now = state(0.0, 0.0)
    for _ in range(10):                               # the next command alone leads nowhere
        command, = example.plan(base, now, state(0.0, 0.6), rng, limit, (1,))
        now = base.predict(now, command, example.HELD)
    assert abs(now.mean[0, 0, 1]) < 0.1


def test_a_goal_beside_is_in_view_on_either_side(example: ModuleType) -> None:
    drives = [clip_drive(1, clip, 1.0) for clip in range(20)]
    goals = [example.beside(drive, np.random.default_rng(clip))
             for clip, drive in enumerate(drives)]
    aside = [goal.seen_from(drive.poses[0])[1] for drive, goal in zip(drives, goals, strict=True)]
    assert min(map(abs, aside)) > 0.1 and min(aside) < 0 < max(aside)
    for drive, goal in zip(drives, goals, strict=True):
        distance, bearing = example.relative(drive.scene, goal)
        assert example.NEAREST < distance < example.FARTHEST
        assert abs(bearing) < example.IN_VIEW


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
    assert len(times) == (0 if driver == 'random' else example.MOST)   # it plans to stand still


def test_the_planner_does_what_it_planned_before_it_plans_anew(
        example: ModuleType, base: WorldModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def perceive(images: np.ndarray) -> SimpleNamespace:
        wanted = state(0.6, 0.3) if not images.any() else state(0.0, 0.0)
        return SimpleNamespace(identity=wanted.identity, active=wanted.active,
                               latent_mean=wanted.mean, latent_variance=wanted.variance)

    base._perceive = perceive
    drive = clip_drive(1, 0, 1.0)
    camera = example.Camera(drive, SimpleNamespace(prepare=lambda rgb: rgb[::60, ::80]))
    planned, real = [], example.plan

    def watched(*arguments: Any) -> np.ndarray:
        planned.append(real(*arguments))
        return planned[-1]

    monkeypatch.setattr(example, 'plan', watched)
    monkeypatch.setattr(example, 'MOST', 12)
    start = camera.pose
    _, _, times = example.drive_to(camera, base, np.zeros_like(camera.look()), 'planner',
                                   example.LIMITS['omnidirectional'], 0.0,
                                   np.random.default_rng(0))
    assert len(planned) == len(times) > 1 and len(planned[0]) > 1
    done = np.concatenate(planned)[:12]
    assert len(done) == 12
    for command in done:
        start = start.moved(command, example.HELD)
    assert camera.pose.seen_from(start) == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)
