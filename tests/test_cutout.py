"""Objects alone: found, left before grey, turned level."""
import cv2
import numpy as np
import pytest
import torch

from imn_world_model.base.config import override
from imn_world_model.base.errors import UserError
from imn_world_model.learning.batches import RecognizerViews, Turned
from imn_world_model.learning.photographs import Backgrounds, vary
from imn_world_model.learning.presets import preset
from imn_world_model.model.recognition import evened_alone
from imn_world_model.vision.cutout import GREY, alone, along, covered


def wedge(angle: float, side: int = 64, scale: float = 0.7) -> np.ndarray:
    """:return: a wedge, blue at its thick end and red at its tip, alone before grey."""
    canvas = np.full((side, side, 3), GREY, np.uint8)
    half = scale * side / 2
    points = np.array([[-half, -half / 3], [-half, half / 3], [half, 0]])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.rint(points @ turn.T + side / 2).astype(np.int32)
    cv2.fillPoly(canvas, [corners], (20, 40, 200))
    tip = np.rint(np.array([half * 0.5, 0.0]) @ turn.T + side / 2).astype(int)
    cv2.circle(canvas, (int(tip[0]), int(tip[1])), 3, (220, 30, 20), -1)
    return canvas


def test_a_turned_object_lies_level_whichever_way_it_lay() -> None:
    level = along(wedge(0.0))
    for angle in np.linspace(0.2, 6.0, 9):
        turned = along(wedge(float(angle), scale=0.55))
        shown, wanted = covered(turned) > 0, covered(level) > 0
        assert (shown & wanted).sum() > 0.8 * (shown | wanted).sum(), angle
        for image in (turned, level):                  # the red tip on the same side
            red = np.argwhere((image[..., 0] > 150) & (image[..., 2] < 100))
            assert len(red) and abs(red[:, 0].mean() - 31.5) < 4
        sides = [np.argwhere(image[..., 0] > 150)[:, 1].mean() > 31.5 for image in (turned, level)]
        assert sides[0] == sides[1], angle


def test_a_picture_with_next_to_nothing_is_left_as_it_is() -> None:
    empty = np.full((64, 64, 3), GREY, np.uint8)
    assert (along(empty) == empty).all()


def test_turned_images_are_turned_one_by_one() -> None:
    images = np.stack([wedge(0.5), wedge(2.0), wedge(4.0)])
    turned = Turned(images)
    assert len(turned) == 3
    assert (turned[np.array([2, 0])] == np.stack([along(images[2]), along(images[0])])).all()
    assert (turned[1] == along(images[1])).all()
    assert turned[np.zeros(0, int)].shape == (0, 64, 64, 3)


def test_alone_keeps_the_object_and_greys_the_rest() -> None:
    image = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    mask = np.zeros((16, 16), np.float32)
    mask[4:12, 4:12] = 1.0
    left = alone(image, mask)
    assert (left[4:12, 4:12] == image[4:12, 4:12]).all()
    left[4:12, 4:12] = GREY
    assert (left == GREY).all()


def test_views_of_an_object_alone_stay_grey_beside_it() -> None:
    image = torch.from_numpy(wedge(0.3)).movedim(-1, 0)[None].float().repeat(32, 1, 1, 1) / 255
    mask = torch.from_numpy(covered(wedge(0.3)))[None].repeat(32, 1, 1)
    views = vary(image, torch.Generator().manual_seed(0), 0.5, mask)
    rim = torch.cat((views[:, :, 0], views[:, :, -1]), 2)
    assert (rim - GREY / 255).abs().median() < 1e-6
    free = vary(image, torch.Generator().manual_seed(0), 0.5)
    assert (free[:, :, 0] - GREY / 255).abs().mean() > 0.02      # light and noise else


def test_recognizer_views_exchange_no_background_where_there_is_none() -> None:
    images = np.stack([wedge(0.3)] * 4)
    views = RecognizerViews(images, Backgrounds(images, 64, 0, removed=True), 0, 0.0)
    made = views.make(np.arange(4), (0, 1))
    grey = ((made - GREY / 255).abs().amax(1) < 1e-6).float().mean()
    assert grey > 0.5


def test_evening_takes_the_light_away_and_keeps_the_colour() -> None:
    image = torch.from_numpy(wedge(0.3)).movedim(-1, 0)[None].float() / 255
    mask = torch.from_numpy(covered(wedge(0.3)))[None, None]
    darker = image * 0.5 * mask + GREY / 255 * (1 - mask)
    bright, dark = evened_alone(image), evened_alone(darker)
    assert (bright - dark).abs().max() < 0.1
    beside = bright.movedim(1, -1)[mask[:, 0] == 0]
    assert (beside - beside[0]).abs().max() == 0 and bright[:, 2].mean() > beside[0, 2] + 0.05
    shown = (bright * mask).sum((2, 3)) / mask.sum()
    assert shown[0, 2] > shown[0, 0] + 0.3             # blue stays blue


def test_turning_takes_objects_that_are_alone() -> None:
    with pytest.raises(UserError, match='model.background=remove'):
        override(preset('objects32'), ['model.background=keep'])
    with pytest.raises(UserError, match='takes a recognizer'):
        override(preset('log32'), ['model.background=remove', 'model.turn=auto'])
