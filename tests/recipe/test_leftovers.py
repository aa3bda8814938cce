"""What may go from a store, and what may not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.errors import WorkspaceError
from burnish.recipe.leftovers import Leftover, leftovers
from burnish.workspace import Manifest, Workspace


@pytest.fixture
def store(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "store")


def make(store: Workspace, name: str, *origins: str) -> None:
    """An artifact with one file of 1,000 bytes."""
    with store.building(name) as building:
        building.manifest = Manifest(
            id=name, kind="data", use="ingest", step=f"step of {name}", config={}, inputs={"of": list(origins)}, seed=0,
            code="", versions={}, phase="data", seconds=0.0, usage={}, made_at="2026-01-01T00:00:00",
        )  # fmt: skip
        (building.folder / "rows.jsonl").write_bytes(b"x" * 1000)


def begin(store: Workspace, recipe: str, *names: str) -> Path:
    """A run whose plan names these artifacts."""
    folder = store.new_run(recipe)
    steps = [{"step": name, "id": name} for name in names]
    (folder / "plan.json").write_text(json.dumps({"recipe": recipe, "steps": steps}), encoding="utf-8")
    return folder


def named(found: list[Leftover]) -> list[tuple[str, str]]:
    return [(one.what, one.folder.name) for one in found]


def test_a_result_is_needed_while_a_run_names_it_or_what_was_made_from_it(store: Workspace) -> None:
    for name, *origins in (["rows"], ["model", "rows", "hf:someone/base"], ["scores", "model"], ["alone", "rows"]):
        make(store, name, *origins)
    begin(store, "mine", "scores")  # an older recipe's run may not name what its steps were made from
    assert named(leftovers(store)) == [("result", "alone")]
    (alone,) = leftovers(store)
    assert alone.size > 1000
    assert alone.why == "step of alone, no run names it"


def test_a_forgotten_run_goes_with_what_only_it_made(store: Workspace) -> None:
    for name in ("shared", "old", "new"):
        make(store, name)
    first, second = begin(store, "one", "shared", "old"), begin(store, "two", "shared", "new")
    assert leftovers(store) == []
    assert named(leftovers(store, ["one"])) == [("run", first.name), ("result", "old")]
    assert named(leftovers(store, ["one", second.name])) == [
        ("run", first.name), ("run", second.name), ("result", "new"), ("result", "old"), ("result", "shared"),
    ]  # fmt: skip
    with pytest.raises(WorkspaceError, match="no run 'three'"):
        leftovers(store, ["three"])


def test_work_that_was_broken_off(store: Workspace) -> None:
    for name in ("wanted", "outdated", "unknown"):
        with pytest.raises(ValueError, match="it went wrong"), store.building(name) as building:
            (building.folder / "checkpoint").write_bytes(b"x" * 10)
            raise ValueError("it went wrong")
    begin(store, "mine", "outdated")
    begin(store, "mine", "wanted")
    assert [(one.folder.name, one.why, one.size) for one in leftovers(store)] == [
        ("outdated", "broken off, its recipe has a newer run", 10),
        ("unknown", "broken off, no run names it", 10),
    ]
    assert ("work", "wanted") in named(leftovers(store, ["mine"]))


def test_what_is_being_made_stays(store: Workspace) -> None:
    begin(store, "mine", "busy")
    with store.lock("busy"):
        (store.root / "work" / "busy").mkdir()
        assert leftovers(store) == []
        assert not store.remove(store.root / "work" / "busy")
        with pytest.raises(WorkspaceError, match="is under way: busy is being made"):
            leftovers(store, ["mine"])
    assert store.remove(store.root / "work" / "busy")
    assert store.unfinished_work() == []
    assert not (store.root / "trash").exists()


def test_a_removal_that_was_killed_is_finished_by_the_next(store: Workspace) -> None:
    make(store, "one")
    (store.root / "trash" / "artifacts-other-1").mkdir(parents=True)  # renamed away, and not deleted yet
    assert store.remove(store.root / "artifacts" / "one")
    assert store.find("one") is None
    assert not (store.root / "trash").exists()
