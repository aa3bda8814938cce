"""The kernels are built once, from what they are made of; without a compiler torch does all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from burnish import hardware
from burnish.models import native

pytestmark = pytest.mark.skipif(native.library() is None, reason="no C++ compiler, or not Linux on x86")


@pytest.fixture
def afresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of its own that is still empty; builds are plain ones, which take less time."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "FLAGS", ["-O0" if flag == "-O3" else flag for flag in native.FLAGS])
    native.library.cache_clear()
    yield tmp_path / "burnish"
    native.library.cache_clear()


def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    notes: list[str] = []
    monkeypatch.setattr(native, "note", notes.append)
    return notes


def test_they_are_built_once_and_kept(afresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = said(monkeypatch)
    assert native.library() is not None
    (built,) = afresh.iterdir()
    native.library.cache_clear()
    assert native.library() is not None
    assert list(afresh.iterdir()) == [built] and len(notes) == 1 and "kept for later runs" in notes[0]


def test_other_cpus_get_another_build(afresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said(monkeypatch)
    native.library()
    native.library.cache_clear()
    monkeypatch.setattr(hardware, "cpu_flags", lambda: {"another"})
    native.library()
    assert len(list(afresh.iterdir())) == 2


def test_a_build_that_cannot_be_loaded_is_made_again(afresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said(monkeypatch)
    native.library()
    (built,) = afresh.iterdir()
    broken = afresh.with_name("other") / "burnish" / built.name
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"")  # as after a loss of power
    monkeypatch.setenv("XDG_CACHE_HOME", str(broken.parents[1]))
    native.library.cache_clear()
    assert native.library() is not None and broken.stat().st_size > 10_000


def test_the_compiler_may_have_arguments(afresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said(monkeypatch)
    monkeypatch.setenv("CXX", "env g++ -pipe")
    assert native.library() is not None and len(list(afresh.iterdir())) == 1


SHORT_OF_MEMORY = """
import resource, torch
from burnish.models import native
from burnish.models.attention import tree_attention
table = torch.tensor([[0, 100_000, 0, -1]])
query = torch.randn(1, 8, 100_000, 32)
tree_attention(query[:, :, :10], query[:, :, :10], query[:, :, :10], torch.tensor([[0, 10, 0, -1]]), 1.0, 8, 0.0)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limits = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + (150 << 20), limits[1]))  # output 100 MB, tiles as much
try:
    tree_attention(query, query, query, table, 1.0, 8, 0.0)
except RuntimeError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, limits)
native.release()
print(tree_attention(query, query, query, table, 1.0, 8, 0.0).isfinite().all().item())
"""


def test_when_memory_runs_out_in_a_kernel_it_says_so_and_the_process_goes_on() -> None:
    limited = subprocess.run([sys.executable, "-c", SHORT_OF_MEMORY], capture_output=True, text=True)
    assert limited.stdout.splitlines() == ["the kernel attention_forward can't allocate memory", "True"], limited.stderr


def test_a_compiler_that_fails_is_reported_and_torch_does_the_work(
    afresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "no such header" >&2\nexit 1\n')
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    notes = said(monkeypatch)
    assert native.library() is None
    assert "no such header" in notes[-1] and "BURNISH_NATIVE=0" in notes[-1]
    assert list(afresh.iterdir()) == []
    assert not native.computes(torch.zeros(2))


@pytest.mark.parametrize(
    ("name", "value"), [("BURNISH_NATIVE", "0"), ("CXX", "no-such-compiler"), ("CXX", " "), ("CXX", "g++ '")]
)
def test_without_them_nothing_is_built(name: str, value: str, afresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert native.library() is None and not afresh.exists()


def test_the_doctor_says_what_there_is(afresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said(monkeypatch)
    assert native.describe() == "compiled for this CPU"
    native.library.cache_clear()
    monkeypatch.setenv("BURNISH_NATIVE", "0")
    assert native.describe() == "torch's alone: BURNISH_NATIVE is 0"
    monkeypatch.delenv("BURNISH_NATIVE")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "with g++" in native.describe()
