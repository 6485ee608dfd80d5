"""Objects in whole pictures without a model: before a table at rest, before one that moves."""
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from recordings import COMPRESSED, STORE, STRING, compressed, write_bag

from imn_world_model.base.errors import UserError
from imn_world_model.bench import scenes
from imn_world_model.learning.photographs import texture
from imn_world_model.vision import proposals as proposals_file
from imn_world_model.vision.outlines import outline
from imn_world_model.vision.overlaps import overlap
from imn_world_model.vision.proposals import LOOK_SIDE, Proposals
from imn_world_model.vision.regions import Box

WIDTH, HEIGHT = 320, 240
RED, BLUE = (190, 40, 40), (40, 60, 190)


def table(seed: int = 0) -> np.ndarray:
    """:return: (600, 800, 3) uint8, a table top of many greens and greys."""
    pattern = cv2.resize(texture(100, np.random.default_rng(seed)), (800, 600),
                         interpolation=cv2.INTER_CUBIC)
    pattern[..., 0] = pattern[..., 2] = pattern[..., 1] // 2 + 40
    return pattern


def view(pattern: np.ndarray, x: float, y: float, zoom: float = 1.0) -> np.ndarray:
    """:return: (240, 320, 3) uint8, what a camera over the table sees."""
    matrix = np.array([[zoom, 0, x], [0, zoom, y]])
    return cv2.warpAffine(pattern, matrix, (WIDTH, HEIGHT),
                          flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def put(picture: np.ndarray, box: Box, colour: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """:return: the picture with an ellipse that fills a box, and noise."""
    x, y, width, height = box
    middle = round(x + width / 2), round(y + height / 2)
    shown = cv2.ellipse(picture.copy(), middle, (round(width / 2), round(height / 2)), 0, 0, 360,
                        colour, -1)
    noise = np.random.default_rng(seed).normal(0, 2, shown.shape)
    return np.clip(shown + noise, 0, 255).astype(np.uint8)


def moving(count: int = 12) -> list[tuple[np.ndarray, list[Box]]]:
    """:return: pictures of a camera that pans and zooms over two things that move, too."""
    pattern, shown = table(), []
    for k in range(count):
        picture = view(pattern, 100 + 14 * k, 80 + 6 * k, 1 + 0.01 * k)
        one, other = (40 + 6 * k, 60, 50, 40), (220 - 4 * k, 150, 44, 60)
        shown.append((put(put(picture, one, RED), other, BLUE, k), [one, other]))
    return shown


def found_share(proposals: Proposals, shown: list[tuple[np.ndarray, list[Box]]],
                scale: float = 1.0) -> float:
    """:return: share of the pictures in which exactly what is there is found."""
    right = 0
    for picture, boxes in shown:
        found = [tuple(value / scale for value in region.box) for region in proposals(picture)]
        hits, answered, there = scenes.matched(found, boxes)
        right += hits == answered == there
    return right / len(shown)


def test_overlap_matches_counted_pixels():
    rng = np.random.default_rng(0)
    for _ in range(50):
        boxes = rng.integers(1, 20, (2, 4))
        canvas = np.zeros((2, 50, 50), bool)
        for k, (x, y, width, height) in enumerate(boxes):
            canvas[k, y:y + height, x:x + width] = True
        assert overlap(*boxes) == pytest.approx(canvas.all(0).sum() / canvas.any(0).sum())
    assert overlap((0, 0, 0, 0), (0, 0, 0, 0)) == 0.0


def test_two_things_before_a_background_that_pans_and_zooms_are_found():
    assert found_share(Proposals(), moving()) >= 11 / 12


def test_boxes_are_in_pixels_of_the_picture_whatever_its_size():
    shown = [(cv2.resize(picture, None, fx=3, fy=3), boxes) for picture, boxes in moving(6)]
    assert found_share(Proposals(), shown, scale=3.0) >= 5 / 6


def test_masks_cover_what_boxes_bound():
    proposals = Proposals()
    for picture, _ in moving(4):
        regions = proposals(picture)
    assert len(regions) == 2
    for region in regions:
        assert region.mask is not None and region.mask.shape == (120, LOOK_SIDE)
        x, y, width, height = cv2.boundingRect(region.mask)
        np.testing.assert_allclose(region.box, (2 * x, 2 * y, 2 * width, 2 * height))
        assert 0.6 < region.mask.sum() / (width * height) < 0.95           # an ellipse: 0.79


def test_thing_that_stops_before_a_camera_at_rest_stays_an_object():
    picture, proposals = view(table(), 200, 150), Proposals()
    box = (60, 90, 50, 50)
    shown = [(put(picture, (60 + 20 * max(0, 5 - k), 90, 50, 50), RED, k),
              [(60 + 20 * max(0, 5 - k), 90, 50, 50)]) for k in range(6)]
    found_share(proposals, shown)
    stays = [(put(picture, box, RED, k), [box]) for k in range(6, 40)]
    assert found_share(proposals, stays) == 1.0


def test_what_colours_mistook_for_an_object_is_forgotten_once_enough_has_moved():
    picture, proposals = view(table(), 200, 150), Proposals()
    shown = [(put(picture, (20 + 18 * k, 30, 50, 50), RED, k), [(20 + 18 * k, 30, 50, 50)])
             for k in range(14)]
    assert len(proposals(shown[0][0])) > 1
    found_share(proposals, shown[1:10])
    assert found_share(proposals, shown[10:]) == 1.0


def test_part_of_the_table_that_looks_like_an_object_is_told_by_what_moves_in_it():
    picture, proposals = view(table(), 100, 80), Proposals()
    picture[30:210, 70:250] = picture[30:210, 70:250] // 2 + (100, 0, 0)     # a plate
    shown = [(put(picture, (90 + 12 * k, 100, 30, 30), BLUE, k), [(90 + 12 * k, 100, 30, 30)])
             for k in range(10)]
    shown += [(put(picture, (200, 60 + 12 * k, 30, 30), BLUE, k), [(200, 60 + 12 * k, 30, 30)])
              for k in range(9)]
    first, = proposals(shown[0][0])
    assert overlap(first.box, (70, 30, 180, 180)) > 0.8
    found_share(proposals, shown[1:12])
    assert found_share(proposals, shown[12:]) >= 6 / 7


def test_thing_that_came_and_stays_is_an_object_however_much_another_moves():
    picture, proposals = view(table(), 100, 80), Proposals()
    stays = (230, 140, 50, 60)
    for k in range(40):
        moves = (30 + 14 * (k % 9), 50, 40, 40)
        shown = put(picture, moves, RED, k)
        if k >= 3:
            shown = put(shown, stays, BLUE, k)
        found = [region.box for region in proposals(shown)]
        if k >= 8:
            assert scenes.matched(found, [moves, stays]) == (2, 2, 2), k


def test_outlines_are_drawn_anew_only_when_something_moved(monkeypatch):
    drawn = []
    monkeypatch.setattr(proposals_file, 'outline', lambda *words: drawn.append(1) or draw(*words))
    picture, proposals = view(table(), 100, 80), Proposals()
    draw, counts = outline, []
    for k in range(40):
        box = (30 + 14 * (min(k, 10) + max(0, k - 34)), 90, 50, 50)
        found, = proposals(put(picture, box, RED, k))
        assert overlap(found.box, box) >= 0.8
        counts.append(len(drawn))
    assert counts[10] == 11                           # each moved
    assert counts[34] <= 13                           # at rest
    assert counts[39] - counts[34] == 5


def test_each_outline_is_drawn_with_the_colours_about_it():
    picture = np.full((120, 160, 3), (60, 120, 60), np.uint8)
    picture[:, 80:] = RED
    boxes = (20, 40, 20, 20), (95, 30, 50, 60)
    for (x, y, width, height), colour in zip(boxes, (RED, BLUE)):
        picture[y:y + height, x:x + width] = colour
    noise = np.random.default_rng(0).normal(0, 3, picture.shape)
    picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    seed, near = np.zeros((2, 120, 160), bool)
    for x, y, width, height in boxes:
        seed[y - 2:y + height + 2, x + 6:x + width] = True        # not quite where it is
        near[y - 9:y + height + 9, x - 9:x + width + 9] = True
    found = outline(picture, seed, near, each=True)
    count, _, stats, _ = cv2.connectedComponentsWithStats(found.astype(np.uint8))
    assert count == 3
    for box in boxes:
        assert max(overlap(tuple(part), box) for part in stats[1:, :4]) > 0.9
    # With one model of colours the smaller thing looks like what is about the other.
    together = outline(picture, seed, near, each=False)
    assert together[:, 80:].any() and not together[:, :80].any()


def test_shadows_are_told_by_their_like_before_a_camera_at_rest():
    noise = np.random.default_rng(0).normal(0, 3, (120, 160, 3))
    picture = np.full((120, 160, 3), (60, 120, 60), np.uint8)
    picture[40:70, 20:50] = RED
    picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    seed, near = np.zeros((2, 120, 160), bool)
    for x in (20, 110):                               # the second is but a shadow
        seed[40:70, x:x + 30], near[33:77, x - 7:x + 37] = True, True
    found = outline(picture, seed, near, each=False)
    assert found[40:70, 20:50].mean() > 0.95 and not found[:, 80:].any()


def test_background_is_learnt_once_objects_are_told(monkeypatch):
    laid = []
    whole = proposals_file.laid_over
    monkeypatch.setattr(proposals_file, 'laid_over', lambda past: laid.append(1) or whole(past))
    proposals, other = Proposals(), Proposals()
    for k, (picture, _) in enumerate(moving(6)):
        found = [region.box for region in proposals(picture)]
        assert len(laid) == 2 * k
        assert found == [region.box for region in other(picture)]     # which learns when it must
        proposals.learn()
        proposals.learn()
        assert len(laid) == 2 * k + 1
        other.learn()


def test_outlines_are_drawn_one_by_one_only_before_a_camera_that_moves(monkeypatch):
    asked: list[bool] = []

    def listen(*arguments):
        asked.append(arguments[3])
        return outline(*arguments)
    monkeypatch.setattr(proposals_file, 'outline', listen)
    proposals = Proposals()
    for picture, _ in moving():
        proposals(picture)
    assert all(asked[2:]) and len(asked) > 6
    asked.clear()
    still, proposals = view(table(), 100, 80), Proposals()
    for k in range(8):
        proposals(put(still, (40 + 20 * k, 60, 50, 40), RED))
    assert not any(asked) and asked


def test_what_differs_and_looks_like_what_is_about_it_counts_as_it_is():
    noise = np.random.default_rng(0).normal(0, 2, (120, 160, 3))
    picture = np.clip(60 + noise, 0, 255).astype(np.uint8)
    seed, near = np.zeros((2, 120, 160), bool)
    seed[50:70, 60:80], near[43:77, 53:87] = True, True
    picture[55:57, 60:80] = 250                       # too thin for a thing
    for each in (False, True):
        assert (outline(picture, seed, near, each) == seed).all()


def test_nothing_is_found_once_the_thing_has_gone_even_in_other_light():
    picture, proposals = view(table(), 100, 80), Proposals()
    for k in range(8):
        assert len(proposals(put(picture, (40 + 25 * k, 90, 50, 50), RED, k))) == 1
    for light in (1.0, 0.7, 1.3):
        dim = np.clip(picture * light, 0, 255).astype(np.uint8)
        assert proposals(put(dim, (-60, -60, 2, 2), RED, 9)) == []


def test_another_place_or_size_of_picture_begins_anew():
    proposals, one, other = Proposals(), table(), 255 - table(5)
    for k in range(4):
        proposals(put(view(one, 100 + 9 * k, 90), (40 + 20 * k, 80, 50, 50), RED, k))
    box = (180, 120, 60, 60)
    for picture in (view(other, 300, 200), view(other, 300, 200)[:, :200]):
        within = (min(box[0], picture.shape[1] - 90), *box[1:])
        found = proposals(put(picture, within, BLUE))
        assert found and overlap(found[0].box, within) >= 0.5


def test_pictures_of_one_colour_show_nothing_and_small_ones_do_no_harm():
    for shape in ((240, 320), (1, 1), (16, 400), (12, 12)):
        proposals = Proposals()
        for _ in range(3):
            assert proposals(np.full((*shape, 3), 90, np.uint8)) == []


def test_first_picture_is_judged_by_its_colours():
    found = Proposals()(put(view(table(), 100, 80), (120, 90, 70, 60), RED))
    assert len(found) == 1 and overlap(found[0].box, (120, 90, 70, 60)) >= 0.7


def test_matched_counts_a_region_once():
    box = (0.0, 0.0, 10.0, 10.0)
    assert scenes.matched([box], [box, (1.0, 0.0, 10.0, 10.0)]) == (1, 1, 2)
    assert scenes.matched([], [box]) == (0, 0, 1)


def test_an_object_that_is_nearly_hidden_is_neither_missed_nor_wrong():
    box, far = (0.0, 0.0, 10.0, 10.0), (50.0, 0.0, 10.0, 10.0)
    assert scenes.matched([box], [box], [far]) == (1, 1, 1)
    assert scenes.matched([box, far], [box], [far]) == (1, 1, 1)
    assert scenes.matched([box, far, far], [box], [far]) == (1, 2, 1)


def log_of(folder: Path, truth: bool) -> Path:
    messages = []
    for number, (picture, boxes) in enumerate(moving()):
        stamp = 10 ** 9 + number * 5 * 10 ** 8
        messages.append(('/camera/image', COMPRESSED, stamp, compressed(picture, stamp)))
        told = json.dumps({'stamp': stamp, 'objects': [{'box': box} for box in boxes]})
        if truth:
            messages.append(('/ground_truth', STRING, stamp, STORE.types[STRING](data=told)))
    return write_bag(folder, messages)


def test_bench_scenes_prints_a_line_for_each_recording(tmp_path, capsys):
    log_of(tmp_path / 'several' / 'one', truth=True)
    log_of(tmp_path / 'tools' / 'two', truth=False)
    figures = scenes.run(tmp_path)
    assert figures['several/one recall'] >= 0.9 and figures['several/one precision'] >= 0.9
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and 'true boxes | 12' in lines[2] and '--regions auto' in lines[3]
    assert scenes.run(tmp_path / 'several' / 'one') == pytest.approx(
        {key: value for key, value in figures.items() if 'several/one' in key}, abs=50)
    with pytest.raises(UserError, match='is no recording and holds none of scene'):
        scenes.run(tmp_path / 'several')


def test_what_colours_alone_held_for_a_thing_is_ground_once_a_part_of_it_moves_off():
    # A plate that is a part of the table, and a thing on it.
    plate = view(table(), 100, 80)
    plate[70:180, 100:220] = (120, 60, 130)
    proposals, first = Proposals(), (90, 60, 70, 60)
    found, = proposals(put(plate, first, RED))
    assert overlap(found.box, (90, 60, 130, 120)) > 0.8
    for k in range(1, 6):
        proposals.learn()
        box = (90 + 20 * k, 60 + 15 * k, 70, 60)
        found, = proposals(put(plate, box, RED, k))
        assert overlap(found.box, box) > 0.6, k


def test_parts_that_look_like_the_table_elsewhere_belong_to_a_thing_before_a_known_ground():
    light = (np.arange(WIDTH) // 20 + np.arange(HEIGHT)[:, None] // 20) % 2 > 0
    colours = np.array([(70, 110, 70), (150, 150, 160)], np.uint8)
    ground, other = colours[light.astype(int)], colours[1 - light.astype(int)]
    proposals = Proposals()
    for k in range(9):
        x, y = 20 + 22 * k, 20 + 20 * k
        picture = ground.copy()
        picture[y:y + 32, x:x + 32] = (25, 25, 30)
        picture[y + 8:y + 24, x + 32:x + 80] = other[y + 8:y + 24, x + 32:x + 80]
        noise = np.random.default_rng(k).normal(0, 2, picture.shape)
        found = proposals(np.clip(picture + noise, 0, 255).astype(np.uint8))
        if k >= 5:
            assert [overlap(each.box, (x, y, 80, 32)) > 0.55 for each in found] == [True], k
        proposals.learn()
