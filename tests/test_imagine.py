"""The film, the report's section and the bench, on a short simulated drive and a tiny network."""
import json
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from imn_world_model import dynamics, imagine, simulate, train
from imn_world_model.base.errors import UserError
from imn_world_model.bench import motion, predict
from imn_world_model.judging.foresight import foresight_section
from imn_world_model.learning.run import DYNAMICS, load_run
from imn_world_model.prediction.film import HEAD, SCALE
from imn_world_model.prediction.fitting import FitOptions


@pytest.fixture(scope='module')
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('log') / 'drive'
    simulate.main(['--out', str(path), '--clips', '6', '--frames', '10', '--rate', '5', '--seed',
                   '3', '--jobs', '1', '--commands', 'all'])
    return path


@pytest.fixture(scope='module')
def run(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """:return: a run of a few steps, with a dynamics of a few steps."""
    folder = tmp_path_factory.mktemp('runs')
    cache = pytest.MonkeyPatch()
    cache.setenv('IMN_CACHE_DIR', str(folder / 'cache'))
    train.main(['--data', str(log), '--preset', 'debug', '--set', 'train.steps=4', '--out',
                str(folder), '--name', 'debug', '--quiet', '--accelerator', 'cpu'])
    dynamics.main(['--run', str(folder / 'debug'), '--data', str(log), '--steps', '4',
                   '--horizon', '3', '--seen', '2', '--batch', '4', '--hidden', '8', '--quiet'])
    yield folder / 'debug'
    cache.undo()


def test_a_second_dynamics_needs_a_word_and_resumes_or_replaces(run: Path, log: Path) -> None:
    begin = ['--run', str(run), '--data', str(log), '--horizon', '3', '--seen', '2', '--batch',
             '4', '--hidden', '8', '--quiet']
    with pytest.raises(UserError, match='already holds a dynamics; go on with --resume'):
        dynamics.main([*begin, '--steps', '4'])
    with pytest.raises(UserError, match='begun with another steps; resume it with the same'):
        dynamics.main([*begin, '--steps', '6', '--resume'])
    state = torch.load(run / DYNAMICS / 'last.pt', weights_only=True)
    dynamics.main([*begin, '--steps', '4', '--resume'])
    again = torch.load(run / DYNAMICS / 'last.pt', weights_only=True)
    assert all(torch.equal(one, other) for one, other in zip(
        state['predictor'].values(), again['predictor'].values(), strict=True))


def test_a_film_and_strips_are_written(run: Path, log: Path, tmp_path: Path,
                                       capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / 'film.mp4'
    imagine.main(['--run', str(run), '--data', str(log), '--out', str(out), '--seen', '2',
                  '--steps', '7', '--clips', '2', '--split', 'all'])
    assert '2 clips, 2 frames seen and 7 imagined' in capsys.readouterr().out
    film = cv2.VideoCapture(str(out))
    frames = []
    while True:
        good, frame = film.read()
        if not good:
            break
        frames.append(frame)
    assert len(frames) == 2 * 9 and film.get(cv2.CAP_PROP_FPS) == pytest.approx(5.0, rel=0.01)
    side = 32 * SCALE
    assert frames[0].shape == (side + HEAD, 3 * side, 3)
    # The left third is the log's own picture, and it moves.
    left = [frame[HEAD:, :side].astype(int) for frame in frames]
    assert np.abs(left[0] - left[8]).mean() > 1.0
    assert cv2.imread(str(out.with_suffix('.png'))).shape[0] > 6 * 32


def test_the_report_judges_what_the_run_foresees(run: Path, log: Path) -> None:
    figures, section = foresight_section(load_run(run), [log], 'train')
    assert set(figures['foresight']) == {'group flow', 'last image', 'constant velocity',
                                         'shuffled actions', "perception's own"}
    assert section['title'] == 'What it foresees' and len(section['pictures']) == 2
    assert figures['foresight']['last image']['5'] > figures['foresight']['last image']['1'] > 0


def test_the_bench_compares_all_rivals_with_every_seed(
        run: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, 'STEPS', (1, 2, 3, 5))
    monkeypatch.setattr(predict, 'RATIO_STEPS', (1, 3, 5))
    figures = predict.run(run, [log], [log], [0, 1], FitOptions(2, 4, 2, 2),
                          tmp_path / 'curves.png')
    for where in ('held-out clips', 'held-out combinations'):
        for name in (predict.FLOW, predict.RECURRENT, predict.SHUFFLED):
            for seed in (0, 1):
                assert figures[f'{where}, {name} seed {seed}: image at 5'] > 0
        assert figures[f'{where}, {predict.LAST}: image at 3'] > 0
        assert figures[f'{where}, {predict.COAST}: coordinates at 3'] >= 0
    assert figures['parameters recurrent'] == pytest.approx(figures['parameters flow'], rel=0.02)
    assert (tmp_path / 'curves.png').stat().st_size > 10_000
    json.dumps(figures)


@pytest.mark.parametrize('arguments, complaint', [
    (['--steps', '99'], 'no clip of 103 steps with actions: the longest has 9'),
    (['--clips', '0'], '--clips is 0'),
    (['--out', 'film.avi'], 'the film is an .mp4 file'),
])
def test_bad_requests_are_one_line(run: Path, log: Path, tmp_path: Path, arguments: list[str],
                                   complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        imagine.main(['--run', str(run), '--data', str(log), '--split', 'all', '--out',
                      str(tmp_path / 'film.mp4'), *arguments])


def test_a_log_without_actions_is_one_line(run: Path, tmp_path: Path) -> None:
    simulate.main(['--out', str(tmp_path / 'plain'), '--clips', '1', '--frames', '2', '--jobs',
                   '1'])
    with pytest.raises(UserError, match='no actions in .*but /camera/camera_info'):
        imagine.main(['--run', str(run), '--data', str(tmp_path / 'plain'), '--split', 'all',
                      '--out', str(tmp_path / 'film.mp4')])


def test_the_bench_of_motion_judges_every_case(run: Path, log: Path, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    fast = tmp_path / 'fast'
    simulate.main(['--out', str(fast), '--clips', '1', '--frames', '45', '--rate', '50',
                   '--seed', '4', '--jobs', '1', '--commands', 'all'])
    monkeypatch.setattr(motion, 'CASES', {
        'at images': motion.CASES['at images'],
        'between images': motion.CASES['between images'],
        'blind': motion.Case(blind=(0.4, 0.8), asked=lambda time: (time > 0.5) & (time < 0.8))})
    figures = motion.run(run, [log], [fast], [0, 1], FitOptions(2, 4, 2, 2))
    # At an image constant velocity and the flow know what the last image tells, or better.
    assert figures['at images, last image: coordinates'] == pytest.approx(0.0, abs=1e-6)
    assert figures['between images, last image: coordinates'] > 0
    for case, seed in product(('between images', 'blind'), (0, 1)):
        driven = f'{case}, driven, seed {seed}'
        assert figures[f'{driven} / constant velocity: coordinates x'] > 0
        assert np.isfinite(figures[f'{driven}: distance'])
        assert figures[f'{driven}: over variance'] > 0
