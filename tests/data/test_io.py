"""Rows of the store come back as they were."""

from __future__ import annotations

from pathlib import Path

from burnish.data.io import read_examples, read_pairs, read_rows, write_rows
from burnish.types import Example, Message, PreferencePair

EXAMPLE = Example("e", (Message("user", "ä\u2028"), Message("assistant", "b", train=False)), "t", {"exact": {}}, ("b",),
                  "s", {"k": [1]})  # fmt: skip
PAIR = PreferencePair("p", (Message("user", "q"),), "c", "", 0.0, "s")


def test_round_trip(tmp_path: Path) -> None:
    assert write_rows(tmp_path / "r.jsonl", [EXAMPLE, PAIR]) == 2
    assert read_rows(tmp_path / "r.jsonl") == [EXAMPLE, PAIR]
    assert read_examples(tmp_path / "r.jsonl") == [EXAMPLE] and read_pairs(tmp_path / "r.jsonl") == [PAIR]
