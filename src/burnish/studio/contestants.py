"""Who answers in the arena: models that are asked now, or a file of answers that are ready."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from burnish.data.sources import read
from burnish.engines.base import Prompt
from burnish.errors import ConfigError, DataError
from burnish.rng import seed_for
from burnish.types import ROLES, Message, Sampling

Turns = tuple[Message, ...]
Shown = set[tuple[frozenset[str], Turns]]
"""The pairs that a voter was shown, with the prompts."""


class Streams(Protocol):
    """An engine that shows an answer while it is written."""

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        """The text so far, again and again until the answer is complete."""


class Contestants(Protocol):
    """Models that answer."""

    models: tuple[str, ...]
    asked: bool
    """Whether voters write the prompts."""

    def open(self, shown: Shown) -> NDArray[np.bool_]:
        """(M, M) which pairs may meet, after a voter was shown these."""

    def prompt(self, pair: tuple[str, str], shown: Shown, voter: str) -> Turns:
        """What a battle of the two begins with; nothing when the voter writes it."""

    def stream(self, model: str, turns: Turns, sampling: Sampling) -> Iterator[str]:
        """A model's answer to a conversation, the text so far again and again."""


class LiveModels:
    """Engines that answer what voters write. One answers to one voter at a time; the others wait their turn."""

    asked = True

    def __init__(self, engines: Mapping[str, Streams]) -> None:
        self.models = several(engines)
        self._engines = engines
        # An engine that stands under two names still answers one at a time.
        locks: dict[int, threading.Lock] = {id(engine): threading.Lock() for engine in engines.values()}
        self._locks = {name: locks[id(engine)] for name, engine in engines.items()}

    def open(self, shown: Shown) -> NDArray[np.bool_]:
        """All pairs, always."""
        return ~np.eye(len(self.models), dtype=np.bool_)

    def prompt(self, pair: tuple[str, str], shown: Shown, voter: str) -> Turns:
        """Nothing: the voter writes it."""
        return ()

    def stream(self, model: str, turns: Turns, sampling: Sampling) -> Iterator[str]:
        """The engine's answer, once it is free."""
        with self._locks[model]:
            yield from self._engines[model].stream(turns, sampling)


class ReadyAnswers:
    """Answers from a file. A voter sees each prompt of a pair once, in an order of the voter's own."""

    asked = False

    def __init__(self, answers: Mapping[Turns, Mapping[str, str]], seed: int = 0) -> None:
        self.models = several(sorted({model for row in answers.values() for model in row}))
        self._answers, self._seed = answers, seed
        answered = np.array([[model in row for model in self.models] for row in answers.values()], dtype=np.int64)
        self._shared = answered.T @ answered  # (M, M) prompts that both have answered
        np.fill_diagonal(self._shared, 0)

    def open(self, shown: Shown) -> NDArray[np.bool_]:
        """Pairs with a prompt that the voter has not seen."""
        number = {name: k for k, name in enumerate(self.models)}
        left = self._shared.copy()
        for pair, prompt in shown:
            if pair <= self._answers.get(prompt, {}).keys():
                first, second = (number[name] for name in sorted(pair))
                left[first, second] -= 1
                left[second, first] -= 1
        return left > 0

    def prompt(self, pair: tuple[str, str], shown: Shown, voter: str) -> Turns:
        """A prompt that both have answered and the voter has not seen."""
        both = frozenset(pair)
        unseen = [turns for turns, row in self._answers.items() if both <= row.keys() and (both, turns) not in shown]
        return min(unseen, key=lambda turns: seed_for(self._seed, voter, *sorted(pair), turns))

    def stream(self, model: str, turns: Turns, sampling: Sampling) -> Iterator[str]:
        """The whole answer at once."""
        yield self._answers[turns][model]


def read_answers(path: Path) -> dict[Turns, dict[str, str]]:
    """Ready answers from rows {prompt, model, output}; a prompt is text or turns with role and content.

    Raises DataError with the line of the first row that is none, or that answers a second time.
    """
    found: dict[Turns, dict[str, str]] = {}
    for raw in read(path):
        row = raw.value
        if row is None:
            raise DataError(f"the row cannot be read: {raw.error}", where=raw.where)
        model, output = row.get("model"), row.get("output")
        if not isinstance(model, str) or not model.strip() or not isinstance(output, str):
            raise DataError("a row of answers needs prompt, model and output, as text", where=raw.where)
        answers = found.setdefault(_prompt(row.get("prompt"), raw.where), {})
        if model in answers:
            raise DataError(f"{model} answers this prompt a second time", where=raw.where, hint="keep one of the two")
        answers[model] = output
    return found


def _prompt(value: Any, where: str) -> Turns:
    turns = [{"role": "user", "content": value}] if isinstance(value, str) else value
    if (not isinstance(turns, list) or not turns
            or not all(isinstance(turn, dict) and turn.get("role") in ROLES and isinstance(turn.get("content"), str)
                       for turn in turns)):  # fmt: skip
        raise DataError("a prompt is text, or a list of turns with role and content", where=where)
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)


def several(models: Iterable[str]) -> tuple[str, ...]:
    """The names as they are. Raises ConfigError when one comes twice, or when they are not two or more."""
    names = tuple(models)
    if len(set(names)) < len(names):
        raise ConfigError("a model is named twice", hint="name two different models")
    if len(names) < 2:
        raise ConfigError(f"an arena needs two models, got {len(names)}", hint="burnish arena MODEL MODEL")
    return names
