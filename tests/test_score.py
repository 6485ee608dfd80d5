"""Eq. (7) to (9): image loss, KL, both forms of independence, the price of a choice."""
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference_kl

from imn_world_model.model.combine import subset_mask_tensor
from imn_world_model.model.score import (
    algebraic_independence,
    choice_cost,
    hessian_independence,
    image_loss,
    kl_divergence,
)


def test_image_loss_is_the_squared_error_summed_at_the_scale_of_64x64() -> None:
    torch.manual_seed(0)
    for size in (8, 64):
        recon, image = torch.rand(5, 3, size, size), torch.rand(5, 3, size, size)
        expected = sum(((recon[:, c] - image[:, c]) ** 2).mean((1, 2)) for c in range(3)) * 64 * 64
        assert torch.allclose(image_loss(recon, image), expected)


def test_kl_divergence_matches_torch_distributions() -> None:
    torch.manual_seed(0)
    mu, logvar = torch.randn(4, 3, 2), torch.randn(4, 3, 2)
    expected = reference_kl(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(-1)
    assert torch.allclose(kl_divergence(mu, logvar), expected, atol=1e-6)


def test_algebraic_independence_matches_nested_loops() -> None:
    torch.manual_seed(0)
    m, num_latents = 3, 2
    basis = torch.randn(m, num_latents, 4, 4, dtype=torch.float64)
    masks = subset_mask_tensor(m)
    got = algebraic_independence(basis, masks)
    for p, mask in enumerate(masks.tolist()):
        matrices = [basis[k, i] for k in range(m) if mask[k] for i in range(num_latents)]
        terms = [(a @ b).square().sum() for i, a in enumerate(matrices)
                 for j, b in enumerate(matrices) if i != j]
        assert torch.isclose(got[p], torch.stack(terms).mean())


def test_algebraic_independence_of_a_single_coordinate_is_zero() -> None:
    basis = torch.randn(2, 1, 4, 4)
    assert algebraic_independence(basis, torch.tensor([[True, False]])).item() == 0.0


def toy_decoder(coupling: float) -> Tensor:
    """:return: bases (2, 1, 4, 4) whose products vanish without coupling."""
    basis = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    basis[0, 0, 0, 1], basis[0, 0, 1, 0] = 1.0, -1.0         # a rotation of the first plane
    basis[1, 0, 2, 3], basis[1, 0, 3, 2] = 1.0, -1.0         # of the second
    basis[1, 0, 1, 2] = coupling                             # reaches into the first
    return basis


def images_of(basis: Tensor, z: Tensor) -> Tensor:
    """:return: (B, 3, 2, 2), a linear picture of exp(z_0 A_0) exp(z_1 A_1)."""
    product = (torch.linalg.matrix_exp(z[:, 0, 0, None, None] * basis[0, 0])
               @ torch.linalg.matrix_exp(z[:, 1, 0, None, None] * basis[1, 0]))
    picture = torch.linspace(-1, 1, 12 * 16, dtype=torch.float64).reshape(12, 16)
    return (product.flatten(1) @ picture.T).reshape(-1, 3, 2, 2)


def test_both_independences_vanish_on_a_separable_decoder_and_order_coupled_ones_alike() -> None:
    masks = torch.tensor([[True, True]])
    z = torch.randn(16, 2, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    algebraic, hessian = [], []
    for coupling in (0.0, 0.3, 1.0, 3.0):
        basis = toy_decoder(coupling)
        algebraic.append(algebraic_independence(basis, masks).item())
        hessian.append(hessian_independence(
            lambda moved, basis=basis: images_of(basis, moved), z, masks.expand(16, 2),
            probes=8, step=0.01, generator=torch.Generator().manual_seed(1)).mean().item())
    assert algebraic[0] == 0.0 and abs(hessian[0]) < 1e-6
    assert algebraic == sorted(algebraic) and hessian == sorted(hessian)
    assert algebraic[1] > 1e-3 and hessian[1] > 1e-3


def test_hessian_independence_matches_the_exact_mixed_derivatives() -> None:
    torch.manual_seed(0)
    weight = torch.randn(3, 3, dtype=torch.float64)
    weight = weight + weight.T

    def decode(z: Tensor) -> Tensor:
        flat = z.flatten(1)
        value = 0.5 * torch.einsum('bi,ij,bj->b', flat, weight, flat)
        return value[:, None, None, None].expand(-1, 3, 2, 2)

    z = torch.randn(1, 3, 1, dtype=torch.float64)
    got = hessian_independence(decode, z, torch.ones(1, 3, dtype=torch.bool), probes=4000,
                               generator=torch.Generator().manual_seed(0))
    mixed = weight.square().sum() - weight.diagonal().square().sum()
    pixels_and_channels = 12 * 64 * 64 / 4
    assert got.item() == pytest.approx(mixed.item() * pixels_and_channels, rel=0.1)


def test_hessian_independence_moves_active_modules_only() -> None:
    def decode(z: Tensor) -> Tensor:
        return (z[:, 0, 0] * z[:, 1, 0])[:, None, None, None].expand(-1, 3, 2, 2)

    z = torch.zeros(1, 2, 1)
    both = torch.tensor([[True, True]])
    values = [hessian_independence(decode, z, active, probes=16,
                                   generator=torch.Generator().manual_seed(0)).item()
              for active in (both, torch.tensor([[True, False]]))]
    assert values[0] > 1.0 and values[1] == 0.0


def test_hessian_independence_needs_two_probes() -> None:
    with pytest.raises(ValueError, match='at least 2 probes'):
        hessian_independence(lambda z: z, torch.zeros(1, 1, 1), torch.ones(1, 1) > 0, probes=1)


def test_choice_cost_is_the_code_length() -> None:
    cost = choice_cost(torch.tensor([0.5, 0.25, 0.25, 0.0]))
    assert cost[0].item() == pytest.approx(math.log(2))
    assert cost[3] > cost[1] > cost[0] and torch.isfinite(cost).all()
