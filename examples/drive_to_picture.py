"""
Drive a simulated camera until its picture looks like a goal picture.

    python examples/drive_to_picture.py --model model.onnx --starts 50

The planner imagines what commands lead to and takes those whose way lies nearest to the goal in
the coordinates (cross-entropy method); after a few commands it looks again. Beside it drive one
that only thinks of the next command, and one that draws commands at random. The model is one that
`python -m imn_world_model.export` wrote of a run with a dynamics.
"""
import argparse
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from imn_world_model.base.cli import run_cli
from imn_world_model.base.errors import UserError
from imn_world_model.rendering.drive import Drive, clip_drive, relative
from imn_world_model.rendering.robot_camera import render
from imn_world_model.robot.inference import ImnModel
from imn_world_model.robot.world_model import State, WorldModel

NAMES = ('linear.x', 'linear.y', 'angular.z')
LIMIT = np.array([0.6, 0.7, 0.6])       # m/s, m/s, rad/s
HELD = 0.25                             # seconds that a command is held
AHEAD = 10                              # commands in a plan
DONE = 2                                # of them, before looking again
MOST = 32                               # commands until a driver gives up
AWAY = 4.0                              # seconds of driving from start to goal


def plan(model: WorldModel, state: State, goal: State, rng: np.random.Generator, ahead: int,
         rounds: int = 5, samples: int = 192, best: int = 16) -> np.ndarray:
    """:return: (ahead, 3) commands: what the best samples have in common, round after round."""
    middle, spread = np.zeros((ahead, 3)), np.tile(LIMIT, (ahead, 1))
    many = state.repeated(samples)
    # Only modules that make the picture can bring it nearer to the goal.
    counts = (goal.active | state.active)[0][:, None] / (0.05 + goal.variance[0])
    for _ in range(rounds):
        actions = np.clip(rng.normal(middle, spread, (samples, ahead, 3)), -LIMIT, LIMIT)
        way = model.imagine(many, actions, HELD, pictures=False).mean
        # All of the way counts, not its end alone: else arriving is put off again and again.
        cost = (counts * (way - goal.mean[:, None]) ** 2).sum((2, 3)).mean(1)
        chosen = actions[np.argsort(cost)[:best]]
        middle, spread = chosen.mean(0), chosen.std(0) + 0.01
    return middle


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


def drive_to(camera: Camera, model: WorldModel, goal: np.ndarray, driver: str, near: float,
             rng: np.random.Generator) -> tuple[bool, int, list[float]]:
    """
    Drive until the picture looks like the goal's.

    :param driver: ``planner``, ``greedy`` or ``random``.
    :param near: squared error at which it does.
    :return: whether it came to that, commands taken, and seconds of each plan.
    """
    wanted = model.observe(None, goal[None])
    times: list[float] = []
    done = 0
    while True:
        picture = camera.look()
        if away(picture, goal) < near:
            return True, done, times
        if done >= MOST:
            return False, done, times
        state, start = model.observe(None, picture[None]), time.perf_counter()
        if driver == 'random':
            commands = rng.uniform(-LIMIT, LIMIT, (DONE, 3))
        else:
            commands = plan(model, state, wanted, rng, AHEAD if driver == 'planner' else 1)[:DONE]
        times.append(time.perf_counter() - start)
        for command in commands:
            camera.go(command)
        done += len(commands)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', type=Path, required=True, metavar='FILE.onnx')
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
    drivers = ('planner', 'greedy', 'random')
    reached: dict[str, list[bool]] = {driver: [] for driver in drivers}
    taken: dict[str, list[int]] = {driver: [] for driver in drivers}
    apart: dict[str, list[float]] = {driver: [] for driver in drivers}
    times: list[float] = []
    bar = tqdm(range(options.starts), 'starts')
    for clip in bar:
        drive = clip_drive(options.seed, clip, AWAY, options.arena)
        camera = Camera(drive, perception)
        camera.pose = target = drive.poses[-1]
        goal = camera.look()
        for driver in drivers:
            camera = Camera(drive, perception)
            done, commands, seconds = drive_to(camera, model, goal, driver, options.near,
                                               np.random.default_rng((options.seed, clip)))
            reached[driver].append(done)
            taken[driver].append(commands)
            apart[driver].append(abs(relative(drive.scene, camera.pose)[0]
                                     - relative(drive.scene, target)[0]))
            times += seconds if driver == 'planner' else []
        bar.set_postfix({driver: sum(reached[driver]) for driver in drivers})
    for driver in drivers:
        print(f'{driver:8} reached {sum(reached[driver])} of {options.starts}, '
              f'{np.mean(taken[driver]):.1f} commands of {HELD} s, distance to the object wrong '
              f'by {np.median(apart[driver]):.3f} m (median)')
    print(f'a plan takes {np.median(times):.3f} s (median), {np.max(times):.3f} s at most')


if __name__ == '__main__':
    run_cli(main)
