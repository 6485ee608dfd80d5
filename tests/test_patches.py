"""Patches: pixels to cells and back against loops; layers side by side against layers alone."""
import math

import pytest
import torch
from torch.nn import functional as F

from imn_world_model.model.patches import ParallelLinear, initialize, nest, unnest


@pytest.mark.parametrize('sides', [(3, 4), (2, 2, 3), (4, 2, 2, 4)])
def test_nest_puts_every_cell_in_one_piece_at_every_level(sides: tuple[int, ...]) -> None:
    side = math.prod(sides)
    image = torch.randn(2, side, side, 5)

    def by_hand(block: torch.Tensor, levels: tuple[int, ...]) -> torch.Tensor:
        if not levels:
            return block.flatten(1)
        step = block.shape[1] // levels[0]
        return torch.cat([by_hand(block[:, row:row + step, column:column + step], levels[1:])
                          for row in range(0, block.shape[1], step)
                          for column in range(0, block.shape[2], step)], dim=1)

    assert torch.equal(nest(image, sides), by_hand(image, sides))
    assert torch.equal(unnest(nest(image, sides), sides), image)


def test_nest_and_a_linear_layer_match_a_convolution_without_overlap() -> None:
    image, weight = torch.randn(2, 3, 8, 8), torch.randn(6, 3, 4, 4)
    patches = nest(image.permute(0, 2, 3, 1), (2, 4)).unflatten(1, (4, 48))
    cells = (patches @ weight.permute(2, 3, 1, 0).reshape(48, 6)).unflatten(1, (2, 2))
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
