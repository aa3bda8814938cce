"""The gradient of a linear layer's weights by our own kernel (linear.cpp)."""

from __future__ import annotations

import torch
from torch import Tensor

from burnish import hardware
from burnish.models import native


def weight_gradient(grad: Tensor, x: Tensor, out: Tensor | None = None) -> Tensor:
    """The sum over rows of their outer products, (O, I) from gradients (N, O) and inputs (N, I)."""
    if not fits(grad, x) or not (out is None or out.is_contiguous()):
        return torch.mm(grad.T, x) if out is None else torch.mm(grad.T, x, out=out)
    found = grad.new_empty(grad.shape[1], x.shape[1]) if out is None else out
    native.call("linear_gradient", grad.dtype, grad.shape[1], len(grad), x.shape[1], grad, x, found)
    return found


def fits(*tensors: Tensor) -> bool:
    """Whether the kernel takes them: some rows in bfloat16, on a CPU whose matrix units it was written for."""
    units = hardware.has_matrix_units() and native.multiplies(torch.bfloat16)
    return units and all(one.device.type == "cpu" and one.dtype == torch.bfloat16 and one.is_contiguous()
                         and one.numel() > 0 for one in tensors)  # fmt: skip
