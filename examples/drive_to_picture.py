"""
Drive a simulated camera until its picture looks like a goal picture.

    python examples/drive_to_picture.py --model model.onnx --starts 50 --strip

The planner imagines what commands lead to and takes those that come nearest to the goal in the
coordinates (cross-entropy method). After each command it looks again and goes on from what is left
of its plan. Beside it drive one that only thinks of the next command, by the same means, and one
that draws commands at random. With --strip the straight way is shut: floor that the base must not
enter, which it knows by its odometry. The model is one that `python -m imn_world_model.export`
wrote of a run with a dynamics.
"""
import argparse
import time
from collections.abc import Callable
from functools import partial
from math import cos, sin
from pathlib import Path

import numpy as np
from tqdm import tqdm

from imn_world_model.base.cli import run_cli
from imn_world_model.base.errors import UserError
from imn_world_model.rendering.drive import Drive, Pose, clip_drive, relative
from imn_world_model.rendering.drivers import FARTHEST, NEAREST
from imn_world_model.rendering.robot_camera import render
from imn_world_model.robot.inference import ImnModel
from imn_world_model.robot.world_model import State, WorldModel

NAMES = ('linear.x', 'linear.y', 'angular.z')
# m/s, m/s, rad/s; a differential base cannot go sideways.
LIMITS = {'omnidirectional': np.array([0.6, 0.7, 0.6]), 'differential': np.array([0.6, 0.0, 0.6])}
HELD = 0.25                             # seconds that a command is held
PIECES = (2,) * 8                       # of a plan: how many times each of its commands is held
MOST = 24                               # commands until a driver gives up
AWAY, LONG = 4.0, 30.0                  # seconds of driving to a goal; until there must be one
IN_VIEW = 0.13                          # radians off the axis
AROUND = (0.12, 0.18)                   # radians about the object, to a goal beside the start
SOON = 0.1                              # squared distance that arriving one command later costs
FAR = 400.0                             # squared distance beyond which the flow knows little
NEVER = 1e6                             # squared distance of what must not be
SHRINK = 0.7                            # of the spread of the best
APART = 0.8                             # metres from start to goal where a strip lies between
DEEP, WIDE = 0.15, 0.45                 # metres, halves of its sides


def plan(model: WorldModel, state: State, goal: State, rng: np.random.Generator,
         before: np.ndarray, limit: np.ndarray, pieces: tuple[int, ...],
         closed: Callable[[np.ndarray], np.ndarray] | None = None, rounds: int = 12,
         samples: int = 192, best: int = 24) -> np.ndarray:
    """
    Plan by the cross-entropy method.

    :param before: (K, 3) commands to begin with: what is left of the last plan.
    :param limit: (3,) of the commands, either way.
    :param pieces: how many times each command is held, K altogether.
    :param closed: of commands (N, K, 3), whether each leads where the base must not go (N, K).
    :return: (K, 3) commands, the best that were found.
    """
    found, starts = before, np.cumsum(pieces) - np.array(pieces)
    held = np.array(pieces)[:, None]
    # What is held longer is drawn smaller, or most of the plans lead far away.
    chosen, spread = (np.add.reduceat(before, starts) / held)[None], limit / np.sqrt(held)
    # Only modules that make the picture can bring it nearer to the goal.
    counts = (goal.active | state.active)[0][:, None] / (0.05 + goal.variance[0])
    far = max(FAR, float((counts * (state.mean - goal.mean)[0] ** 2).sum()))
    soon = SOON * np.arange(len(before))
    for _ in range(rounds):
        # About each of the best, not about their mean: there may be several ways.
        drawn = rng.normal(chosen[rng.integers(len(chosen), size=samples)], spread).clip(
            -limit, limit)
        drawn[0] = found[starts]
        actions = np.repeat(drawn, pieces, 1)
        actions[0] = found                            # nothing worse than before
        way = model.imagine(state.repeated(samples), actions, HELD, pictures=False).mean
        apart = (counts * (way - goal.mean[:, None]) ** 2).sum((2, 3))
        lost = np.maximum(apart - far, 0.0).cumsum(1)
        if closed is not None:
            lost += NEVER * closed(actions).cumsum(1)
        # The driver stops where it arrives: what counts is the nearest moment, and when it is.
        apart += soon + lost
        order = np.argsort(apart.min(1))
        found, chosen = actions[order[0]].copy(), drawn[order[:best]]
        found[apart[order[0]].argmin() + 1:] = 0.0
        spread = SHRINK * chosen.std(0) + 0.01 * (limit > 0)
    return found


class Strip:
    """
    Floor across the straight way that a base must not enter; it knows so by its odometry.

    :param start: of the base.
    :param goal: of the base.
    """

    def __init__(self, start: Pose, goal: Pose) -> None:
        ends = np.array([[start.x, start.z], [goal.x, goal.z]])
        self.middle = ends.mean(0)
        ahead = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
        self.axes = np.array([ahead, [-ahead[1], ahead[0]]])

    def holds(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """:return: whether places on the floor lie in it."""
        return (np.abs((np.stack((x, z), -1) - self.middle) @ self.axes.T) < (DEEP, WIDE)).all(-1)

    def closed(self, pose: Pose, actions: np.ndarray) -> np.ndarray:
        """:return: (N, K), whether commands (N, K, 3) from a pose lead into it."""
        forward, left, rate = np.moveaxis(actions, -1, 0)
        turn = pose.turn + HELD * (rate.cumsum(1) - rate / 2)
        return self.holds(
            pose.x - HELD * (np.sin(turn) * forward + np.cos(turn) * left).cumsum(1),
            pose.z - HELD * (np.cos(turn) * forward - np.sin(turn) * left).cumsum(1))


class Camera:
    """
    The simulated robot.

    :param drive: its scene and where it starts.
    :param model: prepares its pictures.
    :param strip: where it stops short.
    """

    def __init__(self, drive: Drive, model: ImnModel, strip: Strip | None = None) -> None:
        self.drive, self.pose, self.model, self.strip = drive, drive.poses[0], model, strip
        self.noise = np.random.default_rng(0)

    def look(self) -> np.ndarray:
        """:return: (S, S, 3) uint8, as the model takes it."""
        view = self.drive.scene.view_from(
            np.array([self.pose.x, self.drive.height, self.pose.z]), self.pose.turn,
            self.drive.pitch, 0.0)
        return self.model.prepare(render(self.drive.scene, view, self.noise))

    def go(self, command: np.ndarray) -> None:
        """Hold a command."""
        pose = self.pose.moved(command, HELD)
        if self.strip is None or not self.strip.holds(np.array(pose.x), np.array(pose.z)):
            self.pose = pose


def away(picture: np.ndarray, goal: np.ndarray) -> float:
    """:return: squared error per pixel and channel, pixels in [0, 1]."""
    return float(np.square((picture.astype(float) - goal) / 255).mean())


def beside(drive: Drive, rng: np.random.Generator) -> Pose:
    """:return: a place that looks at the object from another side, which is in view."""
    (distance, bearing), start = relative(drive.scene, drive.poses[0]), drive.poses[0]
    distance = rng.uniform(NEAREST + 0.1, FARTHEST - 0.1)
    around = start.turn + bearing + rng.choice((-1, 1)) * rng.uniform(*AROUND)
    return Pose(drive.scene.solid.x + distance * sin(around),
                drive.scene.solid.z + distance * cos(around),
                around - rng.uniform(-IN_VIEW, IN_VIEW))


def task(seed: int, clip: int, base: str, shut: bool,
         arena: int = 0) -> tuple[Drive, Pose, Strip | None]:
    """:return: the scene with the start, the goal, and the strip between where there is one."""
    drive = clip_drive(seed, clip, LONG if shut else AWAY, arena)
    if base == 'differential':
        goal = beside(drive, np.random.default_rng((seed, clip)))
    elif shut:
        away = [np.hypot(*pose.seen_from(drive.poses[0])[:2]) for pose in drive.poses]
        goal = drive.poses[int(np.argmax(np.minimum(away, APART)))]
    else:
        goal = drive.poses[-1]
    return drive, goal, Strip(drive.poses[0], goal) if shut else None


def drive_to(camera: Camera, model: WorldModel, goal: np.ndarray, driver: str, limit: np.ndarray,
             near: float, rng: np.random.Generator) -> tuple[bool, int, list[float]]:
    """
    Drive until the picture looks like the goal's.

    :param driver: ``planner``, ``greedy`` or ``random``.
    :param limit: (3,) of the commands, either way.
    :param near: squared error at which it does.
    :return: whether it came to that, commands taken, and seconds of each plan.
    """
    wanted = model.observe(None, goal[None])
    times: list[float] = []
    pieces = PIECES if driver == 'planner' else (1,)
    commands = np.zeros((sum(pieces), 3))
    for done in range(MOST + 1):
        picture = camera.look()
        if away(picture, goal) < near:
            return True, done, times
        if done == MOST:
            break
        start = time.perf_counter()
        if driver == 'random':
            commands = rng.uniform(-limit, limit, (1, 3))
        else:
            closed = camera.strip and partial(camera.strip.closed, camera.pose)
            commands = plan(model, model.observe(None, picture[None]), wanted, rng,
                            np.concatenate((commands[1:], np.zeros((1, 3)))), limit, pieces,
                            closed)
        times.append(time.perf_counter() - start)
        camera.go(commands[0])
    return False, MOST, times


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', type=Path, required=True, metavar='FILE.onnx')
    parser.add_argument('--base', choices=LIMITS, default='omnidirectional')
    parser.add_argument('--strip', action='store_true', help='shut the straight way')
    parser.add_argument('--starts', type=int, default=50)
    parser.add_argument('--seed', type=int, default=100, help='of the scenes')
    parser.add_argument('--arena', type=int, default=0, help='the room that the model knows')
    parser.add_argument('--near', type=float, default=0.002,
                        help='squared error per pixel at which pictures look alike')
    options = parser.parse_args(arguments)
    if options.starts < 1:
        raise UserError(f'--starts is {options.starts}; it must be at least 1')
    perception, model = ImnModel(options.model, ['cpu']), WorldModel.load(options.model)
    if model.action_names != NAMES:
        raise UserError(f'{options.model} takes {", ".join(model.action_names)}; this example '
                        f'drives by {", ".join(NAMES)}')
    limit = LIMITS[options.base]
    drivers = ('planner', 'greedy', 'random')
    reached: dict[str, list[bool]] = {driver: [] for driver in drivers}
    taken: dict[str, list[int]] = {driver: [] for driver in drivers}
    apart: dict[str, list[float]] = {driver: [] for driver in drivers}
    times: list[float] = []
    bar = tqdm(range(options.starts), 'starts')
    for clip in bar:
        drive, target, strip = task(options.seed, clip, options.base, options.strip, options.arena)
        camera = Camera(drive, perception)
        camera.pose = target
        goal = camera.look()
        for driver in drivers:
            camera = Camera(drive, perception, strip)
            done, commands, seconds = drive_to(camera, model, goal, driver, limit, options.near,
                                               np.random.default_rng((options.seed, clip)))
            reached[driver].append(done)
            taken[driver].append(commands)
            apart[driver].append(float(np.hypot(camera.pose.x - target.x,
                                                camera.pose.z - target.z)))
            times += seconds if driver == 'planner' else []
        bar.set_postfix({driver: sum(reached[driver]) for driver in drivers})
    for driver in drivers:
        print(f'{driver:8} reached {sum(reached[driver])} of {options.starts}, '
              f'{np.mean(taken[driver]):.1f} commands of {HELD} s, place wrong '
              f'by {np.median(apart[driver]):.3f} m (median)')
    print(f'a plan takes {np.median(times):.3f} s (median), {np.max(times):.3f} s at most')


if __name__ == '__main__':
    run_cli(main)
