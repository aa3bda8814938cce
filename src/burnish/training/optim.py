"""Optimiser, learning-rate schedule and master weights.

Master weights: where the model's weights are narrower than fp32, the optimiser keeps fp32 copies, applies its update to
them, and rounds the result into the model. bfloat16 has 8 bits of significand: an update below 1/256 of a weight would
round to nothing, and at learning rates of 1e-5 nearly all of them are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from burnish.config import Config

if TYPE_CHECKING:
    import torch

WSD_DECAY = 0.2
"""Share of the steps in which a warm-up, stable, decay schedule falls (arXiv:2404.06395 uses a tenth to a fifth)."""
SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": lambda done: 1.0,
    "wsd": lambda done: min(1.0, (1 - done) / WSD_DECAY),
}
"""Share of the full learning rate, from the share of steps after the warm-up that are done."""


class Optimization(Config):
    """How a model's weights are updated."""

    learning_rate: float = Field(default=1e-4, gt=0)
    """Highest learning rate. 1e-5 to 5e-5 is usual for whole models, 1e-4 to 3e-4 for LoRA, 5e-7 to 5e-6 for DPO."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """Muon makes the updates of the layers' matrices orthogonal; embeddings, head and vectors keep AdamW."""
    schedule: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    """How the learning rate falls after the warm-up; wsd stays and falls linearly over the last fifth."""
    lora_b: float = Field(default=1.0, gt=0)
    """How many times faster an adapter's B matrices learn than its A matrices (LoRA+, arXiv:2402.12354; 16 there)."""
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
    compiler on a CPU, and changes results only by rounding, and the draws of dropout where there is some."""

    def micro(self, device: str) -> int:
        """Tokens in one forward pass on a device. A CPU is fastest while a pass fits its caches."""
        return self.micro_tokens or (2048 if device == "cpu" else 16384)

    def steps(self, rows: int) -> int:
        """Optimiser steps for this many rows."""
        whole = max(1, math.ceil(rows * self.epochs / self.batch_size))
        return min(whole, self.max_steps) if self.max_steps else whole

    def group(self, name: str, ndim: int) -> tuple[str, float, float]:
        """Optimiser, weight decay and multiple of the learning rate of a parameter."""
        inside = not any(part in name for part in ("embed", "lm_head", "wte", "wpe"))
        kind = "muon" if self.optimizer == "muon" and ndim == 2 and inside else "adamw"
        return kind, self.weight_decay if ndim >= 2 else 0.0, self.lora_b if "lora_B" in name else 1.0

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of step 0, 1, ..., steps - 1."""
        warm = max(1, round(self.warmup * steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * SCHEDULES[self.schedule]((step - warm) / max(1, steps - warm))


class MasterOptimizer:
    """AdamW (arXiv:1711.05101) or Muon over fp32 master weights; the model holds their rounded copies."""

    def __init__(self, named: Iterable[tuple[str, torch.nn.Parameter]], settings: Optimization) -> None:
        import torch

        pairs = list(named)
        self.parameters, self._settings = [parameter for _, parameter in pairs], settings
        self.masters = [
            parameter.detach().float().clone() if parameter.dtype != torch.float32 else parameter
            for parameter in self.parameters
        ]
        groups: dict[tuple[str, float, float], list[torch.Tensor]] = {}
        for (name, parameter), master in zip(pairs, self.masters, strict=True):
            groups.setdefault(settings.group(name, parameter.ndim), []).append(master)
        self._inner = [_optimizer(kind, groups, settings) for kind in dict.fromkeys(kind for kind, _, _ in groups)]

    def step(self, rate: float) -> float:
        """Apply the gradients in the model's parameters; returns their norm before clipping."""
        import torch

        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self._settings.clip)
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if master is not parameter and parameter.grad is not None:
                master.grad = parameter.grad.float()
        for optimizer in self._inner:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["times"]
            optimizer.step()
        with torch.no_grad():
            for parameter, master in zip(self.parameters, self.masters, strict=True):
                if master is not parameter:
                    parameter.copy_(master)
                    master.grad = None
                parameter.grad = None
        return float(norm)

    def drop_gradients(self) -> None:
        """Forget what was accumulated."""
        for parameter in self.parameters:
            parameter.grad = None

    def state(self) -> dict[str, Any]:
        """Masters and moments, for a checkpoint."""
        inner = [optimizer.state_dict() for optimizer in self._inner]
        return {"masters": [master.detach() for master in self.masters], "inner": inner}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave, into the model too."""
        import torch

        with torch.no_grad():
            for parameter, master, saved in zip(self.parameters, self.masters, state["masters"], strict=True):
                master.copy_(saved)
                if master is not parameter:
                    parameter.copy_(master)
        for optimizer, saved in zip(self._inner, state["inner"], strict=True):
            optimizer.load_state_dict(saved)


def _optimizer(kind: str, groups: dict[tuple[str, float, float], list[torch.Tensor]], settings: Optimization
               ) -> torch.optim.Optimizer:  # fmt: skip
    """One optimiser over the groups of its kind. Muon's updates are scaled to the size of AdamW's, so that one learning
    rate serves both (arXiv:2502.16982 equation 4)."""
    import torch

    rows = [
        {"params": masters, "weight_decay": decay, "times": times}
        for (name, decay, times), masters in groups.items()
        if name == kind
    ]
    if kind == "muon":
        return torch.optim.Muon(rows, momentum=settings.betas[1], adjust_lr_fn="match_rms_adamw")
    return torch.optim.AdamW(rows, betas=settings.betas, fused=True)
