"""Answers that were computed once: kept by weights, prompt and settings, so that nothing is asked twice.

A killed run goes on behind the last part that was kept; a suite that grew asks only for what is new. The key holds
the weights' hash, the precision, the ids of the prompt (of a server: its text), and all that decides an answer. Where
two runs would differ by more than rounding, their keys differ.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from burnish.engines.base import Engine, Prompt, Scored, Usage
from burnish.engines.cache import completion_from_row
from burnish.engines.local import LocalEngine
from burnish.errors import EngineError
from burnish.log import note
from burnish.types import Completion, Sampling, StopReason

T = TypeVar("T")
WRITTEN, SCORED = 128, 1024
"""Prompts that are answered, and prompts whose options are scored, before they are kept."""


class Responses:
    """A file of answers by key. Several processes may read and write it at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("CREATE TABLE IF NOT EXISTS responses (key BLOB PRIMARY KEY, value TEXT) WITHOUT ROWID")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            database = sqlite3.connect(self.path, timeout=60)
        except sqlite3.Error as error:
            raise EngineError(f"kept answers cannot be read: {error}", where=str(self.path)) from None
        try:
            with database:
                yield database
        except sqlite3.DatabaseError as error:
            raise EngineError(f"kept answers cannot be used: {error}", where=str(self.path),
                              hint="delete the file: it only saves time") from None  # fmt: skip
        finally:
            database.close()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Any]:
        """The values of the keys that are known."""
        found: dict[bytes, Any] = {}
        with self._open() as database:
            for key in keys:
                row = database.execute("SELECT value FROM responses WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    found[key] = json.loads(row[0])
        return found

    def put(self, rows: Sequence[tuple[bytes, Any]]) -> None:
        """Keep values, all of them or none."""
        written = [(key, json.dumps(value, ensure_ascii=False)) for key, value in rows]
        with self._open() as database:
            database.executemany("INSERT OR REPLACE INTO responses VALUES (?, ?)", written)


class CachedEngine:
    """An engine that asks the one behind it only for what was never answered.

    Args:
        engine: answers what is new. identity: stands for its weights, precision and code; equal only for equal ones.
    """

    def __init__(self, engine: Engine, responses: Responses, identity: str) -> None:
        self.engine, self._responses, self._identity = engine, responses, identity
        self.name, self.reused = engine.name, 0

    @property
    def usage(self) -> Usage:
        """What was asked of the engine behind; answers that were kept cost nothing."""
        return self.engine.usage

    @property
    def gives_logprobs(self) -> bool:
        return self.engine.gives_logprobs

    @property
    def first_token_only(self) -> bool:
        return self.engine.first_token_only

    @property
    def template_hash(self) -> str:
        return self.engine.template_hash

    def too_long(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]] | None = None) -> dict[int, str]:
        return self.engine.too_long(prompts, options)

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        return self.engine.stream(prompt, sampling)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, n: int = 1) -> list[list[Completion]]:
        """`n` completions for each prompt; kept in parts as they are written. Failed requests are not kept."""
        keys = [self._key("generate", shown, asdict(sampling), n) for shown in self._shown(prompts)]

        def ask(numbers: Sequence[int]) -> list[list[Completion]]:
            return self.engine.generate([prompts[number] for number in numbers], sampling, n)

        def good(group: list[Completion]) -> bool:
            return all(one.stop is not StopReason.FAILED for one in group)

        return self._through(keys, WRITTEN, ask, good, lambda rows: [completion_from_row(row) for row in rows])

    def choices(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[Scored]]:
        """The log-probability of each option; kept in parts as they are scored."""
        keys = [self._key("choices", shown, list(group))
                for shown, group in zip(self._shown(prompts), options, strict=True)]  # fmt: skip

        def ask(numbers: Sequence[int]) -> list[list[Scored]]:
            return self.engine.choices([prompts[number] for number in numbers], [options[number] for number in numbers])

        return self._through(keys, SCORED, ask, bool, lambda rows: [Scored(**row) for row in rows])

    def _through(self, keys: Sequence[bytes], size: int, ask: Callable[[Sequence[int]], list[list[T]]],
                 good: Callable[[list[T]], bool], read: Callable[[Any], list[T]]) -> list[list[T]]:  # fmt: skip
        known = {key: read(rows) for key, rows in self._responses.get(keys).items()}
        if reused := sum(key in known for key in keys):
            self.reused += reused
            note(f"{self.name}: {reused} of {len(keys)} answers were computed before")
        first = {key: number for number, key in reversed(list(enumerate(keys)))}
        new = [number for number, key in enumerate(keys) if key not in known and first[key] == number]
        for low in range(0, len(new), size):
            part = new[low : low + size]
            answers = ask(part)
            rows = [(keys[number], [asdict(one) for one in group])  # type: ignore[call-overload]
                    for number, group in zip(part, answers, strict=True) if good(group)]  # fmt: skip
            self._responses.put(rows)
            known |= {keys[number]: group for number, group in zip(part, answers, strict=True)}
        return [known[key] for key in keys]

    def _shown(self, prompts: Sequence[Prompt]) -> list[Any]:
        """Prompts as their keys hold them: the ids that a local model sees, otherwise their turns."""
        if isinstance(self.engine, LocalEngine):
            return list(self.engine.encode(prompts))
        return [prompt if isinstance(prompt, str) else [[turn.role, turn.content] for turn in prompt]
                for prompt in prompts]  # fmt: skip

    def _key(self, *parts: Any) -> bytes:
        text = json.dumps([self._identity, self.template_hash, *parts], ensure_ascii=False)
        return hashlib.blake2b(text.encode(), digest_size=20).digest()
