"""The kinds of items that a user's rows can be, and task files that stand for a task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from burnish.errors import BurnishError, ConfigError, EvaluationError
from burnish.evaluation.tasks import TASKS, freeze, written_out
from burnish.evaluation.turns import graders
from burnish.rewards import grade
from burnish.types import Example, Message


def frozen(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> list[Example]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return freeze([{"jsonl": {"path": str(path), **settings}}], 0)


def test_a_template_makes_one_question_of_several_keys(tmp_path: Path) -> None:
    rows = [{"text": "It rains.", "q": "Wet?", "hints": ["a", "b"], "answer": "yes"},
            {"text": None, "q": "{q} is {unknown}?", "hints": [], "answer": "no"}]  # fmt: skip
    first, second = frozen(tmp_path, rows, template="{text}\n\n{q}\n{hints}\n{ braces stay }")
    assert first.messages[0].content == "It rains.\n\nWet?\na\nb\n{ braces stay }"
    assert second.messages[0].content == "{q} is {unknown}?\n\n{ braces stay }", "values are not filled in again"
    with pytest.raises(EvaluationError, match="a row has no 'question'"):
        frozen(tmp_path, rows, template="{question}")


def test_a_conversation_may_hold_its_answer(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    items = frozen(tmp_path, [{"messages": talk}, {"messages": talk[:1], "answer": 5}], prompt="messages")
    assert [(item.messages, item.target) for item in items] == [
        ((Message("user", "2 + 2?"),), "4"), ((Message("user", "2 + 2?"),), "5"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("choices", "answer", "target"),
    [
        (["ox", "elk"], "elk", "elk"), (["ox", "elk"], 1, "elk"), (["ox", "elk"], "b", "elk"),
        (["ox", "elk"], "1", "elk"),  # HellaSwag writes its numbers as text
        (["1", "0"], "1", "1"),  # the text of a choice goes before its number
        ({"text": ["ox", "elk"], "label": ["1", "2"]}, "2", "elk"),  # ARC
        ({"text": ["ox", "elk"], "label": ["A", "B"]}, "B", "elk"),
        ([3, 4], 4, "4"),
    ],
)  # fmt: skip
def test_right_choices(choices: Any, answer: Any, target: str, tmp_path: Path) -> None:
    rows = [{"prompt": "Which?", "options": choices, "answer": answer}] * 2
    assert {item.target for item in frozen(tmp_path, rows, choices="options")} == {target}


def test_letters_are_shown_and_compared(tmp_path: Path) -> None:
    rows = [{"prompt": "Which is a deer?", "options": ["ox", "elk"], "answer": "elk"}] * 2
    item = frozen(tmp_path, rows, choices="options", letters=True)[0]
    assert item.messages[0].content == "Which is a deer?\nA. ox\nB. elk\nAnswer:"
    assert (item.choices, item.target, item.meta["normalize"]) == (("A", "B"), "B", "sum")


def test_programs_are_tested(tmp_path: Path) -> None:
    rows = [{"prompt": "add", "tests": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"]},
            {"prompt": "add", "tests": "assert add(1, 2) == 3", "answer": "def add(a, b): return a + b"}]  # fmt: skip
    first, second = frozen(tmp_path, rows, tests="tests", grader={"code": {"seconds": 3}})
    assert first.grader == {"code": {"seconds": 3, "tests": "assert add(1, 2) == 3\nassert add(0, 0) == 0"}}
    assert first.target is None and grade(second, second.target or "").value == 1.0
    check = [{"prompt": "add", "tests": "def check(f):\n    assert f(1, 2) == 3", "entry_point": "add"}] * 2
    item = frozen(tmp_path, check, tests="tests", entry_point="entry_point")[0]
    assert grade(item, "def add(a, b): return a + b").value == 1.0
    assert grade(item, "def add(a, b): return a").value == 0.0


def test_the_answer_is_the_pattern(tmp_path: Path) -> None:
    rows = [{"prompt": "A date?", "answer": r"\d{4}-\d\d"}, {"prompt": "Two letters?", "answer": "^[a-z]{2}$"}]
    first, second = frozen(tmp_path, rows, grader="regex")
    assert grade(first, "in 1969-07").value == 1.0 and grade(second, "abc").value == 0.0


def test_judged_rows_need_no_answer(tmp_path: Path) -> None:
    rows = [{"prompt": "Write of the sea."}, {"prompt": "Of the sky.", "answer": "Blue it is."}]
    first, second = frozen(tmp_path, rows, grader="judge")
    assert (first.target, second.target) == (None, "Blue it is.") and first.grader == {"judge": {}}


def test_turns_have_answers_of_their_own_or_the_last_one_has(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"turns": ["2 + 2?", "Doubled?"], "answer": [4, 8]},
        {"turns": ["Mind 7.", "Which?"], "answer": [None, 7]},
        {"turns": ["Mind 9.", "Wait.", "Which?"], "answer": 9},
        {"turns": ["1?"], "answer": 1},
    ]
    items = frozen(tmp_path, rows, turns="turns", grader="numeric", system="Be brief.")
    assert [message.role for message in items[0].messages] == ["system", "user"]
    assert items[0].target == "4"
    assert items[0].meta["turns"] == [{"text": "Doubled?", "target": "8", "grader": {"numeric": {}}}]
    assert graders(items[1]) == [None, {"numeric": {}}] == graders(items[2])[1:]
    assert items[3].meta["turns"] == [] and graders(items[3]) == [{"numeric": {}}]
    judged = frozen(tmp_path, [{"turns": ["a", "b"]}, {"turns": ["a", "b"], "answer": [None, "ref"]}], turns="turns",
                    grader="judge")  # fmt: skip
    assert graders(judged[0]) == [{"judge": {}}] * 2
    assert judged[1].meta["turns"] == [{"text": "b", "target": "ref", "grader": {"judge": {}}}]


@pytest.mark.parametrize(
    ("row", "settings", "says"),
    [
        ({"prompt": "?", "answer": ["a", "b"]}, {}, "the answer is a list, not a text"),
        ({"prompt": "?", "answer": None}, {}, "'answer' is empty"),
        ({"prompt": "?", "answer": ""}, {}, "the target '' is empty"),
        ({"prompt": "?", "answer": "three"}, {"grader": "numeric"}, "the target 'three' holds no number"),
        ({"prompt": "?", "answer": "[a"}, {"grader": "regex"}, "'[a' is no regular expression"),
        ({"prompt": "?", "answer": "x"}, {"tests": "tests"}, "a row has no 'tests'"),
        ({"prompt": "?", "tests": "assert ("}, {"tests": "tests"}, "the tests are not Python"),
        ({"prompt": "?", "tests": []}, {"tests": "tests"}, "there are no tests"),
        ({"turns": "one", "answer": 1}, {"turns": "turns"}, "must be a list of texts"),
        ({"turns": ["one", " "], "answer": 1}, {"turns": "turns"}, "must be a list of texts"),
        ({"turns": ["a", "b"], "answer": [1]}, {"turns": "turns"}, "2 turns and 1 answers"),
        ({"turns": ["a", "b"], "answer": [None, None]}, {"turns": "turns"}, "no turn has an answer"),
        ({"turns": ["a", "b"]}, {"turns": "turns"}, "a row has no 'answer'"),
        ({"prompt": "?", "answer": True, "o": ["ox", "elk"]}, {"choices": "o"}, "none of the choices"),
        ({"prompt": "?", "answer": "²", "o": ["ox", "elk"]}, {"choices": "o"}, "none of the choices"),
        ({"prompt": "?", "answer": 0, "o": list(map(str, range(27)))}, {"choices": "o"}, "at most 26"),
    ],
)
def test_rows_with_mistakes(row: dict[str, Any], settings: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError) as caught:
        frozen(tmp_path, [row, row], **settings)
    assert says in str(caught.value) and "rows.jsonl:1" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"grader": "code"}, "needs `tests`"),
        ({"grader": "numeric", "tests": "tests"}, "`tests` are for the grader `code`"),
        ({"choices": "o", "turns": "t"}, "leave out `turns`"),
        ({"letters": True}, "`choices` names no key"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TASKS.build({"jsonl": {"path": "x.jsonl", **settings}})


# ---------------------------------------------------------------------------------------------------------- task files


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    rows = [{"q": f"{n} + 1?", "answer": n + 1} for n in range(6)]
    (tmp_path / "data" / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "sums.yaml"
    path.write_text("# mine\njsonl: {path: data/sums.jsonl, prompt: q, grader: numeric}\n")
    return path


def test_a_file_stands_for_a_task(task_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = freeze([str(task_file)], 0)
    assert len(items) == 6 and items[0].id == "sums/1" and items[0].grader == {"numeric": {}}
    some = freeze([{str(task_file): {"n": 3, "name": "few"}}], 0)
    assert len(some) == 3 and some[0].meta["task"] == "few", "settings given with its name replace its own"
    monkeypatch.chdir(task_file.parent)
    assert freeze(["./sums.yaml"], 0) == items == freeze(["sums.yaml"], 0)


def test_paths_are_relative_to_the_file(task_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = {"prompt": "q", "grader": "numeric"}
    assert written_out(str(task_file)) == {"jsonl": {"path": str(task_file.parent / "data/sums.jsonl"), **held}}
    monkeypatch.chdir(task_file.parent / "data")
    assert written_out({"../sums.yaml": {"n": 2}}) == {"jsonl": {"path": "../data/sums.jsonl", **held, "n": 2}}
    assert written_out("pebble-facts") == "pebble-facts"
    task_file.write_text("# a comment changes nothing\n" + task_file.read_text())
    assert written_out("../sums.yaml") == {"jsonl": {"path": "../data/sums.jsonl", **held}}


def test_any_task_can_be_in_a_file(task_file: Path) -> None:
    task_file.write_text("pebble-arithmetic: {n: 4}\n")
    assert len(freeze([str(task_file)], 0)) == 4
    task_file.write_text("gsm8k: {path: data/sums.jsonl}\n")
    with pytest.raises(EvaluationError, match="a row has no 'question'"):
        freeze([str(task_file)], 0)
    task_file.write_text("gsm8k: {n: 4}\n")
    assert written_out(str(task_file)) == {"gsm8k": {"n": 4}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the task is written"),
        ("jsonl: {path: a}\ngsm8k: {}", "the task is written"),
        ("jsnl: {path: a}", "there is no task 'jsnl'"),
        ("- a", "expected a mapping"),
        ("jsonl: {path: a, gradr: numeric}", "task.yaml:1: jsonl.gradr: unknown key 'gradr'"),
        ("jsonl:\n  path: a\n  grader: {regex: {pattern: '('}}", "task.yaml:3: jsonl.grader"),
        ("jsonl: {path: a, grader: {use: './mine.py:Mine'}}", "may not make code run"),
        ("./other.yaml: {}", "there is no task './other.yaml'"),
        ("jsonl: {path: nowhere.jsonl}", "no such file"),
    ],
)
def test_files_with_mistakes(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(text)
    with pytest.raises(BurnishError) as caught:
        TASKS.build(str(path)).check()
    assert says in str(caught.value)
    with pytest.raises(ConfigError, match="no such file") as missing:
        TASKS.build(str(tmp_path / "none.yaml"))
    assert "burnish eval new" in missing.value.hint
    with pytest.raises(ConfigError, match="holds rows") as rows:
        TASKS.build("mine.jsonl")
    assert "burnish eval new mine.jsonl" in rows.value.hint
