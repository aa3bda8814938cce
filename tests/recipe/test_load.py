"""From YAML to a graph: names, rounds, implicit steps, and every mistake with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.errors import BurnishError, Problems
from burnish.recipe.load import OUTSIDE, Recipe, load_recipe

SUITES = "suites: {dev: {tasks: [pebble-arithmetic]}}\n"
DATA = """\
  chats: {use: ingest, from: {pebble: {n: 20}}}
  clean: {use: filter, data: $chats, with: [{decontaminate: {against: [dev]}}]}
"""


def load(text: str, folder: Path, *overrides: str) -> Recipe:
    path = folder / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path, list(overrides))


def problems(text: str, folder: Path) -> list[str]:
    with pytest.raises(Problems) as caught:
        load(text, folder)
    return [str(problem).replace(str(folder) + "/", "") for problem in caught.value.problems]


def test_order_suites_then_baseline_then_steps_then_report(tmp_path: Path) -> None:
    recipe = load(SUITES + "steps:\n  sft: {use: sft, data: $clean}\n" + DATA, tmp_path)
    assert list(recipe.nodes) == ["suite:dev", "baseline@dev", "chats", "clean", "sft", "report"]
    assert recipe.nodes["sft"].inputs == {"model": [OUTSIDE + "pebble"], "data": ["clean"]}
    assert recipe.nodes["report"].inputs["of"] == ["suite:dev", "baseline@dev", "chats", "clean", "sft"]


def test_evaluate_is_made_of_measurements(tmp_path: Path) -> None:
    text = SUITES + "steps:\n" + DATA + "  sft: {use: sft, data: $clean}\n"
    recipe = load(text + "  scores: {use: evaluate, models: [base, $sft], suites: [dev]}\n", tmp_path)
    assert recipe.nodes["scores"].inputs == {"scores": ["scores/base@dev", "scores/sft@dev"]}
    assert recipe.nodes["scores/sft@dev"].inputs == {"model": ["sft"], "suite": ["suite:dev"]}


def test_rounds_are_written_out(tmp_path: Path) -> None:
    text = (
        SUITES
        + "steps:\n"
        + DATA
        + """\
  sft: {use: sft, data: $clean}
  improve:
    repeat: 2
    start: {model: $sft}
    steps:
      pairs: {use: preferences, prompts: $clean, models: [$model]}
      dpo: {use: preference, model: $model, data: $pairs}
    carry: {model: $dpo}
  scores: {use: evaluate, models: [$improve.model], suites: [dev]}
"""
    )
    nodes = load(text, tmp_path).nodes
    assert nodes["improve.1.pairs"].inputs["models"] == ["sft"]
    assert nodes["improve.1.dpo"].inputs == {"model": ["sft"], "data": ["improve.1.pairs"]}
    assert nodes["improve.2.pairs"].inputs["models"] == ["improve.1.dpo"]
    assert nodes["improve.2.dpo"].inputs["model"] == ["improve.1.dpo"]
    assert "scores/improve.2.dpo@dev" in nodes


def test_base_is_what_the_recipe_says(tmp_path: Path) -> None:
    recipe = load(SUITES + "steps:\n" + DATA + "  sft: {use: sft, data: $clean}\n", tmp_path, "base=./my-model")
    assert recipe.nodes["sft"].inputs["model"] == [OUTSIDE + "./my-model"]


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ("  a: {use: ingestt, from: x}", "r.yaml:3: steps.a.use: there is no step 'ingestt'"),
        ("  a: {from: x}", "r.yaml:3: steps.a.use: key 'use' is missing"),
        ("  a: {use: filter, data: $b, with: [exact]}", "r.yaml:3: steps.a.data: there is no step 'b'"),
        ("  a: {use: filter, data: chats, with: [exact]}", "'chats' is not a reference"),
        ("  a: {use: filter, data: $a, with: [exact]}", "these steps wait for each other: a -> a"),
        ("  a: {use: ingest, from: x, formt: auto}", "r.yaml:3: steps.a.formt: unknown key 'formt'"),
        ("  a: {use: ingest, from: x, format: sharegtp}", "did you mean 'sharegpt'?"),
        ("  a: {use: dpo, data: $b}", "here it is `use: preference`, objective: dpo"),
        ("  a: {use: preference, data: $b, objective: ipo}", "here it is `{dpo: {variant: ipo}}`"),
        ("  a: {use: sft, data: $b, train: {lr: 1}}", "here it is `learning_rate`"),
        ("  a: {use: sft, data: $b, lora: {r: 1}}", "here it is `rank`"),
        ("  a: {use: sft, data: $b, sequence_len: 1}", "here it is `max_tokens`"),
        ("  a: {use: sft, data: $b, batch_size: 1}", "it belongs to `train`: {batch_size: ...}"),
        ("  a: {use: ingest, from: x, limit: many}", "r.yaml:3: steps.a.limit"),
        ("  a: {use: filter, data: $a, with: [exat]}", "there is no filter 'exat'"),
        ("  a: {use: evaluate, models: [base], suites: [dve]}", "there is no suite 'dve'"),
        ("  a b: {use: ingest, from: x}", "'a b' cannot name a step"),
        ("  a: {use: ingest, from: x}\n  b: {use: merge, models: [$a, $a]}", "$a makes a dataset, and a model is"),
        ("  a: {use: measure, model: base, suite: dev}", "there is no step 'measure'"),
        ("  a: {repeat: 2, start: {m: base}, steps: {}}", "'m' must be in both `start` and `carry`"),
    ],
)  # fmt: skip
def test_mistakes_are_named(tmp_path: Path, steps: str, says: str) -> None:
    found = problems(SUITES + "steps:\n" + steps + "\n", tmp_path)
    assert any(says in problem for problem in found), found


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    found = problems("suites: {dev: {taks: []}}\nsteps:\n  a: {use: nope}\n  b: {use: sft}\n", tmp_path)
    text = "\n".join(found)
    assert "'taks'" in text and "'tasks' is missing" in text and "'nope'" in text and "steps.b.data" in text


def test_a_missing_recipe_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(BurnishError, match="no such file"):
        load_recipe(tmp_path / "none.yaml")
