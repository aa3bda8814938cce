"""The shapes that conversations come in, each turned into an `Example` or a `PreferencePair`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from burnish.errors import DataError, EvaluationError
from burnish.rewards import row_grader
from burnish.types import ROLES, STEP, Example, Message, PreferencePair
from burnish.workspace import digest

ALIASES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatbot": "assistant",
           "function": "tool", "observation": "tool", "prompter": "user"}  # fmt: skip
"""What other tools call the roles."""

Row = dict[str, Any]
Converted = Example | PreferencePair


@dataclass(frozen=True, slots=True)
class Format:
    """One shape: how to know it and how to read it."""

    name: str
    summary: str
    detect: Callable[[Row], bool]
    convert: Callable[[Row, str], Converted]


def detect(row: Row) -> str | None:
    """The name of the first shape that fits a row."""
    return next((shape.name for shape in FORMATS if shape.detect(row)), None)


def convert(row: Row, name: str, source: str) -> Converted:
    """A row of a named shape as an example or pair, `source` saying where it came from.

    Raises DataError with the reason when the row does not have that shape, or its conversation is malformed.
    """
    shape = next(shape for shape in FORMATS if shape.name == name)
    if not shape.detect(row):
        found = detect(row)
        known = f"it looks like {found}" if found else f"its keys are {', '.join(sorted(map(str, row)))[:120]}"
        raise DataError(f"the row is not in the format {name}: {known}", where=source)
    try:
        return shape.convert(row, source)
    except EvaluationError as error:
        raise DataError(error.what, where=source, hint=error.hint) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"malformed {name} row: {type(error).__name__}: {error}", where=source) from None


# ------------------------------------------------------------------------------------------------------------- messages


def _text(value: Any, what: str) -> str:
    if isinstance(value, list):  # OpenAI's parts; only text can be learned here
        if not all(isinstance(part, dict) and part.get("type") == "text" for part in value):
            raise DataError(f"{what} holds parts that are not text")
        value = "".join(str(part["text"]) for part in value)
    if not isinstance(value, str):
        raise DataError(f"{what} is not text but {type(value).__name__}")
    if not value.strip():
        raise DataError(f"{what} is empty")
    return value


def _turns(rows: Any, role_key: str, content_key: str) -> tuple[Message, ...]:
    """A whole conversation."""
    return _checked(_messages(rows, role_key, content_key))


def _messages(rows: Any, role_key: str, content_key: str) -> tuple[Message, ...]:
    if not isinstance(rows, list) or not rows:
        raise DataError("the conversation has no turns")
    messages = []
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or role_key not in row or content_key not in row:
            raise DataError(f"turn {number} lacks '{role_key}' or '{content_key}'")
        role = str(row[role_key]).lower()
        role = ALIASES.get(role, role)
        if role not in ROLES:
            raise DataError(f"turn {number} has the unknown role '{row[role_key]}'", hint="roles: " + ", ".join(ROLES))
        weight = _weight(row.get("train", row.get("weight")), number)
        messages.append(Message(role, _text(row[content_key], f"turn {number} ({role})"), weight))  # type: ignore[arg-type]
    return tuple(messages)


def _weight(value: Any, number: int) -> bool | float | None:
    """A turn's `train` or `weight`: yes or no, or how much each of its tokens counts."""
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise DataError(f"turn {number} has the weight {value!r}", hint="true, false, or a number from 0 on")
    return bool(value) if value in (0, 1) else float(value)


def _checked(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    spoken = [message.role for message in messages if message.role in ("user", "assistant")]
    if not spoken:
        raise DataError("the conversation has neither user nor assistant")
    if spoken[0] == "assistant":
        raise DataError("the conversation starts with the assistant", hint="put the user's turn before it")
    for number in range(1, len(messages)):
        if messages[number].role == messages[number - 1].role and messages[number].role in ("user", "assistant"):
            raise DataError(f"turns {number - 1} and {number} are both by the {messages[number].role}")
    if any(message.role == "system" for message in messages[1:]):
        raise DataError("a system turn stands after the beginning")
    return messages


def _example(messages: tuple[Message, ...], row: Row, source: str) -> Example:
    system = row.get("system")
    if system and messages[0].role != "system":
        messages = (Message("system", _text(system, "the system text")), *messages)
    target = row.get("target", row.get("ground_truth"))
    grader = row_grader(row["grader"]) if row.get("grader") else None
    meta = row["meta"] if isinstance(row.get("meta"), dict) else {}
    content = [[message.role, message.content] for message in messages]
    return Example(str(row.get("id") or digest(content, target)[:16]), messages,
                   None if target is None else str(target), grader, source=source, meta=meta)  # fmt: skip


def _single(question: Any, answer: Any, row: Row, source: str) -> Example:
    turns = (Message("user", _text(question, "the prompt")), Message("assistant", _text(answer, "the answer")))
    return _example(turns, row, source)


def _alpaca(row: Row, source: str) -> Converted:
    question = _text(row["instruction"], "the instruction")
    if isinstance(row.get("input"), str) and row["input"].strip():
        question = f"{question}\n\n{row['input']}"
    if not row.get("history"):
        return _single(question, row["output"], row, source)
    past: list[Message] = []
    for turn in row["history"]:
        if not isinstance(turn, list | tuple) or len(turn) != 2:
            raise DataError(f"history holds {str(turn)[:60]!r} instead of [question, answer]")
        past += [Message("user", _text(turn[0], "history")), Message("assistant", _text(turn[1], "history"))]
    now = (Message("user", question), Message("assistant", _text(row["output"], "the output")))
    return _example(_checked((*past, *now)), row, source)


def _question_answer(row: Row, source: str) -> Converted:
    answer = _text(row["answer"], "the answer")
    extra: Row = {"target": answer.rpartition("####")[2].strip(), "grader": {"numeric": {}}} if "####" in answer else {}
    return _single(row["question"], answer, {**row, **extra}, source)


# ---------------------------------------------------------------------------------------------------------------- pairs

HH_TURN = re.compile(r"\n\n(Human|Assistant):")


def _transcript(value: Any, what: str) -> tuple[Message, ...]:
    """A side of a pair: text with `Human:` / `Assistant:` turns, messages, or one answer as text or message."""
    if isinstance(value, list | dict):
        rows = value if isinstance(value, list) else [value]
        keys = ("role", "content") if _has(rows, "role") else ("from", "value")
        return _messages(rows, *keys) if len(rows) == 1 else _turns(rows, *keys)
    text = _text(value, what)
    if not HH_TURN.match(text):
        return (Message("assistant", text),)
    parts = HH_TURN.split(text)[1:]
    turns = []
    for number in range(0, len(parts), 2):
        role = "user" if parts[number] == "Human" else "assistant"
        turns.append(Message(role, _text(parts[number + 1], f"turn {number // 2} of {what} ({role})").strip()))  # type: ignore[arg-type]
    return _checked(tuple(turns))


def _has(rows: list[Any], key: str) -> bool:
    return bool(rows) and isinstance(rows[0], dict) and key in rows[0]


def _preference(row: Row, source: str) -> Converted:
    chosen, rejected = (_side(row[side], side) for side in ("chosen", "rejected"))
    prompt = _prompt(row["prompt"]) if row.get("prompt") else ()
    if chosen[:-1] != rejected[:-1]:
        raise DataError("chosen and rejected do not share their earlier turns")
    prompt = chosen[:-1] if len(chosen) > 1 else prompt
    if not prompt:
        raise DataError("the pair has no prompt", hint="add `prompt`, or full transcripts in chosen and rejected")
    if chosen[-1].content == rejected[-1].content:
        raise DataError("chosen and rejected are the same")
    good, bad = (row.get(f"{side}_score", row.get(f"score_{side}")) for side in ("chosen", "rejected"))
    margin = row.get("margin")
    if margin is None and isinstance(good, int | float) and isinstance(bad, int | float):
        margin = good - bad
    content = [[message.role, message.content] for message in prompt]
    name = str(row.get("id") or digest(content, chosen[-1].content, rejected[-1].content)[:16])
    return PreferencePair(name, prompt, chosen[-1].content, rejected[-1].content, margin, source)


def _side(value: Any, what: str) -> tuple[Message, ...]:
    turns = _transcript(value, what)
    if turns[-1].role != "assistant":
        raise DataError(f"{what} does not end with the assistant")
    return turns


def _prompt(value: Any) -> tuple[Message, ...]:
    if isinstance(value, str) and not HH_TURN.match(value):
        return (Message("user", _text(value, "the prompt")),)
    return _checked(_transcript(value, "the prompt"))


def _keys(*names: str) -> Callable[[Row], bool]:
    return lambda row: all(name in row for name in names)


def _from_messages(row: Row, source: str) -> Converted:
    return _example(_turns(row["messages"], "role", "content"), row, source)


def _from_sharegpt(row: Row, source: str) -> Converted:
    return _example(_turns(row["conversations"], "from", "value"), row, source)


def _from_completion(row: Row, source: str) -> Converted:
    if isinstance(row["prompt"], list):
        said = row["completion"]
        answer = said if isinstance(said, list) else [{"role": "assistant", "content": said}]
        return _example(_turns([*row["prompt"], *answer], "role", "content"), row, source)
    return _single(row["prompt"], row["completion"], row, source)


def _labelled(row: Row, source: str) -> Converted:
    found = _from_completion(row, source)
    assert isinstance(found, Example)
    return replace(found, label=_label(row["label"], "label"))


def _label(value: Any, what: str) -> float:
    """A judgment: true, false, or how good from 0 to 1."""
    if not isinstance(value, bool | int | float) or not 0 <= value <= 1:
        raise DataError(f"{what} is {value!r}", hint="true, false, or a number from 0 to 1")
    return float(value)


def _stepwise(row: Row, source: str) -> Converted:
    steps, labels = row["completions"], row["labels"]
    if not isinstance(steps, list) or not isinstance(labels, list) or not steps or len(steps) != len(labels):
        raise DataError("`completions` and `labels` are not lists of one length")
    texts = [_text(step, f"step {number}").strip() for number, step in enumerate(steps)]
    broken = [number for number, text in enumerate(texts) if STEP in text]
    if broken:
        raise DataError(f"step {broken[0]} holds an empty line, which separates steps")
    found = _from_completion({**row, "completion": STEP.join(texts)}, source)
    assert isinstance(found, Example)
    return replace(found, step_labels=tuple(_label(label, f"label {n}") for n, label in enumerate(labels)))


FORMATS = [
    Format("preference", "prompt, chosen, rejected: text, messages or transcripts", _keys("chosen", "rejected"),
           _preference),
    Format("messages", "messages: [{role, content}]", _keys("messages"), _from_messages),
    Format("sharegpt", "conversations: [{from, value}]", _keys("conversations"), _from_sharegpt),
    Format("alpaca", "instruction, input, output", _keys("instruction", "output"), _alpaca),
    Format("stepwise", "prompt, completions (the steps), labels: how right each step is", _keys("prompt", "completions",
           "labels"), _stepwise),
    Format("labelled", "prompt, completion, label: an answer and whether it is good", _keys("prompt", "completion",
           "label"), _labelled),
    Format("prompt_completion", "prompt, completion", _keys("prompt", "completion"), _from_completion),
    Format("question_answer", "question, answer; `#### N` in the answer is graded", _keys("question", "answer"),
           _question_answer),
]  # fmt: skip
