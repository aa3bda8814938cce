"""Every grader: gold is right, nothing is wrong, garbage never raises, and what is read is what voting counts."""

from __future__ import annotations

import random
from typing import Any

import pytest

from burnish.errors import EvaluationError
from burnish.rewards import REWARDS, grade, grade_all, row_grader
from burnish.types import Example, Message

GOLD: dict[str, tuple[dict[str, Any], str, str]] = {
    # name: (settings, target, an answer that earns 1.0)
    "numeric": ({}, "He has 9*2=18.\n#### 18", "So it is $18.00 in all"),
    "exact": ({"last_line": True}, "New Delhi", "The capital.\nAnswer: new  delhi."),
    "choice": ({}, "B", "It is Paris.\nAnswer: B) Paris"),
    "sequence": ({}, "fig, kiwi, lime", "Answer: fig, kiwi and lime"),
    "json_object": ({}, '{"name": "Mia", "age": 12}', ' {"age": 12, "name": "Mia"}\n'),
    "format": ({"kind": "numbered", "items": ["fig", "kiwi"]}, "", "1. fig\n2. kiwi"),
    "summary": ({"facts": ["Mia", "tea"], "max_words": 6}, "", "Mia brings tea on Monday."),
    "regex": ({"pattern": r"(\w+) is the capital", "group": 1}, "Paris", "I think paris; no, Paris is the capital."),
    "code": ({"tests": "assert add(2, 3) == 5"}, "", "```python\ndef add(a, b):\n    return a + b\n```"),
}
STARTS_PROCESSES = {"code": 20}
"""Fewer texts for graders that start a process for each."""


def item(name: str, settings: dict[str, Any], target: str | None = None) -> Example:
    return Example("e", (Message("user", "?"),), target=target, grader={name: settings})


def test_every_reward_has_a_gold_case() -> None:
    assert sorted([*GOLD, "judge"]) == sorted(REWARDS.names())  # what a judge says, no rule can know


@pytest.mark.parametrize("name", sorted(GOLD))
def test_gold_is_one_and_nothing_is_zero(name: str) -> None:
    settings, target, answer = GOLD[name]
    assert grade(item(name, settings, target), answer).value == 1.0
    for empty in ("", "  \n\t\n"):
        score = grade(item(name, settings, target), empty)
        assert (score.value, score.answer, score.error) == (0.0, None, None)
        assert score.why


@pytest.mark.parametrize("name", sorted(GOLD))
def test_garbage_never_raises_and_is_wrong(name: str) -> None:
    settings, target, _ = GOLD[name]
    example = item(name, settings, target)
    rng = random.Random(0)
    alphabet = 'aB1{}[]",:.-#$%/\n \\\x00é漢🙂٣²'
    for _ in range(STARTS_PROCESSES.get(name, 3000)):
        text = "".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 40)))
        assert grade(example, text).value in (0.0, 1.0)
    for text in ("{" * 100_000, "1" * 5000, "#### ", "Answer:", "answer is", "1/0", "-", "Answer: ,", "9e99999999"):
        assert grade(example, text).value == 0.0


@pytest.mark.parametrize("name", ["numeric", "exact", "choice", "sequence", "json_object"])
def test_an_item_without_a_usable_target_is_unscored(name: str) -> None:
    score = grade(item(name, {}, ""), "Answer: 5")
    assert score.value is None and score.error and "target" in score.error


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("#### 1,000", "1000"),
        ("it costs $18.00", "18"),
        ("it costs $18.00.", "18"),
        ("so 25% of them", "25"),
        ("The answer is -3.", "-3"),
        ("Answer: 3/4", "0.75"),
        ("12-4=8", "8"),
        ("the rest is 12 - 4", "4"),  # the minus is an operation, not a sign
        ("Answer: 18 dollars, 2 more than before", "18"),
        ("5 and 6\nAnswer: 7\n", "7"),
        ("#### 12\nand then 13", "12"),
        ("1,234,567.50 in total", "1234567.5"),
        (".5", "0.5"),
        ("-0.0", "0"),
        ("I will answer step by step. 3 + 4 = 7, so he has 7 apples.", "7"),
        ("So the answer is 5 * 4 = 20.", "20"),
        ("1,2,3", "3"),
        ("12,3456", "3456"),
        ("Answer = 8", "8"),
        ("The answer is \u22125.", "-5"),
        ("12 \u2212 4", "4"),
        ("1.5e3 grams", "1500"),
        ("2E-3", "0.002"),
        ("so \\boxed{42}.", "42"),
        ("**Answer:** 7", "7"),
    ],
)
def test_numeric_reads(text: str, answer: str) -> None:
    assert grade(item("numeric", {}, "1"), text).answer == answer


@pytest.mark.parametrize(
    "text",
    ["**Answer:** Paris", "**Answer: Paris**", "Answer: \\boxed{Paris}", "Answer: **Paris**", "It is\n**Paris**"],
)
def test_exact_reads(text: str) -> None:
    assert grade(item("exact", {"last_line": True}, "Paris"), text).value == 1.0


def test_numeric_tolerance_is_absolute() -> None:
    # |3.14 - 3.1416| = 0.0016
    assert grade(item("numeric", {"tolerance": 0.002}, "3.1416"), "3.14").value == 1.0
    assert grade(item("numeric", {"tolerance": 0.001}, "3.1416"), "3.14").value == 0.0
    # Decimal, not float: 0.1 + 0.2 written as 0.3 is exactly 0.3.
    assert grade(item("numeric", {}, "0.3"), "0.30").value == 1.0


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: (c)", "C"),
        ("The answer is D.", "D"),
        ("B", "B"),
        ("B) Paris", "B"),
        ("A dog barks", None),
        ("no idea", None),
        ("Answer: Apple", None),
        ("Answer: Z", None),
        ("The answer is, I think, B", "B"),
        ("Answer: I", "I"),
        ("The answer is a tie", None),
        ("**B**", "B"),
        ("B\n\nBecause it is.", "B"),
        ("The answer is A because it is.", "A"),
        ("The answer is b) elk", "B"),
        ("**Answer: C**", "C"),
        ("(b) elk", "B"),
        ("I think it is a moose", None),
        ("\\boxed{D}", "D"),
    ],
)
def test_choice_reads(text: str, answer: str | None) -> None:
    assert grade(item("choice", {}, "A"), text).answer == answer


def test_exact_case_and_whole_text() -> None:
    assert grade(item("exact", {"ignore_case": False}, "Paris"), "paris").value == 0.0
    assert grade(item("exact", {}, "Paris"), "'Paris'").value == 1.0
    assert grade(item("exact", {}, "Paris"), "It is Paris").value == 0.0
    assert grade(item("exact", {"last_line": True}, "Paris"), "Well.\nParis").value == 1.0


@pytest.mark.parametrize(
    ("target", "answer", "right"),
    [("-5", "5", False), ("-5", "-5.", True), ("C#", "C++", False), ("C#", "C#.", True), ("(a, b]", "[a, b)", False),
     ("+", "+", True), ("+", "-", False), ("?", "?", True), ("Paris", "**Paris**", True), ("Paris", "`Paris`", True)],
)  # fmt: skip
def test_signs_and_brackets_are_part_of_an_answer(target: str, answer: str, right: bool) -> None:
    assert grade(item("exact", {}, target), answer).value == float(right)


def test_lists_keep_their_signs() -> None:
    assert grade(item("sequence", {}, "-3, 5"), "3, -5").value == 0.0
    assert grade(item("sequence", {}, "-3, 5"), "-3, 5.").value == 1.0


def test_json_knows_true_from_one() -> None:
    assert grade(item("json_object", {}, '{"a": [true, 1]}'), '{"a": [true, 1.0]}').value == 1.0
    assert grade(item("json_object", {}, '{"a": [true, 1]}'), '{"a": [1, 1]}').value == 0.0


@pytest.mark.parametrize(
    ("choice", "why"),
    [("numric", "did you mean 'numeric'"), ({"numeric": {"tolerence": 1}}, "tolerence"),
     ({"numeric": {"tolerance": -1}}, "tolerance"), ({"./mine.py:Mine": {}}, "only in recipes"), (3, "grader")],
)  # fmt: skip
def test_graders_of_rows_are_checked(choice: object, why: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        row_grader(choice)
    assert why in str(caught.value)
    assert row_grader("numeric") == {"numeric": {}} and row_grader({"exact": {"last_line": True}})


def test_sequence_order() -> None:
    assert grade(item("sequence", {}, "a, b"), "b, a").value == 0.0
    assert grade(item("sequence", {"ordered": False}, "a, b"), "b, a").value == 1.0
    # An item counts as often as it occurs.
    assert grade(item("sequence", {"ordered": False}, "a, b"), "a, b, b").value == 0.0


def test_json_object_alone_or_with_surroundings() -> None:
    target = '{"a": [1, 2]}'
    fenced = 'Here:\n```json\n{"a": [1, 2]}\n```'
    assert grade(item("json_object", {}, target), fenced).value == 0.0
    assert grade(item("json_object", {"surroundings": True}, target), fenced).value == 1.0
    assert grade(item("json_object", {}, target), '{"a": [2, 1]}').value == 0.0
    assert grade(item("json_object", {}, target), "[1, 2]").value == 0.0


@pytest.mark.parametrize(
    ("kind", "items", "text", "value"),
    [
        ("numbered", ["a", "b"], "1) a\n2) b", 1.0),
        ("numbered", ["a", "b"], "1. a\n3. b", 0.0),
        ("numbered", ["a", "b"], "1. b\n2. a", 0.0),
        ("numbered", ["a", "b"], "a\nb", 0.0),
        ("bulleted", ["a", "b"], "- a\n* b", 1.0),
        ("bulleted", ["a", "b"], "- a", 0.0),
        ("upper", ["the cat"], "THE CAT!", 1.0),
        ("upper", ["the cat"], "The CAT", 0.0),
        ("upper", ["the cat"], "THE DOG", 0.0),
        ("lower", ["The Cat"], "the cat", 1.0),
        ("lines", ["a", "b"], "a\n\nb", 1.0),
    ],
)
def test_format(kind: str, items: list[str], text: str, value: float) -> None:
    assert grade(item("format", {"kind": kind, "items": items}), text).value == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Mia brings tea.", 1.0),
        ("mia brings the tea!", 1.0),
        ("Mia brings tea. It is hot.", 0.0),
        ("Mia brings tea", 0.0),
        ("Mia brings\ntea.", 0.0),
        ("Mia brings steak.", 0.0),  # 'tea' only inside a word
        ("Mia brings tea to us all now.", 0.0),  # 7 words, 6 allowed
    ],
)
def test_summary(text: str, value: float) -> None:
    assert grade(item("summary", {"facts": ["Mia", "tea"], "max_words": 6}), text).value == value


def test_no_grader_unknown_grader_and_wrong_settings_are_errors_of_the_suite() -> None:
    with pytest.raises(EvaluationError, match="has no grader"):
        grade(Example("e", (Message("user", "?"),)), "5")
    with pytest.raises(EvaluationError, match="numerik"):
        grade(item("numerik", {}, "5"), "5")
    with pytest.raises(EvaluationError, match="tolerance"):
        grade(item("numeric", {"tolerance": -1}, "5"), "5")


def test_many_answers_are_graded_in_their_order() -> None:
    settings, target, answer = GOLD["code"]
    examples = [item("code", settings, target), item("numeric", {}, "5"), item("code", settings, target),
                item("exact", {}, "yes")]  # fmt: skip
    scores = grade_all(examples, [answer, "5", "def add(a, b): return a - b", "no"])
    assert [score.value for score in scores] == [1.0, 1.0, 0.0, 0.0]
    assert grade_all([], []) == []


def test_a_judged_item_waits_for_its_judge() -> None:
    score = grade(item("judge", {}, "a reference"), "an answer")
    assert score.value is None and score.error == "a judge model scores this item, and none was named"
