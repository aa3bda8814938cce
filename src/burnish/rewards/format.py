"""The shape of an answer together with its content."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field

from burnish.config import Config
from burnish.rewards.parts import tidy, unread, verdict
from burnish.types import Example, Score

NUMBERED = re.compile(r"(\d+)[.)]\s+(.+)")
BULLETED = re.compile(r"[-*•]\s+(.+)")


class Format(Config):
    """1.0 when every line has the asked shape and the lines hold exactly the asked items, in order."""

    kind: Literal["numbered", "bulleted", "upper", "lower", "lines"]
    """The shape: `1. item` lines counted from 1, `- item` lines, all capitals, no capitals, or plain lines."""
    items: list[str] = Field(min_length=1)
    """What the lines must say; capital letters make no difference here."""

    def grade(self, example: Example, text: str) -> Score:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if not lines:
            return unread("the answer is empty")
        found = [self._content(place, line) for place, line in enumerate(lines, 1)]
        answer = "\n".join(lines)
        wrong = next((line for line, content in zip(lines, found, strict=True) if content is None), None)
        if wrong is not None:
            return Score(0.0, answer, f"not {self.kind}: {wrong!r}")
        contents = [tidy(content or "", ignore_case=True) for content in found]
        expected = [tidy(item, ignore_case=True) for item in self.items]
        return verdict(contents == expected, answer, ", ".join(expected))

    def _content(self, place: int, line: str) -> str | None:
        """What a line says, or None when it has not the shape."""
        if self.kind == "numbered":
            match = NUMBERED.fullmatch(line)
            return match.group(2) if match and int(match.group(1)) == place else None
        if self.kind == "bulleted":
            match = BULLETED.fullmatch(line)
            return match.group(1) if match else None
        if self.kind == "upper":
            return line if line == line.upper() else None
        if self.kind == "lower":
            return line if line == line.lower() else None
        return line
