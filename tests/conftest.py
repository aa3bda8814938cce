"""Fixtures that several tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from burnish.workspace import Workspace


def pytest_configure(config: pytest.Config) -> None:
    """Only what `-m gpu` asks for sees a GPU: the other tests compare with tensors and numbers of a CPU."""
    if config.getoption("-m") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture
def store(tmp_path: Path) -> Workspace:
    """An empty store."""
    return Workspace(tmp_path / "store")
