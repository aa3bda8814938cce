"""Code versions follow what a module reaches."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish import code


def test_statements_and_rows_are_dependencies() -> None:
    assert "burnish.types" in code.imports("burnish.data.preferences")
    assert "burnish.steps.sft" in code.imports("burnish.steps")  # a row of a table
    assert "burnish.rng" in code.closure("burnish.data.preferences")


def test_the_report_is_no_part_of_a_training_step() -> None:
    assert "burnish.steps.report" not in code.closure("burnish.steps.sft")
    assert "burnish.training.supervised" in code.closure("burnish.steps.sft")


def test_predictions_are_no_part_of_results() -> None:
    assert "burnish.steps.estimate" in code.NOT_RESULTS and code.source("burnish.steps.estimate")


def test_the_version_is_stable_and_differs_between_modules() -> None:
    assert code.version("burnish.types") == code.version("burnish.types")
    assert code.version("burnish.types") != code.version("burnish.rng")


def test_sources_that_a_package_compiles_are_part_of_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = code.source("burnish.models.native")
    assert native is not None
    assert {"attention.cpp", "common.h"} <= {path.name for path in code._compiled_with(native)}
    before = code.version("burnish.models.native")
    other = tmp_path / "attention.cpp"
    other.write_text("// changed")
    monkeypatch.setattr(code, "_compiled_with", lambda path: [other] if path == native else [])
    code.version.cache_clear()
    assert code.version("burnish.models.native") != before
    code.version.cache_clear()
