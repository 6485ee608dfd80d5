"""
Linear layers by the fastest library that torch carries for a processor.

torch leaves products in single precision to MKL, which uses half of what an AMD processor with
AVX-512 can do: 100 GFLOP/s a core where oneDNN, in the same build of torch, has 240. oneDNN also
adds the bias and applies SiLU while the numbers are still in the cache.
"""
import torch
from torch import Tensor
from torch.nn import functional as F

# Multiplications from which on oneDNN is faster; below, its preparations (12 us) cost more than it
# gains.
LEAST = 1_000_000


def affine(value: Tensor, weight: Tensor, bias: Tensor, silu: bool = False) -> Tensor:
    """
    A linear layer, and SiLU after it if it is asked for.

    What choosing computes, without gradients, goes through oneDNN where that is faster; rounding
    differs from the other way's.

    :param value: (..., inputs).
    :param weight: (outputs, inputs).
    :param bias: (outputs,).
    :return: (..., outputs).
    """
    if goes_through_onednn(value, weight):
        # What torch's own compiler calls for such a layer.
        return torch.ops.mkldnn._linear_pointwise(value, weight, bias,
                                                  'swish' if silu else 'none', [], '')
    result = F.linear(value, weight, bias)
    return F.silu(result) if silu else result


def goes_through_onednn(value: Tensor, weight: Tensor) -> bool:
    """:return: whether oneDNN may do a product, and does it faster: no gradient, no ONNX."""
    return (value.device.type == 'cpu' and value.dtype == weight.dtype == torch.float32
            and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
            and not torch.is_autocast_enabled('cpu') and torch.backends.mkldnn.is_available()
            and hasattr(torch.ops.mkldnn, '_linear_pointwise')
            # Last: an exporter may not know the size.
            and value.numel() * len(weight) >= LEAST)
