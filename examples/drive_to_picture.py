"""
Drive a simulated camera until its picture looks like a goal picture.

    python examples/drive_to_picture.py --model model.onnx --starts 50 --base differential

The planner imagines what commands lead to and takes those that come nearest to the goal in the
coordinates (cross-entropy method). It does what it planned, looks after every command whether it
is there, and plans anew when the plan is through. Beside it drive one that only thinks of the next
command, by the same means, and one that draws commands at random. The model is one that
`python -m imn_world_model.export` wrote of a run with a dynamics.
"""
import argparse
import time
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
MOST = 48                               # commands until a driver gives up
AWAY = 4.0                              # seconds of driving from start to goal
IN_VIEW = 0.13                          # radians off the axis
AROUND = (0.12, 0.18)                   # radians about the object, to a goal beside the start
LOOK = 0.1                              # radians that the object wanders in plans that are drawn
ABOUT = 1.8                             # metres to the object, for draws alone
SOON = 0.1                              # squared distance that arriving one command later costs
FAR = 250.0                             # squared distance beyond which the flow knows little


def plan(model: WorldModel, state: State, goal: State, rng: np.random.Generator,
         limit: np.ndarray, pieces: tuple[int, ...], rounds: int = 16, samples: int = 256,
         best: int = 24) -> np.ndarray:
    """
    Plan by the cross-entropy method.

    What is drawn is forward, left and how far the object has wandered across the picture: a turn
    alone would move it in all that follows.

    :param limit: (3,) of the commands, either way.
    :param pieces: how many times each command is held.
    :return: (K, 3) commands until the nearest moment of the best plan that was found.
    """
    seconds = HELD * np.array(pieces)
    chosen, spread = np.zeros((1, len(pieces), 3)), np.array([*limit[:2], LOOK])
    least = 0.01 * (spread > 0)
    # Only modules that make the picture can bring it nearer to the goal.
    counts = (goal.active | state.active)[0][:, None] / (0.05 + goal.variance[0])
    far = max(FAR, float((counts * (state.mean - goal.mean)[0] ** 2).sum()))
    for _ in range(rounds):
        # About each of the best, not about their mean: there may be several ways.
        drawn = rng.normal(chosen[rng.integers(len(chosen), size=samples)], spread)
        drawn[0], drawn[..., :2] = chosen[0], drawn[..., :2].clip(-limit[:2], limit[:2])
        turn = np.diff(drawn[..., 2], axis=1, prepend=0.0) / seconds - drawn[..., 1] / ABOUT
        actions = np.concatenate((drawn[..., :2], turn[..., None]), 2).clip(-limit, limit)
        actions = np.repeat(actions, pieces, 1)
        way = model.imagine(state.repeated(samples), actions, HELD, pictures=False).mean
        apart = (counts * (way - goal.mean[:, None]) ** 2).sum((2, 3))
        # The driver stops where it arrives: what counts is the nearest moment, and when it is.
        apart += np.maximum(apart - far, 0.0).cumsum(1) + SOON * np.arange(actions.shape[1])
        order = np.argsort(apart.min(1))
        chosen = drawn[order[:best]]
        spread = 0.8 * chosen.std(0) + least
    return actions[order[0], :apart[order[0]].argmin() + 1]


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


def beside(drive: Drive, rng: np.random.Generator) -> Pose:
    """:return: a place that looks at the object from another side, which is in view."""
    (distance, bearing), start = relative(drive.scene, drive.poses[0]), drive.poses[0]
    distance = rng.uniform(NEAREST + 0.1, FARTHEST - 0.1)
    around = start.turn + bearing + rng.choice((-1, 1)) * rng.uniform(*AROUND)
    return Pose(drive.scene.solid.x + distance * sin(around),
                drive.scene.solid.z + distance * cos(around),
                around - rng.uniform(-IN_VIEW, IN_VIEW))


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
    commands = np.zeros((0, 3))
    for done in range(MOST + 1):
        picture = camera.look()
        if away(picture, goal) < near:
            return True, done, times
        if done == MOST:
            break
        if driver == 'random':
            commands = rng.uniform(-limit, limit, (1, 3))
        elif not len(commands):
            start = time.perf_counter()
            commands = plan(model, model.observe(None, picture[None]), wanted, rng, limit, pieces)
            times.append(time.perf_counter() - start)
        camera.go(commands[0])
        commands = commands[1:]
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
        camera.pose = target = drive.poses[-1] if limit[1] else beside(
            drive, np.random.default_rng((options.seed, clip)))
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
