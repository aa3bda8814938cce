"""Duels and scorecards as steps of a recipe: a judge, human labels, votes, and the verdict on the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from burnish.errors import Problems
from burnish.evaluation.duels import FEWEST
from burnish.evaluation.votes import Vote, VoteStore
from burnish.log import listening
from burnish.recipe.load import recipe_from
from burnish.recipe.plan import Plan
from burnish.recipe.run import RunResult, run_plan
from burnish.types import Message
from burnish.workspace import Workspace

N = 24


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Any]:
    items = tmp_path / "items.jsonl"
    rows = [{"prompt": f"Say {k} and the lazy dog", "answer": "fox"} for k in range(N)]
    items.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    folders = {name: str(tiny.tiny_model("llama", tmp_path / name, seed=seed, max_position_embeddings=1024))
               for seed, name in enumerate(("base", "other", "judge"))}  # fmt: skip
    return {
        "base": folders["base"],
        "suites": {"dev": {"tasks": [{"jsonl": {"path": str(items), "name": "own"}}]}},
        "steps": {
            "scores": {"use": "evaluate", "models": [folders["other"]], "suites": ["dev"], "max_tokens": 6},
            "duel": {"use": "duel", "models": [folders["other"]], "suite": "dev", "max_tokens": 6,
                     "judge": {"model": folders["judge"]}, "retest": 4, "null": 3},
            "verdict": {"use": "scorecard", "of": ["$scores", "$duel"]},
            "page": {"use": "report"},
        },
    }  # fmt: skip


def run(parts: dict[str, Any], tmp_path: Path) -> RunResult:
    return run_plan(Plan(recipe_from("duels", parts), Workspace(tmp_path / "store")))


def other(parts: dict[str, Any]) -> str:
    return str(parts["steps"]["duel"]["models"][0])


def test_a_duel_has_a_card_and_the_scorecard_a_reason(parts: dict[str, Any], tmp_path: Path) -> None:
    said: list[str] = []
    with listening(said.append):
        result = run(parts, tmp_path)
    summary = result.artifacts["duel"].manifest.summary
    row = summary["duels"][other(parts)]
    assert row["wins"]["n"] == N - row["unscored"] and row["corrected"] is None
    for alarm in summary["card"]["alarms"]:
        assert any(line.startswith("ALARM: judge") and line.endswith(alarm) for line in said)
    assert summary["card"]["alarms"]  # random weights judge
    assert summary["card"]["pairs"] == N and summary["card"]["retest"]["n"] == 4
    (decision,) = result.artifacts["verdict"].manifest.summary["decisions"]
    assert decision["model"] == other(parts) and decision["action"] in ("promote", "hold", "collect more")
    assert [one["source"] for one in decision["evidence"]] == ["benchmark", "judge"]
    html = (result.folder / "report.html").read_text(encoding="utf-8")
    text = (result.folder / "report.md").read_text(encoding="utf-8")
    for page in (html, text):
        assert "What to do" in page and "Judge card" in page and decision["action"] in page
    assert "can be fooled" in html or not summary["card"]["alarms"]


def test_answers_are_measured_once_for_both_steps(parts: dict[str, Any], tmp_path: Path) -> None:
    result = run(parts, tmp_path)
    measured = {artifact.id for artifact in result.artifacts.values() if artifact.manifest.kind == "scores"}
    assert len(measured) == 2


def test_human_labels_correct_the_judge(parts: dict[str, Any], tmp_path: Path) -> None:
    labels = tmp_path / "labels.jsonl"
    rows = [{"prompt": f"Say {k} and the lazy dog", "model": other(parts), "baseline": "base", "preference": k % 2}
            for k in range(FEWEST + 2)]  # fmt: skip
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    parts["steps"]["duel"]["labels"] = str(labels)
    result = run(parts, tmp_path)
    row = result.artifacts["duel"].manifest.summary["duels"][other(parts)]
    assert row["corrected"]["humans"]["n"] == FEWEST + 2
    assert row["corrected"]["humans"]["mean"] == pytest.approx(0.5)
    (decision,) = result.artifacts["verdict"].manifest.summary["decisions"]
    assert [one["source"] for one in decision["evidence"]] == ["benchmark", "judge", "corrected"]


def test_votes_of_an_arena_are_evidence_and_labels(parts: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "votes.sqlite"
    store = VoteStore(file)
    for k in range(20):
        ask = Message("user", f"Say {k} and the lazy dog")
        talks = [(ask, Message("assistant", text)) for text in ("one", "two")]
        store.add(Vote(f"b{k}", "base", other(parts), "model_b" if k else "model_a", f"voter {k % 5}", 1, True, "en",
                       None, *talks))  # fmt: skip
    store.close()
    parts["steps"]["verdict"]["votes"] = str(file)
    parts["steps"]["duel"]["labels"] = str(file)
    result = run(parts, tmp_path)
    (decision,) = result.artifacts["verdict"].manifest.summary["decisions"]
    votes = next(one for one in decision["evidence"] if one["source"] == "votes")
    assert votes["low"] > 0 and votes["n"] == 20
    corrected = result.artifacts["duel"].manifest.summary["duels"][other(parts)]["corrected"]
    assert corrected["humans"]["mean"] == pytest.approx(19 / 20)


def test_a_judge_that_rates_answers_has_a_card(parts: dict[str, Any], tmp_path: Path) -> None:
    judge = parts["steps"]["duel"]["judge"]["model"]
    parts["suites"]["dev"]["tasks"][0]["jsonl"]["grader"] = "judge"
    parts["steps"]["scores"]["judge"] = {"model": judge, "how": {"pointwise": {"by": "logprob"}}}
    del parts["steps"]["duel"]
    parts["steps"]["verdict"]["of"] = ["$scores"]
    result = run(parts, tmp_path)
    summary = result.artifacts["scores"].manifest.summary
    assert summary["judge"] == judge and summary["card"]["pairs"] == N
    assert set(summary["card"]["null"]) == {"empty", "evasive", "flattering", "commanding"}
    assert summary["card"]["flips"]["mean"] == 0.0  # ratings know no order
    (decision,) = result.artifacts["verdict"].manifest.summary["decisions"]
    assert decision["evidence"][0]["doubts"] == summary["card"]["alarms"]
    assert "Judge card" in (result.folder / "report.md").read_text(encoding="utf-8")


def test_a_judge_that_makes_pairs_has_a_card(parts: dict[str, Any], tmp_path: Path) -> None:
    judge = parts["steps"]["duel"]["judge"]["model"]
    chats = tmp_path / "chats.jsonl"
    rows = [{"prompt": f"Say {k} twice", "completion": "fox"} for k in range(6)]
    chats.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    parts["steps"] = {
        "chats": {"use": "ingest", "from": str(chats)},
        "pairs": {"use": "preferences", "prompts": "$chats", "models": ["base", other(parts)], "n": 2, "max_tokens": 5,
                  "scorer": "judge", "judge": judge, "judge_with": {"pointwise": {"by": "logprob"}},
                  "min_margin": 1e-6},
        "page": {"use": "report"},
    }  # fmt: skip
    result = run(parts, tmp_path)
    summary = result.artifacts["pairs"].manifest.summary
    assert summary["judge_card"]["pairs"] == summary["rows"] > 0
    parts["steps"]["pairs"]["judge"] = "$chats"
    with pytest.raises(Problems, match="makes a dataset, and a judge is a model"):
        run(parts, tmp_path)
    assert summary["judge_card"]["retest"]["mean"] == 1.0
    assert "Judge card" in (result.folder / "report.html").read_text(encoding="utf-8")


def test_problems_are_found_before_any_compute(parts: dict[str, Any], tmp_path: Path) -> None:
    parts["steps"]["duel"]["labels"] = "nowhere.jsonl"
    parts["steps"]["verdict"]["votes"] = "nowhere.sqlite"
    parts["steps"]["rows"] = {"use": "ingest", "from": str(tmp_path / "items.jsonl")}
    parts["steps"]["verdict"]["of"] = ["$scores", "$rows"]
    with pytest.raises(Problems) as caught:
        run(parts, tmp_path)
    said = str(caught.value)
    assert "no such file: nowhere.jsonl" in said and "no such file: nowhere.sqlite" in said
    assert "makes a dataset, which is no evidence" in said


def test_a_label_that_is_none_is_named(parts: dict[str, Any], tmp_path: Path) -> None:
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"prompt": "a", "model": "b", "baseline": "c", "preference": 7}\n', encoding="utf-8")
    parts["steps"]["duel"]["labels"] = str(labels)
    with pytest.raises(Problems, match=r"labels.jsonl:1: a row is no human label"):
        run(parts, tmp_path)
