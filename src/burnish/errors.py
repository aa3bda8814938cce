"""Every error a user can cause, as three lines: what is wrong, where, and what to try.

Code raises the class of the part it belongs to; the command line prints the three lines and exits with the class's
code (2: what was asked for is wrong, 1: it went wrong while running). Anything else that escapes is a defect of
Burnish and shows its traceback.
"""

from __future__ import annotations

from dataclasses import dataclass


class BurnishError(Exception):
    """Base of all errors that speak to the user."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.hint = what, where, hint

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.hint:
            lines.append(f"  try:   {self.hint}")
        return "\n".join(lines)


class ConfigError(BurnishError):
    """A recipe, setting or command-line argument is wrong."""

    exit_code = 2


class DataError(BurnishError):
    """A file or a row of data cannot be used."""


class ModelError(BurnishError):
    """A model folder, tokenizer or chat template cannot be used."""


class EngineError(BurnishError):
    """Generation or scoring failed."""


class TrainingError(BurnishError):
    """Training cannot start or go on."""


class MergeError(BurnishError):
    """Models cannot be merged."""


class EvaluationError(BurnishError):
    """A suite or a grader cannot be used."""


class WorkspaceError(BurnishError):
    """The store of artifacts cannot be read or written."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding of a check. `where` is `file:line: key` when it comes from a recipe."""

    what: str
    where: str = ""
    hint: str = ""

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  try: {self.hint}" if self.hint else head


class Problems(ConfigError):
    """Several findings reported at once."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def raise_all(problems: list[Problem]) -> None:
    """Raise `Problems` when there are any, each once."""
    if problems:
        raise Problems(list(dict.fromkeys(problems)))
