"""What judges share: the request as they see it, and what becomes of two ratings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from burnish.engines.base import Engine, Prompt, Scored
from burnish.types import Completion, Example, Message, Sampling, Score, StopReason, Verdict

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


def by_logprob(by: By, engine: Engine, options: Sequence[str]) -> bool:
    """Whether to read the verdict from the probabilities of these replies."""
    return by == "logprob" or (by == "auto" and engine.gives_logprobs and _told_apart(engine, options))


def _told_apart(engine: Engine, options: Sequence[str]) -> bool:
    """Whether an engine scores these options: some know a reply's first token alone."""
    return not engine.first_token_only or len({option[:1] for option in options}) == len(options)


def ask(engine: Engine, asked: Sequence[Prompt], options: Sequence[str] | None, sampling: Sampling
        ) -> list[Completion | list[Scored] | str]:  # fmt: skip
    """A judge's replies, or with `options` the probabilities of these; where there is no reply, why.

    What is too long for the judge is not asked: it does not end a run.
    """
    too_long = engine.too_long(asked, None if options is None else [options] * len(asked))
    fitting = [prompt for number, prompt in enumerate(asked) if number not in too_long]
    found: Iterator[Completion | list[Scored]]
    if not fitting:
        found = iter(())
    elif options is None:
        found = (reply for (reply,) in engine.generate(fitting, sampling))
    else:
        found = iter(engine.choices(fitting, [options] * len(fitting)))
    return [f"too long for the judge: {too_long[number]}" if number in too_long else _or_why(next(found))
            for number in range(len(asked))]  # fmt: skip


def _or_why(reply: Completion | list[Scored]) -> Completion | list[Scored] | str:
    if not reply:
        return "the judge gave no reply: the request failed"
    if isinstance(reply, Completion) and reply.stop is StopReason.FAILED:
        return f"the judge gave no reply: {reply.text}"
    return reply


def shares(scored: Sequence[Scored]) -> list[float]:
    """Probabilities of replies among each other."""
    most = max(one.logprob for one in scored)
    weights = [math.exp(one.logprob - most) for one in scored]
    return [weight / sum(weights) for weight in weights]


def of_scores(first: Score, second: Score) -> Verdict:
    """The verdict of a judge that rates answers alone: no order can sway it."""
    if first.value is None or second.value is None:
        return Verdict(None, error=first.error or second.error)
    preference = 0.5 if first.value == second.value else float(first.value > second.value)
    return Verdict(preference, (preference, preference))
