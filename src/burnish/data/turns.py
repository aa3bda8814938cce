"""Turns and whole conversations, read from the keys that tools write them in."""

from __future__ import annotations

import math
from typing import Any

from burnish.errors import DataError
from burnish.types import ROLES, Message

Row = dict[str, Any]

ALIASES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatbot": "assistant",
           "function": "tool", "observation": "tool", "prompter": "user"}  # fmt: skip
"""What other tools call the roles."""
THINKING = ("reasoning_content", "reasoning", "thinking")
"""What servers call an answer's thinking when they hand it over beside the answer."""
UNLEARNABLE = {
    ("tool_calls", "function_call", "tools", "functions"): (
        "write calls into their turn's text and tools into the system turn, as the model's chat template would, and "
        "take the key out"
    ),
    ("image", "images", "video", "videos", "audio", "audios"): (
        "leave such rows out, or take the key out where the text stands by itself"
    ),
}
"""Keys of a row or turn whose content cannot be learned, and without which the rest would teach something wrong."""


def first(row: Row, *names: str) -> Any:
    """The value of the first of these keys that has one."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def is_empty(value: Any) -> bool:
    """Whether a value says nothing, as columns do in rows that have no use for them; it may be JSON in text."""
    if isinstance(value, dict | list):
        return all(map(is_empty, value.values() if isinstance(value, dict) else value))
    return not value or (isinstance(value, str) and value.strip() in ("", "[]", "{}", "null"))


def refuse_unlearnable(row: Row, what: str) -> None:
    """Raise DataError when a row or turn holds more than text, since training on its text alone would be wrong."""
    for names, hint in UNLEARNABLE.items():
        refuse(row, names, f"{what}, and only text is learned", hint)


def refuse(row: Row, names: tuple[str, ...], why: str, hint: str) -> None:
    """Raise DataError when one of these keys holds something."""
    for name in names:
        if not is_empty(row.get(name)):
            raise DataError(f"there is `{name}` in {why}", hint=hint)


def text_of(value: Any, what: str) -> str:
    """Text that says something, from text or a list of text parts. Raises DataError for all else."""
    if isinstance(value, list):  # OpenAI's parts; only text can be learned here
        parts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in value]
        if not all(isinstance(part, str) for part in parts):
            raise DataError(f"{what} holds parts that are not text")
        value = "".join(map(str, parts))
    if not isinstance(value, str):
        raise DataError(f"{what} is not text but {type(value).__name__}")
    if not value.strip():
        raise DataError(f"{what} is empty")
    return value


def conversation(rows: Any, role_key: str, content_key: str) -> tuple[Message, ...]:
    """A whole conversation."""
    return checked(turns_of(rows, role_key, content_key))


def turns_of(rows: Any, role_key: str, content_key: str) -> tuple[Message, ...]:
    """Turns that may be a part of a conversation, each `{role_key: ..., content_key: ...}`."""
    if not isinstance(rows, list) or not rows:
        raise DataError("the conversation has no turns")
    return tuple(_turn(row, number, role_key, content_key) for number, row in enumerate(rows))


def _turn(row: Any, number: int, role_key: str, content_key: str) -> Message:
    if isinstance(row, dict):
        refuse_unlearnable(row, f"turn {number}")  # before all else: calls often come without content
    if not isinstance(row, dict) or role_key not in row or content_key not in row:
        raise DataError(f"turn {number} lacks '{role_key}' or '{content_key}'")
    role = str(row[role_key]).lower()
    role = ALIASES.get(role, role)
    if role not in ROLES:
        raise DataError(f"turn {number} has the unknown role '{row[role_key]}'", hint="roles: " + ", ".join(ROLES))
    what = f"turn {number} ({role})"
    content = _with_thinking(row, role, text_of(row[content_key], what), what)
    return Message(role, content, _weight(first(row, "train", "weight"), number))  # type: ignore[arg-type]


def _with_thinking(row: Row, role: str, content: str, what: str) -> str:
    """The content with the turn's thinking before it, the way that chat templates write it and find it again."""
    names = [name for name in THINKING if not is_empty(row.get(name))]
    if not names:
        return content
    if role != "assistant":
        raise DataError(f"{what} has `{names[0]}`, which only the assistant can have")
    thinking = text_of(row[names[0]], f"`{names[0]}` of {what}")
    if any(row[name] != thinking for name in names[1:]) or "</think>" in thinking + content:
        raise DataError(f"{what} holds its thinking twice", hint=f"keep `{names[0]}`, or <think> in the content")
    return f"<think>\n{thinking.strip()}\n</think>\n\n{content.lstrip()}"


def _weight(value: Any, number: int) -> bool | float | None:
    """A turn's `train` or `weight`: yes or no, or how much each of its tokens counts."""
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise DataError(f"turn {number} has the weight {value!r}", hint="true, false, or a number from 0 on")
    return bool(value) if value in (0, 1) else float(value)


def checked(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages, if they are a conversation that a model can be trained on. Raises DataError."""
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
