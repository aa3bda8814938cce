"""Fixtures that several tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.workspace import Workspace


@pytest.fixture
def store(tmp_path: Path) -> Workspace:
    """An empty store."""
    return Workspace(tmp_path / "store")
