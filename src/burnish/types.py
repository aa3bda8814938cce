"""The nouns every part speaks: frozen, without torch, without input or output.

They are ordinary dataclasses, so a file, a test and a model see the same thing. `as_row` and `from_row` give the
JSON form that every dataset artifact holds, one object a line.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal, get_args

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str
    train: bool | float | None = None
    """Whether this turn's tokens are learned, or how much each of them counts. None: assistant turns are learned."""

    @property
    def weight(self) -> float:
        """How much each token of this turn counts in the loss."""
        return float(self.role == "assistant" if self.train is None else self.train)

    @property
    def trains(self) -> bool:
        return self.weight > 0


STEP = "\n\n"
"""What stands between the steps of an answer."""


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation, for training (it ends with the assistant) or for asking (it ends with the user).

    The same noun serves a training row, a prompt to sample from and an evaluation item: an item is an example
    whose `grader` can score an answer, so evaluation, rejection sampling, preference building and best-of-n agree.
    """

    id: str
    messages: tuple[Message, ...]
    target: str | None = None
    """The gold answer, when there is one."""
    grader: dict[str, dict[str, Any]] | None = None
    """One row of the `rewards` table with its settings, e.g. {"numeric": {"tolerance": 0}}."""
    choices: tuple[str, ...] = ()
    """Answers to compare by log-probability; `target` is then the gold one's text."""
    source: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
    label: float | None = None
    """How good its answer was found, 0 to 1: an answer of 1 is to be imitated, one of 0 to be avoided."""
    step_labels: tuple[float, ...] = ()
    """How right each step of its answer is, 0 to 1; `STEP` separates the steps."""

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The messages up to the answer: without the last turn when the assistant speaks it."""
        return self.messages[:-1] if self.messages and self.messages[-1].role == "assistant" else self.messages


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two answers to one prompt, the better and the worse. The prompt may end at any turn."""

    id: str
    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    margin: float | None = None
    """Score of chosen minus score of rejected, in the scorer's unit."""
    source: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


class StopReason(StrEnum):
    """Why a completion ended."""

    STOP_TOKEN = "stop_token"  # the model wrote a token that ends its turn
    STOP_STRING = "stop_string"  # one of the asked-for stop strings appeared
    LENGTH = "length"  # it reached max_tokens
    CONTEXT = "context"  # it filled the model's context
    FAILED = "failed"  # the server gave no answer; the text says why


@dataclass(frozen=True, slots=True)
class Completion:
    """What an engine answered."""

    text: str
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    """Log-probability in nats of each of `ids` under the sampling distribution's model (temperature 1)."""
    stop: StopReason = StopReason.STOP_TOKEN
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Score:
    """A grade. `value` None means unscored: counted apart, never averaged as zero."""

    value: float | None
    answer: str | None = None
    """The answer that was read out of the text, the unit that voting counts."""
    why: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which of two answers a judge prefers, asked in both orders."""

    preference: float | None
    """How sure it is that the first is better: 1, 0, 0.5 for a tie, or between. None means unscored."""
    orders: tuple[float | None, float | None] = (None, None)
    """The same with the first answer shown first, and with it shown second."""
    error: str | None = None

    @property
    def flipped(self) -> bool:
        """Whether the order decided: it preferred one answer, and the other one when they changed places."""
        first, second = self.orders
        return first is not None and second is not None and (first - 0.5) * (second - 0.5) < 0


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw a completion. Temperature 0 is greedy."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0


def as_row(noun: Example | PreferencePair) -> dict[str, Any]:
    """The JSON form of an example or pair; empty fields are left out, so files stay readable."""
    row = {key: value for key, value in asdict(noun).items() if value not in (None, "", (), {}, [])}
    for key in ("messages", "prompt"):
        if key in row:
            row[key] = [{k: v for k, v in message.items() if v is not None} for message in row[key]]
    return row


def _messages(rows: list[dict[str, Any]]) -> tuple[Message, ...]:
    return tuple(Message(row["role"], row["content"], row.get("train")) for row in rows)


def example_from_row(row: dict[str, Any]) -> Example:
    """Inverse of `as_row` for examples."""
    rest = {key: row[key] for key in ("target", "grader", "source", "meta", "label") if key in row}
    return Example(row["id"], _messages(row["messages"]), choices=tuple(row.get("choices", ())),
                   step_labels=tuple(row.get("step_labels", ())), **rest)  # fmt: skip


def pair_from_row(row: dict[str, Any]) -> PreferencePair:
    """Inverse of `as_row` for pairs."""
    rest = {key: row[key] for key in ("margin", "source", "meta") if key in row}
    # `as_row` leaves out empty text, and an empty answer is a legal answer.
    chosen, rejected = row.get("chosen", ""), row.get("rejected", "")
    return PreferencePair(row["id"], _messages(row["prompt"]), chosen, rejected, **rest)
