"""What this machine offers, and what is used of it, each choice with its reason."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

SAID_WITHOUT_MEMORY = ("can't allocate memory", "not enough memory", "CUDA error: out of memory",
                       "CUBLAS_STATUS_ALLOC_FAILED")  # fmt: skip
"""What errors of no kind of their own say: torch's on a CPU, the driver's, cuBLAS's."""


def device(choice: str = "auto") -> tuple[str, str]:
    """The torch device and why."""
    if choice != "auto":
        return choice, "asked for"
    import torch

    if torch.cuda.is_available():
        return "cuda", torch.cuda.get_device_name(0)
    return "cpu", "no GPU that torch can use"


def dtype(choice: str = "auto", where: str = "cpu") -> tuple[str, str]:
    """The number format of weights and why."""
    if choice != "auto":
        return choice, "asked for"
    if where.startswith("cuda"):
        import torch

        if not torch.cuda.is_bf16_supported(including_emulation=False):
            return "float32", "this GPU has no bfloat16 instructions"
        return "bfloat16", "half the memory and the fast path of the GPU"
    if has_fast_bfloat16():
        return "bfloat16", "the CPU multiplies bfloat16 matrices in hardware"
    return "float32", "this CPU has no bfloat16 instructions"


def has_fast_bfloat16() -> bool:
    """Whether the CPU has matrix or vector instructions for bfloat16 (AMX, AVX-512 BF16, Arm BF16)."""
    return bool({"amx_bf16", "avx512_bf16", "bf16"} & cpu_flags())


def has_matrix_units() -> bool:
    """Whether the CPU has matrix units for bfloat16 (AMX)."""
    return "amx_bf16" in cpu_flags()


@cache
def cpu_flags() -> set[str]:
    """What the CPU can do, by the names that Linux has for it; nothing where they are not known."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return set()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.lower().startswith(("flags", "features")):
            return set(line.partition(":")[2].split())
    return set()


def memory_gib() -> float:
    """GiB of memory that new work can use now."""
    import psutil

    return float(psutil.virtual_memory().available) / 2**30


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, on a GPU or on a CPU."""
    import torch

    said = any(words in str(error) for words in SAID_WITHOUT_MEMORY)
    return isinstance(error, torch.OutOfMemoryError) or said


def reset_peak_memory() -> None:
    """Begin to look for the peak anew, where the system allows it (Linux, GPUs)."""
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        sys.modules["torch"].cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mib() -> float:
    """Most memory held since the last reset: of the GPU where there is one, else resident."""
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        return float(sys.modules["torch"].cuda.max_memory_allocated()) / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """While this lasts the process keeps memory that it frees for what it needs next; afterwards it gives it back.

    By default glibc gives large blocks back and the system clears new ones, a twentieth of a training step on a CPU.
    """
    set_option = _libc("mallopt")
    set_option(-4, 0)  # M_MMAP_MAX: no block gets a mapping of its own
    set_option(-1, -1)  # M_TRIM_THRESHOLD: never give back the end of the heap
    try:
        yield
    finally:
        set_option(-4, 1 << 16)  # glibc's own
        set_option(-1, 1 << 17)
        _libc("malloc_trim")(0)


def _libc(name: str) -> Callable[..., int]:
    """A function of glibc; one that does nothing where there is another C library."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(AttributeError, OSError):
            found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
            return found
    return lambda *_: 0


def describe() -> dict[str, str]:
    """Facts about the machine for reports."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cores": str(cores),
        "memory": f"{memory_gib():.1f} GiB available",
        "bfloat16": "in hardware" if has_fast_bfloat16() else "products in float32",
    }


@cache
def matmul_rate(choice: str = "auto") -> float:
    """Operations a second of a matrix product in a number format, or in the one that `auto` means, on this device."""
    import torch

    where, _ = device()
    kind = getattr(torch, dtype(choice, where)[0])
    size = 4096 if where == "cuda" else 512
    left, right = (torch.ones(size, size, dtype=kind, device=where) for _ in range(2))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # with several, one busy core would make all wait, and the rate a matter of luck
    seconds = []
    try:
        for _ in range(10):
            began = time.perf_counter()
            (left @ right).sum().item()  # waits for the GPU
            seconds.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return (1 if where == "cuda" else threads) * 2 * size**3 / min(seconds)
