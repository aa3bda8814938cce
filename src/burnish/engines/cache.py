"""Completions on disk, written whole or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from burnish.types import Completion, StopReason
from burnish.workspace import write_atomic


def save_completions(path: Path, completions: list[list[Completion]]) -> None:
    """Write the completions of a list of prompts."""
    write_atomic(path, json.dumps([[asdict(one) for one in group] for group in completions], ensure_ascii=False))


def load_completions(path: Path) -> list[list[Completion]]:
    """Inverse of `save_completions`."""
    return [[completion_from_row(row) for row in group] for group in json.loads(path.read_text(encoding="utf-8"))]


def completion_from_row(row: dict[str, object]) -> Completion:
    """A completion from the form of `dataclasses.asdict`."""
    ids, logprobs = row["ids"], row["logprobs"]
    assert isinstance(ids, list) and isinstance(logprobs, list) and isinstance(row["prompt_tokens"], int)
    return Completion(str(row["text"]), tuple(ids), tuple(logprobs), StopReason(str(row["stop"])), row["prompt_tokens"])
