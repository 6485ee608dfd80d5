"""``bench --gpu``: its CPU rows, its deadlines, what it says of what is missing."""
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from imn_world_model.bench import gpu, gpu_inference, gpu_training
from imn_world_model.bench.gpu_machine import load, unpack
from imn_world_model.bench.gpu_parts import ROOT, Row, run_part

# All that this project needs beside torch and ONNX Runtime.
OTHERS = ('lightning', 'pytorch_lightning', 'rclpy', 'h5py', 'mcap', 'rosbags', 'cv2', 'pydantic',
          'yaml', 'onnx', 'onnxscript', 'tqdm', 'sklearn', 'scipy', 'matplotlib', 'filterpy',
          'filelock', 'lz4', 'zstandard', 'jinja2')
BLOCKER = f"""import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {OTHERS!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Absent())
"""
# Parts as a test needs them.
PARTS = """import os, time
from imn_world_model.bench.gpu_parts import Row
def sleeps():
    yield Row('t', 'before', {'x': 1.0})
    time.sleep(600)
def crashes():
    print('a library says something', flush=True)
    os.kill(os.getpid(), 11)
def raises():
    yield Row('t', 'before', {'x': 1.0})
    raise RuntimeError('no such card\\nmore')
"""


def test_on_a_bare_machine_onnxruntime_is_judged_and_the_rest_named(tmp_path: Path) -> None:
    (tmp_path / 'sitecustomize.py').write_text(BLOCKER)
    program = ('from pathlib import Path; from imn_world_model.bench import __main__, gpu; '
               'gpu.run(None, Path("none"), "cpu", 120.0, inference={"seconds": 0.01, '
               '"batches": [1, 2], "scenes": 1})')
    done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True,
                          text=True, env={**os.environ, 'PYTHONPATH': f'{tmp_path}:{ROOT}'})
    assert done.returncode == 0, done.stderr
    assert '| CPU, batch 2 |' in done.stdout and '| card |' in done.stdout
    for row in ('training, 64x64', 'inference, float16 file', 'node, CPU'):
        assert f'- {row}: No module named ' in done.stdout, row
    assert '- inference, TensorRT: TensorrtExecutionProvider is not in this' in done.stdout


def test_training_is_timed_by_batch_and_size() -> None:
    rows = list(gpu_training.measure('cpu', 32, seconds=0.2, batches=(8, 16)))
    assert [row.name for row in rows] == ['cpu, 32x32, batch 8', 'cpu, 32x32, batch 16']
    for row, batch in zip(rows, (8, 16), strict=True):
        assert row.values['images/s'] == pytest.approx(batch * row.values['steps/s'])
        assert row.values['steps/s'] > 0.0 and 'load' not in row.values


def test_half_precision_finds_the_winners_of_single(tmp_path: Path) -> None:
    model, half = ROOT / 'export' / 'demo.onnx', tmp_path / 'half.onnx'
    answers = str(tmp_path / 'answers.npz')
    first = list(gpu_inference.measure(str(model), 'cpu', 'CPU', answers, 0.01, (1,), 6))
    assert [set(row.values) for row in first] == [{'p50 ms', 'p99 ms', 'images/s', 'calls'}]
    assert len(list(gpu_inference.half_precision(str(model), str(half)))) == 1
    row, = gpu_inference.measure(str(half), 'cpu', 'half', answers, 0.01, ())
    assert row.values['images'] == 6 * gpu_inference.VIEWS
    assert row.values['same identity'] >= 0.98
    # The comparison is one: other answers are seen.
    with np.load(answers) as known:
        np.savez(answers, images=known['images'], identity=known['identity'] + 1,
                 active=known['active'])
    row, = gpu_inference.measure(str(half), 'cpu', 'half', answers, 0.01, ())
    assert row.values['same identity'] == row.values['same modules too'] == 0.0


def test_pictures_are_what_the_demo_model_knows() -> None:
    from imn_world_model.robot.inference import ImnModel
    model = ImnModel(ROOT / 'export' / 'demo.onnx', ['cpu'])
    images = gpu_inference.pictures(model._session.metadata, 64, 4)
    answer = model.predict(images)
    assert images.shape == (4 * gpu_inference.VIEWS, 64, 64, 3)
    assert answer.novel.mean() < 0.2
    noise = np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)
    assert model.predict(noise).novel.all()


@pytest.mark.parametrize(('function', 'seconds', 'rows', 'reason'), [
    ('sleeps', 8.0, 1, 'stopped after 8 s'), ('crashes', 60.0, 0, 'ended with SIGSEGV'),
    ('raises', 60.0, 1, 'RuntimeError: no such card'), ('sleeps', -1.0, 0, 'no time was left')])
def test_a_part_that_fails_costs_its_own_rows(tmp_path: Path, function: str, seconds: float,
                                              rows: int, reason: str) -> None:
    (tmp_path / 'imn_parts.py').write_text(PARTS)
    found = list(run_part('t', 'it', f'imn_parts:{function}', {}, seconds, tmp_path))
    assert found[:-1] == [Row('t', 'before', {'x': 1.0})] * rows
    assert (found[-1].table, found[-1].name, found[-1].values) == ('t', 'it', {})
    assert reason in found[-1].reason and '\n' not in found[-1].reason


def test_wheels_beside_the_tree_stand_in_for_what_is_not_installed(tmp_path: Path) -> None:
    wheels, folder = tmp_path / 'wheels', tmp_path / 'folder'
    wheels.mkdir()
    for name in ('imn_beside-1-py3-none-any', 'numpy-9-py3-none-any',
                 'imn_elsewhere-1-cp27-cp27m-win32'):
        with zipfile.ZipFile(wheels / f'{name}.whl', 'w') as archive:
            archive.writestr(f'{name.split("-")[0]}.py', '')
    assert unpack(wheels, folder) == ['imn-beside']
    assert [file.name for file in folder.iterdir()] == ['imn_beside.py']
    assert unpack(tmp_path / 'none', folder) == []


def test_load_is_the_mean_of_what_nvidia_smi_says(tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / 'nvidia-smi'
    tool.write_text('#!/bin/sh\necho 20\necho [N/A]\necho 60\nexec sleep 60\n')
    tool.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
    with load('0') as found:
        subprocess.run(['sleep', '1'], check=True)
    assert found.share == pytest.approx(0.4)
    tool.unlink()
    monkeypatch.setenv('PATH', str(tmp_path))
    with load('0') as found:
        pass
    assert np.isnan(found.share)


def test_tables_hold_every_row_and_every_reason() -> None:
    text = gpu.tables([Row('a', 'one', {'x': 1.0}), Row('a', 'two', {'x': 2.0}),
                       Row('b', 'three', reason='no card')])
    assert text.splitlines() == ['', '| a | x |', '|---|---|', '| one | 1 |', '| two | 2 |', '',
                                 'not measured:', '- b, three: no card']
