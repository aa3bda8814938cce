"""What judges share: the request as they see it, and what becomes of two ratings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from burnish.engines.base import Engine, Scored
from burnish.types import Example, Message, Score, StopReason, Verdict

By = Literal["auto", "text", "logprob"]
"""How a judge's verdict is read: from what it writes, or from the probability of each possible reply."""


def transcript(messages: Sequence[Message]) -> str:
    """A request of one turn as it is; of several turns, with who speaks."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in messages)


def request(item: Example, with_reference: bool = True) -> str:
    """What a judge reads of an item before the answers: the conversation, and the reference answer if there is one."""
    text = f"Request:\n{transcript(item.prompt)}\n"
    return text + f"\nReference answer:\n{item.target}\n" if with_reference and item.target else text


def by_logprob(by: By, engine: Engine) -> bool:
    """Whether to read the verdict from probabilities."""
    return by == "logprob" or (by == "auto" and engine.gives_logprobs)


def shares(scored: Sequence[Scored]) -> list[float]:
    """Probabilities of replies among each other."""
    most = max(one.logprob for one in scored)
    weights = [math.exp(one.logprob - most) for one in scored]
    return [weight / sum(weights) for weight in weights]


def failure(stop: StopReason, text: str) -> str | None:
    """Why a judge's server gave no reply."""
    return f"the judge gave no reply: {text}" if stop is StopReason.FAILED else None


def of_scores(first: Score, second: Score) -> Verdict:
    """The verdict of a judge that rates answers alone: no order can sway it."""
    if first.value is None or second.value is None:
        return Verdict(None, error=first.error or second.error)
    preference = 0.5 if first.value == second.value else float(first.value > second.value)
    return Verdict(preference, (preference, preference))
