"""What filters share: their result, and how texts are compared."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

from burnish.types import Example, PreferencePair

Row = Example | PreferencePair

TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|[+\-*/=<>^%$]")
"""Numbers whole and as they are, words, and the signs that change a sum. Numbers are never made alike: two arithmetic
problems that differ in a number are two problems."""

SENTENCE_MARKS = re.compile(r"""[.,;:!?"'`]+(?=\s|$)|(?<=\s)["'`]+""")


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that a filter dropped."""

    example: Row
    why: str
    match_id: str | None = None
    """The row or suite item that it is too much like."""
    score: float | None = None
    """How much, in 0..1."""


@dataclass(frozen=True)
class FilterResult:
    """What a filter did: kept + dropped = the rows it was given, in their order."""

    kept: list[Row]
    dropped: list[Dropped]
    report: dict[str, Any] = field(default_factory=dict)


def messages_of(row: Row) -> list[str]:
    """The texts of a row, turn by turn; of a pair both answers."""
    if isinstance(row, Example):
        return [message.content for message in row.messages]
    return [*(message.content for message in row.prompt), row.chosen, row.rejected]


def answer_of(row: Row) -> str:
    """The last turn; of a pair the chosen answer."""
    return row.messages[-1].content if isinstance(row, Example) else row.chosen


def tokens(text: str) -> list[str]:
    """Comparable tokens of a text: lower case, one Unicode form, no punctuation but signs."""
    return TOKEN.findall(unicodedata.normalize("NFKC", text).lower())


def normalized(row: Row) -> str:
    """The whole row as comparable tokens, turns kept apart."""
    return "\n".join(" ".join(tokens(text)) or text.strip() for text in messages_of(row))


def folded(text: str) -> str:
    """A text without what makes no difference to a reader: case, spacing, and the marks that end words and sentences.

    Brackets and operators stay: in code and sums they are what is said.
    """
    lowered = unicodedata.normalize("NFKC", text).lower()
    return " ".join(SENTENCE_MARKS.sub(" ", lowered).split()) or text.strip()
