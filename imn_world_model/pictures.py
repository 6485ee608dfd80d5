"""Pictures of what a network has learned, as plain image grids."""
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from imn_world_model.model import IndependentModularNetwork

GAP = 2          # pixels between tiles
SCALE = 2        # tiles are enlarged without smoothing


def to_uint8(image: Tensor) -> np.ndarray:
    """:return: (..., H, W, 3) uint8 RGB of (..., 3, H, W) about [0, 1]."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).movedim(-3, -1).numpy()


def grid(rows: list[np.ndarray]) -> np.ndarray:
    """
    Tile images.

    :param rows: each (K, H, W, 3) uint8; all of one H and W.
    :return: one (H', W', 3) uint8 picture on white.
    """
    height, width = rows[0].shape[1:3]
    columns = max(len(row) for row in rows)
    picture = np.full((len(rows) * (height * SCALE + GAP) + GAP,
                       columns * (width * SCALE + GAP) + GAP, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, tile in enumerate(row):
            top, left = GAP + r * (height * SCALE + GAP), GAP + c * (width * SCALE + GAP)
            large = tile.repeat(SCALE, 0).repeat(SCALE, 1)
            picture[top:top + height * SCALE, left:left + width * SCALE] = large
    return picture


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write an RGB uint8 picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        raise OSError(f'cannot write the picture {path}')


@torch.no_grad()
def identity_images(network: IndependentModularNetwork) -> np.ndarray:
    """:return: (n, H, W, 3) uint8, each identity decoded alone (Fig. 2b, 2c)."""
    return to_uint8(network.decoder(network.identities()))


@torch.no_grad()
def exchanged_identities(network: IndependentModularNetwork, images: np.ndarray) -> np.ndarray:
    """
    The winner's modules on every identity: what changes along a row is what an identity holds.

    :param network: in evaluation mode, on the CPU.
    :param images: (K, S, S, 3) uint8.
    :return: (K, n, S, S, 3) uint8.
    """
    batch = torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, 1).float() / 255.0
    transform = network(batch).transform                                 # (K, u, u)
    return to_uint8(network.decoder(transform[:, None] @ network.identities()))


@torch.no_grad()
def write_pictures(network: IndependentModularNetwork, images: np.ndarray, folder: Path) -> None:
    """
    Reconstructions, identities, and each image's modules on each identity, as PNG files.

    :param network: in evaluation mode, on the CPU.
    :param images: (K, S, S, 3) uint8 examples, a dozen or so.
    :param folder: where ``reconstructions.png``, ``identities.png`` and ``exchanged.png`` go.
    """
    batch = torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, 1).float() / 255.0
    output = network(batch)
    identities = identity_images(network)
    write_png(folder / 'reconstructions.png',
              grid([images, to_uint8(output.recon), identities[output.identity.numpy()]]))
    write_png(folder / 'identities.png', grid([identities]))
    write_png(folder / 'exchanged.png',
              grid([images, *exchanged_identities(network, images).swapaxes(0, 1)]))
