"""A task from a file of one's own, from its rows to scores, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from commands import Burnish

SUMS = [{"question": f"{n} + 1?", "answer": n + 1} for n in range(40)]


def rows(path: Path, found: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a file of questions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BURNISH_STORE", str(tmp_path / "store"))
    rows(tmp_path / "sums.jsonl", SUMS)
    return tmp_path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_model("llama", tmp_path_factory.mktemp("model"), max_position_embeddings=1024)


def test_one_command_looks_tries_and_writes(burnish: Burnish, here: Path) -> None:
    said = burnish("eval", "new", "sums.jsonl")
    assert said.code == 0, said.err
    assert "sums.jsonl: 40 rows, kind numeric (its answers are numbers)" in said.out
    assert "  | user: 0 + 1?" in said.out
    assert "a right answer, '1', scores 1.0\na wrong answer, '2', scores 0.0: read '2', expected '1'" in said.out
    # 40 items at 50 %: Wilson's half width is 0.148; a fifth are 8 items, and all 8 of them must go one way: p = 0.008
    # (7 against 1 has p = 0.07)
    assert "40 items: a score near 50 % is known to about ±15 points." in said.out
    assert "told apart from about 20 points on" in said.out
    assert said.out.endswith("wrote sums.yaml\nnext:  burnish eval pebble --tasks sums.yaml\n"
                             "       suites: {dev: {tasks: [./sums.yaml]}}      in a recipe\n")  # fmt: skip
    text = (here / "sums.yaml").read_text()
    assert yaml.safe_load(text) == {"jsonl": {"path": "sums.jsonl", "name": "sums", "prompt": "question",
                                              "answer": "answer", "grader": "numeric"}}  # fmt: skip
    assert text.count("#") > 8 and max(map(len, text.splitlines())) <= 120
    again = burnish("eval", "new", "sums.jsonl")
    assert again.code == 2 and "sums.yaml is there already" in again.err
    assert burnish("eval", "new", "sums.jsonl", "--force").code == 0


def test_the_result_is_also_json(burnish: Burnish, here: Path) -> None:
    found = json.loads(
        burnish("eval", "new", "sums.jsonl", "--to", "tasks/mine.yaml", "--name", "adding", "--json").out
    )
    assert (found["kind"], found["items"], found["needs_judge"]) == ("numeric", 40, False)
    assert found["settings"]["name"] == "adding" and found["tried"][0] == {
        "text": "1", "right": True, "score": 1.0, "why": "",
    }  # fmt: skip
    assert yaml.safe_load((here / "tasks" / "mine.yaml").read_text())["jsonl"]["path"] == "../sums.jsonl"


def test_broken_rows_are_all_told_and_nothing_is_written(burnish: Burnish, here: Path) -> None:
    rows(here / "bad.jsonl", [*SUMS, *({"question": f"{n}?", "answer": "none"} for n in range(25))])
    said = burnish("eval", "new", "bad.jsonl", "--kind", "numeric")
    assert said.code == 2 and "25 problems in 65 rows; nothing was written" in said.out
    assert said.err.count("the target 'none' holds no number") == 20 and "and 5 more" in said.err
    assert "bad.jsonl:41: the target" in said.err and "--clean FILE.jsonl" in said.err
    assert not (here / "bad.yaml").exists()
    problems = json.loads(burnish("eval", "new", "bad.jsonl", "--kind", "numeric", "--json").out)["problems"]
    assert problems[0] == {"what": "the target 'none' holds no number", "where": "bad.jsonl:41", "try": ""}


def test_rows_with_problems_can_be_left_out(burnish: Burnish, here: Path) -> None:
    rows(here / "bad.jsonl", [*SUMS, {"question": "x?", "answer": "none"}, SUMS[4]])
    said = burnish("eval", "new", "bad.jsonl", "--clean", "good.jsonl")
    assert said.code == 0, said.err
    assert "left out: bad.jsonl:41: the target 'none' holds no number" in said.err
    assert "left out: bad.jsonl:42: the same question as bad.jsonl:5" in said.err
    assert "wrote good.jsonl: 40 of 42 rows" in said.err and "40 items:" in said.out
    assert (here / "good.jsonl").read_text() == (here / "sums.jsonl").read_text()
    settings = yaml.safe_load((here / "bad.yaml").read_text())["jsonl"]
    assert (settings["path"], settings["name"]) == ("good.jsonl", "bad")
    again = burnish("eval", "new", "bad.jsonl", "--clean", "good.jsonl", "--to", "other.yaml")
    assert again.code == 2 and "good.jsonl is there already" in again.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["eval", "new"], "`eval new` takes one file"),
        (["eval", "new", "a", "b"], "`eval new` takes one file"),
        (["eval", "new", "none.jsonl"], "no such file: none.jsonl"),
        (["eval", "new", "sums.jsonl", "--kind", "numerik"], "did you mean 'numeric'?"),
        (["eval", "new", "sums.jsonl", "--answer", "anser"], "did you mean 'answer'?"),
        (["eval", "new", "sums.jsonl", "--to", "mine.txt"], "--to mine.yaml"),
        (["eval", "new", "one.jsonl"], "one item measures nothing"),
        (["eval", "pebble", "--kind", "exact"], "belongs to `burnish eval new FILE`"),
        (["eval", "pebble", "--tasks", "none.yaml"], "`burnish eval new FILE.jsonl` writes one"),
        (["eval", "pebble", "--tasks", "pebble-facts", "--judge-with", "pointwise"], "--judge MODEL"),
        (["eval", "pebble", "--tasks", "pebble-facts", "--judge", "pebble", "--judge-with", "{a"], "not valid YAML"),
    ],
)
def test_wrong_requests(words: list[str], says: str, burnish: Burnish, here: Path) -> None:
    rows(here / "one.jsonl", SUMS[:1])
    said = burnish(*words)
    assert said.code == 2 and says in said.err and "Traceback" not in said.err


def test_help_names_the_kinds(burnish: Burnish) -> None:
    text = " ".join(burnish("eval", "--help").out.split())
    assert "choice, letter, numeric, exact, regex, code, judged, multi-turn" in text and "--judge" in text


def test_a_task_file_is_scored_and_is_the_same_task_in_a_recipe(burnish: Burnish, here: Path, model: Path) -> None:
    assert burnish("eval", "new", "sums.jsonl").code == 0
    words = ["eval", model, "--tasks", "sums.yaml,pebble-arithmetic", "--limit", "3", "--max-tokens", "4", "--json"]
    (found,) = json.loads(burnish(*words).out).values()
    assert [(row["task"], row["n"]) for row in found["reports"]] == [
        ("sums", 3), ("pebble-arithmetic", 3), ("overall", 6),
    ]  # fmt: skip
    recipe = here / "r.yaml"
    recipe.write_text(f"base: {model}\nsuites: {{dev: {{tasks: [./sums.yaml]}}}}\n"
                      "steps: {scores: {use: evaluate, models: [base], suites: [dev], max_tokens: 4}}\n")  # fmt: skip
    said = burnish("run", recipe)
    assert said.code == 0 and "40 items of 1 tasks frozen" in said.err, said.err
    text = (here / "sums.yaml").read_text()
    (here / "sums.yaml").write_text("# another comment\n" + text)
    states = {row["step"]: row["state"] for row in json.loads(burnish("plan", recipe, "--json").out)["steps"]}
    assert states["suite:dev"] == states["scores/base@dev"] == "cached", "a comment makes no other suite"
    (here / "sums.yaml").write_text(text + "  n: 5\n")
    states = {row["step"]: row["state"] for row in json.loads(burnish("plan", recipe, "--json").out)["steps"]}
    assert states["suite:dev"] == "new"
    (here / "sums.yaml").write_text(text + "  m: 5\n")
    said = burnish("plan", recipe)
    assert said.code == 2 and "r.yaml:2: suites.dev.tasks.0" in said.err and "unknown key 'm'" in said.err


def test_turns_that_a_judge_scores(burnish: Burnish, here: Path, model: Path) -> None:
    rows(here / "talks.jsonl", [{"turns": [f"Name {what}.", "Another?"]} for what in ("a fish", "a bird", "a tree")])
    said = burnish("eval", "new", "talks.jsonl")
    assert said.code == 0 and "a judge model scores the answers" in said.out
    assert "--tasks talks.yaml --judge MODEL" in said.out
    alone = burnish("eval", model, "--tasks", "talks.yaml", "--max-tokens", "4")
    assert alone.code == 2 and "only a judge can score these items" in alone.err
    words = ["eval", model, "--tasks", "talks.yaml", "--max-tokens", "4", "--judge", model, "--judge-with"]
    (found,) = json.loads(burnish(*words, "{pointwise: {by: logprob}}", "--json").out).values()
    assert [(row["task"], row["n"]) for row in found["reports"]] == [
        ("talks/turn-1", 3), ("talks/turn-2", 3), ("talks", 6), ("overall", 6),
    ]  # fmt: skip
    assert all(0 <= row["low"] <= row["mean"] <= row["high"] <= 1 for row in found["reports"])
    assert "`pairwise` compares two answers" in burnish(*words, "pairwise").err
    manifest = json.loads((here / "store" / "artifacts" / found["scores"] / "manifest.json").read_text())
    assert manifest["inputs"]["judge"] and manifest["config"]["judge"] == {"pointwise": {"by": "logprob"}}
    assert manifest["summary"]["judge"] == str(model)


def test_without_a_judge_the_rest_is_scored(burnish: Burnish, here: Path, model: Path) -> None:
    rows(here / "open.jsonl", [{"prompt": "Write of the sea."}, {"prompt": "Write of the sky."}])
    assert burnish("eval", "new", "open.jsonl").code == 0
    said = burnish("eval", model, "--tasks", "open.yaml,pebble-choices", "--limit", "2", "--max-tokens", "4")
    assert said.code == 0, said.err
    assert "2 of 4 items unscored: a judge scores them, and none was named" in said.err
    assert "no score  n=0, 2 unscored" in said.out and "n=2, 2 unscored" in said.out


def test_a_page_is_made_where_a_suite_waits_for_a_judge(burnish: Burnish, here: Path, model: Path) -> None:
    rows(here / "open.jsonl", [{"prompt": "Write of the sea."}, {"prompt": "Write of the sky."}])
    (here / "r.yaml").write_text(f"""\
base: {model}
suites:
  open: {{tasks: [{{jsonl: {{path: open.jsonl, grader: judge}}}}]}}
  facts: {{tasks: [{{pebble-choices: {{n: 4}}}}]}}
steps: {{scores: {{use: evaluate, models: [base], suites: [open, facts], max_tokens: 4}}}}
""")
    said = burnish("run", "r.yaml")
    assert said.code == 0 and "no score over 2 items, 2 answers unscored" in said.err, said.err
    page = Path(said.out.rpartition("report: ")[2].strip()).with_suffix(".md").read_text()
    assert "| overall | base | ? | ? to ? | 0 | 2 |" in page


def test_the_judge_is_a_model_of_the_recipe(burnish: Burnish, here: Path, model: Path) -> None:
    rows(here / "open.jsonl", [{"prompt": "Write of the sea."}, {"prompt": "Write of the sky."}])
    recipe = here / "r.yaml"
    recipe.write_text(f"""\
base: {model}
suites: {{open: {{tasks: [{{jsonl: {{path: open.jsonl, grader: judge}}}}]}}}}
steps:
  mixed: {{use: merge, models: [base, {model}], method: linear}}
  scores: {{use: evaluate, models: [base], suites: [open], max_tokens: 4,
           judge: {{model: $mixed, how: {{pointwise: {{by: logprob}}}}}}}}
""")
    said = burnish("run", recipe)
    assert said.code == 0, said.err
    wrong = burnish("plan", recipe, "--set", "steps.scores.judge.model=$scores")
    assert wrong.code == 2
    wrong = burnish("plan", recipe, "--set", "steps.scores.judge.how=pointwize")
    assert wrong.code == 2 and "did you mean 'pointwise'?" in wrong.err
    nobody = burnish("plan", recipe, "--set", "steps.scores.judge=null")
    assert nobody.code == 2 and "only a judge can score these items" in nobody.err


def test_programs_are_scored_in_the_sandbox(burnish: Burnish, here: Path, model: Path) -> None:
    rows(here / "code.jsonl", [{"prompt": f"Add {n}.", "tests": f"assert add({n}, 2) == {n + 2}",
                                "solution": "def add(a, b): return a + b"} for n in range(2)])  # fmt: skip
    assert burnish("eval", "new", "code.jsonl").code == 0
    said = burnish("eval", model, "--tasks", "code.yaml", "--max-tokens", "8")
    assert said.code == 0 and "code " in said.out and "0.0%" in said.out, said.err
