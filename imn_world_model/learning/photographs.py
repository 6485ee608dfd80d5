"""
Views of photographs: what may change in a picture while the object stays the same.

The camera turns, comes nearer, looks elsewhere; the light changes; the object stands before
something else. Where the pictures keep their background (``model.background``), the object is cut
out and put before another picture's background or a random texture. Only training does so.
"""
import math

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from imn_world_model.data.frames import ImageRows
from imn_world_model.vision.cutout import GREY, MARGIN, behind, cut_out

# Half range of log brightness (all channels; each channel), of log contrast.
LIGHT, TINT, CONTRAST = 0.5, 0.2, 0.2
# Half range of turns in radians, where things stand upright.
TURN = math.radians(20)
# Half range of log zoom, and of shifts as a share of the side.
ZOOM, SHIFT = 0.25, 0.1
# Standard deviation of the noise of pixels.
NOISE = 0.02
# How often something stands in the way, and its largest side as a share of the picture's.
ERASED, ERASED_SIDE = 0.3, 0.5
# How often the background is exchanged; how often a texture takes its place.
EXCHANGED, TEXTURED = 0.5, 0.3
TEXTURES = 256
# Bytes of cut-outs that are kept.
KEPT = 200_000_000


def texture(side: int, rng: np.random.Generator) -> np.ndarray:
    """
    A random background: a colour, clouds of several sizes, some discs and stripes.

    :return: (side, side, 3) uint8.
    """
    picture = np.zeros((side, side, 3), np.float32) + rng.uniform(0, 255, 3).astype(np.float32)
    for octave in range(1, 6):
        grain = rng.normal(size=(2 ** octave, 2 ** octave, 1 if rng.random() < 0.6 else 3))
        cloud = cv2.resize(grain.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
        picture += cloud.reshape(side, side, -1) * rng.uniform(0, 40) / octave
    for _ in range(rng.integers(8)):
        level = np.clip(picture.mean((0, 1)) + rng.normal(0, 50, 3), 0, 255)
        colour = tuple(float(value) for value in level)
        x, y = (int(value) for value in rng.integers(0, side, 2))
        if rng.random() < 0.5:
            cv2.circle(picture, (x, y), int(rng.integers(1, side // 4)), colour, -1)
        else:
            to_x, to_y = (int(value) for value in rng.integers(-side, 2 * side, 2))
            cv2.line(picture, (x, y), (to_x, to_y), colour, int(rng.integers(1, side // 6)))
    return cv2.GaussianBlur(np.clip(picture, 0, 255), (0, 0), rng.uniform(0.3, 1.5)
                            ).astype(np.uint8)


class Backgrounds:
    """
    Puts objects before other backgrounds. Cut-outs are made when first needed and kept.

    :param images: of the log.
    :param side: S.
    :param seed: of the textures.
    :param removed: there are none, the objects are alone: pictures stay as they are.
    """

    def __init__(self, images: ImageRows, side: int, seed: int, removed: bool = False) -> None:
        self.images, self.removed = images, removed
        rng = np.random.default_rng((seed, 3))
        self.textures = np.stack([texture(side, rng) for _ in range(TEXTURES)])
        self.masks: dict[int, np.ndarray] = {}

    def exchange(self, row: int, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """
        Perhaps put an image's object before something else.

        :param row: of the image.
        :param image: (S, S, 3) uint8.
        :param rng: decides whether, and before what.
        :return: (S, S, 3) uint8.
        """
        if self.removed or rng.random() >= EXCHANGED:
            return image
        if rng.random() < TEXTURED:
            background = self.textures[rng.integers(TEXTURES)]
        else:
            other = int(rng.integers(len(self.images)))
            picture = self.images[np.array([other])][0]
            background = behind(picture, self.mask(other, picture))
        share = self.mask(row, image)[..., None]
        light = math.exp(rng.normal(0.0, 0.2))
        mixed = image * share + np.minimum(background * light, 255.0) * (1 - share)
        return mixed.astype(np.uint8)

    def mask(self, row: int, image: np.ndarray) -> np.ndarray:
        """:return: (S, S) float32, the cut-out of a row's image."""
        if row not in self.masks:
            if len(self.masks) * image.shape[0] ** 2 >= KEPT:
                self.masks.clear()
            self.masks[row] = (255 * cut_out(image, MARGIN)).astype(np.uint8)
        return self.masks[row].astype(np.float32) / 255.0


def vary(image: Tensor, generator: torch.Generator, anyhow: float,
         mask: Tensor | None = None) -> Tensor:
    """
    Turn, zoom, shift and mirror; change light, colour and contrast; noise; something in the way.

    :param image: (B, 3, S, S) in [0, 1].
    :param generator: source of all of it.
    :param anyhow: share of the images that are turned any way, as things lie on a table.
    :param mask: (B, S, S) in [0, 1], of objects that are alone: what is beside them stays grey.
    :return: (B, 3, S, S) in [0, 1].
    """
    count, side = len(image), image.shape[-1]

    def even(*shape: int) -> Tensor:
        return 2 * torch.rand(shape, generator=generator) - 1

    lying = torch.rand(count, generator=generator) < anyhow
    angle = even(count) * torch.where(lying, math.pi, TURN)
    scale = torch.exp(even(count) * math.log1p(ZOOM))
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    move = 2 * SHIFT * even(count, 2)
    rows = [torch.stack((angle.cos() * scale * mirror, -angle.sin() * scale, move[:, 0]), 1),
            torch.stack((angle.sin() * scale * mirror, angle.cos() * scale, move[:, 1]), 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(image.shape), align_corners=False)
    view = F.grid_sample(image, grid, padding_mode='border', align_corners=False)
    if mask is not None:
        mask = F.grid_sample(mask[:, None], grid, padding_mode='border', align_corners=False)
    view = view * torch.exp(LIGHT * even(count, 1, 1, 1) + TINT * even(count, 3, 1, 1))
    view = (view - 0.5) * torch.exp(CONTRAST * even(count, 1, 1, 1)) + 0.5
    view = view + NOISE * torch.randn(view.shape, generator=generator)

    at = torch.arange(side) / side
    low = torch.rand(count, 2, generator=generator)
    size = ERASED_SIDE * torch.rand(count, 2, generator=generator)
    inside = (at >= low[..., None]) & (at < (low + size)[..., None])     # (B, 2, S)
    erased = inside[:, 0, :, None] & inside[:, 1, None, :]
    erased &= (torch.rand(count, generator=generator) < ERASED)[:, None, None]
    colour = torch.rand(count, 3, 1, 1, generator=generator)
    if mask is None:
        return torch.where(erased[:, None], colour, view).clamp(0.0, 1.0)
    shown = mask * ~erased[:, None]
    return (view.clamp(0.0, 1.0) * shown + GREY / 255.0 * (1.0 - shown))
