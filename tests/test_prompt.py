"""Objects told at once: followed from an earlier picture, searched when nobody waits."""
import cv2
import numpy as np
import pytest
from test_proposals import BLUE, RED, put, table, view

from imn_world_model.vision.overlaps import overlap
from imn_world_model.vision.prompt import OVERDUE, SOON, PromptProposals
from imn_world_model.vision.proposals import Proposals
from imn_world_model.vision.regions import Box

STEP = 0.05
TABLE = view(table(), 100, 80)


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """:return: grows by one for each search."""
    searches: list[int] = []
    search = Proposals.search

    def counted(self, *looked):
        searches.append(len(searches))
        return search(self, *looked)

    monkeypatch.setattr(Proposals, 'search', counted)
    return searches


def at(k: float) -> Box:
    """:return: where the red thing is in picture k."""
    return 40 + 6 * k, 60 + 2 * k, 50, 40


def known(pictures: int = 6) -> tuple[PromptProposals, float]:
    """:return: a camera that has seen a moving thing so often; the time of the last picture."""
    proposals = PromptProposals()
    for k in range(pictures):
        proposals(k * STEP, put(TABLE, at(k), RED, k))
        proposals.learn()
    return proposals, (pictures - 1) * STEP


def test_a_thing_is_told_without_a_search_which_follows(searched):
    proposals, _ = known()
    for k in range(6, 16):
        before = len(searched)
        region, = proposals(k * STEP, put(TABLE, at(k), RED, k))
        assert len(searched) == before
        assert overlap(region.box, at(k)) > 0.75
        # Its pixels went with it.
        scale = TABLE.shape[1] / region.mask.shape[1]
        pixels = tuple(scale * side for side in cv2.boundingRect(region.mask))
        assert overlap(pixels, region.box) > 0.85
        proposals.learn()
        assert len(searched) == before + 1


def test_a_thing_that_came_is_told_one_picture_later():
    proposals, time = known()
    other = (220, 150, 44, 60)
    for more, count in ((1, 1), (2, 2)):
        picture = put(put(TABLE, at(5 + more), RED), other, BLUE)
        assert len(proposals(time + more * STEP, picture)) == count
        proposals.learn()


@pytest.mark.parametrize('box', [(240, 150, 50, 40), None], ids=['jumped', 'gone'])
def test_a_thing_that_is_not_found_again_is_searched(searched, box):
    proposals, time = known()
    before = len(searched)
    picture = put(TABLE, box, RED) if box else TABLE
    regions = proposals(time + STEP, picture)
    assert len(searched) == before + 1
    assert not any(overlap(region.box, at(6)) > 0.5 for region in regions)
    if box:
        assert overlap(regions[0].box, box) > 0.6


def test_a_camera_that_comes_late_goes_back_or_shows_too_little_is_searched(searched):
    for wait, size in ((SOON + 0.01, (320, 240)), (-1.0, (320, 240)), (STEP, (320, 40))):
        proposals, time = known()
        before = len(searched)
        proposals(time + wait, cv2.resize(put(TABLE, at(6), RED), size))
        assert len(searched) == before + 1, (wait, size)


def test_in_a_hurry_a_thing_is_followed_and_errors_do_not_add_up(searched):
    proposals, time = known()
    before = len(searched)
    for more in range(1, 21):
        region, = proposals(time + more * STEP, put(TABLE, at(5 + more), RED, more))
        assert overlap(region.box, at(5 + more)) > 0.75
        proposals.learn(hurry=True)
        # Searched again each time the last search is too long ago, and only then.
        assert len(searched) - before == int(more * STEP / OVERDUE + 1e-6)


def test_a_thing_that_leaves_the_picture_is_followed_to_its_edge(searched):
    proposals, time = known()
    for more in range(1, 60):
        proposals(time + more * STEP, put(TABLE, at(5 + more), RED, more))
        proposals.learn(hurry=True)
    assert at(64)[0] > TABLE.shape[1]
    assert proposals(time + 60 * STEP, TABLE) == []


def test_large_things_are_followed_as_small_ones_are(searched):
    proposals = PromptProposals()
    for k in range(6):
        proposals(k * STEP, put(TABLE, (20 + 6 * k, 40, 140, 120), RED, k))
        proposals.learn()
    box = 20 + 6 * 6, 40, 140, 120
    before = len(searched)
    region, = proposals(6 * STEP, put(TABLE, box, RED, 6))
    assert len(searched) == before
    assert abs(np.subtract(region.box, box)).max() < 8
