"""
The changes of :mod:`augment` for a whole batch at once, on the device that the images are on.

The random numbers are those of the processor's path. Colours are computed as OpenCV does and
differ by a level at most; between pixels OpenCV rounds places to a 32nd, which is not done here.
"""
import torch
from torch import Tensor
from torch.nn import functional as F

from imn_world_model.learning.augment import MIN_SATURATION

# OpenCV's fixed point: bits behind the point.
BITS = 12
# Names of what :func:`changed` is told, as batches have them.
CHANGES = ('curve', 'matrix', 'mirror')


def changed(views: Tensor, curve: Tensor | None = None, matrix: Tensor | None = None,
            mirror: Tensor | None = None) -> Tensor:
    """
    Recolour, move and mirror, in this order.

    :param views: (B, S, S, 3) uint8.
    :param curve: (B, 256) uint8, what becomes of each hue.
    :param matrix: (B, 2, 3) float32, where a pixel goes.
    :param mirror: (B,) boolean.
    :return: (B, S, S, 3) uint8.
    """
    if curve is not None:
        hue, saturation, value = hsv(views)
        other = curve.gather(1, hue.flatten(1)).view_as(hue).to(hue.dtype)
        views = rgb(torch.where(saturation >= MIN_SATURATION, other, hue), saturation, value)
    if matrix is not None:
        views = moved(views, matrix)
    if mirror is not None:
        views = torch.where(mirror[:, None, None, None], views.flip(2), views)
    return views


def hsv(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """
    OpenCV's ``COLOR_RGB2HSV_FULL``, to the last bit.

    :param image: (..., 3) uint8 RGB.
    :return: (...) int64 each, in [0, 255].
    """
    red, green, blue = image.long().unbind(-1)
    value = image.amax(-1).long()
    range_ = value - image.amin(-1).long()
    half = 1 << (BITS - 1)
    # Tables of rounded quotients, as there.
    of_value = _quotients(255 << BITS, 1, image.device)
    of_range = _quotients(256 << BITS, 6, image.device)
    saturation = (range_ * of_value[value] + half) >> BITS
    hue = torch.where(value == red, green - blue,
                      torch.where(value == green, blue - red + 2 * range_,
                                  red - green + 4 * range_))
    hue = (hue * of_range[range_] + half) >> BITS
    return torch.where(hue < 0, hue + 256, hue).clamp(0, 255), saturation, value


def _quotients(over: int, times: int, device: torch.device) -> Tensor:
    """:return: (256,) int64, ``over / (times * i)`` rounded to even, 0 for i = 0."""
    numbers = torch.arange(256, device=device, dtype=torch.float64)
    found = (over / (times * numbers.clamp(min=1.0))).round().long()
    return torch.where(numbers > 0, found, 0)


def rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """
    OpenCV's ``COLOR_HSV2RGB_FULL``, to a level.

    :param hue: (...) int64 in [0, 255]; saturation and value likewise.
    :return: (..., 3) uint8.
    """
    # A circle has 255 steps on the way back, in OpenCV, where it had 256.
    turn = hue.float() * (6.0 / 255.0)
    depth = (saturation.float() / 255.0)[..., None]
    # How far each colour's own sector is away: 0 within it, 1 from two sectors on.
    colour = torch.arange(3, device=hue.device) * 2.0
    away = (turn[..., None] - colour + 3.0) % 6.0 - 3.0
    share = 1.0 - depth * (away.abs() - 1.0).clamp(0.0, 1.0)
    return (value.float()[..., None] * share).round().to(torch.uint8)


def moved(views: Tensor, matrix: Tensor) -> Tensor:
    """
    ``cv2.warpAffine``, linear between pixels; edges repeat outside.

    :param views: (B, S, S, 3) uint8.
    :param matrix: (B, 2, 3) float32, where a pixel goes; no turn.
    :return: (B, S, S, 3) uint8.
    """
    height, width = views.shape[1:3]
    factor, shift = matrix[:, (0, 1), (0, 1)], matrix[:, :, 2]           # (B, 2) each
    x = torch.arange(width, device=views.device, dtype=torch.float32)
    y = torch.arange(height, device=views.device, dtype=torch.float32)
    from_x = (x - shift[:, :1]) / factor[:, :1]                          # (B, W), pixels
    from_y = (y - shift[:, 1:]) / factor[:, 1:]                          # (B, H)
    grid = torch.stack(((2.0 * from_x[:, None].expand(-1, height, -1) + 1.0) / width - 1.0,
                        (2.0 * from_y[..., None].expand(-1, -1, width) + 1.0) / height - 1.0), -1)
    image = F.grid_sample(views.permute(0, 3, 1, 2).float(), grid, mode='bilinear',
                          padding_mode='border', align_corners=False)
    return image.permute(0, 2, 3, 1).round().to(torch.uint8)
