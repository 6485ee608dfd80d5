"""
Many objects enrolled one after another: how much of what was known is forgotten.

The objects are those of :mod:`enroll` that training never saw, as they are and painted: there are
only eight of them, and a model does not know a red cow for a brown one. Each is enrolled from the
first recording, and painted alike in the last, where all are judged.
"""
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from imn_world_model.data.frames import Frames
from imn_world_model.enrolment.enrol import enrol
from imn_world_model.robot.inference import ImnModel

# Hues of the paint, in degrees.
HUES = range(0, 360, 30)
# Of the paint in [0, 1]; and how much of each colour it lets through at least.
SATURATION, LEAST = 0.8, 0.25
# Difference of an object's colour from the backdrop's, summed over the a and b of Lab.
APART = 24
# Enrolments after which all are judged.
STOPS = (8, 25, 50, 100)
BATCH = 32


def run(path: Path, out: Path, learn: Frames, judge: Frames, new: np.ndarray,
        count: int) -> dict[str, float]:
    """
    Enrol objects in a row; a line each time they are judged.

    :param path: the model.
    :param out: where the model goes that knows them all.
    :param learn: training recordings.
    :param judge: the last recording.
    :param new: numbers of the objects that training never saw.
    :param count: enrolments.
    :return: figure -> value.
    """
    figures: dict[str, float] = {}
    truth = np.array(judge.label_names['object'])[judge.labels['object']]
    old_rows = np.flatnonzero(~np.isin(judge.labels['object'], new))
    tests: list[tuple[str, np.ndarray]] = []
    model, seconds = path, list[float]()
    print('| enrolled | old ones | new ones | seconds (median) |\n|---|---|---|---|', flush=True)

    def judged() -> None:
        named = ImnModel(model, ['cpu'], threads=1)
        old = _right(named, judge.images[old_rows], truth[old_rows])
        figures[f'old after {len(tests)}'] = old
        line = f'| {len(tests)} | {old:.3f} |'
        if tests:
            figures[f'new after {len(tests)}'] = float(np.mean(
                [_right(named, images, np.full(len(images), label)) for label, images in tests]))
            line += f' {figures[f"new after {len(tests)}"]:.3f} | {np.median(seconds):.0f} |'
        print(line, flush=True)

    judged()
    for label, number, hue in _looks(learn, new, count):
        rows = np.flatnonzero((learn.labels['object'] == number) & (learn.source == 0))
        start = time.monotonic()
        enrol(model, painted(learn.images[rows], hue), label, out, anyway=True, progress=False)
        seconds.append(time.monotonic() - start)
        model = out
        rows = np.flatnonzero(judge.labels['object'] == number)
        tests.append((label, painted(judge.images[rows], hue)))
        if len(tests) in STOPS or len(tests) == count:
            judged()
    return figures


def painted(images: np.ndarray, hue: int | None) -> np.ndarray:
    """
    Paint what stands before a plain backdrop.

    :param images: (K, S, S, 3) uint8.
    :param hue: in degrees; ``None`` leaves them as they are.
    """
    if hue is None:
        return images
    paint = cv2.cvtColor(np.array([[[hue, SATURATION, 1]]], np.float32), cv2.COLOR_HSV2RGB)
    return np.stack([_painted(image, LEAST + (1 - LEAST) * paint) for image in images])


def _painted(image: np.ndarray, paint: np.ndarray) -> np.ndarray:
    colour = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[..., 1:].astype(int)
    edge = np.concatenate((colour[0], colour[-1], colour[:, 0], colour[:, -1]))
    light = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(int)
    rim = np.concatenate((light[0], light[-1], light[:, 0], light[:, -1]))
    apart = (np.abs(colour - np.median(edge, axis=0)).sum(2)
             + np.abs(light - np.median(rim))) > APART
    shown: np.ndarray = np.where(apart[..., None], (image * paint).astype(np.uint8), image)
    return shown


def _looks(learn: Frames, new: np.ndarray, count: int) -> Iterator[tuple[str, int, int | None]]:
    """:return: label, number and hue of each object, those as they are first."""
    names = learn.label_names['object']
    every = [(names[number] if hue is None else f'{names[number]} {hue}', int(number), hue)
             for hue in (None, *HUES) for number in new]
    yield from every[:count]


def _right(model: ImnModel, images: np.ndarray, labels: np.ndarray) -> float:
    """:return: share of images (K, S, S, 3) that are named by their labels (K,)."""
    named = [label for start in range(0, len(images), BATCH)
             for label in model.predict(images[start:start + BATCH]).label]
    return float(np.mean(np.array(named) == labels))
