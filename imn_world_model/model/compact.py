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
    fold_norms(network)
    for name, weight in network.named_parameters():
        if weight.numel() >= LEAST_SIZE and not name.startswith(KEPT):
            weight.copy_(weight.half().float())


@torch.no_grad()
def round_constants(module: nn.Module) -> None:
    """
    Round the large constants of a search or of what looks familiar, see :func:`round_weights`.

    :param module: changed in place.
    """
    for constant in module.buffers():
        if constant.dtype == torch.float32 and constant.numel() >= LEAST_SIZE:
            constant.copy_(constant.half().float())


@torch.no_grad()
def fold_norms(network: nn.Module) -> None:
    """
    Move what batch normalisation does in evaluation mode into the convolutions before it.

    Exporting does that anyway, and would leave weights that no longer are what was rounded. The
    normalisation stays, and does nothing but add a bias.

    :param network: changed in place.
    """
    for body in [part for part in network.modules() if isinstance(part, nn.Sequential)]:
        for layer, norm in zip(body, list(body)[1:], strict=False):
            if not (isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
                continue
            assert norm.running_mean is not None and norm.running_var is not None
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            layer.weight.mul_(scale[:, None, None, None])
            norm.bias.sub_(norm.running_mean * scale)
            norm.running_mean.zero_()
            norm.running_var.fill_(1.0)
            norm.weight.copy_((norm.running_var + norm.eps).sqrt())


def halved_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """:return: a network's state with float16 where nothing is lost; loading gives it back."""
    def halved(value: Tensor) -> Tensor:
        exact = (value.dtype == torch.float32 and value.numel() >= LEAST_SIZE
                 and torch.equal(value.half().float(), value))
        return value.half() if exact else value
    return {name: halved(value) for name, value in state.items()}
