"""Every shape of conversation, and every way one can be malformed."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.data.formats import FORMATS, convert, detect, unread
from burnish.errors import DataError
from burnish.types import Example, Message, PreferencePair

S, U, A = Message("system", "Be kind"), Message("user", "Hi"), Message("assistant", "Hello")
HH = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: And?\n\nAssistant: "

EXAMPLES: dict[str, list[tuple[dict[str, Any], tuple[Message, ...]]]] = {
    "messages": [
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}, (U, A)),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                       {"role": "assistant", "content": "Hello", "train": False}]},
         (U, Message("assistant", "Hello", train=False))),
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "weight": 0.5}]},
         (U, Message("assistant", "Hello", train=0.5))),
        ({"messages": [{"role": "user", "content": "Hi", "train": None, "weight": None},
                       {"role": "assistant", "content": "Hello", "train": None, "weight": 0.5}]},
         (U, Message("assistant", "Hello", train=0.5))),
        ({"system_prompt": "Be kind", "messages": [{"role": "user", "content": "Hi"},
                                                   {"role": "assistant", "content": "Hello"}]}, (S, U, A)),
        ({"system": "Be kind", "messages": [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"},
                                            {"role": "assistant", "content": "Hello"}]}, (S, U, A)),
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
    assert unread(row, name) == []


def test_labels_are_kept() -> None:
    found = convert({"prompt": "Hi", "completion": "Hello", "label": True}, "labelled", "f")
    assert isinstance(found, Example) and found.label == 1.0
    found = convert({"prompt": "Hi", "completions": ["a", "b"], "labels": [1, 0.25]}, "stepwise", "f")
    assert isinstance(found, Example) and found.step_labels == (1.0, 0.25)


@pytest.mark.parametrize(("text", "label"), [("1", 1.0), ("0.25", 0.25), ("False", 0.0), ("true ", 1.0)])
def test_labels_as_text_as_csv_has_them(text: str, label: float) -> None:
    found = convert({"prompt": "Hi", "completion": "Hello", "label": text}, "labelled", "f")
    assert isinstance(found, Example) and found.label == label


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("labelled", {"prompt": "a", "completion": "b", "label": "good"}, "label is 'good'"),
        ("labelled", {"prompt": "a", "completion": "b", "label": ""}, "label is ''"),
        ("labelled", {"prompt": [{"role": "user", "content": "a"}], "label": True,
                      "completion": [{"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]},
         "the completion does not end with the assistant"),
        ("preference", {"prompt": "a", "rejected": "c",
                        "chosen": [{"role": "assistant", "content": "b", "train": False}]}, "has the weight 0"),
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


def test_of_a_prompt_with_answers_the_completion_alone_is_learned() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    found = convert({"prompt": turns, "completion": "d"}, "prompt_completion", "f")
    assert isinstance(found, Example)
    assert [turn.content for turn in found.messages if turn.trains] == ["d"]
    turns[1]["train"] = True  # type: ignore[assignment]
    found = convert({"prompt": turns, "completion": "d", "system": " "}, "prompt_completion", "f")
    assert isinstance(found, Example) and len(found.messages) == 4
    assert [turn.content for turn in found.messages if turn.trains] == ["b", "d"]


SYSTEM, ASKED = {"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}
SIDES = {"chosen": [ASKED, {"role": "assistant", "content": "Hello"}],
         "rejected": [ASKED, {"role": "assistant", "content": "No"}]}  # fmt: skip
PAIRS: list[tuple[dict[str, Any], tuple[Message, ...], float | None]] = [
    ({"prompt": "Hi", "chosen": "Hello", "rejected": "No"}, (U,), None),
    ({"prompt": "Hi", "chosen": "Hello", "rejected": "No", "chosen_score": 4, "rejected_score": 1.5}, (U,), 2.5),
    ({"prompt": "Hi", "chosen": "Hello", "rejected": "No", "margin": 0.5}, (U,), 0.5),
    ({"prompt": "Hi", "chosen": "Hello", "rejected": "No", "margin": " 5e-1"}, (U,), 0.5),
    ({"prompt": [{"role": "user", "content": "Hi"}], "chosen": [{"role": "assistant", "content": "Hello"}],
      "rejected": [{"role": "assistant", "content": "No"}]}, (U,), None),
    ({"chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
      "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "No"}]}, (U,), None),
    ({"conversations": [], "prompt": "Hi", "chosen": {"role": "assistant", "content": "Hello"},
      "rejected": {"role": "assistant", "content": "No"}}, (U,), None),
    ({"chosen": HH + "Hello", "rejected": HH + "No"}, (U, A, Message("user", "And?")), None),
    ({"system": "Be kind", "prompt": "Hi", "chosen": "Hello", "rejected": "No"}, (S, U), None),
    ({"prompt": [SYSTEM, ASKED], **SIDES}, (S, U), None),
    ({"prompt": "Hi ", "chosen": [SYSTEM, *SIDES["chosen"]], "rejected": [SYSTEM, *SIDES["rejected"]]}, (S, U), None),
    ({"system": "Be kind", **SIDES}, (S, U), None),
    ({"prompt": "Hi", "chosen": HH + "Hello", "rejected": HH + "No"}, (U, A, Message("user", "And?")), None),
    ({"prompt": "Hi", "chosen": "Hello", "rejected": "No", "margin": None, "chosen_score": None, "score_chosen": 3,
      "score_rejected": 1}, (U,), 2.0),
]  # fmt: skip


@pytest.mark.parametrize(("row", "prompt", "margin"), PAIRS)
def test_preference_pairs(row: dict[str, Any], prompt: tuple[Message, ...], margin: float | None) -> None:
    assert detect(row) == "preference"
    found = convert(row, "preference", "f:1")
    assert isinstance(found, PreferencePair)
    assert (found.prompt, found.chosen, found.rejected, found.margin) == (prompt, "Hello", "No", margin)
    assert unread(row, "preference") == []


def test_pairs_keep_what_is_known_of_them() -> None:
    found = convert({"prompt": "Hi", "chosen": "a", "rejected": "b", "meta": {"skill": "s"}}, "preference", "f")
    assert found.meta == {"skill": "s"}


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
        (talk(("user", [{"type": "text", "text": None}]), ("assistant", "Hi")), "parts that are not text"),
        ({"system": "Be rude", **talk(("system", "Be kind"), ("user", "Hi"), ("assistant", "Hi"))}, "one system text"),
        ({"messages": [{"role": "user", "content": "Hi", "weight": 10**400}]}, "OverflowError"),
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
        ({"prompt": "Ho", **SIDES}, "the prompt has 'user: Ho' where chosen has 'user: Hi'"),
        ({"prompt": [{"role": "system", "content": "Be rude"}, ASKED], "chosen": [SYSTEM, *SIDES["chosen"]],
          "rejected": [SYSTEM, *SIDES["rejected"]]}, "has 'system: Be rude' where chosen has 'system: Be kind'"),
        ({"prompt": HH.removesuffix("\n\nAssistant: "), **SIDES}, "'assistant: Hello' where chosen has 'its answer'"),
        ({"system": "Be rude", "prompt": [SYSTEM, ASKED], "chosen": "a", "rejected": "b"}, "one system text"),
        ({"prompt": "Hi", "chosen": "a", "rejected": "b", "margin": "wide"}, "the margin is 'wide'"),
        ({"prompt": "Hi", "chosen": "a", "rejected": "b", "margin": "true"}, "the margin is 'true'"),
        ({"prompt": "Hi", "chosen": "a", "rejected": "b", "margin": True}, "the margin is True"),
        ({"prompt": "Hi", "chosen": "a", "rejected": "b", "margin": float("nan")}, "the margin is nan"),
        ({"prompt": "Hi", "chosen": "a", "rejected": "b", "margin": 1, "score_rejected": "bad"},
         "the rejected score is 'bad'"),
        ({"prompt": "Hi", "chosen": "a", "rejected": "b", "chosen_score": 1e308, "rejected_score": -1e308},
         "the difference of the scores is inf"),
        ({"prompt": "Hi", "chosen": "a", "rejected": "b", "margin": 10**400}, "OverflowError"),
    ],
)  # fmt: skip
def test_malformed_pairs(row: dict[str, Any], why: str) -> None:
    with pytest.raises(DataError, match=why):
        convert(row, "preference", "f:1")


CALL = [{"type": "function", "function": {"name": "add", "arguments": "{}"}}]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_thinking_stands_before_the_answer(key: str) -> None:
    thought = {"role": "assistant", "content": "\n\nHello", key: "They greet.\n"}
    empty: dict[str, Any] = {"reasoning_content": None, "reasoning": "", "thinking": None}
    answer = "<think>\nThey greet.\n</think>\n\nHello"
    found = convert({"messages": [{**ASKED, **empty}, {**empty, **thought}]}, "messages", "f")
    assert isinstance(found, Example) and found.messages == (U, Message("assistant", answer))
    pair = convert({"prompt": "Hi", "chosen": [thought], "rejected": "No"}, "preference", "f")
    assert isinstance(pair, PreferencePair) and pair.chosen == answer


@pytest.mark.parametrize(
    ("asked", "answer", "why"),
    [
        ({"thinking": "x"}, {}, r"turn 0 \(user\) has `thinking`, which only the assistant can have"),
        ({}, {"thinking": "x", "content": "<think>x</think>Hello"}, r"turn 1 \(assistant\) holds its thinking twice"),
        ({}, {"thinking": "x", "reasoning": "y"}, "holds its thinking twice"),
        ({}, {"thinking": {"effort": "high"}}, "`thinking` of turn 1 .* is not text but dict"),
        ({}, {"tool_calls": CALL, "content": None}, "there is `tool_calls` in turn 1, and only text is learned"),
        ({}, {"function_call": {"name": "add", "arguments": "{}"}}, "there is `function_call` in turn 1"),
        ({"images": ["a.png"]}, {}, "there is `images` in turn 0"),
    ],
)
def test_turns_that_cannot_be_learned(asked: dict[str, Any], answer: dict[str, Any], why: str) -> None:
    turns = [{"role": "user", "content": "Hi", **asked}, {"role": "assistant", "content": "Hello", **answer}]
    with pytest.raises(DataError, match=why):
        convert({"messages": turns}, "messages", "f")


@pytest.mark.parametrize(
    ("name", "row", "key", "value"),
    [
        ("messages", talk(("user", "Hi"), ("assistant", "Hello")), "tools", CALL),
        ("sharegpt", EXAMPLES["sharegpt"][1][0], "tools", '[{"name": "add"}]'),
        ("preference", {"prompt": "Hi", "chosen": "Hello", "rejected": "No"}, "functions", CALL),
        ("prompt_completion", {"prompt": "Hi", "completion": "Hello"}, "image", {"bytes": b"x", "path": None}),
        ("question_answer", {"question": "Which?", "answer": "B"}, "choices", ["one", "two"]),
        ("question_answer", {"question": "Who?", "answer": "Ann"}, "context", "Ann and Ben met."),
    ],
)
def test_columns_without_which_a_row_teaches_something_wrong(
    name: str, row: dict[str, Any], key: str, value: Any
) -> None:
    with pytest.raises(DataError, match=f"there is `{key}` in the row") as raised:
        convert({**row, key: value}, name, "f")
    assert "out" in raised.value.hint
    whole = convert(row, name, "f")
    for nothing in (None, "", "[]", [], {}, {"bytes": None, "path": None}):
        assert convert({**row, key: nothing}, name, "f") == whole


def test_columns_that_no_shape_reads_are_named() -> None:
    row = {"prompt": "Hi", "completion": "Hello", "rating": 4, "comment": None, "context": "x"}
    assert unread(row, "prompt_completion") == ["rating", "context"]


def test_values_are_not_lost_behind_empty_ones() -> None:
    found = convert({"prompt": "1+1?", "completion": "2", "target": None, "ground_truth": 2}, "prompt_completion", "f")
    assert isinstance(found, Example) and found.target == "2"
    with pytest.raises(DataError, match="the input is not text but int"):
        convert({"instruction": "Double it", "input": 2, "output": "4"}, "alpaca", "f")


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
