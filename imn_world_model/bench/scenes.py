"""
Where objects are, found without a model, against true boxes; a line for each recording.

The folder is a recording, such as ``simulate --objects 3`` makes, or holds ``scene`` (one object
before a background that moves), ``several`` (some) and ``tools`` (a still table), or some of them;
in each, recordings with a topic ``/ground_truth`` of JSON strings (``box``, or ``objects`` with a
``box`` each: x, y, width, height in pixels). An object less than :data:`SEEN` of which is
``visible`` need not be found, and may be. Without true boxes, as in ``tools``, regions are
compared with those of ``--regions auto``, which knows the whole recording. Every recording is
seen once, from its start, as a robot would.
"""
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imn_world_model.base.errors import UserError
from imn_world_model.data.raw import Source, SourceReport
from imn_world_model.data.regions import Regions, finder
from imn_world_model.data.sources import find_sources, read_frames
from imn_world_model.vision.overlaps import overlap
from imn_world_model.vision.prompt import PromptProposals
from imn_world_model.vision.regions import Box

TRUTH = '/ground_truth'
TOPICS = ('/camera/*',)
FOLDERS = ('scene', 'several', 'tools')
# Intersection over union from which on a region counts as the object.
ENOUGH = 0.5
# Share of an object that must be visible, or it need not be found.
SEEN = 0.25


def run(folder: Path) -> dict[str, float]:
    """
    Look at every recording, and print a line for each.

    :param folder: of the recordings.
    :return: figure -> value.
    :raises UserError: for a folder without recordings.
    """
    print('| recording | pictures | recall | precision | all objects of a picture right '
          '| milliseconds |\n|---|---|---|---|---|---|', flush=True)
    figures: dict[str, float] = {}
    for path in recordings(folder):
        name = f'{path.parent.name}/{path.name}'
        for source in find_sources([path]):
            found, milliseconds = regions_of(source)
            boxes, hidden = true_boxes(source)
            against = 'true boxes' if boxes else '--regions auto'
            counts = np.array([matched(found[stamp], of, hidden.get(stamp, []))
                               for stamp, of in (boxes or still_boxes(source)).items()
                               if stamp in found])
            hits, answered, there = counts.sum(0)
            right = (counts[:, 0] == counts[:, 2]).mean()
            figures |= {f'{name} recall': hits / there, f'{name} precision': hits / answered,
                        f'{name} milliseconds': milliseconds}
            print(f'| {name}, {against} | {len(counts)} | {hits / there:.3f} '
                  f'| {hits / answered:.3f} | {right:.3f} | {milliseconds:.1f} |', flush=True)
    return figures


def recordings(folder: Path) -> list[Path]:
    """:return: the recordings in a folder, or the recording that it is."""
    found = [path for name in FOLDERS for path in sorted((folder / name).glob('*'))]
    if not found and (folder / 'metadata.yaml').is_file():
        found = [folder.resolve()]
    if not found:
        raise UserError(f'{folder} is no recording and holds none of {", ".join(FOLDERS)} with '
                        'recordings in them')
    return found


def regions_of(source: Source) -> tuple[dict[int, list[Box]], float]:
    """
    Go through a recording as a robot would.

    :param source: with pictures of one camera.
    :return: stamp -> boxes; median milliseconds for a picture.
    """
    proposals = PromptProposals()
    found: dict[int, list[Box]] = {}
    times = []
    for frame in read_frames(source, TOPICS, None, SourceReport()):
        rgb = frame.load(None)
        started = time.perf_counter()
        regions = proposals(frame.stamp * 1e-9, rgb)
        times.append(time.perf_counter() - started)
        proposals.learn()
        found[frame.stamp] = [region.box for region in regions]
    return found, 1e3 * float(np.median(times))


def true_boxes(source: Source) -> tuple[dict[int, list[Box]], dict[int, list[Box]]]:
    """
    Read ground truth.

    :return: stamp -> true boxes with pixels in the picture; the same of objects that are nearly
        hidden; both empty without ground truth.
    """
    report = SourceReport()
    for _ in read_frames(source, TOPICS, TRUTH, report):
        pass
    boxes: dict[int, list[Box]] = {}
    hidden: dict[int, list[Box]] = {}
    for stamp, labels in report.truth.items():
        for each in labels.get('objects', [labels]):
            if each.get('box') and min(each['box'][2:]) > 0:
                kind = boxes if each.get('visible', 1.0) >= SEEN else hidden
                kind.setdefault(stamp, []).append(each['box'])
    return boxes, hidden


def still_boxes(source: Source) -> dict[int, list[Box]]:
    """:return: stamp -> the region that differs from the median of the whole recording."""
    find = finder(source, TOPICS, Regions(auto=True))
    assert find is not None
    boxes = {}
    for frame in read_frames(source, TOPICS, None, SourceReport()):
        region = find(frame, frame.load(None))
        if region is not None:
            boxes[frame.stamp] = [region.box]
    return boxes


def matched(found: list[Box], there: list[Box], hidden: Sequence[Box] = ()
            ) -> tuple[int, int, int]:
    """
    Count the objects that were found, each region for one object at most.

    :param found: boxes.
    :param there: true boxes.
    :param hidden: true boxes that count neither as missed nor, when found, as wrong.
    :return: how many were found; how many boxes and how many true boxes there are.
    """
    left, hits = list(found), 0
    for box in there:
        hits += _take(left, box)
    for box in hidden:
        _take(left, box)
    return hits, hits + len(left), len(there)


def _take(left: list[Box], box: Box) -> bool:
    """:return: whether one of the boxes is where another is; it is then left no more."""
    best = max(left, key=lambda each: overlap(each, box), default=None)
    if best is None or overlap(best, box) < ENOUGH:
        return False
    left.remove(best)
    return True
