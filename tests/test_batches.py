"""Batches: grouped as configured, repeatable by step, shared out between processes."""
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from imn_world_model.base.config import Config, TrainConfig
from imn_world_model.base.errors import UserError
from imn_world_model.data.frames import Frames
from imn_world_model.learning.augment import (
    MIN_SATURATION,
    common_hues,
    flip,
    motion,
    move,
    recolor,
)
from imn_world_model.learning.augment_on_device import hsv, moved, rgb
from imn_world_model.learning.batches import Batches
from imn_world_model.learning.loading import FrameBatches

CONFIG = Config(train=TrainConfig(batch_size=24, views=4, share='clip', seed=3))


def changed(**values: Any) -> Config:
    """:return: CONFIG with other values in its training."""
    return replace(CONFIG, train=replace(CONFIG.train, **values))


def numbered_images(count: int) -> np.ndarray:
    """:return: (count, 4, 4, 3) uint8, image i filled with the number i."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None],
                           (count, 4, 4, 3))


def numbers(batch: dict[str, torch.Tensor]) -> np.ndarray:
    """:return: (B,) the numbers that :func:`numbered_images` wrote."""
    return (batch['image'][:, 0, 0, 0] * 255).round().long().numpy()


def test_batches_views_of_a_group_are_different_frames_of_one_clip() -> None:
    clip = np.arange(120) % 10                       # clips interleaved, 12 frames each
    batches = Batches(numbered_images(120), clip, CONFIG)
    seen = set()
    for step in range(20):
        groups = numbers(batches[step]).reshape(-1, 4)
        assert (clip[groups] == clip[groups][:, :1]).all()
        assert all(len(set(group)) == 4 for group in groups)
        seen |= set(groups.ravel())
    assert len(seen) > 110                           # all clips and frames take part


def test_batches_short_clip_repeats_its_frames() -> None:
    clip = np.array([0, 0, 1, 1, 1, 1])
    groups = numbers(Batches(numbered_images(6), clip, CONFIG)[0]).reshape(-1, 4)
    for group in groups:
        assert set(group) <= {0, 1} or set(group) <= {2, 3, 4, 5}


def test_batches_depend_on_seed_and_step_alone() -> None:
    images, clip = numbered_images(120), np.arange(120) // 12
    first, second = Batches(images, clip, CONFIG), Batches(images, clip, CONFIG)
    first[0]
    assert torch.equal(first[7]['image'], second[7]['image'])
    assert not torch.equal(first[7]['image'], first[8]['image'])
    other = Batches(images, clip, changed(seed=4))
    assert not torch.equal(first[7]['image'], other[7]['image'])


def test_batches_two_processes_share_one_global_batch() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    config = changed(recolor=True, zoom=0.2, shift=0.2, flip=True)
    whole = Batches(images, np.arange(60) // 12, config)[5]['image']
    halves = [Batches(images, np.arange(60) // 12, config, rank=rank, world_size=2)[5]['image']
              for rank in range(2)]
    assert torch.equal(torch.cat(halves), whole)


def test_batches_augmented_views_share_one_image_and_differ() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    config = changed(share='augment', recolor=True)
    groups = Batches(images, np.arange(30), config)[0]['image'].unflatten(0, (-1, 4))
    # Brightness (the largest channel) survives recolouring, colours do not.
    brightness = groups.amax(2)
    assert torch.allclose(brightness, brightness[:, :1].expand_as(brightness), atol=2 / 255)
    assert (groups[:, 0] - groups[:, 1]).abs().mean() > 0.05


def test_batches_guess_the_coordinates_of_each_view_in_the_first_steps() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
    batches = Batches(images, np.arange(60) // 12, changed(subspace_steps=5, flip=True))
    batch = batches[4]
    views = (batch['image'].permute(0, 2, 3, 1) * 255).round().byte().numpy()
    expected = batches.subspaces.coordinates(views, np.arange(len(views)))
    assert np.array_equal(batch['subspace'].numpy(), expected, equal_nan=True)
    assert 'subspace' not in batches[5]


def test_batches_labels_follow_their_images() -> None:
    batches = Batches(numbered_images(60), np.arange(60) // 12, CONFIG, labels=np.arange(60) * 2)
    batch = batches[3]
    assert (batch['label'].numpy() == 2 * numbers(batch)).all()


@pytest.mark.parametrize(('count', 'clip', 'world', 'message'), [
    (0, np.zeros(0, int), 1, 'no training images'),
    (5, np.arange(5), 1, 'single frame'),
    (12, np.zeros(12, int), 4, 'cannot be shared by 4'),
])
def test_batches_refuse_what_cannot_work(count: int, clip: np.ndarray, world: int,
                                         message: str) -> None:
    with pytest.raises(UserError, match=message):
        Batches(numbered_images(count), clip, CONFIG, world_size=world)


def test_recolor_keeps_light_and_pale_pixels() -> None:
    image = np.zeros((2, 8, 8, 3), np.uint8)
    image[0] = (200, 20, 20)                         # saturated
    image[1] = (153, 226, 249)                       # the pale sky of 3Dshapes
    rng = np.random.default_rng(1)
    saturated, pale = recolor(image[0], rng), recolor(image[1], rng)
    assert abs(int(saturated.max()) - 200) <= 2
    assert np.abs(saturated.astype(int) - image[0]).max() > 30
    assert MIN_SATURATION > 255 * (249 - 153) / 249
    assert np.abs(pale.astype(int) - image[1]).max() <= 2


def test_move_scales_about_the_centre() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[24:40, 24:40] = 255
    sides = []
    for seed in range(40):
        white = move(image, 0.5, 0.0, np.random.default_rng(seed))[..., 0] > 127
        rows = np.flatnonzero(white.any(1))
        sides.append(len(rows))
        assert abs((rows[0] + rows[-1]) / 2 - 31.5) <= 0.5
    assert 16 / 1.5 - 1 <= min(sides) < 13 and 20 < max(sides) <= 16 * 1.5 + 1


def test_move_repeats_the_edge() -> None:
    image = np.repeat(np.arange(10, 74, dtype=np.uint8)[None, :, None], 32, 0).repeat(3, 2)
    seen = set()
    for seed in range(20):
        row = move(image, 0.0, 0.25, np.random.default_rng(seed))[5, :, 0].astype(int)
        assert (np.diff(row) >= 0).all() and row.min() >= 10 and row.max() <= 73
        seen.add(int((row == 10).sum() > 1) - int((row == 73).sum() > 1))
    assert {-1, 1} <= seen


def test_move_shifts_either_way() -> None:
    image = np.full((32, 64, 3), 9, np.uint8)
    image[14:18, 28:36] = 255
    places = []
    for seed in range(40):
        moved = move(image, 0.0, 0.125, np.random.default_rng(seed))[..., 0]
        rows, columns = (np.average(np.arange(side), weights=moved.astype(float).sum(1 - axis) -
                                    9 * moved.shape[1 - axis])
                         for axis, side in enumerate(moved.shape))
        places.append((rows - 15.5, columns - 31.5))
    places = np.array(places)
    assert (np.abs(places) < (4.1, 8.1)).all()
    assert places.min(0)[0] < -2.5 and places.max(0)[0] > 2.5
    assert places.min(0)[1] < -5 and places.max(0)[1] > 5
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.5


def test_batches_shift_each_view_by_itself() -> None:
    images = np.zeros((10, 32, 32, 3), np.uint8)
    images[:, 12:20, 12:20] = 200
    views = Batches(images, np.zeros(10, int), changed(shift=0.2))[0]['image'][:, 0].numpy()
    rows = np.array([np.flatnonzero(view.max(1) > 0.5).mean() for view in views])
    assert (np.ptp(rows.reshape(-1, 4), axis=1) > 2).all()


def test_flip_mirrors_half_of_the_views() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    flipped = [bool((flip(image, np.random.default_rng(seed)) == image[:, ::-1]).all())
               for seed in range(100)]
    assert 30 < sum(flipped) < 70


def place_and_things(count: int) -> np.ndarray:
    """:return: (count, 8, 8, 3) uint8: a red place, in it a square of another hue each time."""
    images = np.zeros((count, 8, 8, 3), np.uint8)
    images[..., 0] = np.random.default_rng(0).integers(150, 250, (count, 8, 8))
    for k, image in enumerate(images):
        image[2:6, 2:6] = ((0, 200, 0), (0, 0, 200), (0, 200, 200), (200, 200, 0))[k % 4]
    return images


def test_common_hues_are_those_of_the_place_and_stay() -> None:
    images = place_and_things(40)
    kept = common_hues(images)
    assert kept[0] and kept[255] and kept.sum() < 30      # red and its neighbours on the circle
    changed = np.stack([recolor(image, np.random.default_rng(k), kept)
                        for k, image in enumerate(images)]).astype(int)
    thing = np.zeros((8, 8), bool)
    thing[2:6, 2:6] = True
    difference = np.abs(changed - images).max(-1)
    assert difference[:, ~thing].max() <= 3
    assert (difference[:, thing].max(1) > 60).mean() > 0.7


def test_batches_recolor_the_thing_and_leave_the_place() -> None:
    images = place_and_things(40)
    config = changed(recolor=True)
    views = Batches(images, np.arange(40) // 10, config)[0]['image'].numpy() * 255
    assert views[:, 1:, 0].max() <= 3                     # the place: the top row, no green, blue
    assert np.ptp(views[:, :, 4, 4], axis=0).min() > 100  # the thing: every channel varies


@pytest.mark.parametrize(('raw', 'sent'), [('views', 'views'), ('rows', 'rows')])
@pytest.mark.parametrize('settings', [
    {}, {'flip': True, 'recolor': True}, {'flip': True, 'recolor': True, 'zoom': 0.1},
    {'shift': 0.2, 'zoom': 0.3}])
def test_a_device_makes_the_batch_that_the_processor_makes(raw: Any, sent: str, settings: dict
                                                           ) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    config = changed(subspace_steps=2, **settings)
    clip = np.arange(60) // 12
    none = np.zeros(60, np.int64)
    held = FrameBatches(Frames(images, clip, none.astype(np.uint8), none, none, none, none, ('a',),
                               ('b',), {}, {}, 'hash', (), ()), config, None)
    whole, part = Batches(images, clip, config), Batches(images, clip, config, raw=raw)
    for step in (0, 1, 2, 7):
        expected, got = whole[step], part[step]
        assert ('views' if step < 2 else sent) in got and 'image' not in got
        got = held.on_after_batch_transfer(got, 0)
        assert expected.keys() == got.keys()
        for name, value in expected.items():
            assert got[name].dtype == value.dtype
            if name == 'image' and 'zoom' in settings and sent == 'rows':
                # OpenCV rounds places between pixels: levels, where neighbours are noise.
                away = 255 * (got[name] - value).abs()
                assert away.max() < 8.5 and away.mean() < 1.5
            else:
                assert torch.equal(got[name].nan_to_num(), value.nan_to_num()), name


def test_pictures_are_moved_on_a_device_as_opencv_does() -> None:
    smooth = cv2.GaussianBlur(np.random.default_rng(0).integers(
        0, 256, (64, 64, 3), dtype=np.uint8), (0, 0), 2)
    for seed in range(4):
        expected = move(smooth, 0.3, 0.2, np.random.default_rng(seed))
        matrix = torch.from_numpy(motion(64, 64, 0.3, 0.2, np.random.default_rng(seed)))
        found = moved(torch.from_numpy(smooth[None]), matrix[None].float())[0].numpy()
        assert np.abs(found.astype(int) - expected).max() <= 2


def test_every_colour_is_seen_on_a_device_as_opencv_does() -> None:
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    expected = cv2.cvtColor(colours, cv2.COLOR_RGB2HSV_FULL)
    found = torch.stack(hsv(torch.from_numpy(colours)), -1)
    assert np.array_equal(found.numpy(), expected)
    back = rgb(*found.unbind(-1)).numpy().astype(int)
    assert np.abs(back - cv2.cvtColor(expected, cv2.COLOR_HSV2RGB_FULL)).max() <= 1
