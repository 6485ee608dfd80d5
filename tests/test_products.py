"""Linear layers by oneDNN: the same numbers, and only where there is no gradient to lose."""
from unittest.mock import patch

import pytest
import torch
from torch.nn import functional as F

from imn_world_model.base.config import ModelConfig
from imn_world_model.model.decoder import Decoder
from imn_world_model.model.products import affine, goes_through_onednn

SMALL = ModelConfig(image_size=32, encoder_channels=(16, 32), decoder_channels=(64, 32))


def layer(rows: int = 200, dtype: torch.dtype = torch.float32
          ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """:return: input (2, 3, rows, 40), weight, bias; 200 rows are enough for oneDNN."""
    torch.manual_seed(0)
    return (torch.randn(2, 3, rows, 40, dtype=dtype), torch.randn(24, 40, dtype=dtype),
            torch.randn(24, dtype=dtype))


@pytest.mark.parametrize('silu', (False, True))
def test_affine_matches_double_precision(silu: bool) -> None:
    value, weight, bias = layer()
    with torch.no_grad():
        assert goes_through_onednn(value, weight)
        found = affine(value, weight, bias, silu)
    expected = F.linear(value.double(), weight.double(), bias.double())
    if silu:
        expected = expected * expected.sigmoid()
    assert found.shape == (2, 3, 200, 24) and found.dtype == torch.float32
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_affine_has_gradients_where_they_are_asked_for() -> None:
    value, weight, bias = layer(4, torch.float64)
    weight.requires_grad_()
    assert torch.autograd.gradcheck(lambda given: affine(value, given, bias, silu=True), weight)
    single = weight.detach().float().requires_grad_()
    affine(value.float(), single, bias.float()).sum().backward()
    assert single.grad is not None and (single.grad != 0).any()


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
