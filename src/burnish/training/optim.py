"""Optimiser and learning-rate schedule. Updates go to fp32 master weights (see `masters`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from burnish import hardware
from burnish.config import Config
from burnish.errors import TrainingError
from burnish.training import sharding

if TYPE_CHECKING:
    import torch

    from burnish.training.moments import Moments

WSD_DECAY = 0.2
"""Share of the steps in which a warm-up, stable, decay schedule falls (arXiv:2404.06395 uses a tenth to a fifth)."""
PART = {"cpu": 1 << 23, "cuda": 1 << 25}
"""Parameters that are updated at once, or one that is larger, by kind of device."""
MOMENT_BYTES = {"adamw": (4, 8), "adamw32bit": (8, 8), "adamw8bit": (2, 2), "muon": (4, 4)}
"""What an optimiser holds of a bfloat16 parameter and of an fp32 one, beside its master."""
WHOLE_ONLY = ("adamw8bit", "muon")
"""Optimisers that look at more of a weight than one number at a time, so that it cannot be split over processes."""
CLIP_EPSILON = 1e-6
"""Added to the norm that a gradient is divided by, as torch does."""
SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": lambda done: 1.0,
    "wsd": lambda done: min(1.0, (1 - done) / WSD_DECAY),
}
"""Share of the full learning rate, from the share of steps after the warm-up that are done."""


WHOLE_STEP = "`batch_size`, the rows of a whole step; `micro_tokens` says how many tokens go through the model at once"
PACKED = "nothing: rows are packed, exactly, where the model can be"


class Optimization(Config):
    """How a model's weights are updated."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "lr": "`learning_rate`", "num_epochs": "`epochs`", "num_train_epochs": "`epochs`", "optim": "`optimizer`",
        "lr_scheduler": "`schedule`", "lr_scheduler_type": "`schedule`", "max_grad_norm": "`clip`",
        "warmup_ratio": "`warmup`", "warmup_steps": "`warmup`, a share of the steps", "micro_batch_size": WHOLE_STEP,
        "per_device_train_batch_size": WHOLE_STEP, "gradient_accumulation_steps": WHOLE_STEP,
        "gradient_checkpointing": "`checkpointing`", "torch_compile": "`compile`", "fsdp": "`shard`",
        "packing": PACKED, "sample_packing": PACKED, "padding_free": PACKED,
    }  # fmt: skip

    learning_rate: float = Field(default=1e-4, gt=0)
    """Highest learning rate. 1e-5 to 5e-5 is usual for whole models, 1e-4 to 3e-4 for LoRA."""
    optimizer: Literal["adamw", "adamw32bit", "adamw8bit", "muon"] = "adamw"
    """adamw holds its two moments in the weights' number format, rounded so that their mean is kept: 4 bytes a
    bfloat16 parameter. adamw32bit holds them in 8 bytes, adamw8bit in 2. Muon makes the updates of the layers' matrices
    orthogonal; embeddings, head, vectors, biases and experts that are one tensor keep AdamW."""
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
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Decay of Muon's momentum."""
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
    together: bool = False
    """Draw rows of one prompt one after another: several pairs or answers of it, transcripts that begin with it. What
    they share is then computed once; a step sees fewer prompts."""
    micro_tokens: int | None = Field(default=None, ge=1)
    """Tokens in one forward pass when left out: 16,384 on a GPU, 2,560 on a CPU with matrix units and 1,536 on others.
    Lower it when memory is short; it changes results only by rounding."""
    checkpointing: bool = False
    """Keep only each layer's input in the forward pass and compute the rest again in the backward pass: much less
    memory for a third more time."""
    shard: bool = False
    """Under torchrun, split weights, gradients and the optimiser's state over the processes (FSDP2) instead of copying
    them to each."""
    compile: bool = False
    """Compile the model's layers before training. Costs a minute or two at the start (kept for later runs), needs a C++
    compiler on a CPU, and changes results only by rounding, and the draws of dropout where there is some."""

    def micro(self, device: str) -> int:
        """Tokens in one forward pass on a device. A CPU is fastest while a pass fits its caches, or while it fills its
        matrix units."""
        usual = 16384 if device != "cpu" else 2560 if hardware.has_matrix_units() else 1536
        return self.micro_tokens or usual

    def steps(self, rows: int) -> int:
        """Optimiser steps for this many rows."""
        return math.ceil(self.drawn(rows) / self.batch_size)

    def drawn(self, rows: int) -> int:
        """How many rows all steps take of this many, again and again over several epochs."""
        wanted = max(1, round(rows * self.epochs))
        return min(wanted, self.max_steps * self.batch_size) if self.max_steps else wanted

    def group(self, name: str, ndim: int) -> tuple[str, float, float]:
        """Optimiser, weight decay and multiple of the learning rate of a parameter."""
        bias = ndim < 2 or name.endswith("bias")  # experts' biases lie side by side
        outside = any(part in name for part in ("embed", "lm_head", "wte", "wpe", "score"))
        kind = "adamw" if self.optimizer == "muon" and (ndim != 2 or bias or outside) else self.optimizer
        return kind, 0.0 if bias else self.weight_decay, self.lora_b if "lora_B" in name else 1.0

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of step 0, 1, ..., steps - 1."""
        warm = max(1, round(self.warmup * steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * SCHEDULES[self.schedule]((step - warm) / max(1, steps - warm))


class MasterOptimizer:
    """AdamW (arXiv:1711.05101) or Muon over fp32 master weights; the model holds their rounded copies.

    Of a sharded parameter it holds this process's part; what it gives to a checkpoint is whole.
    Raises TrainingError for an optimiser that cannot work on parts.
    """

    def __init__(self, named: Iterable[tuple[str, torch.nn.Parameter]], settings: Optimization) -> None:
        import torch

        from burnish.models.native import adamw
        from burnish.training.masters import Masters
        from burnish.training.moments import Moments

        pairs = list(named)
        self.parameters, self._settings = [parameter for _, parameter in pairs], settings
        if settings.optimizer in WHOLE_ONLY and any(map(sharding.is_part, self.parameters)):
            raise TrainingError(f"{settings.optimizer} does not work on sharded parameters",
                                hint="leave `shard` out, or take `optimizer: adamw`")  # fmt: skip
        self.masters = Masters([sharding.part_of(parameter) for parameter in self.parameters])
        groups: dict[tuple[str, float, float], list[int]] = {}
        for number, (name, parameter) in enumerate(pairs):
            groups.setdefault(settings.group(name, parameter.ndim), []).append(number)
        kinds = dict.fromkeys(kind for kind, _, _ in groups)
        narrow = {number for (kind, _, _), numbers in groups.items() for number in numbers
                  if kind == "adamw" and self.parameters[number].dtype == torch.bfloat16}  # fmt: skip
        self._moments = Moments([sharding.part_of(parameter) for parameter in self.parameters], narrow)
        self._inner = [_optimizer(kind, groups, self.masters.tensors, self._moments, settings) for kind in kinds]
        states = {master: state for optimizer in self._inner for master, state in optimizer.state.items()}
        self._states = [states[master] for master in self.masters.tensors]
        self._updates = 0
        self._fused = "muon" not in kinds and all(
            adamw.fits(one) and not sharding.is_part(one) for one in self.parameters
        )
        self._places = {id(master): number for number, master in enumerate(self.masters.tensors)}

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step."""
        return self._settings.rate(step, steps)

    def step(self, rate: float) -> float:
        """Apply the gradients in the model's parameters and forget them; returns their norm before clipping. If that is
        not finite, nothing is applied."""
        import torch

        for optimizer in self._inner:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["times"]
        learning = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = sharding.whole(torch.nn.utils.get_total_norm(learning))
        if not math.isfinite(norm):
            self.drop_gradients()
            return float(norm)
        self._updates += 1
        if self._fused:
            self._fused_step(float(norm))
            return float(norm)
        torch.nn.utils.clip_grads_with_norm_(self.parameters, self._settings.clip, norm)
        gradients = [parameter.grad for parameter in self.parameters]
        self.drop_gradients()
        parts = list(self._parts())
        values, slopes = self.masters.space(parts), self.masters.space(parts)
        moments = self._moments.spaces(values)
        for part in parts:
            with (
                self.masters.opened(part, values),
                self._moments.opened(part, self._states, moments, self._updates),
            ):
                self._step_of(part, gradients, slopes)
        return float(norm)

    def _fused_step(self, norm: float) -> None:
        """The same by a kernel that needs no fp32 values and gradients beside what is held."""
        from burnish.models.native import adamw
        from burnish.training.moments import noise_of

        (optimizer,) = self._inner
        share = min(1.0, self._settings.clip / (norm + CLIP_EPSILON))
        noise = noise_of(self._updates)
        for group in optimizer.param_groups:
            for master in group["params"]:
                number = self._places[id(master)]
                grad, self.parameters[number].grad = self.parameters[number].grad, None
                if grad is not None:
                    adamw.step(self.masters.parts(number), grad, self._states[number], rate=group["lr"],
                               betas=group["betas"], epsilon=group["eps"], decay=group["weight_decay"], share=share,
                               noise=noise, shift=self._moments.shift(number))  # fmt: skip

    def _parts(self) -> Iterator[list[int]]:
        """The parameters' numbers in parts, so that fp32 values and gradients of a part alone exist."""
        part: list[int] = []
        size = 0
        for number, master in enumerate(self.masters.tensors):
            if part and size + master.numel() > PART.get(master.device.type, PART["cpu"]):
                yield part
                part, size = [], 0
            part.append(number)
            size += master.numel()
        if part:
            yield part

    def _step_of(self, part: list[int], gradients: list[torch.Tensor | None], space: torch.Tensor) -> None:
        """Apply and forget the gradients of some parameters; an optimiser passes over those that have none."""
        import torch

        at = 0
        wide: list[torch.Tensor] = []
        narrow: list[torch.Tensor] = []
        for number in part:
            grad, gradients[number] = gradients[number], None
            if grad is not None:
                mine = sharding.part_of(grad)
                if mine.dtype != space.dtype:
                    at, place = at + mine.numel(), space[at : at + mine.numel()].view(mine.shape)
                    narrow.append(mine)
                    wide.append(place)
                    mine = place
                self.masters.tensors[number].grad = mine
        if wide:
            torch._foreach_copy_(wide, narrow)  # a few kernels on a GPU
        del wide, narrow
        for optimizer in self._inner:
            optimizer.step()
        for number in part:
            self.masters.tensors[number].grad = None

    @property
    def kinds(self) -> list[str]:
        """The number formats of the weights that learn, each once."""
        return sorted({str(parameter.dtype) for parameter in self.parameters})

    def drop_gradients(self) -> None:
        """Forget what was accumulated."""
        for parameter in self.parameters:
            parameter.grad = None

    def state(self) -> dict[str, Any]:
        """Masters and moments, for a checkpoint: whole tensors, however many processes hold parts of them. They are
        not copied: they change with the next step."""
        masters = [[sharding.gathered(part, parameter) for part in self.masters.parts(number)]
                   for number, parameter in enumerate(self.parameters)]  # fmt: skip
        moments = [{name: self._moved(name, value, number, sharding.gathered) for name, value in state.items()}
                   for number, state in enumerate(self._states)]  # fmt: skip
        return {"masters": masters, "moments": moments, "updates": self._updates, "kinds": self.kinds}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave, into the model too."""
        import torch

        for number, saved in enumerate(state["masters"]):
            self.masters.take(number, [sharding.scattered(part, self.parameters[number]) for part in saved])
        for number, (mine, saved) in enumerate(zip(self._states, state["moments"], strict=True)):
            for name, value in saved.items():
                if isinstance(value, torch.Tensor):
                    mine[name].copy_(self._moved(name, value, number, sharding.scattered))
                else:
                    mine[name] = value
        self._updates = state["updates"]

    def _moved(self, name: str, value: Any, number: int, move: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
               ) -> Any:  # fmt: skip
        """A part of a weight's state, moved between parts and wholes if it is one of AdamW's moments."""
        return move(value, self.parameters[number]) if name.startswith("exp_avg") else value


def _optimizer(kind: str, groups: dict[tuple[str, float, float], list[int]], masters: list[torch.Tensor],
               moments: Moments, settings: Optimization) -> torch.optim.Optimizer:  # fmt: skip
    """One optimiser over the groups of its kind. Muon's updates are scaled to the size of AdamW's, so that one learning
    rate serves both (arXiv:2502.16982 equation 4).

    Its moments are there from the start: if memory does not suffice, that shows before the first step, and they do not
    lie between what the first steps leave behind.
    """
    import torch

    from burnish.models.widened import widen_products
    from burnish.training.moments import NAMES

    mine = {key: numbers for key, numbers in groups.items() if key[0] == kind}
    rows = [{"params": [masters[number] for number in numbers], "weight_decay": decay, "times": times}
            for (_, decay, times), numbers in mine.items()]  # fmt: skip
    if kind == "adamw8bit":
        from burnish.training.eight_bit import AdamW8bit

        return AdamW8bit(rows, settings.betas)
    made: torch.optim.Optimizer
    if kind == "muon":
        if masters[0].device.type == "cpu":
            widen_products()  # it makes matrices orthogonal in bfloat16, whatever the weights are
        made = torch.optim.Muon(rows, momentum=settings.momentum, adjust_lr_fn="match_rms_adamw")
    else:
        made = torch.optim.AdamW(rows, betas=settings.betas, fused=True)
    for number in (number for numbers in mine.values() for number in numbers):
        master = masters[number]
        zeros = partial(torch.zeros_like, master, memory_format=torch.contiguous_format)
        if kind == "muon":
            made.state[master] = {"momentum_buffer": zeros()}
        else:
            held = moments.of(number) or {name: zeros() for name in NAMES}
            made.state[master] = {"step": torch.zeros((), device=master.device), **held}
    return made
