"""The benches of winner and training: that they run and write what they say."""
from pathlib import Path

import cv2
import numpy as np
import pytest

from imn_world_model.bench import growth, many, novelty, training, winner
from imn_world_model.bench.winner import on_device, untrained, untrained_shortlist
from imn_world_model.learning.presets import preset
from imn_world_model.rendering.unseen import KINDS


def test_growth_times_every_size_and_draws_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                              ) -> None:
    monkeypatch.setattr(growth, 'MODULES', (3, 5))
    monkeypatch.setattr(growth, 'IDENTITIES', (2, 5))
    monkeypatch.setattr(growth, 'COMPARED', (3, 10))
    monkeypatch.setattr(growth, '_exported', lambda *_: {})     # half a minute
    monkeypatch.setattr(many, 'COMPARED', 20)
    monkeypatch.setattr(many, 'FITTED', 40)
    figures = growth.run(tmp_path / 'growth.png', seconds=0.1, steps=6)
    assert {f'm {m} n {n} {way} ms' for m, n in ((3, 5), (5, 5), (5, 2))
            for way in ('floor', 'fast', 'exhaustive')} <= set(figures)
    assert {'n 5 / n 5, fast x', 'n 5 / n 5, training x'} <= set(figures)
    for n in (3, 10):
        for kind in ('with recognizer', 'without'):
            for name in ('robot', 'training'):
                assert 0 <= figures[f'n {n} {kind}, search of {name}: same identity'] <= 1
    assert min(figures.values()) >= 0                # which is faster, other processes decide
    assert cv2.imread(str(tmp_path / 'growth.png')).std() > 5


def test_growth_is_timed_on_the_device_that_is_asked_for(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('torch.is_autocast_enabled', lambda *_: False)    # knows no such device
    # Tensors without numbers: what mixes them with the processor's fails.
    for n in (2, 56):
        ways = growth._ways(5, n, 'meta')
        assert {'floor', 'fast', 'training'} <= set(ways)
        for name, way in ways.items():
            answer = way()
            if name != 'training':
                assert next(iter(answer)).device.type == 'meta', name


def test_searches_run_in_torch_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winner, 'BATCHES', (2,))
    config = preset('debug').model
    network = untrained(config).network
    figures = on_device('cpu', network, untrained_shortlist(config, network), config.image_size)
    assert {'torch cpu batch 2 fast ms', 'torch cpu batch 2 fast frames/s'} <= set(figures)
    assert all(value > 0 for value in figures.values())


def test_training_is_timed_beside_a_plain_network() -> None:
    # Long enough that other work on the machine does not decide.
    figures = training.run('debug', seconds=3.0)
    assert {'debug plain Lie-group VAE images/s', 'debug fast search / plain x',
            'debug exhaustive search / plain x'} <= set(figures)
    assert figures['debug exhaustive search / plain x'] > 1.0
    assert all(value > 0 for value in figures.values())


def test_memory_is_that_of_the_search_alone(tiny_model: Path) -> None:
    size = preset('debug').model.image_size
    ballast = np.ones(1 << 29, np.uint8)                  # 512 MiB here must not count there
    assert 20 < winner.peak_memory(tiny_model, size) < 500
    assert ballast.size


def test_novelty_counts_what_is_below_the_threshold(tiny_model: Path) -> None:
    figures = novelty.run(tiny_model, count=16)           # its threshold is minus infinity
    assert figures == {f'{kind} flagged': 0.0 for kind in KINDS}
