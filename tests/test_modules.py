"""The modules: exp against scipy, shapes, and a start that neither dies nor explodes."""
import numpy as np
import pytest
import scipy.linalg
import torch

from imn_world_model.base.config import ModelConfig
from imn_world_model.model.modules import CompositionalModules, IdentityModules, matrix_exp

CONFIG = ModelConfig(image_size=32, num_modules=3, num_identities=4, num_latents=2, matrix_size=5,
                     encoder_channels=(16, 32), decoder_channels=(32, 16),
                     encoder_features=32, decoder_hidden=32, basis_std=0.3)


@pytest.mark.parametrize('norm', [0.0, 0.1, 1.0, 8.0, 30.0])
def test_matrix_exp_matches_scipy(norm: float) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(4, 7, 7))
    matrix *= norm / np.linalg.norm(matrix, axis=(1, 2), keepdims=True)
    expected = scipy.linalg.expm(matrix)
    got = matrix_exp(torch.from_numpy(matrix)).numpy()
    assert np.abs(got - expected).max() <= 1e-6 * np.abs(expected).max()


def test_matrix_exp_gradient_matches_finite_differences() -> None:
    matrix = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 4, 4))).requires_grad_()
    assert torch.autograd.gradcheck(matrix_exp, (matrix,))


def test_transform_matches_sum_over_basis() -> None:
    torch.manual_seed(0)
    modules = CompositionalModules(CONFIG).double()
    z = torch.randn(6, 3, 2, dtype=torch.float64)
    comp_T = modules.transform(z).detach().numpy()
    basis = modules.basis.detach().numpy()
    for b in range(6):
        for k in range(3):
            algebra = sum(z[b, k, latent].item() * basis[k, latent] for latent in range(2))
            assert np.allclose(comp_T[b, k], scipy.linalg.expm(algebra), atol=1e-8)


def test_encode_modules_see_the_image_each_in_its_own_way() -> None:
    torch.manual_seed(0)
    modules = CompositionalModules(CONFIG)
    mu, logvar, group_feature = modules.encode(torch.rand(5, 3, 32, 32))
    assert mu.shape == logvar.shape == (5, 3, 2)
    assert group_feature.shape == (5, 3, 5, 5)
    assert mu.std(0).min() > 1e-4                    # varies with the image
    assert (mu[:, 0] - mu[:, 1]).abs().min() > 1e-4  # and between modules


def test_encode_group_features_start_near_the_unit() -> None:
    torch.manual_seed(0)
    _, _, group_feature = CompositionalModules(CONFIG).encode(torch.rand(8, 3, 32, 32))
    distance = (group_feature - torch.eye(5)).flatten(2).norm(dim=2)
    assert distance.max() < 0.5


def test_encode_logvar_is_bounded_for_any_image() -> None:
    modules = CompositionalModules(CONFIG)
    _, logvar, _ = modules.encode(torch.full((1, 3, 32, 32), 1e6))
    assert torch.isfinite(logvar.exp()).all()


def test_identities_are_learned_matrices_of_their_own() -> None:
    identities = IdentityModules(CONFIG)
    assert identities().shape == (4, 5, 5)
    assert identities().requires_grad
    assert (identities()[0] - identities()[1]).abs().max() > 0
