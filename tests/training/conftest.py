"""Models that the tests of training start from."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny


@pytest.fixture(params=tiny.MORE)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tiny.tiny_model(request.param, tmp_path / "model")


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return tiny.tiny_model("llama", tmp_path / "model")
