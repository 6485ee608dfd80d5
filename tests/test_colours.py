"""Things of one colour each: told from the background and from each other by colour alone."""
import cv2
import numpy as np
import pytest

from imn_world_model.bench import scenes
from imn_world_model.learning.photographs import texture
from imn_world_model.rendering.robot_camera import render, silhouettes
from imn_world_model.rendering.robot_scene import clip_group
from imn_world_model.vision.colours import coloured_things
from imn_world_model.vision.overlaps import overlap
from imn_world_model.vision.proposals import Proposals


def room(clip: int, count: int, time: float = 0.0) -> tuple[np.ndarray, list, list]:
    """:return: a picture (120, 160, 3) of several objects, their boxes, those nearly hidden."""
    scene = clip_group(4, clip, count, arena=5)
    view = scene.view(time)
    picture = render(scene, view, np.random.default_rng(clip))
    boxes, hidden = [], []
    for seen, whole in zip(*silhouettes(scene, view)):
        if seen.any():
            box = tuple(value / 4 for value in cv2.boundingRect(seen.astype(np.uint8)))
            (boxes if seen.sum() >= scenes.SEEN * whole.sum() else hidden).append(box)
    return cv2.resize(picture, (160, 120), interpolation=cv2.INTER_AREA), boxes, hidden


def box_of(mask: np.ndarray) -> tuple[int, ...]:
    return cv2.boundingRect(mask.astype(np.uint8))


def test_objects_of_a_room_are_found_and_those_that_touch_told_apart():
    counts, plain = [], 0
    for clip in range(6):
        picture, boxes, hidden = room(clip, 2 + clip % 3)
        things = coloured_things(picture)
        plain += things.plain is True
        counts.append(scenes.matched([box_of(mask) for mask in things.masks], boxes, hidden))
    hits, found, there = np.sum(counts, axis=0)
    assert plain >= 5 and hits >= 0.9 * there and hits >= 0.9 * found


def test_a_camera_that_drives_around_several_objects_finds_them():
    counts, proposals = [], Proposals()
    for time in np.arange(0.0, 5.0, 0.5):
        picture, boxes, hidden = room(1, 3, time)
        found = [region.box for region in proposals(picture)]
        counts.append(scenes.matched(found, boxes, hidden))
    hits, found, there = np.sum(counts, axis=0)
    assert hits >= 0.9 * there and hits >= 0.9 * found


def blocks(*boxes: tuple[int, int, int, int, tuple[int, int, int]],
           floor: tuple[int, int, int] = (60, 130, 90)) -> np.ndarray:
    """:return: (120, 160, 3) uint8, blocks of one colour each on a floor, in noise."""
    picture = np.full((120, 160, 3), floor, np.uint8)
    for x, y, width, height, colour in boxes:
        picture[y:y + height, x:x + width] = colour
    noise = np.random.default_rng(0).normal(0, 2, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def test_neither_a_shadow_nor_a_gloss_is_a_thing():
    red, dark, shine = (200, 30, 20), (30, 65, 45), (250, 150, 140)
    things = coloured_things(blocks((40, 40, 30, 30, red), (70, 60, 30, 10, dark),
                                    (50, 46, 10, 10, shine)))
    assert things.plain and len(things.masks) == 1
    assert overlap(box_of(things.masks[0]), (40, 40, 30, 30)) > 0.9


def test_lit_and_dark_face_of_something_pure_are_one_thing():
    lit, dark = (80, 2, 240), (36, 2, 110)
    things = coloured_things(blocks((40, 40, 20, 30, lit), (60, 40, 20, 30, dark)))
    assert [overlap(box_of(mask), (40, 40, 40, 30)) > 0.9 for mask in things.masks] == [True]


def test_a_lit_edge_is_its_things_and_a_thing_of_another_hue_there_is_not():
    body, lit, other = (40, 140, 15), (120, 200, 90), (30, 40, 160)
    for colour, count in ((lit, 1), (other, 2)):
        things = coloured_things(blocks((40, 40, 30, 30, body), (46, 32, 14, 8, colour)))
        assert len(things.masks) == count
    assert overlap(box_of(coloured_things(blocks((40, 40, 30, 30, body), (46, 32, 14, 8, lit))
                                          ).masks[0]), (40, 32, 30, 38)) > 0.9


def test_a_dark_room_whose_colours_are_noisy_is_plain():
    things = [coloured_things(blocks((40, 40, 30, 30, (60, 30, 10)), floor=(12, 15, 70)))]
    assert things[0].plain and len(things[0].masks) == 1


def test_a_shadow_on_a_pure_floor_is_no_thing_but_something_dark_of_another_colour_is():
    red, blue, green = (200, 30, 20), (10, 20, 90), (30, 250, 110)
    shadow = tuple(value // 3 for value in green)
    alone = coloured_things(blocks((90, 40, 30, 30, shadow), floor=green))
    assert alone.masks == [] and alone.plain is None
    things = coloured_things(blocks((40, 40, 30, 30, red), (40, 72, 40, 8, shadow),
                                    (100, 40, 30, 30, blue), floor=green))
    assert sorted(box_of(mask)[0] // 10 for mask in things.masks) == [4, 10]
    assert all(box_of(mask)[3] <= 31 for mask in things.masks)


def test_blocks_that_touch_are_two_and_the_clearest_comes_first():
    red, blue = (200, 30, 20), (20, 30, 220)
    things = coloured_things(blocks((40, 40, 20, 20, red), (60, 36, 30, 30, blue)))
    assert [round(mask.mean() * 19200, -2) for mask in things.masks] == [900, 400]


def test_photographs_and_pictures_of_nothing_are_of_another_kind():
    for seed in range(20):
        pattern = cv2.resize(texture(60, np.random.default_rng(seed)), (160, 120))
        assert not coloured_things(pattern // 3 + 80).plain
    assert coloured_things(blocks()).plain is None
    for shape in ((120, 160), (1, 1), (8, 160)):
        things = coloured_things(np.full((*shape, 3), 90, np.uint8))
        assert things.plain is None and things.masks == []


def test_a_mark_on_something_pale_does_not_make_the_picture_plain():
    assert coloured_things(blocks((60, 50, 14, 14, (200, 30, 20)))).plain is None
    assert coloured_things(blocks((60, 50, 20, 20, (200, 30, 20)))).plain


@pytest.mark.parametrize('light', [0.4, 1.4])
def test_light_changes_nothing(light: float):
    picture, boxes, hidden = room(2, 3)
    lit = np.clip(picture * light, 0, 255).astype(np.uint8)
    found = [box_of(mask) for mask in coloured_things(lit).masks]
    hits, answered, there = scenes.matched(found, boxes, hidden)
    assert hits == answered == there
