"""
What a model and its tracks say of several objects: in true boxes, in boxes found without a model.

Answers are those that the node publishes on ``objects``: of each track, what its pictures agree
on. Recordings are those of :mod:`scenes` whose ground truth names the objects (``object`` or
``shape``); the model's labels must be these names (``export --label object``). Names are for
judging only.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from imn_world_model.base.errors import UserError
from imn_world_model.bench.scenes import ENOUGH, TOPICS, TRUTH, recordings
from imn_world_model.data.raw import Source, SourceReport
from imn_world_model.data.sources import find_sources, read_frames
from imn_world_model.robot.inference import ImnModel
from imn_world_model.vision.following import Follower
from imn_world_model.vision.overlaps import overlap
from imn_world_model.vision.prompt import PromptProposals
from imn_world_model.vision.regions import Box, Region, cut

# What names an object in ground truth.
NAMES = ('object', 'shape')
# Nanoseconds without a picture after which an object is a new one.
PAUSE = 1_500_000_000

Objects = list[tuple[str, Box]]
Finder = Callable[[float, np.ndarray, Objects], list[Region]]


@dataclass
class Count:
    """
    What became of the objects that were found.

    :param found: how many, over all pictures.
    :param right: of these, whose track bears their name.
    :param right_keys: stamp and name of these.
    :param keys: the same of all that were found.
    :param switches: times that an object's track was another than in its picture before.
    """

    found: int = 0
    right: int = 0
    switches: int = 0
    keys: set[tuple[int, str]] = field(default_factory=set)
    right_keys: set[tuple[int, str]] = field(default_factory=set)


def run(folder: Path, model: ImnModel) -> dict[str, float]:
    """
    Answer every recording twice, and print a line for each.

    :param folder: of the recordings, or one.
    :param model: whose labels are the objects' names.
    :return: figure -> value.
    :raises UserError: where no recording names what the model knows.
    """
    print('| recording | found | named rightly, true boxes | found boxes | true boxes of the same '
          '| switches in 100 pictures of a track, true boxes | found boxes |\n'
          '|---|---|---|---|---|---|---|', flush=True)
    figures: dict[str, float] = {}
    for path in recordings(folder):
        for source in find_sources([path]):
            truth = named_boxes(source)
            if not {name for there in truth.values() for name, _ in there} & set(model.labels):
                continue
            given = follow(source, truth, model, in_true_boxes)
            found = follow(source, truth, model, by_themselves())
            same = len(found.keys & given.right_keys) / max(1, len(found.keys))
            name = f'{path.parent.name}/{path.name}'
            values = {'found': found.found / max(1, given.found),
                      'right in true boxes': given.right / max(1, given.found),
                      'right in found boxes': found.right / max(1, found.found),
                      'right in true boxes of the same': same,
                      'switches in true boxes': 100 * given.switches / max(1, given.found),
                      'switches in found boxes': 100 * found.switches / max(1, found.found)}
            figures |= {f'{name} {key}': value for key, value in values.items()}
            print(f'| {name} | ' + ' | '.join(f'{value:.3f}' for value in values.values()) + ' |',
                  flush=True)
    if not figures:
        raise UserError(f'no recording in {folder} names an object that {model.name} has a label '
                        'for; export the model with --label object')
    return figures


def named_boxes(source: Source) -> dict[int, Objects]:
    """:return: stamp -> name and true box of each object with pixels in the picture."""
    report = SourceReport()
    for _ in read_frames(source, TOPICS, TRUTH, report):
        pass
    boxes: dict[int, Objects] = {}
    for stamp, labels in report.truth.items():
        boxes[stamp] = [
            (str(next(each[key] for key in NAMES if key in each)), tuple(each['box']))
            for each in labels.get('objects', [labels])
            if any(key in each for key in NAMES) and each.get('box') and min(each['box'][2:]) > 0]
    return boxes


def follow(source: Source, truth: dict[int, Objects], model: ImnModel, find: Finder) -> Count:
    """
    Go through a recording as the node does.

    :param source: with pictures of one camera.
    :param truth: stamp -> objects.
    :param model: that answers.
    :param find: from a picture's time, the picture and what is there to regions.
    """
    follower, count, last, before = Follower(), Count(), dict[str, int](), 0
    for frame in read_frames(source, TOPICS, None, SourceReport()):
        if frame.stamp - before > PAUSE:
            last = {}
        before = frame.stamp
        there, rgb = truth.get(frame.stamp, []), frame.load(None)
        regions = find(frame.stamp * 1e-9, rgb, there)
        boxes = [region.box for region in regions]
        identities: list[int] = []
        confidences: list[float] = []
        if regions:
            winner = model.predict(np.stack([cut(rgb, region, model.image_size, model.crop)
                                             for region in regions]))
            identities, confidences = winner.identity.tolist(), winner.confidence.tolist()
        tracks = follower.update(frame.stamp * 1e-9, boxes, identities, confidences)
        for row, (name, _) in pairs(boxes, there):
            key, track = (frame.stamp, name), tracks[row]
            count.found += 1
            count.keys.add(key)
            if model.labels[track.identity] == name:
                count.right += 1
                count.right_keys.add(key)
            count.switches += last.get(name, track.number) != track.number
            last[name] = track.number
        # An object that is away for a whole picture is a new one when it comes again.
        last = {name: last[name] for name, _ in there if name in last}
    return count


def in_true_boxes(time: float, rgb: np.ndarray, there: Objects) -> list[Region]:
    """:return: what a perfect detector would tell."""
    return [Region(box) for _, box in there]


def by_themselves() -> Finder:
    """:return: a finder that is told nothing of what is there."""
    proposals = PromptProposals()

    def find(time: float, rgb: np.ndarray, there: Objects) -> list[Region]:
        regions = proposals(time, rgb)
        proposals.learn()
        return regions
    return find


def pairs(boxes: Sequence[Box], there: Objects) -> list[tuple[int, tuple[str, Box]]]:
    """:return: row of the box that each object was found in, and the object."""
    left, found = list(range(len(boxes))), []
    for each in there:
        best = max(left, key=lambda row: overlap(boxes[row], each[1]), default=None)
        if best is not None and overlap(boxes[best], each[1]) >= ENOUGH:
            left.remove(best)
            found.append((best, each))
    return found
