"""Sweeps of modules: about a circle, along a line."""
import numpy as np

from imn_world_model.model.pictures import SWEEP, sweep


def test_sweep_goes_once_about_a_circle() -> None:
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 500)
    rows = sweep(np.stack((np.cos(angle), 0.9 * np.sin(angle)), axis=1) + 3.0)
    steps = np.diff(np.unwrap(angle[rows]))
    assert len(rows) == SWEEP
    assert (np.sign(steps) == np.sign(steps[0])).all()
    assert np.abs(np.abs(steps) - 2 * np.pi / SWEEP).max() < 0.1


def test_sweep_goes_along_a_line_from_end_to_end() -> None:
    place = np.random.default_rng(0).uniform(-2, 2, 500)
    rows = sweep(np.stack((place, 0.1 * place ** 2), axis=1))
    steps = np.diff(place[rows])
    assert (np.sign(steps) == np.sign(steps[0])).all()
    assert np.abs(steps.sum()) > 3.3
    assert len(sweep(place[:, None])) == SWEEP
