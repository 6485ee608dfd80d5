"""A network's answers to many images, as plain arrays."""
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.pictures import to_uint8
from imn_world_model.model.side_by_side import side_by_side
from imn_world_model.model.winner import Strategy, coarse_to_fine

# Images at a time, and the pixels of larger ones.
BATCH = 64
BATCH_PIXELS = BATCH * 64 * 64


@dataclass(frozen=True)
class Observation:
    """
    Answers to K images.

    :param identity: (K,) winners.
    :param subset: (K,) winning subsets.
    :param score: (K,) Eq. (9).
    :param identity_scores: (K, n), the best score of each identity.
    :param latents: (K, m*L) posterior means.
    :param kl: (K, m) nats.
    :param error: (K,) squared error per pixel and channel of the clamped reconstruction.
    :param recon: (K, S, S, 3) uint8, or empty when not asked for.
    """

    identity: np.ndarray
    subset: np.ndarray
    score: np.ndarray
    identity_scores: np.ndarray
    latents: np.ndarray
    kl: np.ndarray
    error: np.ndarray
    recon: np.ndarray


def observe(network: IndependentModularNetwork, images: np.ndarray,
            keep_recon: bool = False, strategy: Strategy = coarse_to_fine) -> Observation:
    """
    Run a network over images, on the device that it is on.

    :param network: in evaluation mode.
    :param images: (K, S, S, 3) uint8, K at least 1.
    :param keep_recon: whether to keep the reconstructions.
    :param strategy: how winners are found.
    """
    device = network.masks.device

    def answers(part: np.ndarray) -> tuple[np.ndarray, ...]:
        image = pixels(part, device)
        output = network(image, strategy)
        encoding = output.encoding
        error = (output.recon.clamp(0, 1) - network.reduced(image)).square().mean((1, 2, 3))
        recon = to_uint8(output.recon) if keep_recon else np.zeros((len(image), 0), np.uint8)
        values = (output.identity, output.subset, output.score, output.identity_scores,
                  encoding.mu.flatten(1), encoding.kl, error)
        return (*(value.cpu().numpy() for value in values), recon)

    rows = side_by_side(answers, batches(images), device)
    return Observation(*(np.concatenate(column) for column in zip(*rows, strict=True)))


@torch.no_grad()
def latent_means(network: IndependentModularNetwork, images: np.ndarray) -> np.ndarray:
    """
    Encode images; no search, no decoding.

    :param network: in evaluation mode.
    :param images: (K, S, S, 3) uint8, K at least 1.
    :return: (K, m*L) posterior means.
    """
    return np.concatenate([
        network.encode(pixels(part, network.masks.device)).mu.flatten(1).cpu().numpy()
        for part in batches(images)])


def batches(images: np.ndarray, most: int = BATCH) -> Iterator[np.ndarray]:
    """:return: (B, S, S, 3) uint8, batch after batch, at most so many; of larger images fewer."""
    count = min(most, max(1, BATCH_PIXELS // images[0, ..., 0].size))
    for start in range(0, len(images), count):
        yield images[start:start + count]


def pixels(images: np.ndarray, device: torch.device | str = 'cpu') -> torch.Tensor:
    """:return: (B, 3, S, S) float32 in [0, 1] on a device, of (B, S, S, 3) uint8."""
    part = torch.from_numpy(np.ascontiguousarray(images))
    return part.to(device).movedim(-1, 1).float() / 255.0
