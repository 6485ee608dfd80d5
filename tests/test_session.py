"""Providers, fallbacks, bound buffers; what no test machine has (a GPU) is stood in for on CPU."""
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from imn_world_model.robot import session
from imn_world_model.robot.inference import ImnModel
from imn_world_model.robot.session import (
    CPU,
    CUDA,
    TENSORRT,
    Bound,
    ModelError,
    Session,
    choose_providers,
    elapsed,
    provider_options,
)


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (count, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize('graph', [None, '3'])
def test_bound_buffers_give_the_answers_of_a_plain_run(tiny_model: Path, graph: str | None
                                                       ) -> None:
    plain = Session(tiny_model, ['cpu'], 1)
    raw = onnxruntime.InferenceSession(str(tiny_model), providers=[CPU])
    bound = Bound(raw, (3, 32, 32, 3), 'cpu', graph)
    first = bound.run(images(3, 1))
    for seed in (1, 2, 1):
        expected, got = plain.run(images(3, seed)), bound.run(images(3, seed))
        assert expected.keys() == got.keys()
        for name, value in expected.items():
            assert got[name].dtype == value.dtype and np.array_equal(got[name], value), name
    # An answer is not overwritten by the next one.
    assert np.array_equal(first['latent_mean'], plain.run(images(3, 1))['latent_mean'])


class FakeRuntime:
    """
    ONNX Runtime on a machine whose GPU providers behave as told.

    :param broken: what starting a provider (or CUDA graphs) does: ``raises`` or ``vanishes``.
    """

    def __init__(self, **broken: str) -> None:
        self.broken, self.started = broken, []

    def __call__(self, path: str, options: Any, providers: list, enable_fallback: int) -> Any:
        name, given = providers[0]
        what = 'graphs' if given.get('enable_cuda_graph') else name[:4].lower()
        self.started.append(what)
        assert enable_fallback == 0
        if self.broken.get(what) == 'raises':
            raise RuntimeError(f'/onnxruntime_src/x.cc:12 void f(int, int) no {what}\nmore')
        used = CPU if self.broken.get(what) == 'vanishes' else name
        return SimpleNamespace(get_providers=lambda: [used])


@pytest.mark.parametrize(('broken', 'wanted', 'started', 'used', 'told'), [
    ({}, ['cuda'], ['graphs'], CUDA, None),
    ({'graphs': 'raises'}, ['cuda'], ['graphs', 'cuda'], CUDA, r'CUDA graphs .*\(.*no_driver'),
    ({'graphs': 'vanishes'}, ['cuda'], ['graphs', 'cpue'], CPU, 'CUDA.*no_driver'),
    ({'tens': 'raises'}, None, ['tens', 'graphs'], CUDA, None),
    ({'tens': 'raises'}, ['tensorrt'], ['tens', 'cpue'], CPU, r'Tensorrt.*\(.*no_driver.*on CPU'),
    ({'tens': 'vanishes', 'graphs': 'vanishes'}, None, ['tens', 'graphs', 'cpue'], CPU,
     'Tensorrt.*; CUDA.*on CPU')])
def test_every_fallback_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                recwarn: pytest.WarningsRecorder, broken: dict[str, str],
                                wanted: list[str] | None, started: list[str], used: str,
                                told: str | None) -> None:
    runtime = FakeRuntime(**broken)
    monkeypatch.setenv('IMN_CACHE_DIR', str(tmp_path))
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(onnxruntime, 'InferenceSession', runtime)
    monkeypatch.setattr(session.gpu_libraries, 'DRIVER', 'libno_driver.so')
    model = Session(tmp_path / 'm.onnx', wanted, 0)
    assert (runtime.started, model.provider) == (started, used)
    warned = [str(item.message) for item in recwarn]
    assert len(warned) == (told is not None)
    if told:
        with pytest.warns(UserWarning, match=told):
            Session(tmp_path / 'm.onnx', wanted, 0)


def test_a_gpu_keeps_few_bindings_and_counts_batches_as_graphs(
        tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Session(tiny_model, ['cpu'], 1)
    model.provider, model._graphs = CUDA, True
    made: list[str | None] = []

    def on_cpu(raw: Any, shape: tuple[int, ...], device: str, graph: str | None) -> Bound:
        assert device == 'cuda'
        made.append(graph)
        return Bound(raw, shape, 'cpu', graph)

    monkeypatch.setattr(session, 'Bound', on_cpu)
    monkeypatch.setattr(session, 'MAX_KEPT', 2)
    for count in (1, 4, 1, 4, 2, 2):
        assert model.run(images(count))['score'].shape == (count,)
    assert made == ['1', '4', None, None]


def test_providers_are_tried_in_the_order_wanted_and_the_cpu_last(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: [CPU, CUDA, TENSORRT])
    assert choose_providers(None) == [TENSORRT, CUDA, CPU]
    assert choose_providers(['cuda']) == [CUDA, CPU]
    assert choose_providers(['cpu', 'CUDAExecutionProvider']) == [CPU, CUDA]


def test_engine_cache_that_cannot_be_used_is_named(tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('IMN_CACHE_DIR', str(tmp_path))
    assert provider_options(TENSORRT)['trt_engine_cache_path'] == str(tmp_path / 'tensorrt')
    monkeypatch.setattr('os.access', lambda *_: False)       # root may read whatever it is
    with pytest.raises(ModelError, match='tensorrt is not readable and writable; set IMN_CACHE'):
        provider_options(TENSORRT)
    monkeypatch.undo()
    (tmp_path / 'file').touch()
    monkeypatch.setenv('IMN_CACHE_DIR', str(tmp_path / 'file'))
    with pytest.raises(ModelError, match='not readable and writable'):
        provider_options(TENSORRT)


def test_elapsed_speaks_only_of_what_takes_long(capsys: pytest.CaptureFixture[str]) -> None:
    with elapsed('building', period=0.05):
        time.sleep(0.5)
    assert 'building: ' in capsys.readouterr().err
    with elapsed('building', period=10.0):
        pass
    assert capsys.readouterr().err == ''


def test_model_runs_on_a_provider_that_it_names(tiny_model: Path) -> None:
    assert ImnModel(tiny_model).provider == CPU
