"""A regular expression that the answer matches.

A pattern such as `(a+)+b` can take hours on a short text. Matching happens in a child process that an alarm ends.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from threading import Lock
from typing import Any, Literal

from pydantic import Field, model_validator

from burnish.code import source
from burnish.config import Config
from burnish.rewards.parts import broken, tidy, unread, verdict
from burnish.types import Example, Score

MATCHING = "burnish.rewards.matching"


class Regex(Config):
    """1.0 when the pattern matches the answer, or when the text of one of its groups is the target."""

    pattern: str | None = None
    """A regular expression of Python's `re`; flags may stand in it, `(?s)`. The item's target when left out."""
    match: Literal["search", "full"] = "search"
    """`search`: somewhere in the answer, the last match counts; `full`: all of it, white space around it aside."""
    group: int | str | None = None
    """Number or name of a group whose text must be the target, spacing and surrounding punctuation aside."""
    ignore_case: bool = False
    """Whether capital letters make no difference."""
    seconds: float = Field(default=2.0, gt=0, le=60)
    """Longest time for one answer. A pattern that takes longer leaves the item unscored."""

    @model_validator(mode="after")
    def _fits(self) -> Regex:
        if self.group is not None and self.pattern is None:
            raise ValueError("`group` is compared with the target, so the pattern must be given here")
        if self.pattern is not None and (fault := fault_of(self.pattern, self.group)):
            raise ValueError(fault)
        return self

    def grade(self, example: Example, text: str) -> Score:
        pattern = self.pattern if self.pattern is not None else example.target
        if not pattern:
            return broken(f"the target {example.target!r} is no pattern")
        if fault := fault_of(pattern, self.group):
            return broken(f"the target: {fault}" if self.pattern is None else fault)
        expected = tidy(example.target or "", ignore_case=self.ignore_case) if self.group is not None else ""
        if self.group is not None and not expected:
            return broken(f"the target {example.target!r} is empty")
        if not text.strip():
            return unread("the answer is empty")
        found = CHILD.ask({
            "pattern": pattern, "text": text.strip(), "flags": re.IGNORECASE if self.ignore_case else 0,
            "whole": self.match == "full", "group": self.group or 0, "seconds": self.seconds,
        })  # fmt: skip
        if isinstance(found, str):
            return broken(found)
        if found is None:
            return unread(f"the pattern does not match: {pattern}")
        if self.group is None:
            return Score(1.0, found[0])
        if found[1] is None:
            return unread(f"the group {self.group!r} took no part in the match")
        said = tidy(found[1], ignore_case=self.ignore_case)
        return verdict(said == expected, said, expected)


def fault_of(pattern: str, group: int | str | None) -> str:
    """What is wrong with a pattern; empty when nothing is."""
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"{pattern!r} is no regular expression: {error}"
    known = list(compiled.groupindex) if isinstance(group, str) else range(compiled.groups + 1)
    return "" if group is None or group in known else f"{pattern!r} has no group {group!r}"


class _Child:
    """The process that matches, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def ask(self, question: dict[str, Any]) -> list[str | None] | str | None:
        """[matched text, text of the group], None for no match, or why there is no answer."""
        with self._lock:
            process = self._running()
            assert process.stdin is not None and process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(question).encode() + b"\n")
                process.stdin.flush()
            line = process.stdout.readline()
            if line:
                found: list[str | None] | None = json.loads(line)
                return found
            code = self._end()
        if code == -signal.SIGALRM:
            return f"the pattern takes longer than {question['seconds']:g} s: {question['pattern']}"
        return f"matching ended with exit code {code}"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._owner != os.getpid():  # a fork shares the pipes of its parent
            command = [sys.executable, "-I", "-S", "-B", str(source(MATCHING))]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._owner = os.getpid()
        return self._process

    def _end(self) -> int:
        process, self._process = self._process, None
        assert process is not None and process.stdin is not None and process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.stdout.close()
        return process.wait()

    def close(self) -> None:
        """End the process, if this one started it."""
        with self._lock:
            if self._process is not None and self._owner == os.getpid():
                self._end()


CHILD = _Child()
atexit.register(CHILD.close)
