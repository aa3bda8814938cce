"""The scripted engine says what it is told, and keeps the same account as a real one."""

from __future__ import annotations

from burnish.engines.scripted import Scripted
from burnish.types import Message, Sampling


def test_a_function_answers_by_prompt_and_sample() -> None:
    engine = Scripted(lambda prompt, sample: f"{prompt[0].content} {sample}")  # type: ignore[union-attr]
    found = engine.generate([(Message("user", "two words"),)], Sampling(), n=2)
    assert [one.text for one in found[0]] == ["two words 0", "two words 1"]
    assert (engine.usage.prompt_tokens, engine.usage.completion_tokens, engine.usage.calls) == (2, 6, 1)


def test_a_list_is_gone_through_in_order() -> None:
    engine = Scripted(["a", "b"])
    assert [group[0].text for group in engine.generate(["x", "y"], Sampling())] == ["a", "b"]


def test_the_option_it_says_is_the_likely_one() -> None:
    first, second = Scripted(["Rome"]).choices(["The capital of Italy is"], [["Oslo or so", "Rome"]])[0]
    assert (first.logprob, second.logprob) == (-3.0, 0.0)
