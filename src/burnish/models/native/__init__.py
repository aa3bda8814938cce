"""Kernels of our own for the CPU: the C++ beside this file, compiled once on every machine that has a compiler.

Between the matrix products of a model stand many small steps. One operation of torch after another reads and writes all
of memory for each; here what belongs together is one loop over what fits a core's cache. Where there is no compiler, or
the CPU lacks the instructions, torch's operations do the same: slower, with the same results but for rounding.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from burnish import hardware
from burnish.log import note

SOURCES = Path(__file__).parent
FLAGS = (
    "-std=c++20", "-O3", "-march=native", "-mprefer-vector-width=512", "-fopenmp", "-fno-math-errno",
    "-fno-trapping-math", "-fno-signed-zeros", "-fno-strict-aliasing", "-Wno-psabi", "-shared", "-fPIC",
)  # fmt: skip
"""Loops become vector instructions only where neither errors nor the sign of a zero have to be kept."""
SWITCH = "BURNISH_NATIVE"
"""Set to 0 in the environment, it leaves all to torch."""
KINDS = {torch.bfloat16: "bfloat16", torch.float32: "float32"}


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where they cannot be had; says so when a compiler fails."""
    if _why_not() is not None:
        return None
    try:
        return _loaded(_compiler() or [])
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # no home is a RuntimeError
        output = getattr(error, "stderr", None) or str(error)
        note(f"the CPU's own kernels could not be compiled, so training takes longer ({output.strip()[-300:]});"
             f" {SWITCH}=0 leaves them out")  # fmt: skip
        return None


def _compiler() -> list[str] | None:
    """The command of the compiler, if it is there: `CXX` may name one with arguments or behind a cache."""
    try:
        command = shlex.split(os.environ.get("CXX") or "g++")
    except ValueError:  # a quote without its other one
        return None
    found = shutil.which(command[0]) if command else None
    return None if found is None else [found, *command[1:]]


def _loaded(compiler: list[str]) -> ctypes.CDLL:
    built = _built(compiler)
    try:
        return ctypes.CDLL(str(built))
    except OSError:  # what a machine that lost its power left of it
        return ctypes.CDLL(str(_built(compiler, again=True)))


def _why_not() -> str | None:
    """Why no kernels can be had here, if that is so."""
    if os.environ.get(SWITCH) == "0":
        return f"{SWITCH} is 0"
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "they are for Linux on x86"
    return "there is no C++ compiler; with g++ training takes less time" if _compiler() is None else None


def describe() -> str:
    """What this machine has of them, in words; compiles them if that has not been done."""
    if (reason := _why_not()) is not None:
        return f"torch's alone: {reason}"
    return "torch's alone: the compiler failed" if library() is None else "compiled for this CPU"


def _built(compiler: list[str], again: bool = False) -> Path:
    """The shared object of these sources, this compiler, torch and CPU; compiled if it is not there yet, or `again`."""
    sources = {path.name: path.read_bytes() for path in sorted(SOURCES.iterdir()) if path.suffix in (".h", ".cpp")}
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True).stdout
    known = [*compiler, version, torch.__version__, *FLAGS, *sorted(hardware.cpu_flags()), *sources]
    digest = hashlib.sha256("\n".join(known).encode())
    for text in sources.values():
        digest.update(text)
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "burnish"
    target = folder / f"native-{digest.hexdigest()[:16]}.so"
    if again or not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        note("compiling kernels for this CPU, a few seconds; they are kept for later runs")
        with tempfile.TemporaryDirectory(dir=folder) as there:
            _compile(compiler, sources, Path(there), Path(there) / target.name)
            (Path(there) / target.name).replace(target)  # two processes may build at one time
    return target


def _compile(compiler: list[str], sources: dict[str, bytes], folder: Path, target: Path) -> None:
    """Compile the sources as they were read, whatever has become of the files since."""
    for name, text in sources.items():
        (folder / name).write_bytes(text)
    libraries = Path(torch.__file__).parent / "lib"
    link = [f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-ltorch_cpu", "-l:libgomp.so.1"]
    files = [str(folder / name) for name in sources if name.endswith(".cpp")]
    subprocess.run([*compiler, *FLAGS, *files, "-o", str(target), *link], capture_output=True, text=True, check=True)
    with target.open("rb") as written:
        os.fsync(written.fileno())


@cache
def multiplies(kind: torch.dtype) -> bool:
    """Whether there are kernels and they have fast products of a number format."""
    found = library()
    return found is not None and kind in KINDS and bool(getattr(found, f"multiplies_{KINDS[kind]}")())


def computes(like: Tensor) -> bool:
    """Whether there are kernels for a tensor."""
    return like.device.type == "cpu" and like.dtype in KINDS and library() is not None


def call(name: str, kind: torch.dtype, *arguments: Any) -> None:
    """Call a kernel for a number format; tensors are handed as addresses, int as int64 and float as fp32.

    Raises RuntimeError when memory runs out, or torch's products fail.
    """
    if trouble := getattr(library(), f"{name}_{KINDS[kind]}")(*map(_handed, arguments)):
        reason = "can't allocate memory" if trouble == 1 else "failed"
        raise RuntimeError(f"the kernel {name} {reason}")


@contextmanager
def released() -> Iterator[None]:
    """Give back at the end what memory kernels keep from one call to the next."""
    try:
        yield
    finally:
        release()


def release() -> None:
    """Give back the memory that kernels keep from one call to the next."""
    found = library() if library.cache_info().currsize else None
    if found is not None:
        found.attention_release()
        found.linear_release()


def _handed(value: Any) -> Any:
    if value is None or isinstance(value, Tensor):
        return ctypes.c_void_p(None if value is None else value.data_ptr())
    if isinstance(value, int):
        return ctypes.c_int64(value)
    return ctypes.c_float(value) if isinstance(value, float) else value


def numbers(values: Sequence[int]) -> Any:
    """Whole numbers as a kernel reads them."""
    return (ctypes.c_int64 * len(values))(*values)
