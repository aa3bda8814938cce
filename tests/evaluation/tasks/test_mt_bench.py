"""MT-Bench's files as two-turn items, with reference answers where there are some."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from burnish.errors import EvaluationError
from burnish.evaluation.tasks import freeze, outside
from burnish.evaluation.turns import graders, transcript

QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write of the sea.", "Now as a poem."]},
    {"question_id": 111, "category": "math", "turns": ["2 + 3?", "Doubled?"], "reference": ["a hint", ""]},
    {"question_id": 112, "category": "math", "turns": ["4 + 5?", "Halved?"]},
]
REFERENCES = [
    {"question_id": 111, "model_id": "someone", "choices": [{"index": 0, "turns": ["5", "10"]}]},
    {"question_id": 112, "model_id": "someone", "choices": [{"index": 0, "turns": ["9", "4.5"]}]},
]


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return {"path": lines(tmp_path / "question.jsonl", QUESTIONS),
            "references": lines(tmp_path / "gpt-4.jsonl", REFERENCES)}  # fmt: skip


def test_two_turns_that_a_judge_scores(files: dict[str, str]) -> None:
    items = freeze([{"mt-bench": files}], 0)
    assert [item.id for item in items] == ["mt-bench/81", "mt-bench/111", "mt-bench/112"]
    assert [message.content for message in items[1].messages] == ["2 + 3?"]
    assert items[1].target == "5" and items[0].target is None
    assert items[1].meta["turns"] == [{"text": "Doubled?", "target": "10", "grader": {"judge": {}}}]
    assert items[0].meta["turns"] == [{"text": "Now as a poem.", "grader": {"judge": {}}}]
    assert graders(items[0]) == [{"judge": {}}, {"judge": {}}]
    assert transcript(items[1], ["five", "ten"]) == "five\n\nuser: Doubled?\n\nassistant: ten"


def test_references_are_optional_and_the_questions_own_hints_are_none(files: dict[str, str]) -> None:
    items = freeze([{"mt-bench": {"path": files["path"]}}], 0)
    assert [item.target for item in items] == [None, None, None]
    assert len(outside([{"mt-bench": files}])) == 2 and len(outside([{"mt-bench": {"path": files["path"]}}])) == 1


def test_categories_and_draws(files: dict[str, str]) -> None:
    items = freeze([{"mt-bench": {**files, "categories": ["math"]}}], 0)
    assert [item.meta["category"] for item in items] == ["math", "math"]
    assert len(freeze([{"mt-bench": {**files, "n": 2}}], 1)) == 2
    with pytest.raises(EvaluationError, match="no category 'maths'") as caught:
        freeze([{"mt-bench": {**files, "categories": ["maths"]}}], 0)
    assert "did you mean 'math'" in caught.value.hint


@pytest.mark.parametrize(
    ("question", "reference", "says"),
    [
        ({"turns": ["one", ""]}, {}, "`turns` must be a list of texts"),
        ({"turns": "one"}, {}, "`turns` must be a list of texts"),
        ({}, {"choices": []}, "`choices` holds no answers"),
        ({}, {"choices": [{"turns": ["one"]}]}, "question 111 has 2 turns and 1 reference answers"),
        ({}, {"choices": [{}]}, "a row has no 'turns'"),
    ],
)
def test_mistakes_have_their_line(
    question: dict[str, Any], reference: dict[str, Any], says: str, tmp_path: Path
) -> None:
    settings = {"path": lines(tmp_path / "q.jsonl", [QUESTIONS[0], {**QUESTIONS[1], **question}]),
                "references": lines(tmp_path / "r.jsonl", [{**REFERENCES[0], **reference}])}  # fmt: skip
    with pytest.raises(EvaluationError, match=says) as caught:
        freeze([{"mt-bench": settings}], 0)
    assert "jsonl:" in caught.value.where
