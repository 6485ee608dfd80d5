"""Changes to a view that leave the object what it is: colours, size and place, mirror image."""
import cv2
import numpy as np

# Below this saturation (of 255) a hue means little (a pale sky, grey metal, white glare): such
# pixels keep their colour.
MIN_SATURATION = 115
# Knots of a hue curve: neighbouring knots get independent hues, so that materials of different
# colours do not stay related.
HUE_KNOTS = 8
# A hue is common to a log when, with its neighbours to this distance (of 256), it covers this much
# of the picture in this share of the frames.
HUE_SPREAD = 4
COMMON_AREA = 0.05
COMMON_SHARE = 0.6


def common_hues(images: np.ndarray) -> np.ndarray:
    """
    The hues of what is in most pictures: the place, not the object.

    :param images: (K, H, W, 3) uint8 RGB, a sample of a log.
    :return: (256,) boolean, by hue on OpenCV's full circle.
    """
    present = np.zeros((len(images), 256))
    for row, image in enumerate(images):
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
        hues = hsv[..., 0][hsv[..., 1] >= MIN_SATURATION]
        count = np.bincount(hues, minlength=256).astype(float)
        # A surface's hue is spread by light and noise over its neighbours on the circle.
        spread = np.convolve(np.tile(count, 3), np.ones(2 * HUE_SPREAD + 1), 'same')[256:512]
        present[row] = spread > COMMON_AREA * hsv[..., 0].size
    common = np.tile(present.mean(0) > COMMON_SHARE, 3)
    return np.convolve(common, np.ones(2 * HUE_SPREAD + 1), 'same')[256:512] > 0


def recolor(image: np.ndarray, rng: np.random.Generator,
            kept: np.ndarray | None = None) -> np.ndarray:
    """
    Send the hues through a random curve on the colour circle; light and shade stay.

    :param image: (H, W, 3) uint8 RGB.
    :param rng: source of the curve.
    :param kept: (256,) boolean, hues that stay as they are.
    :return: (H, W, 3) uint8 RGB.
    """
    curve = hue_curve(rng, kept)
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    hue = hsv[..., 0]
    hsv[..., 0] = np.where(hsv[..., 1] >= MIN_SATURATION, curve[hue], hue)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def hue_curve(rng: np.random.Generator, kept: np.ndarray | None = None) -> np.ndarray:
    """
    What becomes of each hue, at random.

    :param rng: source of the curve.
    :param kept: (256,) boolean, hues that stay as they are.
    :return: (256,) uint8, by hue on OpenCV's full circle.
    """
    knots = np.exp(2j * np.pi * rng.random(HUE_KNOTS))
    place = (np.arange(256) / 256 + rng.random()) % 1.0 * HUE_KNOTS
    left = place.astype(int)
    share = place - left
    mixed = (1 - share) * knots[left % HUE_KNOTS] + share * knots[(left + 1) % HUE_KNOTS]
    curve = np.round(np.angle(mixed) / (2 * np.pi) * 256).astype(int) % 256
    if kept is not None:
        curve = np.where(kept, np.arange(256), curve)
    return curve.astype(np.uint8)


def move(image: np.ndarray, zoom: float, shift: float, rng: np.random.Generator) -> np.ndarray:
    """
    Scale about the centre and shift, as if the camera had another lens and looked elsewhere.

    :param image: (H, W, 3) uint8; its edges repeat outside it.
    :param zoom: the factor is random in [1 / (1 + zoom), 1 + zoom]; 0 for none.
    :param shift: either way along each side, at random in [-shift, shift] of it; 0 for none.
    :param rng: source of factor and shift.
    :return: (H, W, 3) uint8.
    """
    height, width = image.shape[:2]
    return cv2.warpAffine(image, motion(width, height, zoom, shift, rng), (width, height),
                          flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def motion(width: int, height: int, zoom: float, shift: float, rng: np.random.Generator
           ) -> np.ndarray:
    """:return: (2, 3) float64, where a pixel goes, of the options of :func:`move`."""
    factor = np.exp(rng.uniform(-1.0, 1.0) * np.log1p(zoom))
    middle = width / 2 - 0.5, height / 2 - 0.5
    matrix = np.asarray(cv2.getRotationMatrix2D(middle, 0.0, factor), np.float64)
    if shift:
        matrix[:, 2] += rng.uniform(-shift, shift, 2) * (width, height)
    return matrix


def flip(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror left and right, or not, at even odds."""
    return image[:, ::-1] if mirrored(rng) else image


def mirrored(rng: np.random.Generator) -> bool:
    """:return: whether to mirror."""
    return rng.random() < 0.5
