"""GSM8K: grade-school word problems, graded by the final number.

Source: arXiv:2110.14168; data: openai/gsm8k, rows of `question` and `answer`, which ends in `#### number`.
Differs: the question is asked through the chat template, and an answer without `####` is read too (see `numeric`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from burnish.errors import ConfigError, EvaluationError
from burnish.evaluation.tasks.base import Task, draw, field, rows
from burnish.types import Example, Message


class GSM8K(Task):
    """Word problems of two to eight steps."""

    path: str = "openai/gsm8k"
    """GSM8K's own JSONL file, or the Hub id of the data set."""
    split: Literal["train", "test"] = "test"
    """Which part of the Hub's data set."""
    n: int | None = Field(default=None, ge=2)
    """How many problems, drawn by the suite's seed; all when left out."""
    shots: int = Field(default=0, ge=0)
    """Solved problems shown before each question, as earlier turns."""
    shots_from: str | None = None
    """File they come from, its first rows; the Hub's train split when `path` is a Hub id."""

    def check(self) -> None:
        if self.shots and self.shots_from is None and not _on_hub(self.path):
            raise ConfigError("shots need a file to come from", hint="shots_from: gsm8k/train.jsonl")
        super().check()

    def files(self) -> list[Path]:
        return [*_files(self.path, self.split), *self._shot_files()]

    def _shot_files(self) -> list[Path]:
        return _files(self.shots_from or self.path, "train") if self.shots else []

    def items(self, seed: int) -> list[Example]:
        shots: list[Message] = []
        for path in self._shot_files():
            for where, row in rows(path):
                if len(shots) < 2 * self.shots:
                    question, answer = str(field(row, "question", where)), str(field(row, "answer", where))
                    shots += [Message("user", question), Message("assistant", answer)]
        if len(shots) < 2 * self.shots:
            raise EvaluationError(f"{self.shots} shots were asked for and the file has {len(shots) // 2} rows")
        problems = [problem for path in _files(self.path, self.split) for problem in rows(path)]
        found = [_item(place, where, row, shots) for place, (where, row) in enumerate(problems)]
        return draw(found, self.n, seed, "gsm8k")


def _item(place: int, where: str, row: dict[str, object], shots: list[Message]) -> Example:
    question, answer = str(field(row, "question", where)), str(field(row, "answer", where))
    _, mark, number = answer.rpartition("####")
    if not mark:
        raise EvaluationError("the answer has no final number after ####", where=where, hint="use GSM8K's own files")
    messages = (*shots, Message("user", question))
    meta = {"solution": answer}
    return Example(f"{place + 1}", messages, number.strip(), {"numeric": {}}, source="gsm8k", meta=meta)


def _on_hub(path: str) -> bool:
    """Whether a path reads as `owner/name` and is nothing on this machine."""
    local = Path(path).exists() or Path(path).suffix or path.startswith((".", "/"))
    return path.count("/") == 1 and not local


def _files(path: str, split: str) -> list[Path]:
    """The local file, or the Hub's files of a split. Raises EvaluationError when the Hub cannot be reached."""
    if not _on_hub(path):
        return [Path(path)]
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        folder = snapshot_download(path, repo_type="dataset", allow_patterns=[f"main/{split}-*.parquet"])
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        hint = "give the path of a JSONL file, or try again with a network connection"
        raise EvaluationError(f"cannot get {path} from the Hub: {error}", where=path, hint=hint) from None
    files = sorted(Path(folder).glob(f"main/{split}-*.parquet"))
    if not files:
        raise EvaluationError(f"{path} has no file main/{split}-*.parquet", hint="give the path of a JSONL file")
    return files
