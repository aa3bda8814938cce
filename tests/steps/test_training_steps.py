"""Every step that trains, through a recipe: what it makes, what it keeps, and two processes as a user starts them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import loop
from burnish.errors import Problems, TrainingError
from burnish.models.load import load_model
from burnish.models.scores import score_answers, score_steps
from burnish.recipe.load import load_recipe
from burnish.recipe.plan import Plan
from burnish.recipe.run import RunResult, run_plan
from burnish.types import STEP, Example, Message
from burnish.workspace import Workspace

STEPS = """
steps:
  chats:    {{use: ingest, from: {folder}/chats.jsonl}}
  clean:    {{use: filter, data: $chats, with: [{{decontaminate: {{against: [dev, hard]}}}}]}}
  answers:  {{use: ingest, from: {folder}/labelled.jsonl}}
  judged:   {{use: filter, data: $answers, with: [{{decontaminate: {{against: [dev, hard]}}}}]}}
  reasoned: {{use: ingest, from: {folder}/steps.jsonl}}
  checked:  {{use: filter, data: $reasoned, with: [{{decontaminate: {{against: [dev, hard]}}}}]}}
  couples:  {{use: ingest, from: {folder}/pairs.jsonl}}
  pairs:    {{use: filter, data: $couples, with: [{{decontaminate: {{against: [dev, hard]}}}}]}}
  sft:      {{use: sft, data: $clean, train: {train}, watch: {{suite: dev, every: 2, max_tokens: 8}}, track: tensorboard}}
  lora:     {{use: sft, data: $clean, lora: {{rank: 2, also: [embeddings]}}, train: {train}}}
  kto:      {{use: preference, data: $judged, objective: kto, train: {train}}}
  apart:    {{use: preference, data: $pairs, objective: {{kto: {{variant: apo_zero}}}}, lora: {{rank: 2}}, train: {train}}}
  reward:   {{use: reward, data: $pairs, objective: {{bradley_terry: {{margins: true}}}}, train: {train}}}
  process:  {{use: reward, data: $checked, objective: steps, train: {train}}}
  distill:  {{use: distill, teacher: $sft, data: $clean, train: {train}}}
  whole:    {{use: fold, model: $lora, dtype: float32}}
  graded:   {{use: reward, data: $pairs, lora: {{rank: 2, init: pissa}}, train: {train}}}
  grader:   {{use: fold, model: $graded, dtype: float32}}
"""  # noqa: E501
TRAIN = "{learning_rate: 1e-3, batch_size: 4, max_steps: 3}"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe with the steps above, and the rows they learn from."""
    path = loop.write_loop(tmp_path)
    head = path.read_text().partition("steps:")[0]
    path.write_text(head + STEPS.format(folder=tmp_path, train=TRAIN).lstrip())
    some = loop.COLOURS
    loop.rows(tmp_path / "labelled.jsonl", *({"prompt": f"Say {one}", "completion": one if n % 2 else "no", "label":
                                              bool(n % 2)} for n, one in enumerate(some)))  # fmt: skip
    loop.rows(tmp_path / "steps.jsonl", *({"prompt": f"Spell {one}", "completions": [one[0], one[1:], "done"],
                                           "labels": [True, n % 2 == 0, True]}
                                          for n, one in enumerate(some)))  # fmt: skip
    loop.rows(tmp_path / "pairs.jsonl", *({"prompt": f"Say {one}", "chosen": one, "rejected": "no", "margin": 0.5}
                                          for one in some))  # fmt: skip
    return path


def run(recipe: Path, store: Workspace, *overrides: str) -> RunResult:
    return run_plan(Plan(load_recipe(recipe, list(overrides)), store))


def test_every_training_step(recipe: Path, store: Workspace) -> None:
    made = run(recipe, store).artifacts
    facts = {name: artifact.manifest.summary for name, artifact in made.items()}
    trained = ("sft", "lora", "kto", "apart", "reward", "process", "distill", "graded")
    assert all(facts[name]["training"]["steps"] == 3 for name in trained)
    assert facts["kto"]["rows"] == 12 and facts["apart"]["rows"] == 24  # 12 answers; 12 pairs taken apart
    assert {facts[name]["unit"] for name in trained} == {"token", "answer", "comparison", "step", "distribution"}

    # what is watched is looked at after 2 steps and at the end, its answers are kept, its numbers go to the tracker
    assert [step for step, *_ in facts["sft"]["training"]["looks"]] == [2, 3]
    samples = [json.loads(line) for line in made["sft"].file("samples.jsonl").read_text().splitlines()]
    assert [row["step"] for row in samples] == [2, 2, 3, 3]
    assert list((store.root / "tracking").rglob("events.out.tfevents*"))

    # the folded model is the adapter's, by its certificate and by its logits; its matrices are still one
    certificate = json.loads(made["whole"].file("certificate.json").read_text())
    assert certificate["kl"] < 1e-6 and certificate["top1"] == 1.0 and certificate["tokens"] > 0
    ids = torch.arange(20, 40)[None]
    folded, unfolded = (load_model(made[name].file("model"), dtype="float32") for name in ("whole", "lora"))
    with torch.no_grad():
        assert torch.allclose(folded.model(input_ids=ids).logits, unfolded.model(input_ids=ids).logits, atol=1e-4)

    # the reward models score what they learned to score
    asked = (Message("user", "Say red"),)
    scores = score_answers(load_model(made["reward"].file("model"), gives="scores"), [(asked, "red"), (asked, "no")])
    assert len(scores) == 2 and scores[0] != scores[1]
    row = Example("one", (Message("user", "Spell red"), Message("assistant", STEP.join(["r", "ed", "done"]))))
    (steps,) = score_steps(load_model(made["process"].file("model"), gives="scores"), [row])
    assert len(steps) == 3 and all(0 < score < 1 for score in steps)

    # a reward model's adapter is folded too, and scores what it scored
    certificate = json.loads(made["grader"].file("certificate.json").read_text())
    assert certificate["difference_most"] < 1e-5 < certificate["size"] and certificate["tokens"] > 0
    folded, unfolded = (load_model(made[name].file("model"), dtype="float32", gives="scores")
                        for name in ("grader", "graded"))  # fmt: skip
    rows = [(asked, "red"), (asked, "no")]
    assert not hasattr(folded.model, "peft_config")
    assert score_answers(folded, rows) == pytest.approx(score_answers(unfolded, rows), abs=1e-5)

    again = run(recipe, store).artifacts
    assert {name: artifact.id for name, artifact in again.items()} == {name: one.id for name, one in made.items()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("steps.sft.watch.suite=hard", "held out"),
        ("steps.kto.data=$clean", "no label"),
        ("steps.sft.data=$judged", "answer labelled as one to avoid"),
        ("steps.reward.objective=dpo", "objectives that fit"),
        ("steps.process.data=$clean", "no labels"),
        ("steps.sft.train.shard=true", "cannot answer"),
        ("steps.reward.model=$lora", "fold it first"),
        ("steps.sft.data=$checked", "step labelled as wrong"),
        ("steps.sft.train.lora_b=16", "`lora_b` is of an adapter"),
        ("steps.apart.lora.dropout=0.1", "noise in every margin"),
        ("steps.kto.objective=[kto]", "the objective is written"),
        ("steps.sft.train.epochs=.inf", "finite"),
        ("suites.dev.tasks.0.jsonl.grader=judge", "scored by a judge"),
    ],
)
def test_what_does_not_fit_is_found_by_the_plan(change: str, said: str, recipe: Path, store: Workspace) -> None:
    with pytest.raises(Problems, match=said):
        run(recipe, store, change)


def problems(recipe: Path, store: Workspace, *overrides: str) -> list[str]:
    return [f"{problem.what} {problem.hint}" for problem in Plan(load_recipe(recipe, list(overrides)), store).problems]


def test_margins_that_are_not_there_are_missed_by_the_plan(recipe: Path, store: Workspace, tmp_path: Path) -> None:
    pairs = ({"prompt": f"Say {one}", "chosen": one, "rejected": "no"} for one in loop.COLOURS)
    loop.rows(tmp_path / "pairs.jsonl", *pairs)
    (said,) = problems(recipe, store)
    assert "the pairs of $pairs have no margins" in said and "`chosen_score` and `rejected_score`" in said


def test_pairs_that_the_template_makes_one_are_refused(recipe: Path, store: Workspace, tmp_path: Path) -> None:
    row = {"prompt": "Say red", "chosen": "red", "rejected": " red\n", "margin": 0.5}
    template = tmp_path / "model" / "chat_template.jinja"
    text = template.read_text()
    template.write_text(text.replace("message['content']", "message['content'].strip()"))
    loop.rows(tmp_path / "pairs.jsonl", row, *({**row, "chosen": one} for one in loop.COLOURS[1:]))
    said = problems(recipe, store)
    assert template.read_text() != text and any("chosen and rejected are the same tokens" in one for one in said)


def test_rows_without_targets_are_missed_before_models_answer(recipe: Path, store: Workspace) -> None:
    step = "{use: preferences, prompts: $clean, models: [$sft], grader: numeric}"
    (said,) = problems(recipe, store, f"steps.made={step}")
    assert "no answer to the rows of $clean can be scored" in said and "give each row a `target`" in said
    assert problems(recipe, store, "steps.made=" + step.replace("numeric", "{format: {kind: upper, items: [A]}}")) == []


def test_too_many_broken_rows_are_known_to_the_plan(recipe: Path, store: Workspace, tmp_path: Path) -> None:
    good = [loop.talk(f"Say {one}", one) for one in loop.COLOURS]
    loop.rows(tmp_path / "chats.jsonl", *good[:9], loop.talk("Say", ""))
    (said,) = problems(recipe, store)
    assert said.startswith("1 of the first 10 rows cannot be used; the first:") and "chats.jsonl:10" in said
    assert problems(recipe, store, "steps.chats.max_quarantined=0.2") == []


@pytest.mark.parametrize(
    ("body", "said"),
    [("return LossOutput(logprobs / 'a')", "TypeError"), ("return -logprobs.sum()", "no attribute 'total'")],
)
def test_a_loss_of_ones_own_that_fails_is_named_by_its_line(
    body: str, said: str, recipe: Path, store: Workspace, tmp_path: Path
) -> None:
    text = [
        "from typing import ClassVar", "from burnish.config import Config",
        "from burnish.objectives.parts import LossOutput", "class Mine(Config):",
        '    unit: ClassVar[str] = "token"', "    def loss(self, logprobs, weights):", f"        {body}", "",
    ]  # fmt: skip
    (tmp_path / "mine.py").write_text("\n".join(text))
    with pytest.raises(TrainingError, match=f"Mine failed: .*{said}") as caught:
        run(recipe, store, f"steps.lora.objective={{use: '{tmp_path}/mine.py:Mine'}}")
    assert caught.value.where.startswith(f"{tmp_path}/mine.py")
    assert caught.value.where.endswith(":7") == (said == "TypeError")


def test_the_loss_of_the_documentation_trains(recipe: Path, store: Workspace, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
    (tmp_path / "my_loss.py").write_text(page.split("```python\n")[1].split("```")[0], encoding="utf-8")
    choice = f"{{use: '{tmp_path}/my_loss.py:MyLoss', beta: 0.2}}"
    made = run(recipe, store, f"steps.lora.objective={choice}").artifacts["lora"]
    assert 0 < made.manifest.summary["training"]["metrics"]["focus"] <= 1


def test_a_margin_that_contradicts_its_pair_is_refused(recipe: Path, store: Workspace, tmp_path: Path) -> None:
    loop.rows(tmp_path / "pairs.jsonl", *({"prompt": f"Say {one}", "chosen": one, "rejected": "no", "margin": 0.5 - n}
                                          for n, one in enumerate(loop.COLOURS)))  # fmt: skip
    with pytest.raises(Problems, match="the rejected answer has the higher score"):
        run(recipe, store)


@pytest.mark.slow
def test_two_processes_run_a_recipe_as_one_does(recipe: Path, tmp_path: Path, store: Workspace) -> None:
    head, _, steps = recipe.read_text().partition("steps:\n")
    kept = [line for line in steps.splitlines() if line.split(":")[0].strip() in {"chats", "clean", "kto", "judged",
                                                                                 "answers", "lora"}]  # fmt: skip
    recipe.write_text(head + "steps:\n" + "\n".join(kept).replace("{use: sft", "{use: sft, dtype: float32").replace(
        "{use: preference", "{use: preference, dtype: float32") + "\n")  # fmt: skip
    alone = run(recipe, store).artifacts
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "burnish",
               "run", str(recipe), "--store", str(tmp_path / "other")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    other = Workspace(tmp_path / "other")
    for name in ("lora", "kto"):
        together = other.find(alone[name].id)
        assert together is not None
        one, two = (artifact.manifest.summary["training"] for artifact in (alone[name], together))
        assert two["tokens"] == one["tokens"] and two["loss_last"] == pytest.approx(one["loss_last"], abs=1e-5)
