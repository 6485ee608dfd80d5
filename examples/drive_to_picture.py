"""
Drive a simulated camera until its picture looks like a goal picture.

    python examples/drive_to_picture.py --model model.onnx --starts 50 --base differential

The planner imagines what commands lead to and takes those that end nearest to the goal in the
coordinates (cross-entropy method). After each command it looks again and goes on from what is left
of its plan. Beside it drive one that only thinks of the next command, by the same means, and one
that draws commands at random. The model is one that `python -m imn_world_model.export` wrote of a
run with a dynamics.
"""
import argparse
import time
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
# Of a plan: how many times each of its commands is held; what comes later is planned coarsely.
PIECES = (1, 1, 2, 4)
MOST = 16                               # commands until a driver gives up
AWAY = 4.0                              # seconds of driving from start to goal
IN_VIEW = 0.3                           # radians off the axis
ASIDE = 0.15                            # metres at least
ON_THE_WAY = 1.0                        # weight of the way beside its end: arrive, and soon


def plan(model: WorldModel, state: State, goal: State, rng: np.random.Generator,
         before: np.ndarray, limit: np.ndarray, pieces: tuple[int, ...], rounds: int = 8,
         samples: int = 192, best: int = 24) -> np.ndarray:
    """
    Plan by the cross-entropy method.

    :param before: (K, 3) commands to begin with: what is left of the last plan.
    :param limit: (3,) of the commands, either way.
    :param pieces: how many times each command is held, K altogether.
    :return: (K, 3) commands, the best that were found.
    """
    found, starts = before, np.cumsum(pieces) - np.array(pieces)
    held = np.array(pieces)[:, None]
    # What is held longer is drawn smaller, or most of the plans lead far away.
    middle, spread = np.add.reduceat(before, starts) / held, limit / held
    # Only modules that make the picture can bring it nearer to the goal.
    counts = (goal.active | state.active)[0][:, None] / (0.05 + goal.variance[0])
    for _ in range(rounds):
        drawn = np.clip(rng.normal(middle, spread, (samples, *middle.shape)), -limit, limit)
        drawn[0], drawn[1], drawn[2] = found[starts], middle, 0.0   # 0: to stand still
        drawn[3::4, 1:] = 0.0                         # what thinks of the next command alone
        actions = np.repeat(drawn, pieces, 1)
        actions[0] = found                            # nothing worse than before
        way = model.imagine(state.repeated(samples), actions, HELD, pictures=False).mean
        apart = (counts * (way - goal.mean[:, None]) ** 2).sum((2, 3))
        order = np.argsort(apart[:, -1] + ON_THE_WAY * apart.mean(1))
        found, chosen = actions[order[0]], drawn[order[:best]]
        middle, spread = chosen.mean(0), chosen.std(0) + 0.01
    return found


class Camera:
    """
    The simulated robot.

    :param drive: its scene and where it starts.
    :param model: prepares its pictures.
    """

    def __init__(self, drive: Drive, model: ImnModel) -> None:
        self.drive, self.pose, self.model = drive, drive.poses[0], model
        self.noise = np.random.default_rng(0)

    def look(self) -> np.ndarray:
        """:return: (S, S, 3) uint8, as the model takes it."""
        view = self.drive.scene.view_from(
            np.array([self.pose.x, self.drive.height, self.pose.z]), self.pose.turn,
            self.drive.pitch, 0.0)
        return self.model.prepare(render(self.drive.scene, view, self.noise))

    def go(self, command: np.ndarray) -> None:
        """Hold a command."""
        self.pose = self.pose.moved(command, HELD)


def away(picture: np.ndarray, goal: np.ndarray) -> float:
    """:return: squared error per pixel and channel, pixels in [0, 1]."""
    return float(np.square((picture.astype(float) - goal) / 255).mean())


def parked(drive: Drive, limit: np.ndarray, rng: np.random.Generator) -> Pose:
    """:return: a place aside that a base reaches without going sideways, the object in view."""
    while True:
        pose = drive.poses[0]
        for command in rng.uniform(-limit, limit, (round(AWAY), 3)):
            pose = pose.moved(command, 1.0)
            distance, bearing = relative(drive.scene, pose)
            if not (NEAREST < distance < FARTHEST and abs(bearing) < IN_VIEW):
                break
        else:
            if abs(pose.seen_from(drive.poses[0])[1]) > ASIDE:
                return pose


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
            commands = plan(model, model.observe(None, picture[None]), wanted, rng,
                            np.concatenate((commands[1:], np.zeros((1, 3)))), limit, pieces)
        times.append(time.perf_counter() - start)
        camera.go(commands[0])
    return False, MOST, times


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', type=Path, required=True, metavar='FILE.onnx')
    parser.add_argument('--base', choices=LIMITS, default='omnidirectional')
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
        drive = clip_drive(options.seed, clip, AWAY, options.arena)
        camera = Camera(drive, perception)
        camera.pose = target = drive.poses[-1] if limit[1] else parked(
            drive, limit, np.random.default_rng((options.seed, clip)))
        goal = camera.look()
        for driver in drivers:
            camera = Camera(drive, perception)
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
