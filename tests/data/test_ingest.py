"""Rows in = rows + quarantine, whatever is in the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.data.ingest import ingest
from burnish.errors import DataError, Problems
from burnish.recipe.load import load_recipe
from burnish.recipe.plan import Plan
from burnish.recipe.run import run_plan
from burnish.workspace import Artifact, Workspace

GOOD = {"prompt": "a", "completion": "b"}


def file(folder: Path, name: str, *rows: object) -> Path:
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_every_row_is_used_or_quarantined_with_its_reason(tmp_path: Path) -> None:
    path = file(tmp_path, "a.jsonl", GOOD, "{broken", {"prompt": "", "completion": "b"}, {"text": "?"}, GOOD)
    found = ingest([path])
    assert [row.id for row in found.rows] == [found.rows[0].id, f"{found.rows[0].id}#1"]
    assert [row.source for row in found.rows] == [f"{path}:1", f"{path}:5"]
    assert [(row.where, row.why.partition(":")[0]) for row in found.quarantine] == [
        (f"{path}:2", "not valid JSON"),
        (f"{path}:3", "the prompt is empty"),
        (f"{path}:4", "the row is not in the format prompt_completion"),
    ]


def test_names_stay_unlike_each_other(tmp_path: Path) -> None:
    path = file(tmp_path, "a.jsonl", *({**GOOD, "id": name} for name in ("a", "a", "a#1", 0, 0, "a")))
    names = [row.id for row in ingest([path]).rows]
    assert names[:2] == ["a", "a#1"] and names[3:5] == ["0", "0#1"] and len(set(names)) == 6


def test_what_is_not_used_of_a_row_is_counted(tmp_path: Path) -> None:
    path = file(tmp_path, "a.jsonl", {**GOOD, "rating": 4}, {**GOOD, "rating": 2, "tools": []}, {**GOOD, "rating": ""},
                {**GOOD, "tools": [{"name": "add"}], "rating": 5})  # fmt: skip
    found = ingest([path])
    assert found.unread == {"rating": 2}  # the fourth row is set aside as a whole
    (aside,) = found.quarantine
    assert "`tools`" in aside.why and "chat template" in aside.hint


def test_the_first_known_row_decides_for_its_file(tmp_path: Path) -> None:
    mixed = file(tmp_path, "a.jsonl", {"x": 1}, GOOD, {"instruction": "a", "output": "b"})
    other = file(tmp_path, "b.jsonl", {"instruction": "a", "output": "b"})
    found = ingest([mixed, other])
    assert len(found.rows) == 2
    assert "unknown shape, with the keys x" in found.quarantine[0].why
    assert "looks like alpaca" in found.quarantine[1].why


def test_conversations_and_pairs_do_not_mix(tmp_path: Path) -> None:
    first = file(tmp_path, "a.jsonl", GOOD)
    second = file(tmp_path, "b.jsonl", {"prompt": "a", "chosen": "b", "rejected": "c"})
    found = ingest([first, second])
    assert len(found.rows) == 1 and "mixed" in found.quarantine[0].why


def test_the_limit_counts_rows_looked_at(tmp_path: Path) -> None:
    path = file(tmp_path, "a.jsonl", GOOD, "{broken", GOOD, GOOD)
    found = ingest([path], limit=3)
    assert (len(found.rows), len(found.quarantine)) == (2, 1)


TOOLS = {**GOOD, "tools": [{"name": "add"}]}


def ingested(folder: Path, store: Workspace, *rows: object, share: float = 0.5) -> Artifact:
    """What the step makes of the rows."""
    path = file(folder, "rows.jsonl", *rows)
    recipe = folder / "r.yaml"
    recipe.write_text(f"steps: {{chats: {{use: ingest, from: {path}, max_quarantined: {share}}}}}\n")
    return run_plan(Plan(load_recipe(recipe, []), store)).artifacts["chats"]


def test_the_step_says_what_it_left_out(tmp_path: Path, store: Workspace) -> None:
    more = dict.fromkeys("vwxyz", 1)
    made = ingested(tmp_path, store, {**GOOD, **more}, {**GOOD, "z": 2}, TOOLS)
    assert made.manifest.summary["headline"] == (
        "2 of 3 rows, 1 in quarantine.jsonl; columns not read: z, v, w, x and 1 more, see card.md"
    )
    assert "## columns not read\n\n| | |\n|---|---|\n| z | 2 |\n| v | 1 |" in made.file("card.md").read_text()
    aside = json.loads(made.file("quarantine.jsonl").read_text())
    assert aside["where"].endswith("rows.jsonl:3") and "`tools`" in aside["why"] and "chat template" in aside["hint"]


def test_rows_that_cannot_be_learned_stop_the_step_with_what_to_do(
    tmp_path: Path, store: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Problems, match="1 of the first 2 rows cannot be used; the first: there is `tools`"):
        ingested(tmp_path, store, GOOD, TOOLS, share=0.05)
    monkeypatch.setattr("burnish.steps.ingest.HEAD", 1)  # beyond what the plan looks at
    with pytest.raises(DataError, match="1 of 2 rows cannot be used; the first: there is `tools`") as stopped:
        ingested(tmp_path, store, GOOD, TOOLS, share=0.05)
    assert "chat template" in stopped.value.hint and "max_quarantined" in stopped.value.hint
    with pytest.raises(Problems, match="none of the first 1 rows can be used; the first: there is `tools`"):
        ingested(tmp_path, store, TOOLS)  # the plan sees it
