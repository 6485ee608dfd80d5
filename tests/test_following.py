"""Tracks of boxes: numbers that stay, a vote on identities, misses, crossings."""
import numpy as np
import pytest

from imn_world_model.vision.following import MISSED, Follower
from imn_world_model.vision.overlaps import generalized_overlap


def numbers(answers):
    return [answer.number for answer in answers]


def test_generalized_overlap_matches_counted_pixels():
    rng = np.random.default_rng(0)
    for _ in range(50):
        boxes = rng.integers(1, 20, (2, 4))
        canvas = np.zeros((2, 50, 50), bool)
        for k, (x, y, width, height) in enumerate(boxes):
            canvas[k, y:y + height, x:x + width] = True
        rows, columns = np.where(canvas.any(0))
        hull = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        both, either = canvas.all(0).sum(), canvas.any(0).sum()
        assert generalized_overlap(*boxes) == pytest.approx(both / either
                                                            - (hull - either) / hull)


def test_tracks_keep_their_numbers_whatever_the_order_of_boxes():
    follower, rng = Follower(), np.random.default_rng(0)
    for k in range(30):
        boxes = [(10.0 + 5 * k, 20, 40, 30), (200.0 - 5 * k, 120, 40, 40), (90, 200 - 3 * k, 9, 9)]
        order = rng.permutation(3)
        answers = follower.update(k / 10, [boxes[j] for j in order], [int(j) for j in order],
                                  [0.9] * 3)
        if k == 0:
            named = {int(j): answer.number for j, answer in zip(order, answers)}
            assert sorted(named.values()) == [1, 2, 3]
        assert numbers(answers) == [named[int(j)] for j in order]
        assert [answer.seen for answer in answers] == [k + 1] * 3


def test_velocity_carries_a_track_over_pictures_in_which_it_is_hidden():
    follower = Follower()
    for k in range(20):
        there = [] if 10 <= k < 10 + MISSED - 1 else [(10.0 + 15 * k, 50, 30, 30)]
        answers = follower.update(k / 10, there, [0] * len(there), [1.0] * len(there))
        assert numbers(answers) == [1] * len(there)


def test_things_that_cross_keep_their_numbers():
    follower = Follower()
    for k in range(41):
        boxes = [(8.0 * k, 50, 40, 40), (320.0 - 8 * k, 60, 40, 40)]
        assert numbers(follower.update(k / 10, boxes, [0, 1], [1.0, 1.0])) == [1, 2]


def test_identity_is_voted_and_one_wrong_picture_changes_nothing():
    follower, box = Follower(), (10, 10, 50, 50)
    for k in range(10):
        said = 4 if k == 6 else 2
        answer, = follower.update(k / 10, [box], [said], [0.8])
        assert (answer.number, answer.identity) == (1, 2)
    assert 0.85 < answer.confidence < 0.95
    for k in range(10, 60):
        answer, = follower.update(k / 10, [box], [4], [0.8])
    assert (answer.number, answer.identity) == (1, 4)


def test_track_ends_and_numbers_are_not_used_again():
    follower, box = Follower(), (10, 10, 50, 50)
    assert numbers(follower.update(0.0, [box], [0], [1.0])) == [1]
    for k in range(1, 30):
        assert follower.update(k / 10, [], [], []) == []
    assert numbers(follower.update(3.0, [box], [0], [1.0])) == [2]
    # A slow camera: a second has gone by, but only in one picture it was missing.
    follower.update(5.0, [], [], [])
    assert numbers(follower.update(7.0, [box], [0], [1.0])) == [2]
    # A bag that loops.
    assert numbers(follower.update(1.0, [box], [0], [1.0])) == [3]


def test_after_a_pause_the_same_place_holds_something_else_but_a_slow_camera_pauses_always():
    box = (10, 10, 50, 50)
    for steps, end, there in (([0.5] * 4, 5.5, 2), ([0.5] * 4, 2.5, 1), ([5.5] * 4, 5.5, 1),
                              ([5.5] * 4, 25.0, 2)):
        follower = Follower()
        for time in np.cumsum([1e9, *steps]):
            follower.update(time, [box], [3], [1.0])
        answer, = follower.update(time + end, [box], [5], [1.0])
        assert (answer.number, answer.identity) == (there, 5 if there == 2 else 3)


def test_what_is_seen_in_part_and_named_otherwise_for_a_picture_keeps_its_number():
    follower, whole = Follower(), (100, 100, 60, 70)
    for k in range(12):
        box, identity = ((104, 152, 44, 16), 7) if k % 4 == 3 else (whole, 2)
        answer, = follower.update(k / 2, [box], [identity], [0.6])
        assert (answer.number, answer.identity) == (1, 2)
    # With the whole of another beside it, the part is no reason to take that for it.
    one, other = follower.update(6.0, [whole, (190, 100, 60, 70)], [2, 7], [0.6, 0.6])
    assert (one.number, other.number) == (1, 2)


def test_something_far_away_or_of_other_size_is_another_track():
    follower = Follower()
    follower.update(0.0, [(10, 10, 20, 20)], [0], [1.0])
    far, large = (250, 200, 20, 20), (0, 0, 640, 480)
    assert numbers(follower.update(0.1, [far, large], [0, 0], [1.0, 1.0])) == [2, 3]
