"""
Networks of half the size: weights are rounded to float16 once, and stored so where that is exact.

Arithmetic stays in float32. Only the rounding changes a network; what is stored afterwards is the
rounded network to the last bit, in ONNX files (:mod:`compact_onnx`) and in checkpoints alike.
"""
from collections.abc import Mapping

import torch
from torch import Tensor, nn

# Smaller tensors are not worth an operation in the graph.
LEAST_SIZE = 1024
# What matrices are made of: few numbers, whose errors the exponential and the products multiply.
KEPT = ('identities.', 'compositional.basis')


@torch.no_grad()
def round_weights(network: nn.Module) -> None:
    """
    Round a network's layers to what float16 holds.

    :param network: an :class:`IndependentModularNetwork`, changed in place.
    """
    for name, weight in network.named_parameters():
        if weight.numel() >= LEAST_SIZE and not name.startswith(KEPT):
            weight.copy_(weight.half().float())


def halved_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """:return: a network's state with float16 where nothing is lost; loading gives it back."""
    def halved(value: Tensor) -> Tensor:
        exact = (value.dtype == torch.float32 and value.numel() >= LEAST_SIZE
                 and torch.equal(value.half().float(), value))
        return value.half() if exact else value
    return {name: halved(value) for name, value in state.items()}
