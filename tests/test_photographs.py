"""Views of photographs: what is the object stays, what is not changes."""
import cv2
import numpy as np
import pytest
import torch

from imn_world_model.learning.photographs import Backgrounds, texture, vary
from imn_world_model.vision.cutout import behind, cut_out


def picture(seed: int, side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """:return: a red disc before a green-blue texture, and where it is."""
    rng = np.random.default_rng(seed)
    image = texture(side, rng)
    image[..., 0] = image[..., 1]                     # nothing red
    mask = np.zeros((side, side), np.uint8)
    cv2.circle(mask, (32, 30), 20, 1, -1)
    image[mask > 0] = (220, 30, 30) + rng.integers(-15, 15, ((mask > 0).sum(), 3))
    return image, mask > 0


def test_cut_out_finds_the_object() -> None:
    overlap = []
    for seed in range(8):
        image, disc = picture(seed)
        found = cut_out(image, 0.06) > 0.5
        overlap.append((found & disc).sum() / (found | disc).sum())
    assert np.mean(overlap) > 0.9 and np.min(overlap) > 0.6, overlap


def test_large_pictures_are_cut_out_and_filled_as_small_ones() -> None:
    overlap = []
    for seed in range(8):
        image, disc = picture(seed)
        large = image.repeat(4, 0).repeat(4, 1)
        where = disc.repeat(4, 0).repeat(4, 1)
        found = cut_out(large, 0.06)
        overlap.append(((found > 0.5) & where).sum() / ((found > 0.5) | where).sum())
        left = behind(large, where.astype(np.float32))
        assert np.abs(left[where].mean(0) - (220, 30, 30)).max() > 60
        far = ~cv2.dilate(where.astype(np.uint8), np.ones((41, 41))).astype(bool)
        assert (left[far] == large[far]).all()        # as sharp as it was
    assert np.mean(overlap) > 0.85, overlap


def test_cut_out_of_one_colour_is_everything() -> None:
    assert (cut_out(np.full((64, 64, 3), 90, np.uint8), 0.06) == 1).all()


def test_behind_leaves_nothing_of_the_object() -> None:
    image, disc = picture(0)
    left = behind(image, cut_out(image, 0.06))
    assert np.abs(left[disc].mean(0) - (220, 30, 30)).max() > 60
    far = ~cv2.dilate(disc.astype(np.uint8), np.ones((15, 15))).astype(bool)
    assert (left[far] == image[far]).all()


def test_exchange_keeps_the_object_and_changes_what_is_around_it() -> None:
    images = np.stack([picture(seed)[0] for seed in range(6)])
    disc = picture(0)[1]
    inside = cv2.erode(disc.astype(np.uint8), np.ones((7, 7))).astype(bool)
    far = ~cv2.dilate(disc.astype(np.uint8), np.ones((15, 15))).astype(bool)
    backgrounds = Backgrounds(images, 64, seed=0)
    rng, changed = np.random.default_rng(0), 0
    for _ in range(40):
        view = backgrounds.exchange(0, images[0], rng)
        assert np.abs(view[inside].astype(int) - images[0][inside]).mean() < 6
        changed += np.abs(view[far].astype(int) - images[0][far]).mean() > 15
    assert 10 <= changed <= 30                        # half of them


def test_vary_is_a_function_of_its_generator_and_stays_in_range() -> None:
    image = torch.rand(8, 3, 32, 32)
    one, same, other = (vary(image, torch.Generator().manual_seed(seed), 0.5)
                        for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert one.shape == image.shape and one.min() >= 0 and one.max() <= 1


def test_vary_turns_any_way_only_as_often_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('ERASED', 'NOISE', 'SHIFT'):
        monkeypatch.setattr(f'imn_world_model.learning.photographs.{name}', 0.0)
    image = torch.zeros(300, 3, 33, 33)
    image[:, :, 3:8, 14:19] = 1.0                     # a mark at the top
    above = {}
    for share in (0.0, 1.0):
        view = vary(image, torch.Generator().manual_seed(0), share).mean(1)   # (B, S, S)
        above[share] = (view.amax(2).argmax(1) < 16).float().mean()
    assert above[0.0] == 1.0
    assert 0.4 < above[1.0] < 0.65


def test_specks_are_no_part_of_the_object() -> None:
    image, disc = picture(0)
    image[8:10, 8:12] = (220, 30, 30)                 # as red as the disc, far from it
    found = cut_out(image, 0.06) > 0.5
    assert not found[4:14, 4:16].any()
    assert (found & disc).sum() > 0.8 * disc.sum()
