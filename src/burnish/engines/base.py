"""What answers: one interface for local weights, scripts and servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from burnish.types import Completion, Message, Sampling

Prompt = tuple[Message, ...] | str
"""A conversation, put through the chat template; or plain text for a base model to continue."""


@dataclass(slots=True)
class Usage:
    """Tokens and calls that an engine has served. A prompt that several samples share counts once."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Scored:
    """The log-probability (nats, summed over its tokens) of one option after a prompt."""

    logprob: float
    tokens: int
    greedy: bool = False
    """Whether greedy decoding would say it: each of its tokens is the likeliest."""
    begins: bool = False
    """Whether its first token alone is known, so that its length says nothing."""


class Engine(Protocol):
    """A model that answers."""

    name: str

    @property
    def usage(self) -> Usage:
        """What it has served."""

    @property
    def gives_logprobs(self) -> bool:
        """Whether `choices` works: a server may not tell."""

    @property
    def first_token_only(self) -> bool:
        """Whether `choices` tells options apart by their first token alone."""

    @property
    def template_hash(self) -> str:
        """Hash of the chat template it sees conversations through; empty when it has none."""

    def too_long(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]] | None = None) -> dict[int, str]:
        """The prompts that leave no room for an answer (or for their options), by number, with the reason."""

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, n: int = 1) -> list[list[Completion]]:
        """`n` completions for each prompt. Raises EngineError for a prompt that leaves no room for an answer."""

    def choices(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[Scored]]:
        """The log-probability of each option as the text that follows its prompt."""

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        """The answer to one prompt as it grows: the whole text so far, again and again, last the answer."""
