"""
Linear layers by the fastest library that torch carries for a processor.

torch leaves products in single precision to MKL, which uses half of what an AMD processor with
AVX-512 can do: 100 GFLOP/s a core where oneDNN, in the same build of torch, has 240. oneDNN also
adds the bias and applies what follows while the numbers are still in the cache.
"""
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Multiplications from which on oneDNN is faster; below, its preparations (12 us) cost more than it
# gains.
LEAST = 1_000_000

# What follows the layer, by oneDNN's names.
Activation = Literal['none', 'relu', 'swish']


def affine(value: Tensor, weight: Tensor, bias: Tensor, activation: Activation = 'none'
           ) -> Tensor:
    """
    A linear layer, and what follows it.

    Goes through oneDNN where that is faster, forward and backward; rounding differs from the
    other way's.

    :param value: (..., inputs).
    :param weight: (outputs, inputs).
    :param bias: (outputs,).
    :param activation: ``swish`` is SiLU.
    :return: (..., outputs).
    """
    if goes_through_onednn(value, weight):
        if torch.is_grad_enabled():
            return _Affine.apply(value, weight, bias, activation)
        return _onednn(value, weight, bias, activation)
    result = F.linear(value, weight, bias)
    if activation == 'relu':
        return torch.relu(result)
    return F.silu(result) if activation == 'swish' else result


def goes_through_onednn(value: Tensor, weight: Tensor) -> bool:
    """:return: whether oneDNN may do a product, and does it faster."""
    return (value.device.type == 'cpu' and value.dtype == weight.dtype == torch.float32
            and not torch.compiler.is_compiling() and not torch.is_autocast_enabled('cpu')
            and torch.backends.mkldnn.is_available()
            and hasattr(torch.ops.mkldnn, '_linear_pointwise')
            # Last: an exporter may not know the size.
            and value.numel() * len(weight) >= LEAST)


def _onednn(value: Tensor, weight: Tensor, bias: Tensor | None = None,
            activation: Activation = 'none') -> Tensor:
    # What torch's own compiler calls for such a layer.
    return torch.ops.mkldnn._linear_pointwise(value, weight, bias, activation, [], '')


class _Affine(torch.autograd.Function):
    """The layer with its gradients, all three products by oneDNN."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, weight: Tensor, bias: Tensor, activation: Activation
                ) -> Tensor:
        """:return: (..., outputs)."""
        rows = value.reshape(-1, value.shape[-1])                        # (N, inputs)
        if activation == 'swish':                     # its slope is told by what went in
            kept = _onednn(rows, weight, bias)
            result = F.silu(kept)
        else:
            kept = result = _onednn(rows, weight, bias, activation)
        ctx.activation = activation
        ctx.save_for_backward(rows, weight, kept)
        return result.reshape(*value.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """:return: gradients of value, weight and bias."""
        rows, weight, kept = ctx.saved_tensors
        shape = grad.shape[:-1]
        grad = grad.reshape(kept.shape)
        if ctx.activation == 'relu':
            grad = torch.ops.aten.threshold_backward(grad, kept, 0)
        elif ctx.activation == 'swish':
            grad = torch.ops.aten.silu_backward(grad, kept)
        needs = ctx.needs_input_grad
        return (_onednn(grad, weight.mT).reshape(*shape, -1) if needs[0] else None,
                _onednn(grad.mT, rows.mT) if needs[1] else None,
                grad.sum(0) if needs[2] else None, None)
