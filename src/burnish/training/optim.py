"""Optimiser, learning-rate schedule and master weights.

Master weights: where the model's weights are narrower than fp32, the optimiser keeps fp32 copies, applies its update to
them, and rounds the result into the model. bfloat16 has 8 bits of significand: an update below 1/256 of a weight would
round to nothing, and at learning rates of 1e-5 nearly all of them are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from burnish.config import Config

if TYPE_CHECKING:
    import torch

SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": lambda done: 1.0,
}
"""Share of the full learning rate, from the share of steps after the warm-up that are done."""


class Optimization(Config):
    """How a model's weights are updated."""

    learning_rate: float = Field(default=1e-4, gt=0)
    """Highest learning rate. 1e-5 to 5e-5 is usual for whole models, 1e-4 to 3e-4 for LoRA, 5e-7 to 5e-6 for DPO."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    warmup: float = Field(default=0.03, ge=0, lt=1)
    """Share of the steps in which the learning rate rises from zero."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay; matrices only."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)
    """Decay of AdamW's first and second moment."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of a step's gradient; larger ones are scaled down."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the data; a fraction trains on a part of it."""
    max_steps: int | None = Field(default=None, ge=1)
    """Stop after this many optimiser steps."""
    batch_size: int = Field(default=32, ge=1)
    """Rows or pairs in an optimiser step."""
    shuffle: bool = True
    """Draw rows in a fresh order every epoch; false keeps the order of the data."""
    micro_tokens: int | None = Field(default=None, ge=1)
    """Tokens in one forward pass: 2,048 on a CPU and 16,384 on a GPU when left out. Lower it when memory is short; it
    changes results only by rounding."""
    compile: bool = False
    """Compile the model's layers before training. Costs a minute or two at the start (kept for later runs), needs a C++
    compiler on a CPU, and changes results only by rounding."""

    def micro(self, device: str) -> int:
        """Tokens in one forward pass on a device. A CPU is fastest while a pass fits its caches."""
        return self.micro_tokens or (2048 if device == "cpu" else 16384)

    def steps(self, rows: int) -> int:
        """Optimiser steps for this many rows."""
        whole = max(1, math.ceil(rows * self.epochs / self.batch_size))
        return min(whole, self.max_steps) if self.max_steps else whole

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of step 0, 1, ..., steps - 1."""
        warm = max(1, round(self.warmup * steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * SCHEDULES[self.schedule]((step - warm) / max(1, steps - warm))


class MasterAdamW:
    """AdamW over fp32 master weights (arXiv:1711.05101); the model holds their rounded copies."""

    def __init__(self, parameters: list[torch.nn.Parameter], settings: Optimization) -> None:
        import torch

        self.parameters, self._settings = parameters, settings
        self.masters = [
            parameter.detach().float().clone() if parameter.dtype != torch.float32 else parameter
            for parameter in parameters
        ]
        decayed = [master for master in self.masters if master.ndim >= 2]
        rest = [master for master in self.masters if master.ndim < 2]
        groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        self._adam = torch.optim.AdamW([group for group in groups if group["params"]], betas=settings.betas, fused=True)

    def step(self, rate: float) -> float:
        """Apply the gradients in the model's parameters; returns their norm before clipping."""
        import torch

        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self._settings.clip)
        for group in self._adam.param_groups:
            group["lr"] = rate
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if master is not parameter and parameter.grad is not None:
                master.grad = parameter.grad.float()
        self._adam.step()
        with torch.no_grad():
            for parameter, master in zip(self.parameters, self.masters, strict=True):
                if master is not parameter:
                    parameter.copy_(master)
                    master.grad = None
                parameter.grad = None
        return float(norm)

    def state(self) -> dict[str, Any]:
        """Masters and moments, for a checkpoint."""
        return {"masters": [master.detach() for master in self.masters], "adam": self._adam.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave, into the model too."""
        import torch

        with torch.no_grad():
            for parameter, master, saved in zip(self.parameters, self.masters, state["masters"], strict=True):
                master.copy_(saved)
                if master is not parameter:
                    parameter.copy_(master)
        self._adam.load_state_dict(state["adam"])
