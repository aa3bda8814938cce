"""Several processes that work on one run, started by `torchrun`. Alone, everything here is free and trivial.

The first process leads: it alone writes, speaks and does the steps that do not train. The others plan the same recipe,
wait, and take their share of the training.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE = timedelta(days=7)
"""How long a process waits for another; the steps before a training step may take days."""


def rank() -> int:
    """The number of this process."""
    return int(os.environ.get("RANK", "0"))


def size() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this process is the first, or the only one."""
    return rank() == 0


@contextmanager
def together() -> Iterator[None]:
    """Connect the processes while this lasts. Each takes the GPU of its own number, where there are GPUs."""
    if size() == 1:
        yield
        return
    import torch
    from torch import distributed

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        gc.collect()  # a sharded model in a cycle would keep its group, and the group's threads, to the very end
        distributed.destroy_process_group()


def told(value: Any) -> Any:
    """What the leader passes here; the others' values do not matter."""
    if size() == 1:
        return value
    from torch import distributed

    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def all_of(value: T) -> list[T]:
    """What every process passes here, in their order."""
    if size() == 1:
        return [value]
    from torch import distributed

    found: list[T] = [value] * size()
    distributed.all_gather_object(found, value)
    return found


def wait() -> None:
    """Go on when all processes are here."""
    if size() > 1:
        from torch import distributed

        distributed.barrier()


def sums(values: Sequence[float]) -> list[float]:
    """Each value summed over the processes."""
    if size() == 1:
        return list(values)
    import torch
    from torch import distributed

    box = torch.tensor(values, dtype=torch.float64)
    distributed.all_reduce(box)
    found: list[float] = box.tolist()
    return found


def anywhere(flag: bool) -> bool:
    """Whether any process says so."""
    return sums([float(flag)])[0] > 0
