"""The demo as a user runs it: the shipped log, a real node, real topics."""
import re
import subprocess
import sys

import cv2
import pytest
from ros_graph import ROOT, slowdown
from rosbags.rosbag2 import Reader

from imn_world_model.base.errors import UserError
from imn_world_model.nodes import demonstration


def run(*arguments):
    return subprocess.run([sys.executable, '-m', 'imn_world_model.demo', *map(str, arguments)],
                          cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_demo_answers_the_shipped_log_and_leaves_picture_and_recording(tiny_model, tmp_path):
    done = run('--model', tiny_model, '--out', tmp_path, '--rate', 6)
    assert done.returncode == 0, done.stderr
    answers = int(re.search(r'160 images, ([0-9]+) answers', done.stdout)[1])
    lines = [line for line in done.stdout.splitlines() if ' latency ' in line
             and 'confidence' in line]
    assert len(lines) == answers
    # The newest image wins, so a slow machine answers fewer.
    assert answers >= 100 / slowdown()
    image = cv2.imread(str(tmp_path / 'output.png'))
    assert image.shape[1] > 1000
    with Reader(tmp_path / 'output_bag') as reader:
        counts = {item.topic: item.msgcount for item in reader.connections}
    assert counts.keys() == {'/imn/identity', '/imn/transform'}
    assert min(counts.values()) >= len(lines) - 1


@pytest.mark.parametrize('fault', ['missing', 'corrupt', 'no log'])
def test_demo_mistakes_are_one_line_and_an_exit_code(tiny_model, tmp_path, fault):
    model = tmp_path / 'model.onnx'
    if fault == 'corrupt':
        model.write_bytes(b'no model')
    arguments = ['--model', tiny_model if fault == 'no log' else model, '--out', tmp_path / 'out']
    if fault == 'no log':
        arguments += ['--log', tmp_path]
    done = run(*arguments)
    assert done.returncode == 2
    assert 'Traceback' not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_summary_without_answers_is_an_error():
    with pytest.raises(UserError, match='3 images were published and 0 identities'):
        demonstration.summary(demonstration.Answers(published={1: 0.0, 2: 0.0, 3: 0.0}))
