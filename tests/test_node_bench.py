"""The node's bench: a soak that is cut short keeps its figures, a wrong model is told."""
import re
import signal
import subprocess
import sys

import pytest
from ros_graph import PATIENCE, ROOT, slowdown, wait_until

from imn_world_model.base.errors import UserError
from imn_world_model.bench import crowd, node, services


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interrupted_soak_sums_up(tiny_model, number):
    # A shell's background jobs, and their children, are born deaf to SIGINT.
    script = ('import signal; signal.signal(signal.SIGINT, signal.default_int_handler); '
              'from pathlib import Path; from imn_world_model.bench import node; '
              f"node.soak(Path('{tiny_model}'), 30, seconds=2.0)")
    process = subprocess.Popen([sys.executable, '-c', script], cwd=ROOT, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first, second = process.stdout.readline(), process.stdout.readline()
    process.send_signal(number)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert first.startswith('minute 1: ') and second.startswith('minute 2: ')
    before, after = (float(re.search(r': ([0-9.]+) MB', line)[1]) for line in (first, second))
    start, growth, most = (float(re.search(text + r' ([+-]?[0-9.]+) MB', output)[1]) for text in (
        'after the first minute', 'growth since then', 'at most'))
    assert before > 20.0 and start == before
    # Growth is told as of the interruption, by when the process may have grown some more.
    assert most >= max(growth, after - before) - 0.11
    assert 'interrupted in minute 3' in output


def test_bench_of_a_broken_model_is_one_error(tmp_path, monkeypatch):
    monkeypatch.setattr(node, 'START_TIMEOUT', 3.0)
    with pytest.raises(UserError, match='does not answer with'):
        node.soak(tmp_path / 'none.onnx', 1)


def test_bench_counts_answers_and_drops_and_finds_the_image_path_short(tiny_model):
    images = node.demo_images()
    with node.bench(tiny_model, 2, images[0]) as two:
        loads = []

        def answered():
            loads.append(two.load(images, 10.0, 1.0))
            return loads[-1].drops < 1.0

        # On a very busy machine no answer may come in time.
        wait_until(answered, 'answers')
        load = loads[-1]
        assert len(load.latency) == round(20 * (1 - load.drops))
        assert load.latency.min() > 0.0
        assert two.memory() > 20.0
    # No copy to a list, no loop over pixels: those take tens of milliseconds.
    seconds = max(node.image_path_seconds(tiny_model))
    assert seconds < 0.005 * slowdown()


def test_parameter_service_is_asked_from_another_process(tiny_model):
    images = node.demo_images()
    with node.bench(tiny_model, 1, images[0]) as one:
        with services.asking(5) as seconds:
            one.load(images, 10.0, 1.0)
    assert len(seconds) == 5
    assert 0.0 < min(seconds) <= max(seconds) < services.PATIENCE


def test_parameter_service_without_a_node_is_one_error(monkeypatch):
    monkeypatch.setattr(services, 'DISCOVERY', 1.0)
    with pytest.raises(UserError, match='is the perception node up'):
        services.ask(1)


def test_crowd_of_objects_is_found_by_the_node_itself(tiny_model):
    images = crowd.pictures(3)
    with node.bench(tiny_model, 2, images[0], regions='auto') as two:
        def found():
            load = two.load(images, 8.0, 3.0)
            return load.drops < 1.0 and 2.0 <= two.objects <= 4.0

        wait_until(found, 'about three objects in each answer')
