"""A JSON object."""

from __future__ import annotations

import json
from typing import Any

from burnish.config import Config
from burnish.rewards.parts import broken, unread, verdict
from burnish.types import Example, Score


class JsonObject(Config):
    """1.0 when the answer is a JSON object equal to the target's. The order of keys makes no difference."""

    surroundings: bool = False
    """Whether text around the object is allowed, such as a code fence; the first object then counts."""

    def grade(self, example: Example, text: str) -> Score:
        expected = self._read(example.target or "")
        if expected is None:
            return broken(f"the target {example.target!r} is not a JSON object")
        found = self._read(text)
        return (
            verdict(_same(found, expected), _canonical(found), _canonical(expected))
            if found is not None
            else unread("no JSON object")
        )

    def _read(self, text: str) -> dict[str, Any] | None:
        start = text.find("{") if self.surroundings else 0
        try:
            value, end = json.JSONDecoder().raw_decode(text.strip() if not start else text[max(start, 0) :])
        except (ValueError, RecursionError):
            return None
        if not self.surroundings and text.strip()[end:]:
            return None
        return value if isinstance(value, dict) else None


def _same(left: Any, right: Any) -> bool:
    """Equality of JSON values, in which true is not 1."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _canonical(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
