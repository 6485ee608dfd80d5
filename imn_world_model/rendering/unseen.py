"""Pictures that no model of 3Dshapes has seen: other solids in the same room, and textures."""
import cv2
import numpy as np

from imn_world_model.rendering.raycast import SHAPES, SKY, UNSEEN, Solid
from imn_world_model.rendering.shapes3d import (
    FACTOR_SIZES,
    FACTOR_VALUES,
    IMAGE_SIZE,
    PALETTE,
    SIZES,
    SKY_COLOUR,
    SUPERSAMPLES,
    solid_layers,
)

# Half width and height at scale 1, as large as the known shapes.
UNSEEN_SIZES = {'cone': (1.66, 3.6), 'torus': (1.9, 1.2)}
KINDS = (*SHAPES, *UNSEEN, 'textures')
# Colourings of one ray-cast case: casting is what costs.
COLOURINGS = 5


def pictures(kind: str, count: int, size: int, seed: int = 0) -> np.ndarray:
    """
    Draw pictures of one kind.

    :param kind: a name from :data:`KINDS`.
    :param count: how many.
    :param size: pixels per side.
    :param seed: of colours, sizes and views.
    :return: (count, size, size, 3) uint8.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    if kind == 'textures':
        return np.stack([_texture(rng, size) for _ in range(count)])
    images: list[np.ndarray] = []
    width, height = (UNSEEN_SIZES | SIZES)[kind]
    supersamples = max(1, round(SUPERSAMPLES * max(1.0, IMAGE_SIZE / size)))
    while len(images) < count:
        scale = FACTOR_VALUES[3][rng.integers(FACTOR_SIZES[3])]
        layers = solid_layers(Solid(kind, scale * width, scale * height),
                              int(rng.integers(FACTOR_SIZES[5])), size, supersamples)
        for _ in range(min(COLOURINGS, count - len(images))):
            colours = np.ones((len(layers), 3))              # the last layer is white gloss
            colours[:SKY] = PALETTE[rng.integers(len(PALETTE), size=SKY)]
            colours[SKY] = SKY_COLOUR
            pixels = np.minimum(np.moveaxis(layers, 0, -1) @ colours * 255.0, 255.0)
            images.append((pixels + 0.5).astype(np.uint8))
    return np.stack(images)


def _texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """:return: (size, size, 3) uint8 of coloured blobs, from fine to coarse."""
    cells = int(rng.integers(2, size + 1))
    blobs = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    return cv2.resize(blobs, (size, size), interpolation=cv2.INTER_CUBIC)
