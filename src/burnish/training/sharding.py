"""Training with several processes: gradients summed (DDP), or weights, gradients and moments split (FSDP2).

The rows of a step are dealt to the processes; a step's loss is divided by its count over all of them, so as many
processes as you like take the same steps as one, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from burnish import parallel
from burnish.log import note_once

if TYPE_CHECKING:
    import torch

Part = TypeVar("Part")
BUCKET = 1 << 24
"""Gradients summed in one message."""


# -- who computes what


def dealt(parts: Sequence[tuple[int, Part]], even: bool) -> list[tuple[int, Part, bool]]:
    """This process's micro-batches of a step, largest first, and whether each counts.

    Args:
        parts: the tokens and the work of every micro-batch. even: give every process as many, for work that all must do
            in step; those that would have fewer do one again that does not count.
    """
    order = sorted(parts, key=lambda part: -part[0])
    processes, mine = parallel.size(), parallel.rank()
    if processes == 1:
        return [(size, part, True) for size, part in order]
    if even:
        found = [(size, part, True) for size, part in order[mine::processes]]
        return found + [(0, order[-1][1], False)] * (-(-len(order) // processes) - len(found))
    loads = [0] * processes
    chosen = []
    for size, part in order:
        least = loads.index(min(loads))
        loads[least] += size
        chosen += [(size, part, True)] if least == mine else []
    return chosen


def sum_gradients(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Sum the processes' gradients, in fp32."""
    import torch
    from torch import distributed

    if parallel.size() == 1:
        return
    for bucket in _buckets(parameters):
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        flat = torch.cat([grad.float().flatten() for grad in grads])
        distributed.all_reduce(flat)
        for parameter, grad, total in zip(bucket, grads, flat.split([grad.numel() for grad in grads]), strict=True):
            parameter.grad = grad.copy_(total.view_as(grad))


def _buckets(parameters: Sequence[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    bucket: list[torch.nn.Parameter] = []
    for parameter in parameters:
        if bucket and sum(one.numel() for one in bucket) + parameter.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket


# -- parts and wholes


def is_part(tensor: torch.Tensor) -> bool:
    """Whether a tensor is split over the processes."""
    return hasattr(tensor, "placements")


def part_of(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor, sharing its memory; the tensor itself when it is not split."""
    return tensor.detach().to_local() if is_part(tensor) else tensor


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a tensor that may be split; all processes must ask."""
    return tensor.full_tensor() if is_part(tensor) else tensor


def gathered(mine: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The whole of which this process holds `mine`, split as `like` is, for the leader to keep; all processes must ask.
    It is in the CPU's memory: whole, all of them would not fit a GPU."""
    if not is_part(like):
        return mine
    from torch.distributed.tensor import DTensor

    made: Any = DTensor
    split = made.from_local(mine, like.device_mesh, like.placements, shape=like.shape, stride=like.stride())
    full = whole(split)
    return full.cpu() if parallel.leads() else full.new_empty(0)


def scattered(all_of_it: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """This process's part of a whole, split as `like` is; all processes must ask."""
    if not is_part(like):
        return all_of_it
    from torch.distributed.tensor import distribute_tensor

    return part_of(distribute_tensor(all_of_it.to(like.device), like.device_mesh, like.placements))


# -- FSDP2


@contextmanager
def sharded(model: Any, wanted: bool) -> Iterator[bool]:
    """Split a model's weights over the processes while this lasts (torch's fully_shard); afterwards the leader's model
    is whole again, and the others' are empty. Gives whether it did."""
    if not wanted or parallel.size() == 1:
        yield False
        return
    import types

    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    from burnish.models.compiling import layers_of
    from burnish.models.logprobs import APPLY

    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    blocks = [*layers_of(model), model]
    in_four_bits = {weight for weight in model.parameters() if hasattr(weight, "packed")}
    if in_four_bits:
        note_once("experts that are one tensor in four bits stay whole in every process")
    for block in blocks:
        fully_shard(block, mp_policy=policy, ignored_params=in_four_bits)
        block.set_gradient_divide_factor(1.0)  # a step's loss is divided by its count already
        block.set_force_sum_reduction_for_comms(True)
    setattr(model, APPLY, types.MethodType(_apply, model))
    register_fsdp_forward_method(model, APPLY)
    try:
        yield True
    finally:
        delattr(model, APPLY)
    for block in blocks:
        block.reshard()
    _make_whole(model)


def _apply(self: Any, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """A function of the model, run where its weights are gathered."""
    return function(self, *arguments, **named)


def _make_whole(model: Any) -> None:
    import torch

    made: dict[int, torch.nn.Parameter] = {}  # tied weights stay one
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if hasattr(parameter, "packed"):
                continue
            if id(parameter) not in made:
                full = whole(parameter.detach())
                full = full.cpu() if parallel.leads() else full.new_empty(0)
                made[id(parameter)] = torch.nn.Parameter(full, requires_grad=parameter.requires_grad)
            setattr(module, name, made[id(parameter)])
