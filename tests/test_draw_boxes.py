"""Boxes drawn by hand come into a recording, and nothing else of it changes."""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recordings import COMPRESSED, STORE, STRING, compressed, write_bag

from imn_world_model.bench.scenes import true_boxes
from imn_world_model.data.raw import SourceReport
from imn_world_model.data.sources import find_sources, read_frames

TOOL = Path(__file__).parent.parent / 'tools' / 'draw_boxes.py'
IMAGES, TRUTH = '/camera/image/compressed', '/ground_truth'


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """:return: a recording of two pictures with the names of what they show."""
    text = STORE.types[STRING]
    messages: list[tuple[str, str, int, object]] = []
    for stamp in (10 ** 9, 2 * 10 ** 9):
        picture = np.full((24, 32, 3), 90, np.uint8)
        labels = json.dumps({'stamp': stamp, 'object': 'cup'})
        messages += [(IMAGES, COMPRESSED, stamp, compressed(picture, stamp)),
                     (TRUTH, STRING, stamp, text(data=labels))]
    return write_bag(tmp_path / 'log', messages)


def draw(*arguments: object) -> subprocess.CompletedProcess:
    """:return: what came of a call."""
    return subprocess.run([sys.executable, str(TOOL), *map(str, arguments)], text=True,
                          capture_output=True)


def test_drawn_boxes_are_ground_truth_and_the_rest_is_as_it_was(tmp_path: Path, log: Path) -> None:
    (tmp_path / 'boxes.json').write_text(json.dumps({str(10 ** 9): [3, 4, 10, 12]}))
    done = draw(log, tmp_path / 'boxes.json', tmp_path / 'out')
    assert done.returncode == 0, done.stderr
    (before,), (after,) = (find_sources([path]) for path in (log, tmp_path / 'out'))
    boxes, _ = true_boxes(after)
    assert boxes == {10 ** 9: [[3, 4, 10, 12]]} and not true_boxes(before)[0]
    report = SourceReport()
    frames = [(frame.stamp, frame.load(None)) for frame in
              read_frames(after, (IMAGES,), TRUTH, report)]
    assert [labels['object'] for labels in report.truth.values()] == ['cup', 'cup']
    for (stamp, rgb), own in zip(frames, read_frames(before, (IMAGES,), None, SourceReport()),
                                 strict=True):
        assert stamp == own.stamp
        np.testing.assert_array_equal(rgb, own.load(None))


def test_mistakes_are_one_line(tmp_path: Path, log: Path) -> None:
    (tmp_path / 'bad.json').write_text('{')
    for arguments, said in (((tmp_path, tmp_path / 'bad.json', 'out'), 'is no rosbag2 recording'),
                            ((log, tmp_path / 'bad.json', tmp_path / 'out'), 'is no JSON'),
                            ((log, tmp_path / 'none.json', tmp_path / 'out'), 'No such file'),
                            ((log, tmp_path / 'bad.json', log), 'is there already')):
        done = draw(*arguments)
        assert done.returncode == 2 and said in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / 'out').exists()
