"""Compiled layers: what stands between two matrix products becomes one loop."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from burnish.errors import TrainingError
from burnish.models.logprobs import backbone_of


@contextmanager
def compiled_layers(model: Any, wanted: bool = True) -> Iterator[None]:
    """Compile a model's layers while this lasts; all layers of one kind share one compilation, for rows of any length.

    Raises TrainingError when there is no C++ compiler and the model is on the CPU.
    """
    if not wanted:
        yield
        return
    layers = layers_of(model)
    if next(model.parameters()).device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++"))):
        raise TrainingError("`compile: true` needs a C++ compiler, and there is none",
                            hint="install g++ or clang++, or leave `compile` out")  # fmt: skip
    for layer in layers:
        layer.compile(dynamic=True)
    try:
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None


def layers_of(model: Any) -> list[torch.nn.Module]:
    """The decoder layers: the longest list of modules of the backbone."""
    lists = [module for module in backbone_of(model).modules() if isinstance(module, torch.nn.ModuleList)]
    return list(max(lists, key=len, default=[]))
