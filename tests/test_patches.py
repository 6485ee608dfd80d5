"""Patches: pixels to cells and back against loops; layers side by side against layers alone."""
import pytest
import torch
from torch.nn import functional as F

from imn_world_model.patches import ParallelLinear, initialize, merge, split


@pytest.mark.parametrize('side', [2, 4])
def test_merge_matches_a_loop_over_blocks(side: int) -> None:
    cells = torch.randn(2, 3, 8, 12, 5)
    merged = merge(cells, side)
    assert merged.shape == (2, 3, 8 // side, 12 // side, side * side * 5)
    for row in range(8 // side):
        for column in range(12 // side):
            block = cells[:, :, row * side:(row + 1) * side, column * side:(column + 1) * side]
            assert torch.equal(merged[:, :, row, column], block.flatten(2))


@pytest.mark.parametrize('side', [2, 4])
def test_split_is_the_reverse_of_merge(side: int) -> None:
    cells = torch.randn(3, 8, 4, 7)
    assert torch.equal(split(merge(cells, side), side), cells)


def test_merge_and_a_linear_layer_match_a_convolution_without_overlap() -> None:
    image, weight = torch.randn(2, 3, 8, 8), torch.randn(6, 3, 4, 4)
    cells = merge(image.permute(0, 2, 3, 1), 4) @ weight.permute(2, 3, 1, 0).reshape(48, 6)
    assert torch.allclose(cells.permute(0, 3, 1, 2), F.conv2d(image, weight, stride=4), atol=1e-4)


def test_parallel_linear_matches_one_layer_at_a_time() -> None:
    layer = ParallelLinear(3, 4, 5)
    torch.nn.init.normal_(layer.bias)
    value = torch.randn(3, 7, 4)
    for k in range(3):
        alone = F.linear(value[k], layer.weight[k].T, layer.bias[k, 0])
        assert torch.allclose(layer(value)[k], alone, atol=1e-6)


def test_initialize_keeps_the_size_of_a_signal_through_a_relu() -> None:
    torch.manual_seed(0)
    value = torch.randn(256, 400)
    for _ in range(8):
        weight = torch.empty(400, 400)
        initialize(weight, 400)
        value = torch.relu(value @ weight)
    assert 0.3 < value.square().mean() < 3.0
