"""Figures of merit, from plain arrays."""
import numpy as np
import torch

from imn_world_model.model import IndependentModularNetwork


@torch.no_grad()
def winners(network: IndependentModularNetwork, images: np.ndarray, batch: int = 100) -> np.ndarray:
    """:return: (K,) identity of each of (K, S, S, 3) uint8 images."""
    parts = torch.from_numpy(np.ascontiguousarray(images)).split(batch)
    return np.concatenate([network(part.movedim(-1, 1).float() / 255.0).identity.numpy()
                           for part in parts]) if len(images) else np.zeros(0, np.int64)


def name_identities(network: IndependentModularNetwork, images: np.ndarray, labels: np.ndarray,
                    names: tuple[str, ...]) -> list[str]:
    """
    Name each identity after the label that most of its images bear.

    :param network: in evaluation mode.
    :param images: (K, S, S, 3) uint8 validation images.
    :param labels: (K,) class of each, -1 where unknown.
    :param names: of the classes.
    :return: n names; a second identity of one class is ``NAME 2``, one that won nothing
        ``identity J``.
    """
    identity = winners(network, images)
    result: list[str] = []
    for j in range(network.config.num_identities):
        own = labels[(identity == j) & (labels >= 0)]
        if len(own) == 0:
            result.append(f'identity {j}')
            continue
        name = names[int(np.bincount(own).argmax())]
        before = sum(other.split(' ')[0] == name for other in result)
        result.append(name if not before else f'{name} {before + 1}')
    return result
