"""Patterns: what matches, what is told of a broken one, and that none can hang the evaluation."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from burnish.config import parse_yaml, validate
from burnish.evaluation.tasks.jsonl import JsonLines
from burnish.rewards import grade
from burnish.rewards.regex import CHILD
from burnish.types import Example, Message, Score


def score(text: str, target: str | None = None, **settings: Any) -> Score:
    return grade(Example("e", (Message("user", "?"),), target, {"regex": settings}), text)


@pytest.mark.parametrize(
    ("settings", "target", "text", "value", "answer"),
    [
        ({"pattern": r"\d{4}-\d\d-\d\d"}, None, "It was on 1969-07-20, I think.", 1.0, "1969-07-20"),
        ({"pattern": r"\d{4}-\d\d-\d\d"}, None, "It was in 1969.", 0.0, None),
        ({"pattern": r"\d+", "match": "full"}, None, " 42\n", 1.0, "42"),
        ({"pattern": r"\d+", "match": "full"}, None, "42 or so", 0.0, None),
        ({}, "colou?r", "My color.", 1.0, "color"),  # the target is the pattern
        ({}, "colou?r", "My COLOR.", 0.0, None),
        ({"ignore_case": True}, "colou?r", "My COLOR.", 1.0, "COLOR"),
        ({"pattern": r"Answer: (.+)", "group": 1}, "Paris", "Answer: Rome\nAnswer: Paris.", 1.0, "Paris"),  # the last
        ({"pattern": r"Answer: (.+)", "group": 1}, "Paris", "Answer: Rome", 0.0, "Rome"),
        ({"pattern": r"(?P<city>\w+)$", "group": "city", "ignore_case": True}, "Paris", "in paris", 1.0, "paris"),
        ({"pattern": r"a|(b)", "group": 1}, "b", "a", 0.0, None),
        ({"pattern": r"(?s)begin.*end", "match": "full"}, None, "begin\n\nend", 1.0, "begin\n\nend"),
        ({"pattern": "漢+🙂"}, None, "說漢漢🙂", 1.0, "漢漢🙂"),
    ],
)
def test_what_matches(settings: dict[str, Any], target: str | None, text: str, value: float, answer: str) -> None:
    found = score(text, target, **settings)
    assert (found.value, found.answer, found.error) == (value, answer, None)


def test_a_pattern_that_takes_for_ever_leaves_the_item_unscored() -> None:
    # (a+)+b tries about 2^40 ways to share 40 letters out before it gives up
    began = time.monotonic()
    found = score("a" * 40 + "c", pattern="(a+)+b", seconds=0.2)
    assert found.value is None and found.error == "the pattern takes longer than 0.2 s: (a+)+b"
    assert time.monotonic() - began < 5
    assert score("aab", pattern="(a+)+b").value == 1.0, "the next one is matched by a new process"


def test_a_killed_process_is_started_again() -> None:
    assert score("a", pattern="a").value == 1.0
    assert CHILD._process is not None
    os.kill(CHILD._process.pid, signal.SIGKILL)
    CHILD._process.wait()
    found = score("a", pattern="a")
    assert found.error == "matching ended with exit code -9"
    assert score("a", pattern="a").value == 1.0


@pytest.mark.parametrize(
    ("grader", "says"),
    [
        ("{regex: {pattern: '(a'}}", "'(a' is no regular expression: missing ), unterminated subpattern"),
        ("{regex: {pattern: 'a', group: 1}}", "'a' has no group 1"),
        ("{regex: {pattern: '(?P<b>a)', group: c}}", "has no group 'c'"),
        ("{regex: {group: 1}}", "the pattern must be given here"),
        ("{regex: {pattern: 'a', match: some}}", "unknown value 'some'"),
    ],
)
def test_a_bad_pattern_is_a_problem_of_the_settings_with_its_line(grader: str, says: str) -> None:
    document = parse_yaml(f"path: x.jsonl\ngrader: {grader}", "task.yaml")
    (problem,) = validate(JsonLines, document.data, document)[1]
    assert says in problem.what and problem.where.startswith("task.yaml:2")


def test_a_bad_pattern_in_a_row_leaves_it_unscored() -> None:
    found = score("text", target="[a")
    assert found.value is None and found.error and found.error.startswith("the target: '[a' is no regular expression")
    assert score("text", target="").error == "the target '' is no pattern"
    assert score("text", target=" ", pattern="(t)", group=1).error == "the target ' ' is empty"
