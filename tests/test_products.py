"""Linear layers by oneDNN: the same numbers and gradients, where it is faster."""
from collections.abc import Callable
from typing import get_args
from unittest.mock import patch

import pytest
import torch
from torch.nn import functional as F

from imn_world_model.base.config import ModelConfig
from imn_world_model.model.decoder import Decoder
from imn_world_model.model.modules import CompositionalModules
from imn_world_model.model.products import Activation, affine, goes_through_onednn

SMALL = ModelConfig(image_size=32, encoder_channels=(16, 32), decoder_channels=(64, 32))


def layer(rows: int = 200, dtype: torch.dtype = torch.float32
          ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """:return: input (2, 3, rows, 40), weight, bias; 200 rows are enough for oneDNN."""
    torch.manual_seed(0)
    return (torch.randn(2, 3, rows, 40, dtype=dtype), torch.randn(24, 40, dtype=dtype),
            torch.randn(24, dtype=dtype))


ACTIVATIONS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    'none': lambda value: value, 'relu': lambda value: value.clamp(min=0.0),
    'swish': lambda value: value * value.sigmoid()}


@pytest.mark.parametrize('activation', get_args(Activation))
def test_affine_matches_double_precision(activation: Activation) -> None:
    value, weight, bias = layer()
    with torch.no_grad():
        assert goes_through_onednn(value, weight)
        found = affine(value, weight, bias, activation)
    expected = ACTIVATIONS[activation](F.linear(value.double(), weight.double(), bias.double()))
    assert found.shape == (2, 3, 200, 24) and found.dtype == torch.float32
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize('activation', get_args(Activation))
@pytest.mark.parametrize('transposed', (False, True))
def test_gradients_match_double_precision(activation: Activation, transposed: bool) -> None:
    given = layer()
    single = [tensor.clone().requires_grad_() for tensor in given]
    double = [tensor.double().requires_grad_() for tensor in given]
    value, weight, bias = single
    if transposed:                                    # as a module's weights lie
        weight = single[1] = weight.detach().mT.contiguous().requires_grad_()
        found = affine(value, weight.mT, bias, activation)
    else:
        found = affine(value, weight, bias, activation)
    assert '_Affine' in type(found.grad_fn).__name__                 # or MKL is compared
    towards = torch.randn_like(found)
    found.backward(towards)
    ACTIVATIONS[activation](F.linear(*double)).backward(towards.double())
    for ours, theirs in zip(single, double, strict=True):
        assert ours.grad is not None and theirs.grad is not None
        expected = theirs.grad.mT if ours is weight and transposed else theirs.grad
        assert (ours.grad - expected).abs().max() < 1e-5 * expected.abs().max()


def test_only_gradients_that_are_asked_for_are_computed() -> None:
    value, weight, bias = layer()
    bias.requires_grad_()
    loss = affine(value, weight, bias, 'relu').sum()
    with patch('imn_world_model.model.products._onednn') as product:
        loss.backward()
    assert bias.grad is not None and not product.called


@torch.no_grad()
def test_affine_leaves_other_precisions_and_autocast_alone() -> None:
    value, weight, bias = layer()
    for dtype in (torch.float64, torch.bfloat16):
        assert affine(value.to(dtype), weight.to(dtype), bias.to(dtype)).dtype == dtype
    with torch.autocast('cpu', torch.bfloat16):
        assert affine(value, weight, bias).dtype == torch.bfloat16


@torch.no_grad()
def test_small_products_stay_where_they_are_faster() -> None:
    assert not goes_through_onednn(*layer(4)[:2])


@torch.no_grad()
def test_decoder_draws_the_same_picture_by_either_library() -> None:
    torch.manual_seed(0)
    decoder = Decoder(SMALL)
    matrix = torch.eye(20) + 0.1 * torch.randn(64, 20, 20)
    fast, coarse = decoder(matrix), decoder.coarse(decoder.hidden(matrix))
    with patch('imn_world_model.model.products.goes_through_onednn', return_value=False):
        assert not torch.equal(decoder(matrix), fast)                # or nothing was compared
        assert torch.allclose(decoder(matrix), fast, atol=1e-5)
        assert torch.allclose(decoder.coarse(decoder.hidden(matrix)), coarse, atol=1e-5)


def test_encoder_says_and_learns_the_same_by_either_library() -> None:
    torch.manual_seed(0)
    modules = CompositionalModules(SMALL)
    image = torch.rand(64, 3, 32, 32)

    def learnt() -> tuple[torch.Tensor, list[torch.Tensor]]:
        modules.zero_grad()
        mu, logvar, group_feature = modules.encode(image)
        said = torch.cat([mu.flatten(), logvar.flatten(), group_feature.flatten()])
        said.square().sum().backward()
        return said.detach(), [own.grad.clone() for own in modules.parameters()
                               if own.grad is not None]

    said, gradients = learnt()
    with patch('imn_world_model.model.modules.goes_through_onednn', return_value=False):
        said_before, before = learnt()
    assert not torch.equal(said, said_before)                        # or nothing was compared
    assert torch.allclose(said, said_before, atol=1e-4)
    assert len(gradients) == len(before) >= 12
    for ours, theirs in zip(gradients, before, strict=True):
        assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()
