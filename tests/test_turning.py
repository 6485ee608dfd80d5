"""Unseen sides of photographs: what is seen and asked, turns the short way, the whole bench."""
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from recordings import COMPRESSED, STORE, STRING, compressed, write_bag

from imn_world_model import train
from imn_world_model.base.errors import UserError
from imn_world_model.bench import real, turning
from imn_world_model.learning.run import Run, load_run
from imn_world_model.prediction.fitting import FitOptions

SECOND = 10 ** 9
VIEWS = 9


def recorded(folder: Path, azimuth: bool = True, views: int = VIEWS) -> Path:
    """:return: the folder, with three days of two dials whose hand shows the azimuth."""
    for day in range(3):
        messages, stamp = [], SECOND
        for thing in range(2):
            for view in range(views):
                angle = 360 / views * view + 15 * day
                image = np.full((64, 64, 3), (200, 60 + 120 * thing, 60), np.uint8)
                end = (int(32 + 24 * np.cos(np.radians(angle))),
                       int(32 + 24 * np.sin(np.radians(angle))))
                cv2.line(image, (32, 32), end, (0, 0, 0), 6)
                truth = {'stamp': stamp, 'object': f'dial{thing}', 'polar': 90}
                truth |= {'azimuth': angle} if azimuth else {}
                messages += [('/camera', COMPRESSED, stamp, compressed(image, stamp)),
                             ('/ground_truth', STRING, stamp,
                              STORE.types[STRING](data=json.dumps(truth)))]
                stamp += SECOND // 2
            stamp += 5 * SECOND
        write_bag(folder / 'plain' / f'session_{"abc"[day]}', messages)
    return folder


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp('photographs'))


@pytest.fixture(scope='module')
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """:return: a run of a few steps."""
    runs = tmp_path_factory.mktemp('runs')
    cache = pytest.MonkeyPatch()
    cache.setenv('IMN_CACHE_DIR', str(runs / 'cache'))
    train.main(['--data', str(folder / 'plain' / 'session_a'), str(folder / 'plain' / 'session_b'),
                '--preset', 'debug', '--set', 'train.steps=4', '--out', str(runs), '--name',
                'debug', '--quiet', '--accelerator', 'cpu'])
    yield runs / 'debug'
    cache.undo()


def judged(run: Path, folder: Path) -> tuple[Run, turning.Frames]:
    perception = load_run(run)
    return perception, real.read(folder / 'plain', turning.PLAIN, perception.config.model)[1]


def test_each_view_is_asked_from_the_nearest_of_every_other_one(run: Path, folder: Path) -> None:
    _, frames = judged(run, folder)
    walks = turning.held_out(frames)
    assert sorted(walk[-1] for walk in walks) == list(range(2 * VIEWS))
    for *seen, asked in walks:
        clip = np.flatnonzero(frames.clip == frames.clip[asked])
        others = [view for view in clip if (view - asked) % 2]
        assert sorted(seen) == others
        apart = {view: abs((frames.values['azimuth'][view] - frames.values['azimuth'][asked] + 180)
                           % 360 - 180) for view in others}
        assert [apart[view] for view in reversed(seen)] == pytest.approx(
            sorted(apart.values()), abs=1e-3)


def test_turns_go_the_short_way(run: Path, folder: Path) -> None:
    perception, frames = judged(run, folder)
    data = turning.walked(perception, frames, [np.array([0, VIEWS - 1, 1]),
                                               np.array([VIEWS + 1, VIEWS])])
    step = 2 * np.pi / VIEWS
    assert data.action[0].tolist() == pytest.approx([-step, 0], abs=1e-5)
    assert data.action[1].tolist() == pytest.approx([2 * step, 0], abs=1e-5)
    assert data.action[3].tolist() == pytest.approx([-step, 0], abs=1e-5)
    assert data.run_length.tolist() == [2, 1, 0, 1, 0]
    assert (data.images[3] == frames.images[VIEWS + 1]).all()


def test_who_knows_the_answer_wins_and_who_stays_does_not(run: Path, folder: Path) -> None:
    perception, frames = judged(run, folder)
    knows = turning.compared(lambda window: (window.mean[:, turning.SEEN:], None), perception,
                             frames)
    drawn = 'the true view, as the perception draws it'
    assert knows['squared error, imagined'] == knows[f'squared error, {drawn}']
    stays = turning.compared(
        lambda window: (window.mean[:, turning.SEEN - 1:turning.SEEN], None), perception, frames)
    assert stays['imagined nearer than the nearest view, as the perception draws it'] == 0
    # Frames that are all alike: the nearest view and the mean are the answer, nothing is nearer.
    alike = np.repeat(frames.images[:1], len(frames.images), 0)
    found = turning.compared(lambda window: (window.mean[:, turning.SEEN:], None), perception,
                             replace(frames, images=alike, content_hash='alike'))
    for simple in ('the nearest view', 'the mean of the seen views'):
        assert found[f'squared error, {simple}'] < 1e-12 < stays[f'squared error, {simple}']
        assert found[f'imagined nearer than {simple}'] == 0


def test_the_bench_judges_every_seed(run: Path, folder: Path,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turning, 'WALKS', 2)
    figures = turning.run(run, folder, [0, 1], FitOptions(2, 4))
    assert figures['views'] == 2 * VIEWS
    for seed in (0, 1):
        assert 0 <= figures[f'imagined nearer than the nearest view, seed {seed}'] <= 1
        assert figures[f'squared error, imagined, seed {seed}'] > 0
    json.dumps(figures)


def test_what_is_missing_is_one_line(run: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match='--photographs needs the perception'):
        turning.run(None, folder, [0], FitOptions(1))
    with pytest.raises(UserError, match='plain: /ground_truth tells no azimuth'):
        turning.run(run, recorded(tmp_path / 'one', azimuth=False), [0], FitOptions(1))
    with pytest.raises(UserError, match='has 7 views; give clips of at least 8'):
        turning.run(run, recorded(tmp_path / 'two', views=7), [0], FitOptions(1))
