"""Memory that is freed: kept while wanted, given back afterwards."""

from __future__ import annotations

import platform

import psutil
import pytest
import torch

from burnish import hardware


def resident_mib() -> float:
    return float(psutil.Process().memory_info().rss) / 2**20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_freed_memory_is_kept_and_then_given_back() -> None:
    before = resident_mib()
    with hardware.freed_memory_kept():
        block = torch.ones(64, 2**20)  # 256 MiB
        del block
        assert resident_mib() > before + 200
    assert resident_mib() < before + 100
    block = torch.ones(64, 2**20)
    del block
    assert resident_mib() < before + 100
