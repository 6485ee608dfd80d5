"""
The look of the 3Dshapes data set (Burgess and Kim, 2018), measured on genuine images.

Colour is separable: a pixel is the sum over materials of coverage * shade * colour. So the 480
geometry cases (scale x shape x orientation) of shade maps, ray cast once, give all 480,000 images
by one product with the colours.
"""
import colorsys
from collections.abc import Iterator

import numpy as np

from imn_world_model.rendering.raycast import (
    FLOOR,
    OBJECT,
    SHAPES,
    SKY,
    WALL,
    Room,
    Solid,
    Spot,
    dot,
)

FACTORS = ('floor_hue', 'wall_hue', 'object_hue', 'scale', 'shape', 'orientation')
FACTOR_SIZES = (10, 10, 10, 8, 4, 15)
NUM_IMAGES = 480_000
FACTOR_VALUES = (
    np.arange(10) / 10, np.arange(10) / 10, np.arange(10) / 10,
    np.linspace(0.75, 1.25, 8), np.arange(4.0), np.linspace(-30.0, 30.0, 15))
PALETTE = np.array([colorsys.hsv_to_rgb(hue / 10, 1.0, 1.0) for hue in range(10)])
SKY_COLOUR = np.array([153, 226, 249]) / 255.0

# Everything below was fitted to 61 genuine images (mean absolute difference 1.6 grey levels), in
# units of the scene. tests/data/3dshapes_genuine holds some of them.
IMAGE_SIZE = 64
FOCAL_LENGTH = 69.3        # pixels of a 64x64 image
ORBIT_RADIUS = 9.92
CAMERA_HEIGHT = 2.935
ROOM = Room(half_width=13.67, wall_height=7.8)
# Half width and height at scale 1.
SIZES = {'cube': (1.372, 2.744), 'cylinder': (1.483, 2.926), 'sphere': (1.66, 3.32),
         'capsule': (1.286, 5.086)}
AMBIENT = 0.35
HEADLIGHT = 0.597          # parallel light along the view
LAMP = Spot(position=(-5.88, 29.9, -2.28), target=(-5.85, -1.65), power=0.955, exponent=10.4)
GLOSS = 0.114              # white that the lamp adds to the object wherever it reaches
SUPERSAMPLES = 3           # 3 matches the edges of genuine images best (2, 4, 5 are worse)

_NUM_LAYERS = 5            # floor, wall, object, sky, gloss


def factors_of_index(index: np.ndarray) -> np.ndarray:
    """
    Factor indices of images of the published file.

    :param index: (N,) in [0, 480000).
    :return: (N, 6) int64, in the order of :data:`FACTORS`.
    """
    return np.stack(np.unravel_index(np.asarray(index), FACTOR_SIZES), axis=-1)


def index_of_factors(factors: np.ndarray) -> np.ndarray:
    """
    Inverse of :func:`factors_of_index`.

    :param factors: (N, 6) integers.
    :return: (N,) int64.
    """
    return np.ravel_multi_index(tuple(np.asarray(factors).T), FACTOR_SIZES)


def factor_labels(factors: np.ndarray) -> np.ndarray:
    """
    Published label values: hues 0 to 0.9, scale 0.75 to 1.25, shape 0 to 3, degrees -30 to 30.

    :param factors: (N, 6) integers.
    :return: (N, 6) float64.
    """
    factors = np.asarray(factors)
    columns = [values[factors[:, k]] for k, values in enumerate(FACTOR_VALUES)]
    return np.stack(columns, axis=-1)


def camera_rays(orientation: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Rays through the centres of a ``size`` x ``size`` grid over the image.

    :param orientation: factor index, 0 to 14.
    :param size: samples per side.
    :return: camera position (3, 1), ray directions (3, size*size) of unit depth, forward (3, 1).
    """
    angle = np.deg2rad(FACTOR_VALUES[5][orientation])
    sine, cosine = np.sin(angle), np.cos(angle)
    grid = (np.arange(size) + 0.5) * (IMAGE_SIZE / size) - IMAGE_SIZE / 2
    across, down = (g.ravel() / FOCAL_LENGTH for g in np.meshgrid(grid, grid))
    forward = np.array([[-sine], [0.0], [-cosine]])
    right = np.array([[cosine], [0.0], [-sine]])
    up = np.array([[0.0], [1.0], [0.0]])
    position = np.array([[ORBIT_RADIUS * sine], [CAMERA_HEIGHT], [ORBIT_RADIUS * cosine]])
    return position, forward + across * right - down * up, forward


def geometry_layers(scale: int, shape: int, orientation: int, size: int = IMAGE_SIZE,
                    supersamples: int = SUPERSAMPLES) -> np.ndarray:
    """
    Ray cast one geometry case.

    :param scale: factor index, 0 to 7.
    :param shape: factor index, 0 to 3.
    :param orientation: factor index, 0 to 14.
    :param size: pixels per side.
    :param supersamples: rays per pixel and side.
    :return: (5, size, size) float32: coverage times shade of floor, wall and object, coverage of
        the sky, and white gloss; each the mean over the pixel's rays.
    """
    width, height = (FACTOR_VALUES[3][scale] * extent for extent in SIZES[SHAPES[shape]])
    return solid_layers(Solid(SHAPES[shape], width, height), orientation, size, supersamples)


def solid_layers(solid: Solid, orientation: int, size: int = IMAGE_SIZE,
                 supersamples: int = SUPERSAMPLES) -> np.ndarray:
    """:return: the same for any solid in the room."""
    origin, direction, forward = camera_rays(orientation, size * supersamples)
    material, distance, normal = ROOM.hit(origin, direction)
    object_distance, object_normal = solid.hit(origin, direction)
    on_object = object_distance < distance
    material = np.where(on_object, OBJECT, material)
    distance = np.where(on_object, object_distance, distance)
    normal = np.where(on_object, object_normal, normal)

    point = origin + distance * direction
    to_lamp = LAMP.towards(point)
    lamp = LAMP.shade(to_lamp, normal)
    on_floor = np.flatnonzero(material == FLOOR)
    lamp[on_floor[solid.blocks(point[:, on_floor], to_lamp[:, on_floor])]] = 0.0
    shade = AMBIENT + HEADLIGHT * np.clip(-dot(normal, forward), 0.0, None) + lamp

    layers = np.zeros((_NUM_LAYERS, shade.size), np.float32)
    for part in (FLOOR, WALL, OBJECT):
        layers[part] = shade * (material == part)
    layers[SKY] = material == SKY
    layers[_NUM_LAYERS - 1] = GLOSS * ((material == OBJECT) & (lamp > 0))
    blocks = layers.reshape(_NUM_LAYERS, size, supersamples, size, supersamples)
    return blocks.mean((2, 4))


class Shapes3D:
    """
    Renders any factor combinations at memory speed.

    The geometry cases are ray cast on first use (about ten seconds for all 480 at 64x64) and kept.

    :param size: pixels per side; other than 64, the area average of a finely sampled image.
    """

    def __init__(self, size: int = IMAGE_SIZE) -> None:
        if not 4 <= size <= 512:
            raise ValueError(f'size must be 4 to 512 pixels, got {size}')
        self.size = size
        # Small images need as many rays as the 64x64 one, or thin parts would alias.
        self.supersamples = max(1, round(SUPERSAMPLES * max(1.0, IMAGE_SIZE / size)))
        cases = FACTOR_SIZES[3] * FACTOR_SIZES[4] * FACTOR_SIZES[5]
        self._layers = np.zeros((cases, size * size, _NUM_LAYERS), np.float32)
        self._known = np.zeros(cases, bool)

    def prepare(self, cases: np.ndarray | None = None) -> Iterator[int]:
        """
        Ray cast geometry cases that are not known yet, yielding after each one.

        :param cases: numbers (scale*4 + shape)*15 + orientation; default all 480.
        """
        wanted = np.arange(len(self._known)) if cases is None else np.unique(cases)
        for case in wanted[~self._known[wanted]]:
            scale, shape, orientation = np.unravel_index(case, FACTOR_SIZES[3:])
            layers = geometry_layers(int(scale), int(shape), int(orientation), self.size,
                                     self.supersamples)
            self._layers[case] = layers.reshape(_NUM_LAYERS, -1).T
            self._known[case] = True
            yield int(case)

    def images(self, factors: np.ndarray) -> np.ndarray:
        """
        Render.

        :param factors: (N, 6) integers in the order of :data:`FACTORS`.
        :return: (N, size, size, 3) uint8 RGB.
        """
        factors = np.asarray(factors)
        cases = np.ravel_multi_index(tuple(factors[:, 3:].T), FACTOR_SIZES[3:])
        for _ in self.prepare(cases):
            pass
        colours = np.empty((len(factors), _NUM_LAYERS, 3), np.float32)
        for layer in (FLOOR, WALL, OBJECT):
            colours[:, layer] = PALETTE[factors[:, layer]]
        colours[:, SKY] = SKY_COLOUR
        colours[:, _NUM_LAYERS - 1] = 1.0
        colours *= 255.0
        out = np.empty((len(factors), self.size * self.size, 3), np.uint8)
        for k, case in enumerate(cases):
            pixels = self._layers[case] @ colours[k]
            np.minimum(pixels, 255.0, out=pixels)
            pixels += 0.5
            out[k] = pixels
        return out.reshape(-1, self.size, self.size, 3)

    def labels(self, factors: np.ndarray) -> np.ndarray:
        """:return: (N, 6) float64, see :func:`factor_labels`."""
        return factor_labels(factors)
