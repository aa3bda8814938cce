"""Attention over token trees by our own kernels (attention.cpp)."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from burnish.models import native

WIDEST = 512
"""Most dimensions of a head that the kernels have room for, as in attention.cpp."""


class _Shape(ctypes.Structure):
    _fields_ = (*((name, ctypes.c_int64) for name in ("tokens", "heads", "kv_heads", "width", "value_width",
                                                      "segments")),
                ("scale", ctypes.c_float), ("window", ctypes.c_int64), ("softcap", ctypes.c_float))  # fmt: skip


def fits(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether the kernels compute attention of these (1, H, T, D): on a CPU, of rows that can be read in pairs."""
    widths = (query.shape[-1], value.shape[-1])
    fit = all(width % 2 == 0 and width <= WIDEST for width in widths) and query.dtype == key.dtype == value.dtype
    return query.device.type == "cpu" and fit and native.multiplies(query.dtype)


def forward(query: Tensor, key: Tensor, value: Tensor, segments: Tensor, scale: float, window: int, softcap: float
            ) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The output (1, T, H, D) and the log of the sum of exp(score) of every query (H, T)."""
    query, key, value = map(_rows, (query, key, value))
    output = query.new_empty(1, query.shape[2], query.shape[1], value.shape[-1])
    sums = torch.empty(query.shape[1:3], dtype=torch.float32)
    shape = _shape(query, key, value, segments, scale, window, softcap)
    tensors = (query, key, value, output.transpose(1, 2))
    native.call("attention_forward", query.dtype, shape, _table(segments), _strides(*tensors), *tensors, sums)
    return output, sums


def backward(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, sums: Tensor, segments: Tensor,
             scale: float, window: int, softcap: float) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of query, key and value, shaped as they are, from the gradient of the output (1, T, H, D)."""
    query, key, value = map(_rows, (query, key, value))
    grads = [one.new_empty(1, one.shape[2], one.shape[1], one.shape[3]).transpose(1, 2) for one in (query, key, value)]
    shape = _shape(query, key, value, segments, scale, window, softcap)
    tensors = (query, key, value, output.transpose(1, 2), _rows(grad.transpose(1, 2)))
    native.call("attention_backward", query.dtype, shape, _table(segments), _strides(*tensors, *grads), *tensors, sums,
                *grads)  # fmt: skip
    return grads[0], grads[1], grads[2]


def _rows(tensor: Tensor) -> Tensor:
    """With each row's numbers beside each other, and rows that begin at a multiple of four bytes."""
    strides = tensor.stride()
    return tensor if strides[-1] == 1 and not (strides[1] % 2 or strides[2] % 2) else tensor.contiguous()


def _shape(query: Tensor, key: Tensor, value: Tensor, segments: Tensor, scale: float, window: int, softcap: float
           ) -> object:  # fmt: skip
    sizes = (query.shape[2], query.shape[1], key.shape[1], query.shape[3], value.shape[3], len(segments))
    return ctypes.byref(_Shape(*sizes, scale, window, softcap))


def _table(segments: Tensor) -> Tensor:
    return segments.to("cpu", torch.int64).contiguous()


def _strides(*tensors: Tensor) -> object:
    return native.numbers([stride for tensor in tensors for stride in tensor.stride()[1:3]])
