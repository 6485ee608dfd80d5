"""Following by commands: a world of one coordinate that goes where the command sends it."""
from types import SimpleNamespace

import numpy as np
import pytest

from imn_world_model.base.errors import UserError
from imn_world_model.robot.driven import HOLD, DrivenTrack
from imn_world_model.robot.world_model import WorldModel


def seen(value: float, identity: int = 0, variance: float = 0.01) -> SimpleNamespace:
    """:return: what a perception says of one image."""
    return SimpleNamespace(
        identity=np.array([identity]), active=np.ones((1, 1), bool),
        latent_mean=np.full((1, 1, 1), value, np.float32),
        latent_variance=np.full((1, 1, 1), variance, np.float32))


@pytest.fixture
def track() -> DrivenTrack:
    def move(mean, variance, identity, action, seconds):
        moved = (action[:, 0] * seconds)[:, None, None]
        return mean + moved, variance + np.abs(moved) * 0.1

    return DrivenTrack(WorldModel(None, move, None, ('linear.x',), ('m/s',)))


def value(moved) -> float:
    return float(moved.state.mean[0, 0, 0])


def test_coordinates_follow_commands_between_images(track: DrivenTrack) -> None:
    assert track.at(0.0) is None
    track.see(1.0, seen(5.0))
    for time, speed in ((1.0, 2.0), (1.1, -1.0), (1.3, 0.5)):
        track.command(time, [speed])
    assert value(track.at(1.05)) == pytest.approx(5.1)
    assert value(track.at(1.1)) == pytest.approx(5.2)
    assert value(track.at(1.3)) == pytest.approx(5.0)
    assert value(track.at(1.5)) == pytest.approx(5.1)
    assert track.at(1.52).rate[0, 0] == pytest.approx(0.5, rel=1e-3)


def test_asking_often_or_once_is_the_same(track: DrivenTrack) -> None:
    track.see(0.0, seen(0.0))
    for k in range(20):
        track.command(0.05 * k, [np.sin(k)])
    often = [track.at(time) for time in np.arange(0.0, 1.0, 0.02)][-1]
    other = DrivenTrack(track._model)
    other.see(0.0, seen(0.0))
    for k in range(20):
        other.command(0.05 * k, [np.sin(k)])
    assert value(often) == pytest.approx(value(other.at(0.98)), abs=1e-6)


def test_a_command_that_comes_late_mends_what_was_foreseen(track: DrivenTrack) -> None:
    track.command(0.0, [1.0])
    track.see(0.0, seen(0.0))
    assert value(track.at(0.2)) == pytest.approx(0.2)
    track.command(0.1, [-1.0])
    assert value(track.at(0.2)) == pytest.approx(0.0, abs=1e-6)


def test_commands_that_stop_hold_no_longer(track: DrivenTrack) -> None:
    track.command(0.0, [1.0])
    track.see(0.0, seen(0.0))
    blind = track.at(2.0)
    assert value(blind) == pytest.approx(HOLD)
    assert float(blind.state.variance[0, 0, 0]) == pytest.approx(0.01 + 0.1 * HOLD)


def test_an_image_corrects_at_its_own_time(track: DrivenTrack) -> None:
    track.command(0.0, [1.0])
    track.see(0.0, seen(0.0))
    track.command(0.2, [1.0])
    track.at(0.3)                                     # of an image of 0.1 s, that comes at 0.3 s
    known = track.see(0.1, seen(0.2))
    assert 0.1 < value(known) < 0.2 and known.accepted and known.updates == 2
    assert value(track.at(0.3)) == pytest.approx(value(known) + 0.2)
    assert track.see(0.05, seen(0.0)) is None         # older than the last


def test_outliers_are_bridged_and_believed_when_they_stay(track: DrivenTrack) -> None:
    track.see(0.0, seen(0.0))
    first = track.see(0.1, seen(9.0))
    assert value(first) == 0.0 and not first.accepted
    second = track.see(0.2, seen(9.0))
    assert value(second) == 9.0 and second.accepted and second.updates == 1
    track.see(0.3, seen(9.0, identity=1))
    assert track.see(0.4, seen(9.0, identity=1)).state.identity == 1


def test_a_clock_that_is_set_back_starts_anew(track: DrivenTrack) -> None:
    track.see(100.0, seen(0.0))
    assert value(track.see(1.0, seen(3.0))) == 3.0


def test_a_broken_command_is_one_line(track: DrivenTrack) -> None:
    with pytest.raises(UserError, match='not finite; it is left out'):
        track.command(0.0, [np.nan])


def test_trust_weighs_what_images_tell(track: DrivenTrack) -> None:
    track._model.trust = np.full((1, 1), 4.0, np.float32)
    first = track.see(0.0, seen(0.0, variance=0.01))
    assert float(first.state.variance[0, 0, 0]) == pytest.approx(0.04)
    again = track.see(0.1, seen(0.5, variance=0.03))  # 0.04 against 0.12
    assert value(again) == pytest.approx(0.125)
