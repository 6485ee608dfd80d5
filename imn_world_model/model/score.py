"""The terms that judge a candidate: image Eq. (7), independence Eq. (8), KL; their sum Eq. (9)."""
from collections.abc import Callable

import torch
from torch import Tensor

# Squared errors are summed over the pixels of a 64x64 image; other sizes are brought to that
# scale, so that one weight means the same balance against the KL term at every size.
REFERENCE_PIXELS = 64 * 64


def image_loss(recon: Tensor, image: Tensor) -> Tensor:
    """
    Eq. (7), as the squared error summed over pixels and channels.

    The paper's text says mean-squared error, its formula a norm; the sum keeps the image and the
    KL term in the proportion of a Gaussian likelihood.

    :param recon: (..., 3, H, W).
    :param image: broadcastable to ``recon``, in [0, 1].
    :return: (...), the sum over pixels times 64*64 / (H*W).
    """
    pixels = recon.shape[-2] * recon.shape[-1]
    return (recon - image).square().sum((-3, -2, -1)) * (REFERENCE_PIXELS / pixels)


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """
    KL(N(mu, exp(logvar)) || N(0, 1)) of each module, in nats.

    :param mu: (B, m, L).
    :param logvar: (B, m, L).
    :return: (B, m).
    """
    return 0.5 * (mu.square() + logvar.exp() - 1.0 - logvar).sum(-1)


def choice_cost(share: Tensor) -> Tensor:
    """
    Length of the code that names a subset, in nats: what the choice itself tells of the image.

    Eq. (9) gives the choice away for nothing: with m = 5 the subset's number is a free code of 3.4
    nats beside the coordinates, and training uses it as such (a module stands for a hue by being
    there or not). Charged at -log of its share among the winners, like the coordinates are by
    their KL, a subset must earn its keep.

    :param share: (P,) share of each subset among the winners, sums to 1.
    :return: (P,), at most 9.2 for a subset that never won.
    """
    return -share.clamp(min=1e-4).log()


def algebraic_independence(basis: Tensor, masks: Tensor) -> Tensor:
    """
    Eq. (8) through the bases: mean of ||A_i A_j||_F^2 over i != j among a subset's coordinates.

    If all those products vanish then so do the mixed second derivatives of Eq. (2). Pairs within a
    module are the Lie-group VAE's own penalty, pairs across the modules of the subset are IMN's.

    :param basis: A (m, L, u, u).
    :param masks: (P, m) boolean, the modules of each subset.
    :return: (P,); zero for a subset with a single coordinate.
    """
    m, num_latents, u, _ = basis.shape
    flat = basis.reshape(m * num_latents, u, u)
    products = flat[:, None] @ flat[None]                                # (mL, mL, u, u)
    norms = products.square().sum((-2, -1))                              # ||A_i A_j||_F^2
    norms = norms - torch.diag(norms.diagonal())                         # i != j
    between = norms.reshape(m, num_latents, m, num_latents).sum((1, 3))  # (m, m)
    weight = masks.to(basis.dtype)
    coordinates = weight.sum(-1) * num_latents
    pairs = (coordinates * (coordinates - 1)).clamp(min=1.0)
    return ((weight @ between) * weight).sum(-1) / pairs


def hessian_independence(decode: Callable[[Tensor], Tensor], z: Tensor, active: Tensor,
                         probes: int = 2, step: float = 0.1,
                         generator: torch.Generator | None = None) -> Tensor:
    """
    Eq. (8) through the image: size of the mixed second derivatives of the decoded image.

    The Hessian penalty's estimator (Peebles et al. 2020, arXiv:2008.10599): for Rademacher v, the
    variance of v^T H v is 2 * sum_{i != j} H_ij^2, and v^T H v is a second finite difference.
    Coordinates of modules outside the subset are not moved.

    :param decode: from coordinates (B, m, L) to images (B, 3, H, W).
    :param z: (B, m, L).
    :param active: (B, m) boolean, the modules of each image's subset.
    :param probes: number of v, at least 2 (an unbiased variance).
    :param step: length of the finite difference.
    :param generator: source of the signs.
    :return: (B,), half the variance summed over pixels, at the scale of :func:`image_loss`.
    """
    if probes < 2:
        raise ValueError(f'hessian_independence needs at least 2 probes, got {probes}')
    centre = decode(z)
    seconds = []
    for _ in range(probes):
        coins = torch.randint(0, 2, z.shape, generator=generator, device=z.device)
        signs = (2 * coins - 1).to(z.dtype) * active[..., None]          # (B, m, L)
        moved = decode(torch.cat((z + step * signs, z - step * signs)))
        ahead, behind = moved.chunk(2)
        seconds.append((ahead - 2 * centre + behind) / step ** 2)
    variance = torch.stack(seconds).var(dim=0, unbiased=True)
    pixels = centre.shape[-2] * centre.shape[-1]
    return 0.5 * variance.sum((-3, -2, -1)) * (REFERENCE_PIXELS / pixels)
