"""What a run imagines beside what came, as a film and as strips."""
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from imn_world_model.base.cli import atomic_path
from imn_world_model.base.errors import UserError
from imn_world_model.learning.run import Run
from imn_world_model.model.observe import pixels
from imn_world_model.model.pictures import grid
from imn_world_model.prediction.fitting import cut
from imn_world_model.prediction.transitions import (
    Transitions,
    require_windows,
)
from imn_world_model.robot.world_model import WorldModel

SCALE = 6                               # pixels of the film for one of the model's
HEAD = 26                               # rows for words
DIFFERENCE = 3                          # differences are shown so many times as large
STRIP = 12                              # pictures in a strip
SPLITS = {'train': 0, 'validation': 1, 'test': 2}


@dataclass(frozen=True)
class Told:
    """
    One clip as it was and as it was imagined, K frames.

    :param truth: (K, H, W, 3) uint8.
    :param imagined: (K, H, W, 3) uint8; of the frames that were seen, what was believed then.
    :param seen: how many were seen.
    :param seconds: (K,) since the first.
    """

    truth: np.ndarray
    imagined: np.ndarray
    seen: int
    seconds: np.ndarray


def tell(run: Run, model: WorldModel, data: Transitions, start: int, seen: int,
         steps: int) -> Told:
    """
    See some frames and imagine what follows.

    :param run: the perception.
    :param model: with its dynamics.
    :param data: transitions.
    :param start: first frame.
    :param seen: frames that are seen.
    :param steps: that are imagined.
    """
    window = cut(data, np.array([start]), seen, steps)
    images = data.images[window.rows[0]]
    action, seconds = window.action[0].numpy(), window.seconds[0].numpy()
    state, shown = None, []
    for k, image in enumerate(images):
        if state is not None:
            state = model.predict(state, action[k - 1], float(seconds[k - 1]))
        if k < seen:
            state = model.observe(state, image[None])
        assert state is not None
        shown.append(model.picture(state)[0])
    truth = run.network.reduced(pixels(images)).mul(255).round().byte().movedim(1, -1).numpy()
    return Told(truth, np.stack(shown), seen, np.append(0.0, np.cumsum(seconds)))


def difference(told: Told) -> np.ndarray:
    """:return: (K, H, W, 3) uint8, how far the pictures lie apart, magnified."""
    gap = np.abs(told.truth.astype(np.int16) - told.imagined) * DIFFERENCE
    return np.clip(gap, 0, 255).astype(np.uint8)


def film(told: Told) -> Iterator[np.ndarray]:
    """:return: frames (H', W', 3) uint8 RGB: truth, imagination, difference."""
    away = difference(told)
    for k in range(len(told.truth)):
        tiles = [cv2.resize(picture[k], None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_NEAREST)
                 for picture in (told.truth, told.imagined, away)]
        panel = np.hstack(tiles)
        head = np.full((HEAD, panel.shape[1], 3), 255, np.uint8)
        what = (f'seen {k + 1} of {told.seen}' if k < told.seen
                else f'imagined, step {k + 1 - told.seen}')
        words = (f'truth, {told.seconds[k]:.1f} s', what, f'difference x{DIFFERENCE}')
        for number, text in enumerate(words):
            cv2.putText(head, text, (6 + number * tiles[0].shape[1], 18),
                        cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        yield np.vstack((head, panel))


def strips(tales: list[Told]) -> np.ndarray:
    """:return: one picture: truth, imagination and difference of each clip over time."""
    rows = []
    for told in tales:
        # The last frame seen, then what was imagined, evenly to the end.
        chosen = np.unique(np.linspace(told.seen - 1, len(told.truth) - 1, STRIP).astype(int))
        rows += [told.truth[chosen], told.imagined[chosen], difference(told)[chosen]]
    return grid(rows)


def write_film(path: Path, frames: Iterator[np.ndarray], rate: float) -> None:
    """
    Write an MP4.

    :param path: of the file.
    :param frames: (H, W, 3) uint8 RGB, all of one size.
    :param rate: frames per second.
    :raises UserError: when this OpenCV cannot write it.
    """
    with atomic_path(path) as scratch:
        writer = None
        for frame in frames:
            if writer is None:
                writer = cv2.VideoWriter(str(scratch), cv2.VideoWriter.fourcc(*'mp4v'), rate,
                                         (frame.shape[1], frame.shape[0]))
                if not writer.isOpened():
                    raise UserError(f'{path} cannot be written: this OpenCV makes no MP4; install '
                                    'opencv-python-headless')
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        if writer is not None:
            writer.release()


def choose(data: Transitions, split: int | None, seen: int, steps: int, clips: int) -> np.ndarray:
    """:return: first frames of so many clips, spread over those that are long enough."""
    starts = require_windows(data, split, seen - 1 + steps, 'clip')
    first = starts[np.unique(data.clip[starts], return_index=True)[1]]
    return first[np.unique(np.linspace(0, len(first) - 1, clips).round().astype(int))]
