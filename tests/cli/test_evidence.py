"""The verbs that weigh models and judges, as a user types them: compare, leaderboard, judge."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

import tiny
from commands import Burnish, Finished

PAIRS = [
    {"prompt": f"Say {word}", "chosen": word, "rejected": f"no {word} at all"} for word in ("fox", "dog", "a", "b")
]


def test_compare_all_models_of_a_run(finished: Finished, burnish: Burnish, tmp_path: Path) -> None:
    page = tmp_path / "gains.html"
    said = burnish("compare", "loop", "--store", finished.store, "--html", page, "--flips", 1)
    assert said.code == 0, said.err
    assert "overall" in said.out and "base" in said.out and "95% interval" in said.out
    assert "<svg" in page.read_text(encoding="utf-8")
    rows = json.loads(burnish("compare", "loop", "--store", finished.store, "--json", "--flips", 2).out)
    assert rows[0]["model"] == "base" and len(rows) > 1
    assert rows[1]["gains"][-1]["task"] == "overall" and len(rows[1]["flips"]) <= 2


def test_compare_models_on_tasks(finished: Finished, burnish: Burnish, tmp_path: Path) -> None:
    models = [tiny.tiny_model("llama", tmp_path / name, seed=seed) for seed, name in enumerate(("one", "two"))]
    said = burnish("compare", *models, "--tasks", "pebble-choices", "--limit", 6, "--store", tmp_path / "store")
    assert said.code == 0, said.err
    assert str(models[1]) in said.out and "items to show" in said.out


@pytest.mark.parametrize(
    ("what", "message"),
    [(["nowhere"], "nowhere"), (["loop", "--suite", "devv"], "did you mean 'dev'"), (["a", "b"], "holds no answers")],
)
def test_compare_says_what_it_cannot_find(what: list[str], message: str, finished: Finished, burnish: Burnish) -> None:
    said = burnish("compare", *what, "--store", finished.store)
    assert said.code != 0 and message in said.err and "Traceback" not in said.err


@pytest.mark.parametrize("line", [b'{"id": "a"}', b"{", b"\n", b"[1]", b'{"id": "\xe9"}'])
def test_compare_says_which_row_is_no_answer(line: bytes, burnish: Burnish, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_bytes(line + b"\n")
    said = burnish("compare", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--store", tmp_path / "store")
    assert said.code == 1 and "Traceback" not in said.err
    assert "a.jsonl:1\n" in said.err and "a row is no answer" in said.err


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["eval", "pebble", "--tasks", "pebble-facts", "--shots", "5"], "--shots belongs to --lm-eval"),
        (["eval", "pebble", "--tasks", "pebble-facts", "--save", "x"], "--save belongs to --lm-eval"),
        (["eval", "pebble", "--lm-eval", "mmlu", "--judge", "x"], "--judge has no part in --lm-eval"),
        (["eval", "new", "rows.jsonl", "--limit", "3"], "--limit has no part in `eval new`"),
        (["eval", "pebble", "pebble", "--tasks", "pebble-facts"], "'pebble' is named twice"),
        (["compare", "pebble", "x", "--tasks", "pebble-facts", "--suite", "dev"], "leave one of them out"),
        (["judge", "pebble", "--pairs", "x", "--with", "{pointwise"], "not valid YAML"),
        (["judge", "pebble", "--pairs", "x", "--with", "{pointwise: {scale: 1}}"], "scale"),
    ],
)
def test_options_of_which_nothing_would_come_are_refused(asked: list[str], message: str, burnish: Burnish) -> None:
    said = burnish(*asked)
    assert said.code == 2 and message in said.err and "Traceback" not in said.err


def test_leaderboard(burnish: Burnish, tmp_path: Path) -> None:
    file = tmp_path / "judged.jsonl"
    rows = [{"instruction": f"q{k}", "model": model, "output": f"{model} {k}" if model != "null" else "me!",
             "baseline_output": "base", "preference": value} for k in range(12)
            for model, value in (("good", 1.9), ("poor", 1.1), ("null", 1.8))]  # fmt: skip
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    said = burnish("leaderboard", file)
    assert said.code == 0, said.err
    assert said.out.index("good") < said.out.index("poor")
    assert "ALARM: null" in said.err and "the judge is fooled" in said.err
    found = json.loads(burnish("leaderboard", file, "--json").out)
    assert set(found[0]) == {"model", "n", "win_rate", "win_rate_se", "lc_win_rate", "lc_win_rate_se"}
    assert {row["model"]: round(row["win_rate"]) for row in found} == {"good": 90, "null": 80, "poor": 10}


def test_judge_prints_a_card(burnish: Burnish, tmp_path: Path) -> None:
    pairs, verdicts = tmp_path / "pairs.jsonl", tmp_path / "verdicts.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in PAIRS), encoding="utf-8")
    model = tiny.tiny_model("llama", tmp_path / "model", max_position_embeddings=1024)
    said = burnish("judge", model, "--pairs", pairs, "--save", verdicts, "--null", 2, "--store", tmp_path / "store")
    assert said.code == 0, said.err
    assert "Cohen's kappa with people" in said.out and "answers to nothing win: empty" in said.out
    kept = [json.loads(line) for line in verdicts.read_text(encoding="utf-8").splitlines()]
    assert len(kept) == 4 and kept[0]["verdict"]["preference"] is not None
    wrong = burnish("judge", model, "--pairs", pairs, "--with", "reward", "--store", tmp_path / "store")
    assert wrong.code == 1 and "gives text and no scores" in wrong.err


def test_eval_runs_tasks_of_the_harness(burnish: Burnish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval")
    from lm_eval.tasks import TaskManager

    from burnish.evaluation import harness

    monkeypatch.setattr(harness, "TaskManager", partial(TaskManager, include_defaults=False))
    rows = [{"question": f"Item {k}:", "choices": ["fox", "the dog"], "answer": k % 2} for k in range(6)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "animals.yaml").write_text(
        f"task: burnish_cli\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path}/rows.jsonl}}}}\n"
        'test_split: test\noutput_type: multiple_choice\ndoc_to_text: "{{question}}"\ndoc_to_choice: "{{choices}}"\n'
        'doc_to_target: "{{answer}}"\nmetric_list: [{metric: acc}]\n', encoding="utf-8")  # fmt: skip
    models = [tiny.tiny_model("llama", tmp_path / name, seed=seed) for seed, name in enumerate(("one", "two"))]
    words = ["eval", *models, "--lm-eval", "burnish_cli", "--lm-tasks", tasks]
    said = burnish(*words, "--save", tmp_path / "answers")
    assert said.code == 0, said.err
    assert "burnish_cli" in said.out and "acc" in said.out and "95% interval" in said.out
    saved = [tmp_path / "answers" / f"{number}.jsonl" for number in (1, 2)]
    assert burnish("compare", *saved).code == 0
    assert json.loads(burnish(*words, "--json").out)[str(models[0])]["burnish_cli"]["sample_len"] == 6
    wrong = burnish("eval", models[0], "--lm-eval", "burnish_clo", "--lm-tasks", tasks)
    assert wrong.code == 1 and "has no task 'burnish_clo'" in wrong.err and "burnish_cli" in wrong.err


def test_eval_takes_a_task_with_its_data_in_one_word(burnish: Burnish, tmp_path: Path) -> None:
    data = tmp_path / "mmlu"
    data.mkdir()
    for split, count in (("dev", 5), ("test", 4)):
        rows = [{"question": f"{split} {k}?", "subject": "maths", "choices": ["a", "b", "c", "d"], "answer": k % 4}
                for k in range(count)]  # fmt: skip
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    model = tiny.tiny_model("llama", tmp_path / "model", max_position_embeddings=2048)
    (model / "chat_template.jinja").unlink()  # a base model needs none to be asked in plain text
    said = burnish("eval", model, "--tasks", f"mmlu={data}", "--store", tmp_path / "store")
    assert said.code == 0, said.err
    assert "mmlu" in said.out and "n=4" in said.out
    talks = burnish("eval", model, "--tasks", "pebble-arithmetic", "--store", tmp_path / "store")
    assert talks.code != 0 and "no chat template" in talks.err
