"""
What a picture shows without training: principal components of its pixels, outlines and colours.
"""
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imn_world_model.vision.cutout import GREY

# Brightness that every channel's mean is brought to, so that lamps and exposure matter less.
MEAN_LEVEL = 0.4
# Side of the pictures whose pixels are looked at.
SMALL = 32
# Outlines: side that larger pictures are reduced to; cells along either side; orientations; half
# the power of the cosine that says how near an edge is to each; strength below which it is noise.
OUTLINE_SIDE = 64
GRIDS = (4, 8)
ORIENTATIONS = 9
SHARPNESS = 4
# Squared gradient that is none.
EVEN = 1e-6
FAINT = 0.01
# Colours: logarithms of red over green and of yellow over blue, and of the brightness, each from
# a value to a value in so many steps; what is added to grey levels, so that black has one.
TINTS = ((-1.2, 2.0, 10), (-0.8, 2.0, 10), (-3.0, 0.6, 2))
BLACK = 0.03


class Components(nn.Module):
    """
    Principal components, each with variance 1 over the pictures that it was fitted to.

    :param width: D, numbers that a picture has.
    :param count: K, components.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.register_buffer('mean', torch.zeros(width))
        self.register_buffer('axes', torch.zeros(count, width))

    def fit(self, value: Tensor) -> None:
        """
        Find the components; where there are fewer, the rest is 0.

        :param value: (N, D).
        """
        self.mean = value.mean(0)
        centred = (value - self.mean).double()
        # The smaller of the two products has all that there is to know; no chance is in it.
        wide = centred.shape[1] > centred.shape[0]
        square, axes = torch.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
        count = min(len(self.axes), len(square))
        square, axes = square.flip(0)[:count].clamp(min=0.0), axes.flip(1)[:, :count]
        spread = square.sqrt()
        if wide:
            axes = centred.T @ axes / spread.clamp(min=1e-9)
        deviation = spread / max(1, len(value) - 1) ** 0.5
        found = (axes / deviation.clamp(min=1e-3)).T.to(value)           # (K', D)
        self.axes = F.pad(found, (0, 0, 0, len(self.axes) - count))

    def forward(self, value: Tensor) -> Tensor:
        """:return: (B, K) of length 1."""
        return F.normalize((value - self.mean) @ self.axes.T, dim=1)


class PictureComponents(nn.Module):
    """
    Components of pixels, of coarse and of fine outlines, of colours, side by side.

    All count the same.

    :param pixels: components of small pictures; 0 for none.
    :param outlines: components of the outlines in each of :data:`GRIDS`; 0 for none.
    :param colours: components of the colours; 0 for none.
    :param alone: whether objects are alone before grey.
    """

    def __init__(self, pixels: int, outlines: int, colours: int, alone: bool) -> None:
        super().__init__()
        self.alone = alone
        self.num_pixels, self.num_outlines, self.num_colours = pixels, outlines, colours
        sizes = [(3 * SMALL ** 2, pixels)] if pixels else []
        sizes += [(ORIENTATIONS * cells ** 2, outlines) for cells in GRIDS] if outlines else []
        sizes += [(math.prod(steps for *_, steps in TINTS), colours)] if colours else []
        self.parts = nn.ModuleList(Components(width, count) for width, count in sizes)

    def fit(self, value: list[Tensor]) -> None:
        """
        Find the components.

        :param value: of a sample, see :meth:`values`.
        """
        for part, each in zip(self.parts, value, strict=True):
            assert isinstance(part, Components)
            part.fit(each)

    def forward(self, image: Tensor) -> Tensor:
        """:return: (B, pixels + 2 * outlines + colours) of length 1, of images (B, 3, H, W)."""
        return self.of(self.values(image))

    def of(self, value: list[Tensor]) -> Tensor:
        """:return: the same of what :meth:`values` gave."""
        found = [part(each) for part, each in zip(self.parts, value, strict=True)]
        return F.normalize(torch.cat(found, 1), dim=1)

    def values(self, image: Tensor) -> list[Tensor]:
        """
        What components are taken of.

        :param image: (B, 3, H, W) in [0, 1].
        :return: for each part (B, D).
        """
        even = evened_alone(image) if self.alone else evened(image)
        found: list[Tensor] = []
        if self.num_pixels:
            found.append(F.avg_pool2d(even, image.shape[-1] // SMALL).flatten(1))
        if self.num_outlines:
            found += outlines_in(F.avg_pool2d(even, max(1, image.shape[-1] // OUTLINE_SIDE)))
        if self.num_colours:
            step = max(1, image.shape[-1] // OUTLINE_SIDE)
            found.append(colours_in(image[..., ::step, ::step], self.alone))
        return found


def outlines_in(level: Tensor) -> list[Tensor]:
    """
    Where edges run and which way: histograms of oriented gradients.

    After Dalal and Triggs 2005; each edge counts by a power of the cosine to each orientation
    (steerable, Freeman and Adelson 1991), so that no bin has a border, and all colours count.

    :param level: (B, 3, H, W), in even light.
    :return: for each of :data:`GRIDS` (B, ORIENTATIONS * cells**2), at least 0.
    """
    right = F.pad(level[..., 2:] - level[..., :-2], (1, 1, 0, 0))
    down = F.pad(level[..., 2:, :] - level[..., :-2, :], (0, 0, 1, 1))
    angle = torch.arange(ORIENTATIONS) * math.pi / ORIENTATIONS
    turn = torch.stack((angle.cos(), angle.sin())).to(level)             # (2, ORIENTATIONS)
    # The exporter to ONNX leaves out what it takes for 0, such as 1e-8.
    strength = right.square() + down.square() + EVEN                     # (B, 3, H, W)
    edges = torch.stack((right, down), -1) @ turn                        # (B, 3, H, W, O)
    near = (edges.square() / strength[..., None]) ** SHARPNESS
    shown = (strength.sqrt()[..., None] * near).sum(1).movedim(-1, 1)    # (B, O, H, W)
    found = []
    for cells in GRIDS:
        each = F.avg_pool2d(shown, level.shape[-1] // cells)
        about = F.avg_pool2d(each.square().sum(1, keepdim=True), 2, 1).sqrt()
        contrast = F.interpolate(about, (cells, cells), mode='bilinear', align_corners=False)
        found.append((each / (contrast + FAINT)).clamp(min=1e-8).sqrt().flatten(1))
    return found


def colours_in(image: Tensor, alone: bool) -> Tensor:
    """
    How much of the object has which colour, wherever it is: a histogram.

    Ratios of channels, as in Finlayson's log-chromaticities (2001): a light that is brighter
    changes nothing, one of another colour moves all of them alike.

    :param image: (B, 3, H, W) in [0, 1].
    :param alone: whether plain grey is no object.
    :return: (B, bins of :data:`TINTS`) roots of shares of the object's pixels.
    """
    part = shown(image) if alone else torch.ones_like(image[:, :1])      # (B, 1, H, W)
    even = lit_evenly(image, part)
    red, green, blue = (even + BLACK).log().unbind(1)
    tints = (red - green, (red + green) / 2 - blue, (even.mean(1) + BLACK).log())
    near = []
    for tint, (low, high, steps) in zip(tints, TINTS, strict=True):
        place = ((tint.flatten(1) - low) / (high - low)).clamp(0.0, 1.0) * (steps - 1)
        step = torch.arange(steps, device=image.device)[:, None]
        near.append((1.0 - (place[:, None] - step).abs()).clamp(min=0.0))  # (B, steps, H*W)
    first, second, bright = near
    both = ((first * part.flatten(2))[:, :, None] * bright[:, None]).flatten(1, 2)
    share = both @ second.transpose(1, 2) / part.sum((2, 3)).clamp(min=1.0)[..., None]
    return share.flatten(1).clamp(min=0.0).sqrt()


def shown(image: Tensor) -> Tensor:
    """:return: (B, 1, H, W), 1 where an object that is alone is, 0 where plain grey is."""
    return ((image - GREY / 255.0).abs().amax(1, keepdim=True) > 1e-3).to(image.dtype)


def evened(image: Tensor) -> Tensor:
    """:return: (B, 3, H, W) about 0, every channel of an image brought to one brightness."""
    level = image.mean((2, 3), keepdim=True)
    return (image * (MEAN_LEVEL / (level + 0.02))).clamp(max=2.0) - MEAN_LEVEL


def evened_alone(image: Tensor) -> Tensor:
    """:return: the same of objects alone, by their brightness: colours stay; black beside."""
    part = shown(image)
    return lit_evenly(image, part).clamp(max=2.0) * part - MEAN_LEVEL


def lit_evenly(image: Tensor, part: Tensor) -> Tensor:
    """:return: (B, 3, H, W), each image's mean over a part (B, 1, H, W) brought to one level."""
    total = (image.mean(1, keepdim=True) * part).sum((2, 3), keepdim=True)
    level = total / part.sum((2, 3), keepdim=True).clamp(min=1.0)
    return image * (MEAN_LEVEL / (level + 0.02))
