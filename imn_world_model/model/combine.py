"""Which modules act, and the matrices that they give together: Eq. (4) and (5)."""
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache
def subset_masks(num_modules: int) -> tuple[tuple[bool, ...], ...]:
    """
    Every non-empty subset of m modules, Eq. (4).

    Subset p has module k where bit k of p + 1 is set, so that removing a subset's last module
    always gives an earlier subset: products are built from prefixes.

    :param num_modules: m, at least 1.
    :return: P = 2**m - 1 tuples of m booleans.
    """
    return tuple(tuple(bool((p + 1) >> k & 1) for k in range(num_modules))
                 for p in range(2 ** num_modules - 1))


def subset_mask_tensor(num_modules: int, device: torch.device | None = None) -> Tensor:
    """:return: :func:`subset_masks` as a boolean tensor (P, m)."""
    return torch.tensor(subset_masks(num_modules), device=device)


def subset_transforms(comp_T: Tensor) -> Tensor:
    """
    Eq. (4): products over every non-empty subset, in increasing module order.

    The matrices do not commute; the order is T_1 T_2 ... T_m. Each product is its prefix's times
    one more matrix: P - m multiplications.

    :param comp_T: (B, m, u, u).
    :return: ``subset_T`` (B, P, u, u) in the order of :func:`subset_masks`.
    """
    if torch.is_autocast_enabled(comp_T.device.type):        # errors of half precision multiply
        with torch.autocast(comp_T.device.type, enabled=False):
            return subset_transforms(comp_T.float())
    products = comp_T[:, :1]
    for k in range(1, comp_T.shape[1]):
        last = comp_T[:, k:k + 1]                            # (B, 1, u, u)
        products = torch.cat((products, last, products @ last), dim=1)
    return products


def candidate_transforms(subset_T: Tensor, identity_T: Tensor) -> Tensor:
    """
    Eq. (5): every subset product times every identity.

    :param subset_T: (B, P, u, u).
    :param identity_T: (n, u, u).
    :return: ``cand_T`` (B, P*n, u, u); candidate p * n + j is subset p on identity j.
    """
    cand_T = subset_T[:, :, None] @ identity_T               # (B, P, n, u, u)
    return cand_T.flatten(1, 2)


def active_product(comp_T: Tensor, active: Tensor) -> Tensor:
    """
    The product of the active modules alone, in increasing order; gradients reach no other.

    :param comp_T: (B, m, u, u).
    :param active: (B, m) boolean.
    :return: (B, u, u); the unit matrix where nothing is active.
    """
    eye = torch.eye(comp_T.shape[-1], dtype=comp_T.dtype, device=comp_T.device)
    acting = torch.where(active[:, :, None, None], comp_T, eye)          # (B, m, u, u)
    product = acting[:, 0]
    for k in range(1, comp_T.shape[1]):
        product = product @ acting[:, k]
    return product
