"""Every task gives items that its own gold answer passes; a mistake in a file is one clear message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pyarrow as pa
import pyarrow.parquet
import pytest

from burnish.errors import BurnishError, ConfigError, DataError, EvaluationError
from burnish.evaluation.tasks import TASKS, freeze, outside
from burnish.rewards import grade
from burnish.types import Message

PROBLEMS = [
    {"question": f"What is {number} + 1?", "answer": f"{number}+1={number + 1}\n#### {number + 1:,}"}
    for number in range(998, 1010)
]
EXAMS = [
    {"question": f"Which is {letter}?", "subject": subject, "choices": ["a", "b", "c", "d"], "answer": answer}
    for subject in ("astronomy", "college_law")
    for answer, letter in enumerate("abcd")
]


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def exam(tmp_path: Path) -> str:
    lines(tmp_path / "dev.jsonl", EXAMS * 2)
    return lines(tmp_path / "test.jsonl", EXAMS)


def test_gsm8k_gold_answers_pass_and_empty_ones_fail(tmp_path: Path) -> None:
    items = freeze([{"gsm8k": {"path": lines(tmp_path / "test.jsonl", PROBLEMS)}}], seed=0)
    assert len(items) == 12 and items[2].target == "1,001"
    assert items[0].messages == (Message("user", "What is 998 + 1?"),)
    assert items[0].id == "gsm8k/1" and items[0].meta["task"] == "gsm8k"
    for item in items:
        assert grade(item, item.meta["solution"]).value == 1.0
        assert grade(item, "").value == 0.0


def test_gsm8k_draws_by_seed_and_keeps_the_order(tmp_path: Path) -> None:
    path = lines(tmp_path / "test.jsonl", PROBLEMS)
    drawn = [[item.id for item in freeze([{"gsm8k": {"path": path, "n": 5}}], seed)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == sorted(drawn[0], key=lambda name: int(name.partition("/")[2]))
    with pytest.raises(EvaluationError, match="12 items and 13"):
        freeze([{"gsm8k": {"path": path, "n": 13}}], 0)


def test_gsm8k_shots_are_earlier_turns(tmp_path: Path) -> None:
    train = lines(tmp_path / "train.jsonl", PROBLEMS[:3])
    path = lines(tmp_path / "test.jsonl", PROBLEMS[3:])
    items = freeze([{"gsm8k": {"path": path, "shots": 2, "shots_from": train}}], 0)
    assert [message.role for message in items[0].messages] == ["user", "assistant"] * 2 + ["user"]
    assert items[0].messages[1].content == PROBLEMS[0]["answer"]
    assert items[0].meta["question"] == PROBLEMS[3]["question"]  # what is the item's own
    with pytest.raises(ConfigError, match="shots need a file"):
        TASKS.build({"gsm8k": {"path": path, "shots": 2}}).check()
    with pytest.raises(EvaluationError, match="4 shots were asked for and the file has 3"):
        freeze([{"gsm8k": {"path": path, "shots": 4, "shots_from": train}}], 0)


def test_gsm8k_from_the_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "datasets--openai--gsm8k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    snapshot = folder / "snapshots" / "abc" / "main"
    snapshot.mkdir(parents=True)
    pyarrow.parquet.write_table(pa.Table.from_pylist(PROBLEMS), snapshot / "test-00000-of-00001.parquet")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    items = freeze(["gsm8k"], seed=0)
    assert [item.target for item in items][:2] == ["999", "1,000"]
    with pytest.raises(DataError, match=r"(cannot get|has no file)"):
        freeze([{"gsm8k": {"path": "nobody/nothing"}}], 0)


def test_mmlu_shows_five_examples_of_the_subject(exam: str) -> None:
    with pytest.raises(EvaluationError, match="lower `shots`"):
        freeze([{"mmlu": {"path": lines(Path(exam).with_name("x.jsonl"), EXAMS), "dev": exam}}], 0)
    items = freeze([{"mmlu": {"path": exam, "subjects": ["college_law"]}}], 0)
    assert len(items) == 4
    prompt = items[2].messages[0].content
    assert prompt.startswith(
        "The following are multiple choice questions (with answers) about college law.\n\nWhich is a?"
    )
    assert prompt.count("Answer: ") == 5 and prompt.endswith("Which is c?\nA. a\nB. b\nC. c\nD. d\nAnswer:")
    assert (items[2].target, items[2].choices) == ("C", ("A", "B", "C", "D"))
    assert items[2].meta["question"] == "Which is c?\nA. a\nB. b\nC. c\nD. d\nAnswer:"
    with pytest.raises(EvaluationError, match="no subject 'law'") as caught:
        freeze([{"mmlu": {"path": exam, "subjects": ["law"]}}], 0)
    assert "college_law" in caught.value.hint


def test_own_questions(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Capital of France?", "answer": "Paris", "text": 1},
        {"prompt": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"},
                    {"role": "user", "content": "2 + 2?"}], "answer": 4, "text": 1},
    ]  # fmt: skip
    path = lines(tmp_path / "mine.jsonl", rows)
    items = freeze([{"jsonl": {"path": path, "system": "Be brief.", "cluster": "text"}}], 0)
    assert [item.meta["task"] for item in items] == ["mine", "mine"]
    assert [message.role for message in items[1].messages] == ["system", "user", "assistant", "user"]
    assert items[0].meta["cluster"] == "1"
    assert grade(items[0], "paris.").value == 1.0
    sums = lines(tmp_path / "sums.jsonl", [{"prompt": "1 + 1?", "answer": 2}, {"prompt": "2 + 2?", "answer": 4}])
    numbers = freeze([{"jsonl": {"path": sums, "name": "add", "grader": {"numeric": {"tolerance": 1}}}}], 0)
    assert numbers[1].id == "add/2" and grade(numbers[1], "Answer: 5").value == 1.0


def test_own_multiple_choice_takes_text_number_or_letter(tmp_path: Path) -> None:
    rows = [{"prompt": "?", "options": ["ox", "elk"], "answer": answer} for answer in ("elk", 1, "B", "b")]
    path = lines(tmp_path / "pick.jsonl", rows)
    items = freeze([{"jsonl": {"path": path, "choices": "options"}}], 0)
    assert {item.target for item in items} == {"elk"}


@pytest.mark.parametrize(
    ("rows", "settings", "says"),
    [
        ([{"question": "?", "answer": "x"}], {}, "a row has no 'prompt'"),
        ([{"prompt": "?"}], {}, "a row has no 'answer'"),
        ([{"prompt": " ", "answer": "x"}], {}, "'prompt' is no question"),
        ([{"prompt": [{"role": "bot", "content": "?"}], "answer": "x"}], {}, "'prompt' is no question"),
        ([{"prompt": [{"role": "assistant", "content": "?"}], "answer": "x"}], {}, "does not end with the user"),
        ([{"prompt": "?", "answer": "yak", "o": ["ox", "elk"]}], {"choices": "o"}, "none of the choices"),
        ([{"prompt": "?", "answer": 2, "o": ["ox", "elk"]}], {"choices": "o"}, "none of the choices"),
        ([{"prompt": "?", "answer": "ox", "o": ["ox", "ox"]}], {"choices": "o"}, "different answers"),
        ([{"prompt": "?", "answer": "x"}], {}, "has 1 item"),
    ],
)
def test_own_questions_with_mistakes(tmp_path: Path, rows: list[Any], settings: dict[str, Any], says: str) -> None:
    path = lines(tmp_path / "mine.jsonl", rows)
    with pytest.raises(EvaluationError, match=says):
        freeze([{"jsonl": {"path": path, **settings}}], 0)


def test_a_broken_line_names_its_place(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "?", "answer": "x"}\n{"prompt": \n', encoding="utf-8")
    with pytest.raises(EvaluationError, match="cannot use a row") as caught:
        freeze([{"jsonl": {"path": str(path)}}], 0)
    assert caught.value.where.endswith("mine.jsonl:2")


def test_files_decide_the_identity_of_a_suite(tmp_path: Path) -> None:
    path = lines(tmp_path / "mine.jsonl", [{"prompt": "?", "answer": "x"}])
    before = outside([{"jsonl": {"path": path}}, "pebble-facts"])
    lines(tmp_path / "mine.jsonl", [{"prompt": "?", "answer": "y"}])
    assert len(before) == 1 and before != outside([{"jsonl": {"path": path}}])
    with pytest.raises(EvaluationError, match="no such file"):
        outside([{"jsonl": {"path": str(tmp_path / "none.jsonl")}}])


PEBBLE = [entry.name for entry in TASKS if entry.name.startswith("pebble")]


@pytest.mark.parametrize("name", PEBBLE)
def test_pebble_gold_answers_pass(name: str) -> None:
    items = freeze([{name: {"n": 4}}], seed=3)
    assert items == freeze([{name: {"n": 4}}], seed=3)
    tasks = {item.meta["task"] for item in items}
    assert tasks == {name} or name == "pebble"
    assert len(items) == 4 * len(tasks)
    for item in items:
        if item.choices:
            assert item.target in item.choices
        else:
            assert item.messages[-1].role == "user"
            assert grade(item, item.meta["solution"]).value == 1.0
            assert grade(item, "").value == 0.0


def test_pebble_splits_share_nothing() -> None:
    dev = freeze([{"pebble": {"skills": ["arithmetic"], "n": 30}}], 0)
    held_out = freeze([{"pebble-arithmetic": {"split": "held_out", "n": 30}}], 0)
    assert not {item.messages for item in dev} & {item.messages for item in held_out}
    with pytest.raises(BurnishError, match="no skill 'arithmetics'"):
        TASKS.build({"pebble": {"skills": ["arithmetics"]}}).check()


def test_one_name_is_one_task() -> None:
    with pytest.raises(ConfigError, match="two tasks of one suite are named 'pebble-units'"):
        freeze(["pebble-units", {"pebble": {"skills": ["units"]}}], 0)
