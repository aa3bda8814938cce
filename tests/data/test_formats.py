"""Every shape of conversation, and every way one can be malformed."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.data.formats import FORMATS, convert, detect
from burnish.errors import DataError
from burnish.types import Example, Message, PreferencePair

U, A = Message("user", "Hi"), Message("assistant", "Hello")
HH = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: And?\n\nAssistant: "

EXAMPLES: dict[str, list[tuple[dict[str, Any], tuple[Message, ...]]]] = {
    "messages": [
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}, (U, A)),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                       {"role": "assistant", "content": "Hello", "train": False}]},
         (U, Message("assistant", "Hello", train=False))),
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "weight": 0.5}]},
         (U, Message("assistant", "Hello", train=0.5))),
    ],
    "sharegpt": [
        ({"conversations": [{"from": "system", "value": "Be kind"}, {"from": "human", "value": "Hi"},
                            {"from": "gpt", "value": "Hello"}]}, (Message("system", "Be kind"), U, A)),
        ({"system": "Be kind", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
         (Message("system", "Be kind"), U, A)),
    ],
    "alpaca": [
        ({"instruction": "Hi", "input": "", "output": "Hello"}, (U, A)),
        ({"instruction": "Sum up", "input": "a text", "output": "Hello"}, (Message("user", "Sum up\n\na text"), A)),
        ({"instruction": "Hi", "output": "Hello", "history": [["Hi", "Hello"]]}, (U, A, U, A)),
        ({"instruction": "Hi", "output": "Hello", "system": "Be kind"}, (Message("system", "Be kind"), U, A)),
        ({"instruction": "Hi", "output": "Hello", "system": "Be kind", "history": [["Hi", "Hello"]]},
         (Message("system", "Be kind"), U, A, U, A)),
    ],
    "prompt_completion": [
        ({"prompt": "Hi", "completion": "Hello"}, (U, A)),
        ({"prompt": [{"role": "user", "content": "Hi"}], "completion": "Hello"}, (U, A)),
        ({"prompt": [{"role": "user", "content": "Hi"}],
          "completion": [{"role": "assistant", "content": "Hello"}]}, (U, A)),
    ],
    "labelled": [({"prompt": "Hi", "completion": "Hello", "label": False}, (U, A))],
    "stepwise": [({"prompt": "Hi", "completions": ["Well, ", "hello"], "labels": [True, 0.25]},
                  (U, Message("assistant", "Well,\n\nhello")))],
    "question_answer": [({"question": "Hi", "answer": "Hello"}, (U, A))],
}  # fmt: skip
CASES = [(name, row, turns) for name, cases in EXAMPLES.items() for row, turns in cases]


@pytest.mark.parametrize(("name", "row", "turns"), CASES)
def test_conversations(name: str, row: dict[str, Any], turns: tuple[Message, ...]) -> None:
    assert detect(row) == name
    found = convert(row, name, "f:1")
    assert isinstance(found, Example) and found.messages == turns and found.source == "f:1"


def test_labels_are_kept() -> None:
    found = convert({"prompt": "Hi", "completion": "Hello", "label": True}, "labelled", "f")
    assert isinstance(found, Example) and found.label == 1.0
    found = convert({"prompt": "Hi", "completions": ["a", "b"], "labels": [1, 0.25]}, "stepwise", "f")
    assert isinstance(found, Example) and found.step_labels == (1.0, 0.25)


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("labelled", {"prompt": "a", "completion": "b", "label": "good"}, "label is 'good'"),
        ("stepwise", {"prompt": "a", "completions": ["b"], "labels": [1, 0]}, "not lists of one length"),
        ("stepwise", {"prompt": "a", "completions": ["b\n\nc"], "labels": [1]}, "step 0 holds an empty line"),
        ("stepwise", {"prompt": "a", "completions": ["b"], "labels": [2]}, "label 0 is 2"),
        ("messages", {"messages": [{"role": "user", "content": "a"},
                                   {"role": "assistant", "content": "b", "weight": -1}]}, "the weight -1"),
    ],
)  # fmt: skip
def test_labels_that_say_nothing_are_refused(name: str, row: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        convert(row, name, "f")


PAIRS: list[tuple[dict[str, Any], tuple[Message, ...], float | None]] = [
    ({"prompt": "Hi", "chosen": "Hello", "rejected": "No"}, (U,), None),
    ({"prompt": "Hi", "chosen": "Hello", "rejected": "No", "chosen_score": 4, "rejected_score": 1.5}, (U,), 2.5),
    ({"prompt": "Hi", "chosen": "Hello", "rejected": "No", "margin": 0.5}, (U,), 0.5),
    ({"prompt": [{"role": "user", "content": "Hi"}], "chosen": [{"role": "assistant", "content": "Hello"}],
      "rejected": [{"role": "assistant", "content": "No"}]}, (U,), None),
    ({"chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
      "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "No"}]}, (U,), None),
    ({"conversations": [], "prompt": "Hi", "chosen": {"role": "assistant", "content": "Hello"},
      "rejected": {"role": "assistant", "content": "No"}}, (U,), None),
    ({"chosen": HH + "Hello", "rejected": HH + "No"}, (U, A, Message("user", "And?")), None),
]  # fmt: skip


@pytest.mark.parametrize(("row", "prompt", "margin"), PAIRS)
def test_preference_pairs(row: dict[str, Any], prompt: tuple[Message, ...], margin: float | None) -> None:
    assert detect(row) == "preference"
    found = convert(row, "preference", "f:1")
    assert isinstance(found, PreferencePair)
    assert (found.prompt, found.chosen, found.rejected, found.margin) == (prompt, "Hello", "No", margin)


def test_gsm8k_answers_are_graded_by_their_number() -> None:
    row = convert({"question": "1+1?", "answer": "It is <<1+1=2>>2.\n#### 2"}, "question_answer", "f:1")
    assert isinstance(row, Example)
    assert (row.target, row.grader) == ("2", {"numeric": {}})


def test_ids_follow_from_the_content() -> None:
    first, again, other = (convert({"prompt": text, "completion": "b"}, "prompt_completion", "f") for text in "aac")
    assert first.id == again.id != other.id
    named = convert({"id": 7, "prompt": "a", "completion": "b"}, "prompt_completion", "f")
    assert named.id == "7"


def talk(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (talk(), "the conversation has no turns"),
        (talk(("assistant", "Hi")), "starts with the assistant"),
        (talk(("system", "Be kind"), ("assistant", "Hi")), "starts with the assistant"),
        (talk(("user", ""), ("assistant", "Hi")), r"turn 0 \(user\) is empty"),
        (talk(("user", "Hi"), ("assistant", " \n ")), r"turn 1 \(assistant\) is empty"),
        (talk(("user", "Hi"), ("user", "Hi")), "turns 0 and 1 are both by the user"),
        (talk(("user", "Hi"), ("robot", "Hi")), "turn 1 has the unknown role 'robot'"),
        (talk(("user", "Hi"), ("assistant", None)), "not text but NoneType"),
        (talk(("user", [{"type": "image"}]), ("assistant", "Hi")), "parts that are not text"),
        (talk(("user", "Hi"), ("assistant", "Hi"), ("system", "Be kind")), "system turn stands after"),
        (talk(("system", "Be kind")), "neither user nor assistant"),
        ({"messages": [{"role": "user"}]}, "turn 0 lacks 'role' or 'content'"),
        ({"messages": "text"}, "the conversation has no turns"),
    ],
)
def test_malformed_conversations(row: dict[str, Any], why: str) -> None:
    with pytest.raises(DataError, match=why):
        convert(row, "messages", "f:1")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "Hi", "chosen": "a", "rejected": "a"}, "are the same"),
        ({"prompt": "Hi", "chosen": "a", "rejected": HH + "b"}, "do not share their earlier turns"),
        ({"chosen": "a", "rejected": "b"}, "the pair has no prompt"),
        ({"chosen": HH + "a", "rejected": HH.replace("And", "Or") + "b"}, "do not share their earlier turns"),
        ({"chosen": [{"role": "user", "content": "Hi"}], "rejected": [{"role": "user", "content": "Ho"}]},
         "chosen does not end with the assistant"),
    ],
)  # fmt: skip
def test_malformed_pairs(row: dict[str, Any], why: str) -> None:
    with pytest.raises(DataError, match=why):
        convert(row, "preference", "f:1")


def test_graders_of_rows() -> None:
    row = {"prompt": "1+1?", "completion": "2", "target": 2}
    found = convert({**row, "grader": "numeric"}, "prompt_completion", "f")
    assert isinstance(found, Example) and (found.grader, found.target) == ({"numeric": {}}, "2")
    for grader in ("numric", {"numeric": {"x": 1}}, {"./evil.py:G": {}}):
        with pytest.raises(DataError):
            convert({**row, "grader": grader}, "prompt_completion", "f")


def test_history_of_another_shape() -> None:
    with pytest.raises(DataError, match="instead of .question, answer."):
        convert({"instruction": "a", "output": "b", "history": [["x", "y", "z"]]}, "alpaca", "f")


def test_a_row_of_another_shape_says_which() -> None:
    with pytest.raises(DataError, match="not in the format messages: it looks like alpaca"):
        convert({"instruction": "a", "output": "b"}, "messages", "f:1")
    with pytest.raises(DataError, match="its keys are text"):
        convert({"text": "a"}, "messages", "f:1")


def test_every_shape_is_tested() -> None:
    assert {shape.name for shape in FORMATS} == {*EXAMPLES, "preference"}
