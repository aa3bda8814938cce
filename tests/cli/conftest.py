"""One finished run that many tests look at."""

from __future__ import annotations

import pytest

import loop
from commands import Burnish, Finished, type_command


@pytest.fixture(scope="session")
def burnish() -> Burnish:
    """Types a command: `burnish("list", "steps")`."""
    return type_command


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    recipe = loop.write_loop(folder)
    said = type_command("run", recipe, "--store", folder / "store")
    assert said.code == 0, said.err
    return Finished(folder, recipe, folder / "store", said)
