"""Every row of every table resolves, says what it is, and has a test file."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from burnish import code
from burnish.cli.list import TABLES
from burnish.config import Config, Table, explain
from burnish.objectives import OBJECTIVES
from burnish.objectives.dpo import Name
from burnish.registry import Entry

TESTS = Path(__file__).parent
ROWS = [(kind, entry) for kind, registry in TABLES.items() for entry in Table(registry).load()]


@pytest.mark.parametrize(("kind", "entry"), ROWS, ids=[f"{kind}-{entry.name}" for kind, entry in ROWS])
def test_row(kind: str, entry: Entry) -> None:
    found = Table(TABLES[kind]).load().resolve(entry.name)
    assert isinstance(found, type) and issubclass(found, Config)
    assert entry.summary and not entry.summary.endswith(".")
    assert found.__doc__, "the class says what it does"
    undocumented = [row.name for row in explain(found) if not row.doc]
    assert not undocumented, "every setting is explained under its field"
    module = found.__module__.removeprefix("burnish.").split(".")
    folder = TESTS.joinpath(*module[:-1])
    assert any(folder.glob("test_*.py")), f"no tests in {folder.relative_to(TESTS)}"


@pytest.mark.parametrize("kind", TABLES)
def test_rows_count_as_code_that_results_depend_on(kind: str) -> None:
    """A change in a row's file must make the results of the steps that use the table anew."""
    table = TABLES[kind].partition(":")[0]
    assert {entry.target.partition(":")[0] for entry in Table(TABLES[kind]).load()} <= code.imports(table)


def test_every_variant_of_dpo_that_is_taken_for_an_objective_is_shown_its_place() -> None:
    for name in set(get_args(Name)) - {"sigmoid"}:
        assert OBJECTIVES.instead(name) == f"here it is `{{dpo: {{variant: {name}}}}}`"
