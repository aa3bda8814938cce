"""What a task is, and what tasks that read files share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from burnish.config import Config
from burnish.data.sources import read
from burnish.errors import EvaluationError
from burnish.rng import seed_for
from burnish.types import Example

T = TypeVar("T")
QUESTION = "question"
"""Key in an item's `meta`: what is its own in a prompt that shows solved examples before it."""


class Task(Config):
    """Base of all tasks: settings that give items."""

    def check(self) -> None:
        """Raise what can be known to be wrong without making the items, such as a missing file."""
        for path in self.files():
            if not path.exists():
                raise EvaluationError(f"no such file: {path}", hint="paths are relative to the current folder")

    def files(self) -> list[Path]:
        """The files the items come from; their content decides the suite's identity."""
        return []

    def items(self, seed: int) -> list[Example]:
        """The items. `seed` decides which, where the task draws them.

        An item ends with the user. It has a grader, or choices of which `target` is one; in `meta`, `task` replaces
        the task's name, `cluster` names what items share, `style` and `normalize` say how choices are compared.
        """
        raise NotImplementedError


def rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file:line, row) of a data file. Raises EvaluationError at the first row that cannot be read: a test has no
    rows to spare silently."""
    for raw in read(path):
        if raw.value is None:
            raise EvaluationError(f"cannot use a row: {raw.error}", where=raw.where, hint="mend the row or remove it")
        yield raw.where, raw.value


def field(row: dict[str, Any], key: str, where: str) -> Any:
    """A row's value. Raises EvaluationError that names the keys there are."""
    if key not in row:
        raise EvaluationError(f"a row has no '{key}'", where=where, hint="its keys: " + ", ".join(map(str, row)))
    return row[key]


def draw(found: Sequence[T], n: int | None, seed: int, name: str) -> list[T]:
    """`n` of the items in their order; all for None. Raises EvaluationError when there are fewer."""
    if n is None or n == len(found):
        return list(found)
    if n > len(found):
        raise EvaluationError(f"{name} has {len(found)} items and {n} were asked for", hint="lower `n`")
    chosen = Random(seed_for(seed, "task", name)).sample(range(len(found)), n)
    return [found[index] for index in sorted(chosen)]
