"""What pictures show without training: components of pixels, of outlines and of colours."""
import warnings
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from imn_world_model.learning.batches import Turned
from imn_world_model.learning.likeness import (
    _components,
    outline_likeness,
    own_clip_nearest,
)
from imn_world_model.model.components import (
    GRIDS,
    ORIENTATIONS,
    Components,
    PictureComponents,
    colours_in,
    outlines_in,
)
from imn_world_model.vision.cutout import GREY


def striped(degrees: float, level: float = 1.0) -> torch.Tensor:
    """:return: (1, 3, 64, 64), waves whose brightness changes along a direction."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing='ij')
    angle = np.radians(degrees)
    wave = torch.sin((x * np.cos(angle) + y * np.sin(angle)) / 3) * level
    return wave.expand(1, 3, 64, 64)


@pytest.mark.parametrize('step', range(ORIENTATIONS))
def test_outlines_tell_which_way_edges_run(step: int) -> None:
    fine = outlines_in(striped(180 * step / ORIENTATIONS))[1].view(ORIENTATIONS, 8, 8)
    inner = fine[:, 1:-1, 1:-1].mean((1, 2))
    assert int(inner.argmax()) == step
    beside = inner[(step + 1) % ORIENTATIONS], inner[(step - 1) % ORIENTATIONS]
    torch.testing.assert_close(beside[0], beside[1], rtol=0.1, atol=0.0)


def test_outlines_tell_where_edges_are_and_not_how_bright() -> None:
    image = torch.zeros(1, 3, 64, 64)
    image[:, :, 40:56, 8:24] = 1.0
    coarse, fine = outlines_in(image)
    assert [part.shape[1] for part in (coarse, fine)] == [ORIENTATIONS * g ** 2 for g in GRIDS]
    where = fine.view(ORIENTATIONS, 8, 8).amax(0)
    assert where[4:7, 0:4].amax() > 0.5 and where[:4].max() < 0.01 > where[:, 5:].max()
    for dark, light in zip(outlines_in(0.3 * image), (coarse, fine), strict=True):
        torch.testing.assert_close(dark, light, rtol=0.05, atol=0.02)
    green = image * torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1)
    assert outlines_in(green)[1].view(ORIENTATIONS, 8, 8).amax(0)[4:7, 0:4].amax() > 0.5


def test_components_are_of_even_size_and_uncorrelated() -> None:
    torch.manual_seed(0)
    value = torch.randn(200, 3) @ (torch.rand(3, 40) * torch.tensor([5.0, 2.0, 1.0])[:, None])
    components = Components(40, 3)
    components.fit(value)
    raw = (value - components.mean) @ components.axes.T
    torch.testing.assert_close(raw.T @ raw / 199, torch.eye(3), atol=0.02, rtol=0)
    torch.testing.assert_close(components(value).norm(dim=1), torch.ones(200))


def test_few_pictures_have_few_components() -> None:
    components = Components(60, 10)
    components.fit(torch.rand(5, 60))
    found = components(torch.rand(3, 60))
    assert torch.isfinite(found).all() and (found[:, 5:] == 0).all()


def test_pixels_outlines_and_colours_count_the_same() -> None:
    torch.manual_seed(0)
    image = torch.rand(30, 3, 128, 128)
    parts = PictureComponents(5, 7, 4, alone=False)
    parts.fit(parts.values(image))
    found = parts(image)
    assert found.shape == (30, 23)
    for part in found.split([5, 7, 7, 4], dim=1):
        torch.testing.assert_close(part.square().sum(1), torch.full((30,), 1 / 4))


def painted(colour: tuple[float, float, float], left: int, width: int = 16) -> torch.Tensor:
    """:return: (1, 3, 64, 64), a square of one colour before grey."""
    image = torch.full((1, 3, 64, 64), GREY / 255.0)
    image[:, :, left:left + width, left:left + width] = torch.tensor(colour).view(3, 1, 1)
    return image


def test_colours_are_shares_of_the_object_wherever_it_is() -> None:
    red = colours_in(painted((0.8, 0.1, 0.1), 8), alone=True)
    torch.testing.assert_close(red.square().sum(1), torch.ones(1))
    torch.testing.assert_close(colours_in(painted((0.8, 0.1, 0.1), 30, 9), alone=True), red)
    green = colours_in(painted((0.1, 0.8, 0.1), 8), alone=True)
    assert float((red * green).sum()) < 0.01
    half = painted((0.8, 0.1, 0.1), 8)
    half[:, :, 8:24, 16:24] = painted((0.1, 0.8, 0.1), 8)[:, :, 8:24, 16:24]
    both = colours_in(half, alone=True).square()
    torch.testing.assert_close((both * (green > 0.1)).sum(), torch.tensor(0.5), atol=0.05, rtol=0)
    everywhere = colours_in(painted((0.8, 0.1, 0.1), 8), alone=False)
    assert float((everywhere * red).sum()) < 0.5      # grey counts, most of the picture


def test_colours_stay_in_another_light() -> None:
    torch.manual_seed(0)
    image = painted((0.8, 0.3, 0.2), 8, 40)
    image[:, :, 8:48, 8:48] *= 0.5 + 0.7 * torch.rand(1, 1, 40, 40)
    seen = colours_in(image, alone=True)
    darker = torch.where(image == GREY / 255.0, image, 0.5 * image)
    assert float((colours_in(darker, alone=True) * seen).sum()) > 0.98
    brown = torch.where(image == GREY / 255.0, image,
                        image * torch.tensor([0.6, 1.0, 1.2]).view(3, 1, 1))
    assert float((colours_in(brown, alone=True) * seen).sum()) < 0.9


def test_an_empty_picture_has_no_colours() -> None:
    empty = torch.full((2, 3, 64, 64), GREY / 255.0)
    assert (colours_in(empty, alone=True) == 0).all()


def thing(kind: int, size: np.ndarray, rng: np.random.Generator, turned: bool) -> np.ndarray:
    """:return: (64, 64, 3) uint8, a shape of some colour before grey; size (2,) of 1 or less."""
    mask = np.zeros((64, 64), np.uint8)
    corners = [[(-20, -6), (20, -6), (20, 6), (-20, 6)],                  # a bar
               [(-20, -12), (20, 0), (-20, 12)],                         # a wedge
               [(-20, -4), (4, -4), (4, -14), (20, -14), (20, 14), (4, 14), (4, 4), (-20, 4)]]
    angle = rng.uniform(0, 2 * np.pi) if turned else 0.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.array(corners[kind]) * size @ turn.T + 32 + rng.uniform(-2, 2, 2)
    cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 255)
    image = np.full((64, 64, 3), GREY, np.uint8)
    image[mask > 0] = rng.integers(20, 256, 3)
    return image


@pytest.mark.parametrize('turned', [False, True])
def test_outlines_say_which_clips_show_one_kind_however_things_lie(turned: bool) -> None:
    rng = np.random.default_rng(0)
    kind = np.arange(18) % 3
    clip = np.repeat(np.arange(18), 6)
    images = np.stack([thing(kind[k], np.ones(2), rng, turned) for k in clip])
    rows = np.flatnonzero(np.arange(len(clip)) % 6 < 5)
    found = outline_likeness(images, rows, clip[rows])
    assert len(found) == len(rows)
    mean = found.reshape(18, 5, -1).mean(1)
    answer = AgglomerativeClustering(3).fit_predict(mean)
    assert adjusted_rand_score(kind, answer) > 0.6
    small = images.reshape(18, 6, -1).mean(1)
    assert adjusted_rand_score(kind, AgglomerativeClustering(3).fit_predict(small)) < 0.3


def test_things_that_lie_any_way_are_compared_turned_level() -> None:
    rng = np.random.default_rng(0)
    clip = np.repeat(np.arange(12), 8)
    size = np.stack((np.linspace(0.6, 1.0, 12), np.tile((1.0, 0.4, 0.7), 4)), 1)
    images = np.stack([thing(1, size[k], rng, turned=True) for k in clip])
    rows = np.arange(len(clip))
    as_they_lie, level = (
        own_clip_nearest(_components(way, rows), clip) for way in (images, Turned(images)))
    assert level > as_they_lie + 0.1
    assert own_clip_nearest(outline_likeness(images, rows, clip), clip) > as_they_lie + 0.1


def test_share_of_frames_whose_nearest_is_of_their_clip() -> None:
    features = np.array([[1.0, 0.0], [0.99, 0.1], [0.0, 1.0], [0.1, 0.99], [-1.0, 0.0]])
    assert own_clip_nearest(features, np.array([0, 0, 1, 2, 2])) == pytest.approx(0.4)


@pytest.mark.parametrize('alone', [False, True])
def test_components_come_out_of_onnx_as_out_of_torch(alone: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    image = torch.rand(40, 3, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    parts = PictureComponents(6, 5, 4, alone).eval()
    parts.fit(parts.values(image))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')               # the exporter's own deprecations
        torch.onnx.export(parts, (image[:2],), tmp_path / 'parts.onnx', dynamo=True,
                          verbose=False, dynamic_shapes={'image': {0: torch.export.Dim.DYNAMIC}})
    session = onnxruntime.InferenceSession(tmp_path / 'parts.onnx')
    # Of even grey, which has no edge at all, too.
    for seen in (image[5:12], torch.full((3, 3, 32, 32), GREY / 255.0), torch.zeros(1, 3, 32, 32)):
        answer, = session.run(None, {'image': seen.numpy()})
        np.testing.assert_allclose(answer, parts(seen).numpy(), atol=1e-4)
