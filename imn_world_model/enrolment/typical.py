"""What an identity looks like: the pictures of a log that a model finds most typical of it."""
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from imn_world_model.data.frames import DataOptions, load_frames
from imn_world_model.data.regions import Regions
from imn_world_model.robot.inference import ImnModel

# Pictures of each identity.
COUNT = 8
BATCH = 16
# From this confidence on, no two identities tie.
SURE = 0.5


@dataclass(frozen=True)
class Shown:
    """
    An identity in pictures.

    :param number: of the identity.
    :param label: its present name.
    :param won: images of the log that it won.
    :param novel: how many of them are novel by the model's thresholds.
    :param pictures: (K, S, S, 3) uint8, the most typical first; K at most :data:`COUNT`.
    """

    number: int
    label: str
    won: int
    novel: int
    pictures: np.ndarray


def typical(model: ImnModel, paths: list[Path], topics: tuple[str, ...] = ()) -> list[Shown]:
    """
    Answer all frames of a log and choose pictures of every identity.

    Frames are cut and resized as the model does it for `infer`.

    :param model: an exported model.
    :param paths: whatever train reads.
    :param topics: globs of image topics; empty for all.
    :return: an entry for each of the n identities, those that won most images first.
    :raises UserError: when nothing in there is readable.
    """
    frames = load_frames(paths, DataOptions(
        size=model.image_size, crop=model.crop, topics=topics, still=0.0,
        regions=Regions(**model.regions)))
    for note in frames.notes:
        print(note, file=sys.stderr)
    count = len(frames.images)
    identity, unsure = np.zeros(count, np.int64), np.zeros(count, bool)
    novel, far, score = np.zeros(count, bool), np.zeros(count), np.zeros(count)
    with tqdm(total=count, desc=model.name, unit=' frames') as bar:
        for start in range(0, count, BATCH):
            rows = slice(start, min(start + BATCH, count))
            winner = model.predict(frames.images[rows])
            identity[rows], novel[rows] = winner.identity, winner.novel
            unsure[rows] = winner.confidence < SURE
            far[rows], score[rows] = winner.strangeness, winner.score
            bar.update(len(winner.identity))
    if not far.any():                                 # a model that tells no strangeness
        far = -score
    shown = []
    for number, label in enumerate(model.labels):
        won = np.flatnonzero(identity == number)
        rank = np.argsort(np.lexsort((far[won], unsure[won] | novel[won])))
        best = won[varied(rank, frames.clip[won], COUNT)]
        shown.append(Shown(number, label, len(won), int(novel[won].sum()), frames.images[best]))
    return sorted(shown, key=lambda one: (-one.won, one.number))


def varied(rank: np.ndarray, clip: np.ndarray, count: int) -> np.ndarray:
    """
    Choose good frames of many clips, and of different parts of a clip where there are few.

    :param rank: (K,), lowest is best.
    :param clip: (K,) clip of each frame; frames of a clip lie in order of time.
    :param count: how many at most.
    :return: rows, the best of every part first.
    """
    if not len(rank):
        return np.zeros(0, np.int64)
    names, clip = np.unique(clip, return_inverse=True)
    parts = -(-count // len(names))
    part = np.zeros(len(rank), np.int64)
    for number in range(len(names)):
        rows = np.flatnonzero(clip == number)
        part[rows] = number * parts + np.arange(len(rows)) * parts // len(rows)
    turn = np.zeros(len(rank), np.int64)
    for number in np.unique(part):
        rows = np.flatnonzero(part == number)
        turn[rows] = np.argsort(np.argsort(rank[rows], kind='stable'), kind='stable')
    chosen: np.ndarray = np.lexsort((rank, turn))[:count]
    return chosen
