"""Pictures of what a network has learned, as plain image grids."""
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from imn_world_model.base.marks import mark
from imn_world_model.model.combine import active_product
from imn_world_model.model.imn import IndependentModularNetwork

GAP = 2          # pixels between tiles
SCALE = 2        # tiles are enlarged without smoothing
NUM_SHOWN = 12
SWEEP = 12       # steps of a module's sweep
# A cloud is gone about, not along, when its second principal variance is this share of the first.
ROUND = 0.3


def to_uint8(image: Tensor) -> np.ndarray:
    """:return: (..., H, W, 3) uint8 RGB of (..., 3, H, W) about [0, 1]."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).movedim(-3, -1).cpu().numpy()


def grid(rows: list[np.ndarray]) -> np.ndarray:
    """
    Tile images.

    :param rows: each (K, H, W, 3) uint8; larger ones are brought to the smallest's size.
    :return: one (H', W', 3) uint8 picture on white.
    """
    height, width = min(row.shape[1:3] for row in rows)
    columns = max(len(row) for row in rows)
    picture = np.full((len(rows) * (height * SCALE + GAP) + GAP,
                       columns * (width * SCALE + GAP) + GAP, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, tile in enumerate(row):
            top, left = GAP + r * (height * SCALE + GAP), GAP + c * (width * SCALE + GAP)
            if tile.shape[:2] != (height, width):
                tile = cv2.resize(tile, (width, height), interpolation=cv2.INTER_AREA)
            large = tile.repeat(SCALE, 0).repeat(SCALE, 1)
            picture[top:top + height * SCALE, left:left + width * SCALE] = large
    return picture


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write an RGB uint8 picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    valid, data = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert valid
    path.write_bytes(mark(data.tobytes()))


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
def module_sweeps(network: IndependentModularNetwork, image: np.ndarray,
                  latents: np.ndarray) -> np.ndarray:
    """
    One image with one module's coordinates taken from other images, in the order of :func:`sweep`.

    :param network: in evaluation mode, on the CPU.
    :param image: (S, S, 3) uint8, the image that is changed; all of its modules are active.
    :param latents: (K, m*L) means of other images.
    :return: (m, SWEEP, S, S, 3) uint8.
    """
    output = network(torch.from_numpy(image[None]).movedim(-1, 1).float() / 255.0)
    z, identity = output.encoding.mu, network.identities()[output.identity]
    m, num_latents = z.shape[1:]
    active = torch.ones(SWEEP, m, dtype=torch.bool)
    rows = []
    for k in range(m):
        moved = z.repeat(SWEEP, 1, 1)
        values = latents[:, k * num_latents:(k + 1) * num_latents]
        moved[:, k] = torch.from_numpy(values[sweep(values)])
        product = active_product(network.compositional.transform(moved), active)
        rows.append(to_uint8(network.decoder(product @ identity)))
    return np.stack(rows)


def sweep(values: np.ndarray) -> np.ndarray:
    """
    Rows that go through a cloud of points: about its middle if it is round, else along it.

    :param values: (K, L), a module's coordinates in K images.
    :return: (SWEEP,) row numbers.
    """
    centred = values - values.mean(0)
    _, size, axes = np.linalg.svd(centred, full_matrices=False)
    along = centred @ axes.T                                             # principal components
    if len(size) > 1 and size[1] ** 2 > ROUND * size[0] ** 2:
        angle = np.arctan2(along[:, 1], along[:, 0])
        wanted = np.linspace(-np.pi, np.pi, SWEEP, endpoint=False)
        return np.abs(np.exp(1j * angle)[:, None] - np.exp(1j * wanted)).argmin(0)
    order = along[:, 0].argsort()
    return order[((np.arange(SWEEP) + 0.5) / SWEEP * len(order)).astype(int)]


@torch.no_grad()
def write_pictures(network: IndependentModularNetwork, images: np.ndarray, folder: Path) -> None:
    """
    Reconstructions, identities, images' modules on each identity and a module's sweep, as PNGs.

    :param network: in evaluation mode, on the CPU.
    :param images: (K, S, S, 3) uint8; the first are shown, sweeps go through all.
    :param folder: for ``reconstructions.png``, ``identities.png``, ``exchanged.png`` and
        ``modules.png``.
    """
    batch = torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, 1).float() / 255.0
    latents = network.encode(batch).mu.flatten(1).numpy()
    write_png(folder / 'modules.png', grid(list(module_sweeps(network, images[0], latents))))
    images, batch = images[:NUM_SHOWN], batch[:NUM_SHOWN]
    output = network(batch)
    identities = identity_images(network)
    write_png(folder / 'reconstructions.png',
              grid([images, to_uint8(output.recon), identities[output.identity.numpy()]]))
    write_png(folder / 'identities.png', grid([identities]))
    write_png(folder / 'exchanged.png',
              grid([images, *exchanged_identities(network, images).swapaxes(0, 1)]))
