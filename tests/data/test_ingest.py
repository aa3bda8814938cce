"""Rows in = rows + quarantine, whatever is in the files."""

from __future__ import annotations

import json
from pathlib import Path

from burnish.data.ingest import ingest

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
