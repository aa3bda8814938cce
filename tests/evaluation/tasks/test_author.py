"""What is proposed for rows of many shapes, and what is told of rows that would measure themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from burnish.errors import ConfigError, Problem
from burnish.evaluation.tasks import freeze
from burnish.evaluation.tasks.author import (
    SHOWN,
    Draft,
    Given,
    draft,
    first_item,
    needs_judge,
    resolution,
    shortened,
    text_of,
)


def drafted(folder: Path, *rows: dict[str, Any], **given: str) -> Draft:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return draft(path, Given(**given))


LAST_LINE = {"exact": {"last_line": True}}
ADD = "def add(a, b):\n    return a + b"
LONG = "because " * 20
TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.mark.parametrize(
    ("rows", "kind", "settings"),
    [
        ([{"question": "1 + 1?", "answer": "2"}, {"question": "1 + 2?", "answer": 3}],
         "numeric", {"prompt": "question", "answer": "answer", "grader": "numeric"}),
        ([{"problem": "1 + 1?", "solution": "So\n#### 2"}, {"problem": "1 + 2?", "solution": "So\n#### 3"}],
         "numeric", {"prompt": "problem", "answer": "solution", "grader": "numeric"}),
        ([{"prompt": "Capital?", "target": "Paris"}, {"prompt": "And?", "target": "Rome"}],
         "exact", {"prompt": "prompt", "answer": "target", "grader": LAST_LINE}),
        ([{"instruction": "Name it.", "input": "a", "output": "x"}, {"instruction": "Name it.", "output": "y"}],
         "exact", {"template": "{instruction}\n\n{input?}", "answer": "output", "grader": LAST_LINE}),
        ([{"context": "It rains.", "question": "Wet?", "answer": "yes"}, {"context": "Sun.", "question": "Wet?",
          "answer": "no"}], "exact", {"template": "{context}\n\n{question}", "answer": "answer", "grader": LAST_LINE}),
        ([{"input": "Which?", "label": "A"}, {"input": "Why?", "label": "B"}],
         "letter", {"prompt": "input", "answer": "label", "grader": "choice"}),
        ([{"question": "Deer?", "options": ["ox", "elk"], "answer": 1}, {"question": "Cow?", "options": ["ox", "elk"],
          "answer": "ox"}], "choice",
         {"template": "Question: {question}\nAnswer:", "answer": "answer", "choices": "options"}),
        ([{"question": "A deer is an", "choices": ["ox", "elk"], "answerKey": "B"}] * 1 + [{"question": "A cow is an",
          "choices": ["ox", "elk"], "answerKey": "A"}],
         "choice", {"prompt": "question", "answer": "answerKey", "choices": "choices"}),
        ([{"ctx": "He sits and", "endings": ["eats", "flies"], "label": "0"}, {"ctx": "She stands and",
          "endings": ["sings", "melts"], "label": "1"}], "choice",
         {"prompt": "ctx", "answer": "label", "choices": "endings"}),
        ([{"question": "Deer?", "choices": {"text": ["ox", "elk"], "label": ["A", "B"]}, "answerKey": "B"},
          {"question": "Cow?", "choices": {"text": ["ox", "elk"], "label": ["1", "2"]}, "answerKey": "1"}], "choice",
         {"template": "Question: {question}\nAnswer:", "answer": "answerKey", "choices": "choices"}),
        ([{"text": "Add.", "code": ADD, "test_list": ["assert add(1, 2) == 3"]},
          {"text": "Add again.", "code": ADD, "test_list": ["assert add(1, 1) == 2"]}],
         "code", {"prompt": "text", "answer": "code", "tests": "test_list", "grader": "code"}),
        ([{"question": "A year?", "pattern": r"\d{4}"}, {"question": "A day?", "pattern": r"\d\d"}],
         "regex", {"prompt": "question", "answer": "pattern", "grader": "regex"}),
        ([{"prompt": "Write."}, {"prompt": "Sing."}], "judged", {"prompt": "prompt", "grader": "judge"}),
        ([{"prompt": "Write.", "reference": LONG}, {"prompt": "Sing.", "reference": LONG}],
         "judged", {"prompt": "prompt", "answer": "reference", "grader": "judge"}),
        ([{"messages": TALK}, {"messages": [{"role": "user", "content": "Hey"}, TALK[1]]}],
         "exact", {"prompt": "messages", "grader": LAST_LINE}),
        ([{"turns": ["a", "b"]}, {"turns": ["c", "d"]}], "multi-turn", {"turns": "turns", "grader": "judge"}),
        ([{"turns": ["a", "b"], "answer": [1, 2]}, {"turns": ["c", "d"], "answer": 3}],
         "multi-turn", {"turns": "turns", "answer": "answer", "grader": "numeric"}),
        ([{"turns": ["a", "b"], "answer": ["x", None]}, {"turns": ["c", "d"], "answer": "y"}],
         "multi-turn", {"turns": "turns", "answer": "answer", "grader": LAST_LINE}),
    ],
)  # fmt: skip
def test_what_is_proposed_and_written_is_a_task_that_works(
    rows: list[dict[str, Any]], kind: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    found = drafted(tmp_path, *rows)
    assert found.problems == [] and (found.kind, found.settings) == (kind, {"name": "rows", **settings})
    assert needs_judge(found) == (settings.get("grader") == "judge")
    to = tmp_path / "elsewhere" / "mine.yaml"
    to.parent.mkdir()
    to.write_text(text_of(found, tmp_path / "rows.jsonl", to))
    assert yaml.safe_load(to.read_text()) == {"jsonl": {"path": "../rows.jsonl", **found.settings}}
    again = freeze([str(to)], 0)
    assert [(one.messages, one.target, one.grader, one.choices) for one in again] == [
        (one.messages, one.target, one.grader, one.choices) for one in found.items
    ]


def test_what_the_user_says_goes_before_what_is_found(tmp_path: Path) -> None:
    rows = [{"question": "Say 4.", "other": "4", "answer": "x"}, {"question": "Say 5.", "other": "5", "answer": "y"}]
    found = drafted(tmp_path, *rows, kind="exact", prompt="question", answer="other", name="mine")
    assert found.kind == "exact" and found.why == "as asked"
    assert found.settings == {"name": "mine", "prompt": "question", "answer": "other", "grader": LAST_LINE}
    assert [item.target for item in found.items] == ["4", "5"]


def test_humaneval_solutions_continue_the_question(tmp_path: Path) -> None:
    row = {"prompt": "def add(a, b):\n", "canonical_solution": "    return a + b\n", "entry_point": "add",
           "test": "def check(candidate):\n    assert candidate(2, 3) == 5\n"}  # fmt: skip
    found = drafted(tmp_path, row, {**row, "prompt": "def add(a, b):\n    # again\n"})
    assert found.problems == [] and found.settings["entry_point"] == "entry_point"
    assert found.tried[0].right and found.tried[0].score == 1.0
    assert not found.tried[1].right and found.tried[1].score == 0.0


def said(found: Draft) -> dict[int, str]:
    return {int(problem.where.rpartition(":")[2]): problem.what for problem in found.problems}


def test_every_broken_row_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = [{"question": f"{n} + 1?", "answer": n + 1} for n in range(30)]
    bad = ['{"question": "a?", "answer": "three"}', '{"question": "b?"}', '{"question": "", "answer": 1}', "{broken",
           json.dumps(good[3]), '{"question": "0  +  1?", "answer": 2}']  # fmt: skip
    path.write_text("\n".join([*map(json.dumps, good), *bad]))
    found = draft(path, Given())
    assert said(found) == {
        31: "the target 'three' holds no number",
        32: "a row has no 'answer'",
        33: "'question' is no question: ''",
        34: "not valid JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        35: f"the same question as {path}:4",
        36: f"the same question as {path}:1",
    }
    assert len(found.items) == 32 and found.rows == 36


def test_answers_that_are_none_of_the_choices(tmp_path: Path) -> None:
    answers = ["ox", "yak", 2]
    rows = [{"question": f"{n}?", "choices": ["ox", "elk"], "answer": answer} for n, answer in enumerate(answers)]
    assert said(drafted(tmp_path, *rows)) == {
        2: "the answer 'yak' is none of the choices ['ox', 'elk']",
        3: "the answer 2 is none of the choices ['ox', 'elk']",
    }


def test_a_right_answer_that_is_graded_wrong_and_a_wrong_one_that_is_graded_right(tmp_path: Path) -> None:
    rows = [{"question": "Add?", "code": ADD, "tests": "assert add(1, 2) == 4"},
            {"question": "Add then?", "code": ADD, "tests": "assert True"},
            {"question": "Anything?", "tests": "assert add(1, 2) == 3"}]  # fmt: skip
    found = drafted(tmp_path, *rows)
    assert said(found) == {
        1: "its own answer 'def add(a, b):\\n    return a + b' scores 0.0: AssertionError at line 1 of the tests: "
        "assert add(1, 2) == 4",
        2: "the wrong answer 'def nothing_at_all():\\n    return None\\n' scores 1.0",
    }
    assert found.untried == 1, "the third has no program of its own"
    patterns = drafted(tmp_path, {"question": "a?", "pattern": ".*"}, {"question": "b?", "pattern": "[0-9"})
    assert said(patterns)[1] == "the wrong answer 'I do not know.' scores 1.0"
    assert said(patterns)[2].startswith("the target: '[0-9' is no regular expression")
    words = drafted(tmp_path, {"question": "a?", "answer": "the answer is"}, {"question": "b?", "answer": "..."},
                    kind="exact")  # fmt: skip
    assert set(said(words)) == {1}


@pytest.mark.parametrize(
    ("row", "given", "says"),
    [
        ({"a": "?", "b": "x"}, {}, "no column holds the question"),
        ({"question": "?", "b": "x"}, {"kind": "exact"}, "no column holds the right answer"),
        ({"question": "?", "answer": "x"}, {"kind": "choice"}, "no column holds the choices"),
        ({"question": "?", "answer": "x"}, {"kind": "code"}, "no column holds the tests"),
        ({"question": "?", "answer": "x"}, {"kind": "multi-turn"}, "no column holds the turns"),
        ({"question": "?", "answer": "x"}, {"kind": "exakt"}, "there is no kind 'exakt'"),
        ({"question": "?", "answer": "x"}, {"prompt": "qestion"}, "no row has a column 'qestion'"),
    ],
)
def test_what_cannot_be_found_is_asked_for(
    row: dict[str, Any], given: dict[str, str], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        drafted(tmp_path, row, row, **given)
    assert caught.value.hint


def test_a_file_of_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{\n{\n")
    with pytest.raises(ConfigError, match="no row of .* can be read; the first: not valid JSON"):
        draft(path, Given())


def test_many_problems_are_counted() -> None:
    problems = [Problem(f"p{n}", f"f:{n}") for n in range(SHOWN + 5)]
    assert shortened(problems)[:SHOWN] == problems[:SHOWN]
    assert shortened(problems)[SHOWN:] == [Problem("and 5 more")]
    assert shortened(problems[:SHOWN]) == problems[:SHOWN]
    assert shortened(problems[:1], "do so") == [problems[0], Problem("mend these rows", hint="do so")]


def test_what_a_number_of_items_can_say() -> None:
    # 100 items at 50 %: Wilson's half width is 0.0962. A fifth of them, 20, change: 15 against 5 has p = 0.041 by
    # McNemar's exact test and 14 against 6 has 0.115, so a difference of 10 of 100 is seen.
    half, apart = resolution(100)
    assert half == pytest.approx(0.0962, abs=1e-4) and apart == pytest.approx(0.10)
    # 20 items: 4 change, and even 4 against none has p = 0.125
    assert resolution(20)[1] is None


def test_the_first_item_is_shown_turn_by_turn(tmp_path: Path) -> None:
    found = drafted(tmp_path, {"turns": ["Hi", "Bye"]}, {"turns": ["Hi", "Now?"]})
    assert first_item(found.items[0]) == "user: Hi\nassistant: (its own answer 1)\nuser: Bye"
