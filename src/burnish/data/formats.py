"""The shapes that conversations come in, each turned into an `Example` or a `PreferencePair`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from burnish.data.turns import (
    Row,
    checked,
    conversation,
    first,
    is_empty,
    refuse,
    refuse_unlearnable,
    text_of,
    turns_of,
)
from burnish.errors import DataError, EvaluationError
from burnish.rewards import row_grader
from burnish.types import STEP, Example, Message, PreferencePair
from burnish.workspace import digest

Converted = Example | PreferencePair

ALWAYS = ("id", "system", "system_prompt", "meta")
"""Columns that are read in rows of every shape."""
GRADED = ("target", "ground_truth", "grader")
"""Columns that are read in rows that become examples."""
ASKED_ABOUT = ("context", "passage", "choices", "options")
"""Columns that a question may need to be understood."""
SCORES = (("chosen_score", "score_chosen"), ("rejected_score", "score_rejected"))


@dataclass(frozen=True, slots=True)
class Format:
    """One shape: the columns by which it is known, those that it may also have, and how to read them."""

    name: str
    summary: str
    keys: tuple[str, ...]
    also: tuple[str, ...]
    convert: Callable[[Row, str], Converted]

    def detect(self, row: Row) -> bool:
        return all(key in row for key in self.keys)


def detect(row: Row) -> str | None:
    """The name of the first shape that fits a row."""
    return next((shape.name for shape in FORMATS if shape.detect(row)), None)


def convert(row: Row, name: str, source: str) -> Converted:
    """A row of a named shape as an example or pair, `source` saying where it came from.

    Raises DataError with the reason when the row does not have that shape, its conversation is malformed, or it holds
    what cannot be learned here.
    """
    shape = _named(name)
    if not shape.detect(row):
        found = detect(row)
        known = f"it looks like {found}" if found else f"its keys are {', '.join(sorted(map(str, row)))[:120]}"
        raise DataError(f"the row is not in the format {name}: {known}", where=source)
    try:
        refuse_unlearnable(row, "the row")
        return shape.convert(row, source)
    except EvaluationError as error:
        raise DataError(error.what, where=source, hint=error.hint) from None
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"malformed {name} row: {type(error).__name__}: {error}", where=source) from None


def unread(row: Row, name: str) -> list[str]:
    """The columns of a row that hold something and that its shape does not read."""
    shape = _named(name)
    return [key for key in row if key not in (*ALWAYS, *shape.keys, *shape.also) and not is_empty(row[key])]


def _named(name: str) -> Format:
    return next(shape for shape in FORMATS if shape.name == name)


# ------------------------------------------------------------------------------------------------------------- examples


def _example(messages: tuple[Message, ...], row: Row, source: str) -> Example:
    messages = _led(messages, row)
    target = first(row, "target", "ground_truth")
    grader = row_grader(row["grader"]) if row.get("grader") else None
    content = [[message.role, message.content] for message in messages]
    return Example(_id(row) or digest(content, target)[:16], messages,
                   None if target is None else str(target), grader, source=source, meta=_meta(row))  # fmt: skip


def _led(messages: tuple[Message, ...], row: Row) -> tuple[Message, ...]:
    """The messages, led by the system turn that the row has as a column."""
    system = next((row[name] for name in ("system", "system_prompt") if not is_empty(row.get(name))), None)
    if system is None:
        return messages
    turn = Message("system", text_of(system, "the system text"))
    if messages[0].role != "system":
        return (turn, *messages)
    if messages[0].content.strip() != turn.content.strip():
        raise DataError("the row has one system text in a column and another one in its turns", hint="keep one")
    return messages


def _id(row: Row) -> str:
    """The row's own name; empty where it has none."""
    return str(row["id"]).strip() if row.get("id") is not None else ""


def _meta(row: Row) -> dict[str, Any]:
    return row["meta"] if isinstance(row.get("meta"), dict) else {}


def _single(question: Any, answer: Any, row: Row, source: str) -> Example:
    turns = (Message("user", text_of(question, "the prompt")), Message("assistant", text_of(answer, "the answer")))
    return _example(turns, row, source)


def _alpaca(row: Row, source: str) -> Converted:
    question = text_of(row["instruction"], "the instruction")
    given = first(row, "input")
    if given is not None and str(given).strip():
        question = f"{question}\n\n{text_of(given, 'the input')}"
    if not row.get("history"):
        return _single(question, row["output"], row, source)
    past: list[Message] = []
    for turn in row["history"]:
        if not isinstance(turn, list | tuple) or len(turn) != 2:
            raise DataError(f"history holds {str(turn)[:60]!r} instead of [question, answer]")
        past += [Message("user", text_of(turn[0], "history")), Message("assistant", text_of(turn[1], "history"))]
    now = (Message("user", question), Message("assistant", text_of(row["output"], "the output")))
    return _example(checked((*past, *now)), row, source)


def _question_answer(row: Row, source: str) -> Converted:
    refuse(row, ASKED_ABOUT, "the row, and only question and answer are read",
           "write it into the question, and take the column out")  # fmt: skip
    answer = text_of(row["answer"], "the answer")
    extra: Row = {"target": answer.rpartition("####")[2].strip(), "grader": {"numeric": {}}} if "####" in answer else {}
    return _single(row["question"], answer, {**row, **extra}, source)


# ---------------------------------------------------------------------------------------------------------------- pairs

HH_TURN = re.compile(r"\n\n(Human|Assistant):")


def _transcript(value: Any, what: str) -> tuple[Message, ...]:
    """A side of a pair: text with `Human:` / `Assistant:` turns, messages, or one answer as text or message."""
    if isinstance(value, list | dict):
        rows = value if isinstance(value, list) else [value]
        keys = ("role", "content") if _has(rows, "role") else ("from", "value")
        return turns_of(rows, *keys) if len(rows) == 1 else conversation(rows, *keys)
    text = text_of(value, what)
    if not HH_TURN.match(text):
        return (Message("assistant", text),)
    parts = HH_TURN.split(text)[1:]
    turns = []
    for number in range(0, len(parts), 2):
        role = "user" if parts[number] == "Human" else "assistant"
        turns.append(Message(role, text_of(parts[number + 1], f"turn {number // 2} of {what} ({role})").strip()))  # type: ignore[arg-type]
    return checked(tuple(turns))


def _has(rows: list[Any], key: str) -> bool:
    return bool(rows) and isinstance(rows[0], dict) and key in rows[0]


def _preference(row: Row, source: str) -> Converted:
    chosen, rejected = (_side(row[side], side) for side in ("chosen", "rejected"))
    if _spoken(chosen[:-1]) != _spoken(rejected[:-1]):
        raise DataError("chosen and rejected do not share their earlier turns")
    prompt = _begun(_prompt(row["prompt"]) if row.get("prompt") else (), chosen[:-1])
    if not prompt:
        raise DataError("the pair has no prompt", hint="add `prompt`, or full transcripts in chosen and rejected")
    prompt = _led(prompt, row)
    if chosen[-1].content == rejected[-1].content:
        raise DataError("chosen and rejected are the same")
    content = [[message.role, message.content] for message in prompt]
    name = _id(row) or digest(content, chosen[-1].content, rejected[-1].content)[:16]
    return PreferencePair(name, prompt, chosen[-1].content, rejected[-1].content, _margin(row), source, _meta(row))


def _begun(prompt: tuple[Message, ...], shared: tuple[Message, ...]) -> tuple[Message, ...]:
    """What both answers follow: the prompt, or the turns that they share, of which the prompt is then the beginning.

    Either may have the system turn alone.
    """
    if not prompt or not shared:
        return prompt or shared
    system = next((turns[:1] for turns in (shared, prompt) if turns[0].role == "system"), ())
    whole = (*system, *(turn for turn in shared if turn.role != "system"))
    told = prompt if prompt[0].role == "system" else (*system, *prompt)
    for ours, theirs in zip_longest(_spoken(told), _spoken(whole)[: len(told)], fillvalue="its answer"):
        if ours != theirs:
            raise DataError(f"the prompt has {ours[:60]!r} where chosen has {theirs[:60]!r}",
                            hint="take `prompt` out when chosen and rejected are whole transcripts")  # fmt: skip
    return whole


def _spoken(turns: tuple[Message, ...]) -> list[str]:
    return [f"{turn.role}: {turn.content.strip()}" for turn in turns]


def _margin(row: Row) -> float | None:
    """By how much chosen is better: as the row says, or the difference of its scores."""
    margin = _finite(first(row, "margin"), "the margin")
    good, bad = (_finite(first(row, *names), f"the {names[0].replace('_', ' ')}") for names in SCORES)
    if margin is None and good is not None and bad is not None:
        return _finite(good - bad, "the difference of the scores")
    return margin


def _finite(value: Any, what: str) -> float | None:
    if value is None:
        return None
    number = _number(value)
    if isinstance(number, bool) or number is None or not math.isfinite(number):
        raise DataError(f"{what} is {value!r}", hint="a finite number; or leave it out")
    return float(number)


def _number(value: Any) -> float | None:
    """A number or a truth, also as text: a CSV file has nothing else. None for anything else."""
    if isinstance(value, bool | int | float):
        return value
    if not isinstance(value, str):
        return None
    text = value.strip().lower()
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return None


def _side(value: Any, what: str) -> tuple[Message, ...]:
    turns = _transcript(value, what)
    _refuse_other_end(turns, what)
    return turns


def _refuse_other_end(turns: tuple[Message, ...], what: str) -> None:
    """Raise DataError when what is judged is no answer of the assistant, whole and learned like any other."""
    if turns[-1].role != "assistant":
        raise DataError(f"{what} does not end with the assistant")
    if turns[-1].weight != 1:
        raise DataError(f"the last turn of {what} has the weight {turns[-1].weight:g}, and what is judged is learned"
                        " whole", hint="take `train` or `weight` out of it")  # fmt: skip


def _prompt(value: Any) -> tuple[Message, ...]:
    if isinstance(value, str) and not HH_TURN.match(value):
        return (Message("user", text_of(value, "the prompt")),)
    return checked(_transcript(value, "the prompt"))


def _from_messages(row: Row, source: str) -> Converted:
    return _example(conversation(row["messages"], "role", "content"), row, source)


def _from_sharegpt(row: Row, source: str) -> Converted:
    return _example(conversation(row["conversations"], "from", "value"), row, source)


def _from_completion(row: Row, source: str) -> Converted:
    if isinstance(row["prompt"], list):
        said = row["completion"]
        answer = said if isinstance(said, list) else [{"role": "assistant", "content": said}]
        turns = conversation([*row["prompt"], *answer], "role", "content")
        given = len(row["prompt"])  # what earlier turns say is learned only where they ask for it
        quiet = [turn.role == "assistant" and turn.train is None for turn in turns[:given]]
        before = (replace(turn, train=False) if one else turn for turn, one in zip(turns, quiet, strict=False))
        return _example((*before, *turns[given:]), row, source)
    return _single(row["prompt"], row["completion"], row, source)


def _labelled(row: Row, source: str) -> Converted:
    found = _from_completion(row, source)
    assert isinstance(found, Example)
    _refuse_other_end(found.messages, "the completion")
    return replace(found, label=_label(row["label"], "label"))


def _label(value: Any, what: str) -> float:
    """A judgment: true, false, or how good from 0 to 1."""
    number = _number(value)
    if number is None or not 0 <= number <= 1:
        raise DataError(f"{what} is {value!r}", hint="true, false, or a number from 0 to 1")
    return float(number)


def _stepwise(row: Row, source: str) -> Converted:
    steps, labels = row["completions"], row["labels"]
    if not isinstance(steps, list) or not isinstance(labels, list) or not steps or len(steps) != len(labels):
        raise DataError("`completions` and `labels` are not lists of one length")
    texts = [text_of(step, f"step {number}").strip() for number, step in enumerate(steps)]
    broken = [number for number, text in enumerate(texts) if STEP in text]
    if broken:
        raise DataError(f"step {broken[0]} holds an empty line, which separates steps")
    found = _from_completion({**row, "completion": STEP.join(texts)}, source)
    assert isinstance(found, Example)
    return replace(found, step_labels=tuple(_label(label, f"label {n}") for n, label in enumerate(labels)))


FORMATS = [
    Format("preference", "prompt, chosen, rejected: text, messages or transcripts", ("chosen", "rejected"),
           ("prompt", "margin", *SCORES[0], *SCORES[1]), _preference),
    Format("messages", "messages: [{role, content}]", ("messages",), GRADED, _from_messages),
    Format("sharegpt", "conversations: [{from, value}]", ("conversations",), GRADED, _from_sharegpt),
    Format("alpaca", "instruction, input, output", ("instruction", "output"), ("input", "history", *GRADED), _alpaca),
    Format("stepwise", "prompt, completions (the steps), labels: how right each step is", ("prompt", "completions",
           "labels"), GRADED, _stepwise),
    Format("labelled", "prompt, completion, label: an answer and whether it is good", ("prompt", "completion",
           "label"), GRADED, _labelled),
    Format("prompt_completion", "prompt, completion", ("prompt", "completion"), GRADED, _from_completion),
    Format("question_answer", "question, answer; `#### N` in the answer is graded", ("question", "answer"), GRADED,
           _question_answer),
]  # fmt: skip
