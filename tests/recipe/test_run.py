"""Recipes run: every step on models of five families; cached the second time; to the same bits after kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import loop
import tiny
from burnish.errors import Problems
from burnish.evaluation.runner import compare, read_outcomes
from burnish.ledger import ledger, shares
from burnish.models.load import load_model
from burnish.recipe.load import load_recipe
from burnish.recipe.plan import Plan
from burnish.recipe.run import RunResult, run_artifacts, run_plan
from burnish.recipe.seeds import across
from burnish.workspace import Workspace


def run(recipe: Path, store: Workspace, *overrides: str) -> RunResult:
    return run_plan(Plan(load_recipe(recipe, list(overrides)), store))


@pytest.mark.parametrize("kind", [*tiny.KINDS, "gpt_oss"])
def test_the_whole_loop(kind: str, tmp_path: Path) -> None:
    recipe, store = loop.write_loop(tmp_path, kind), Workspace(tmp_path / "store")
    first = run(recipe, store)
    made = {name: artifact.manifest for name, artifact in first.artifacts.items()}

    # data: 24 rows, one copy of a test item, one repeat, one broken row
    assert (made["chats"].summary["rows"], made["chats"].summary["dropped"]) == (26, {"quarantined": 1})
    assert made["clean"].summary["dropped"] == {"exact": 1, "decontaminate": 1}
    assert made["clean"].certified == sorted(made[f"suite:{name}"].id for name in ("dev", "hard"))
    assert made["pairs"].certified == made["clean"].certified
    facts = made["pairs"].summary
    assert facts["prompts"] + sum(facts["dropped"].values()) == facts["rows_in"] == 24

    # models: whole, adapter and merge all load, and training moved them
    base = dict(load_model(tmp_path / "model", dtype="float32").model.named_parameters())
    for name in ("sft", "dpo", "mixed"):
        tuned = dict(load_model(first.artifacts[name].file("model"), dtype="float32").model.named_parameters())
        assert any(not torch.equal(base[key], tuned[key]) for key in base), name
    assert load_model(first.artifacts["lora"].file("model")).source.adapter

    # evaluation: the same items for all, differences paired with the baseline, looks counted
    table = made["scores"].summary["table"]
    assert list(table) == ["base", "sft", "lora", "dpo", "mixed"]
    outcomes = {
        name: read_outcomes(first.artifacts[f"scores/{name}@dev"].file("outcomes.jsonl")) for name in ("base", "dpo")
    }
    gain = compare(outcomes["base"], outcomes["dpo"])["overall"]
    assert table["dpo"]["dev"]["against_base"]["overall"]["difference"] == gain.difference
    assert store.looks(made["suite:hard"].summary["items"]) == 4  # every model but the base
    assert [point["n"] for point in made["voting"].summary["curves"]["majority"]] == [1, 2, 4]

    # the report is readable and about this run
    page = (first.folder / "report.html").read_text()
    assert "loop" in page and "mixed" in page and "use: preferences" in page

    second = run(recipe, store)
    assert second.made == [] and store.looks(made["suite:hard"].summary["items"]) == 4
    assert {name: one.id for name, one in second.artifacts.items()} == {name: one.id for name, one in made.items()}


@pytest.fixture
def store(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "store")


def test_a_change_remakes_what_depends_on_it_and_the_plan_says_why(tmp_path: Path, store: Workspace) -> None:
    recipe = loop.write_loop(tmp_path)
    run(recipe, store)
    plan = Plan(load_recipe(recipe, ["steps.dpo.objective={dpo: {beta: 0.5}}"]), store)
    states = {name: (planned.state, planned.why) for name, planned in plan.steps.items() if planned.state != "cached"}
    assert states.pop("dpo") == ("new", "changed setting: objective")
    assert states.pop("mixed") == ("new", "changed input: models")
    assert set(states) == {f"scores/{model}@{suite}" for model in ("dpo", "mixed") for suite in ("dev", "hard")} | {
        "scores", "voting", "report"}  # fmt: skip
    # Settings that change no result change no id.
    same = Plan(load_recipe(recipe, ["steps.sft.checkpoint_seconds=1", "steps.voting.batch_tokens=99"]), store)
    assert {planned.state for name, planned in same.steps.items() if name != "report"} == {"cached"}


def test_a_changed_file_is_noticed(tmp_path: Path, store: Workspace) -> None:
    recipe = loop.write_loop(tmp_path)
    only = f"steps={{chats: {{use: ingest, from: {tmp_path}/chats.jsonl}}}}"
    run(recipe, store, only)
    with (tmp_path / "chats.jsonl").open("a") as stream:
        stream.write('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    plan = Plan(load_recipe(recipe, [only]), store)
    assert (plan.steps["chats"].state, plan.steps["chats"].why) == ("new", "changed file")


MY_STEP = '''
from typing import Any, ClassVar, Literal

from burnish.data.io import read_rows, write_rows
from burnish.steps.base import DatasetRef, Inputs, Phase, Running, Step


class Half(Step):
    """Every second row."""

    kind: ClassVar[str] = "dataset"
    phase: ClassVar[Phase] = "data"

    use: str
    """This file."""
    data: DatasetRef
    """The rows."""

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        rows = read_rows(inputs.artifact("data").file("rows.jsonl"))
        write_rows(run.folder / "rows.jsonl", rows[::2])
        return {"rows_in": len(rows), "rows": len(rows[::2]), "dropped": {"odd": len(rows) - len(rows[::2])}}
'''


def test_a_users_own_step_and_grader_are_part_of_what_a_result_depends_on(tmp_path: Path, store: Workspace) -> None:
    recipe = loop.write_loop(tmp_path)
    mine = tmp_path / "half.py"
    mine.write_text(MY_STEP)
    words = [f"steps.half={{use: '{mine}:Half', data: $chats}}"]
    assert run(recipe, store, *words).artifacts["half"].manifest.summary["rows"] == 13
    assert Plan(load_recipe(recipe, words), store).steps["half"].state == "cached"
    mine.write_text(MY_STEP + "# changed\n")
    (tmp_path / "grader.py").write_text(loop.GRADER + "# changed\n")
    states = {name: planned.state for name, planned in Plan(load_recipe(recipe, words), store).steps.items()}
    assert (states["half"], states["suite:dev"], states["chats"]) == ("new", "new", "cached")


def test_the_settings_of_a_run_are_kept_with_their_origin(tmp_path: Path, store: Workspace) -> None:
    recipe = loop.write_loop(tmp_path)
    result = run(recipe, store, "steps.sft.train.epochs=2")
    settings = json.loads((result.folder / "resolved.json").read_text())
    assert settings["steps.sft.train.epochs"] == {"value": 2.0, "origin": "--set"}
    assert settings["steps.sft.train.batch_size"] == {"value": 4, "origin": f"{recipe}:11"}
    assert settings["steps.sft.train.clip"]["origin"] == "default"
    assert "# --set steps.sft.train.epochs=2" in (result.folder / "report.html").read_text()
    versions = json.loads((result.folder / "environment.json").read_text())["versions"]
    assert versions["torch"] == torch.__version__
    assert run_artifacts(store, result.folder).keys() == result.artifacts.keys()


@pytest.mark.parametrize("lora", ["null", "{rank: 2}"])
def test_a_model_that_is_an_adapter_is_trained_on(lora: str, tmp_path: Path, store: Workspace) -> None:
    recipe = loop.write_loop(tmp_path)
    made = run(recipe, store, "steps.dpo.model=$lora", f"steps.dpo.lora={lora}").artifacts
    tuned = load_model(made["dpo"].file("model"), dtype="float32")
    assert tuned.source.adapter == (lora != "null")
    before = load_model(made["lora"].file("model"), dtype="float32")
    ids = torch.arange(20, 40)[None]
    with torch.no_grad():
        one, other = (lm.model(input_ids=ids).logits for lm in (before, tuned))
    # bfloat16 weights and three small steps: near where it started, and not there
    assert not torch.equal(one, other) and torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1] > 0.99


def test_what_an_adapter_cannot_be_is_asked_of_new_ones_alone(tmp_path: Path, store: Workspace) -> None:
    recipe = loop.write_loop(tmp_path, "qwen3_moe")

    def problems(*overrides: str) -> list[str]:
        return [problem.what for problem in Plan(load_recipe(recipe, list(overrides)), store).problems]

    merging = ["$lora is an adapter on experts that its base's files hold one by one"]
    refused, *others = problems("steps.dpo.lora={rank: 2, init: orthogonal}")
    assert "the adapter does not fit: 'Qwen3MoeExperts' object" in refused and others == merging
    assert problems() == merging
    assert problems("steps.lora.lora={rank: 2, targets: [q_proj, o_proj], init: pissa}") == []
    continued = ("steps.dpo.model=$lora", "steps.dpo.lora={rank: 2, init: orthogonal}")
    assert problems(*continued) == merging


def test_what_must_fail_is_planned(tmp_path: Path, store: Workspace) -> None:
    recipe = loop.write_loop(tmp_path)

    def problems(*overrides: str) -> list[str]:
        return [problem.what for problem in Plan(load_recipe(recipe, list(overrides)), store).problems]

    assert problems() == []
    assert problems("steps.whole={use: fold, model: $sft}") == [
        "$sft makes a whole model, and an adapter is folded here"
    ]
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    size = weights.stat().st_size
    assert f"the file ends after {size:,} of {size + 7:,} bytes" in problems()
    (tmp_path / "model" / "old.safetensors").write_bytes(b"nothing that is read")
    assert set(problems()) == {f"the file ends after {size:,} of {size + 7:,} bytes"}
    weights.write_bytes(b"<html>not found</html>")
    assert "not a safetensors file, or the beginning of one" in problems()


def test_steps_of_one_seed_differ_by_their_settings_alone(tmp_path: Path, store: Workspace) -> None:
    recipe = loop.write_loop(tmp_path)
    same = "{use: sft, data: $clean, train: {max_steps: 2, batch_size: 4}, seed: 3}"
    other = "{use: sft, data: $clean, train: {max_steps: 2, batch_size: 4}}"
    plan = Plan(
        load_recipe(recipe, [f"steps.a={same}", f"steps.b={same}", f"steps.c={other}", f"steps.d={other}"]), store
    )
    ids = {name: plan.steps[name].id for name in "abcd"}
    assert ids["a"] == ids["b"] and len(set(ids.values())) == 3
    moved = Plan(load_recipe(recipe, [f"steps.a={same}", "seed=9"]), store)
    assert moved.steps["a"].id != ids["a"]


def test_the_ledger_accounts_for_time_and_tokens(tmp_path: Path, store: Workspace) -> None:
    result = run(loop.write_loop(tmp_path), store)
    rows = {row.step: row for row in ledger((name, one.manifest) for name, one in result.artifacts.items())}
    assert {row.phase for row in rows.values()} == {"data", "training", "evaluation"}
    assert rows["pairs"].calls == 2 * 24 and rows["pairs"].completion_tokens > 0
    assert rows["sft"].trained_tokens == result.artifacts["sft"].manifest.summary["training"]["tokens"] > 0
    assert rows["voting"].prompt_tokens > 0
    assert shares(rows.values())["training"] == pytest.approx(
        sum(row.seconds for row in rows.values() if row.phase == "training")
    )


ROUNDS = """
  improve:
    repeat: 2
    start: {model: $sft, rows: $clean}
    steps:
      pairs:
        {use: preferences, prompts: $rows, models: [$model], n: 4, max_tokens: 12, grader: {use: "DIR/grader.py:Even"}}
      dpo: {use: preference, model: $model, data: $pairs, train: {batch_size: 4, max_steps: 1}}
    carry: {model: $dpo, rows: $rows}
  scores: {use: evaluate, models: [$improve.model], suites: [dev], max_tokens: 12}
  more: {use: filter, data: $improve.rows, with: [exact]}
"""


def test_rounds_start_from_the_round_before(tmp_path: Path, store: Workspace) -> None:
    recipe = loop.write_loop(tmp_path)
    recipe.write_text(recipe.read_text().partition("  pairs:")[0] + ROUNDS.replace("DIR", str(tmp_path)))
    made = run(recipe, store).artifacts
    assert made["improve.1.dpo"].manifest.inputs["model"] == [made["sft"].id]
    assert made["improve.2.pairs"].manifest.inputs["models"] == [made["improve.1.dpo"].id]
    assert made["scores/improve.2.dpo@dev"].manifest.inputs["model"] == [made["improve.2.dpo"].id]
    assert made["more"].manifest.inputs["data"] == [made["clean"].id]  # carried unchanged through both rounds


def test_seeds_share_the_suites_and_give_an_interval(tmp_path: Path, store: Workspace) -> None:
    recipe = loop.write_loop(tmp_path)
    runs = [run(recipe, store, f"seed={seed}") for seed in (0, 1)]
    assert runs[0].artifacts["suite:dev"].id == runs[1].artifacts["suite:dev"].id
    assert runs[0].artifacts["sft"].id != runs[1].artifacts["sft"].id
    rows = {(row.suite, row.what): row for row in across(runs)}
    tables = [one.artifacts["scores"].manifest.summary["table"] for one in runs]
    found = rows["dev", "sft"]
    assert found.values == tuple(table["sft"]["dev"]["reports"][-1]["mean"] for table in tables)
    assert found.estimate.mean == pytest.approx(sum(found.values) / 2)
    assert ("dev, voting", "dpo, majority of 4") in rows


# ------------------------------------------------------------------------------------------------------------- stopping


def _command(recipe: Path, store: Path) -> list[str]:
    sets = ["steps.sft.checkpoint_seconds=0", "steps.sft.train.max_steps=40", "steps.sft.train.epochs=20"]
    return [sys.executable, "-m", "burnish", "run", str(recipe), "--store", str(store),
            *(part for one in sets for part in ("--set", one))]  # fmt: skip


def _only_sft(recipe: Path) -> Path:
    recipe.write_text(recipe.read_text().partition("  lora:")[0])
    return recipe


def _lines(store: Path) -> int:
    return sum(len(file.read_text().splitlines()) for file in store.glob("work/model-*/metrics.jsonl"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_to_the_same_bits(how: signal.Signals, tmp_path: Path) -> None:
    recipe = _only_sft(loop.write_loop(tmp_path))
    process = subprocess.Popen(_command(recipe, tmp_path / "stopped"), stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while _lines(tmp_path / "stopped") < 10 and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, how)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == (-signal.SIGKILL if how is signal.SIGKILL else 1)
    assert how is signal.SIGKILL or "the same command goes on from there" in said
    assert 10 <= _lines(tmp_path / "stopped") < 40

    again = subprocess.run(_command(recipe, tmp_path / "stopped"), capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert "sft: resuming" in again.stderr and "chats: cached" in again.stderr
    whole = subprocess.run(_command(recipe, tmp_path / "whole"), capture_output=True, text=True, timeout=120)
    assert whole.returncode == 0, whole.stderr
    (ours,), (theirs,) = (list((tmp_path / name).glob("artifacts/model-*/model")) for name in ("stopped", "whole"))
    one, other = load_file(ours / "model.safetensors"), load_file(theirs / "model.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in other)
    manifest = json.loads((ours.parent / "manifest.json").read_text())
    assert manifest["attempts"] == 2
    assert manifest["summary"]["training"]["steps"] == 40


def test_two_runs_share_a_store(tmp_path: Path) -> None:
    recipe = _only_sft(loop.write_loop(tmp_path))
    both = [subprocess.Popen(_command(recipe, tmp_path / "store"), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=200)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    made = [line for text in said for line in text.splitlines() if " sft: done" in line]
    assert len(made) == 1, "the step is made once, the other run waits and takes it"


# ------------------------------------------------------------------------------------------- what a plan does not allow


def refused(recipe: Path, store: Workspace, *overrides: str) -> str:
    plan = Plan(load_recipe(recipe, list(overrides)), store)
    with pytest.raises(Problems) as caught:
        run_plan(plan)
    return str(caught.value)


def test_training_needs_a_frozen_suite(tmp_path: Path, store: Workspace) -> None:
    recipe = loop.write_loop(tmp_path)
    recipe.write_text(f"""
base: {tmp_path}/model
steps:
  chats: {{use: ingest, from: {tmp_path}/chats.jsonl}}
  sft: {{use: sft, data: $chats}}
""")
    said = refused(recipe, store)
    assert "this recipe has no suite" in said and "suites: {dev: {tasks: [...]}}" in said


def test_training_refuses_unchecked_data_and_says_which_line_to_add(tmp_path: Path, store: Workspace) -> None:
    recipe = loop.write_loop(tmp_path)
    said = refused(recipe, store, "steps.sft.data=$chats")
    assert "$chats was not checked against suite:dev, suite:hard" in said
    assert "clean: {use: filter, data: $chats, with: [{decontaminate: {against: [dev, hard]}}]}" in said


def test_the_wrong_kind_of_rows_or_objective_is_refused(tmp_path: Path, store: Workspace) -> None:
    recipe = loop.write_loop(tmp_path)
    said = refused(recipe, store, "steps.dpo.data=$clean", "steps.sft.objective=dpo")
    assert "$clean holds examples, and this step learns from preference pairs" in said
    assert "this objective's unit is 'pair'" in said and "objectives that fit: sft" in said


def test_a_model_without_weights_tokenizer_or_template_is_found_by_the_plan(tmp_path: Path, store: Workspace) -> None:
    recipe = loop.write_loop(tmp_path)
    (tmp_path / "model" / "chat_template.jinja").unlink()
    assert "the tokenizer has no chat template" in refused(recipe, store)
    (tmp_path / "model" / "model.safetensors").unlink()
    assert "the model folder has no weights" in refused(recipe, store)


def test_looks_belong_to_the_items(tmp_path: Path, store: Workspace) -> None:
    """Another limit, another model folder or another name of the suite gives no new looks."""
    recipe = loop.write_loop(tmp_path)
    made = run(recipe, store).artifacts
    items = made["suite:hard"].manifest.summary["items"]
    assert store.looks(items) == 4
    run(recipe, store, "suites.hard.looks=99")
    assert store.looks(items) == 4, "nothing is measured again"
    other = tiny.tiny_model("llama", tmp_path / "other", seed=5)
    run(recipe, store, f"steps.scores.models=[base, {other}]")
    assert store.looks(items) == 5, "a folder that is not the base counts"
    run(recipe, store, f"steps.scores.models=[base, {other}]", "suites.hard.looks=null", "steps.scores.max_tokens=7")
    assert store.looks(items) > 5, "a recipe that does not hold the items out is counted by the one that did"


def test_no_look_is_left(tmp_path: Path, store: Workspace) -> None:
    recipe = loop.write_loop(tmp_path)
    from burnish.errors import WorkspaceError

    with pytest.raises(WorkspaceError, match="looked at 2 times, and 2 looks are allowed"):
        run(recipe, store, "suites.hard.looks=2")


# ------------------------------------------------------------------------------------------------------- whole accounts


def test_filters_and_strategies_of_one_name_stay_apart(tmp_path: Path, store: Workspace) -> None:
    recipe = loop.write_loop(tmp_path)
    filters = "[{length: {min_words: 2}}, {length: {max_words: 1}}]"
    only = f"steps={{a: {{use: ingest, from: {tmp_path}/chats.jsonl}}, b: {{use: filter, data: $a, with: {filters}}}}}"
    facts = run(recipe, store, only).artifacts["b"].manifest.summary
    assert facts["dropped"] == {"length": 1, "length 2": 25} and facts["rows"] == 0
    two = "steps.voting.strategies=[best_of_n, {best_of_n: {scorer: total_likelihood}}]"
    curves = run(recipe, store, two).artifacts["voting"].manifest.summary["curves"]
    assert list(curves) == ["best_of_n", "best_of_n 2"]


def test_prompts_that_cannot_take_part_are_counted(tmp_path: Path, store: Workspace) -> None:
    recipe = loop.write_loop(tmp_path)
    words = "the quick brown fox jumps over the lazy dog " * 60
    with (tmp_path / "chats.jsonl").open("a") as stream:
        stream.write(json.dumps(loop.talk(words, "a long one")) + "\n")
    with (tmp_path / "items.jsonl").open("a") as stream:
        stream.write(json.dumps({"prompt": "A b c d e f g " * 60, "answer": "a"}) + "\n")
    made = run(recipe, store, "steps.sft.overlong=drop", "steps.lora.overlong=drop").artifacts
    pairs = made["pairs"].manifest.summary
    assert pairs["dropped"]["too long for a model"] == 1
    assert pairs["prompts"] + sum(pairs["dropped"].values()) == pairs["rows_in"] == 25
    assert made["voting"].manifest.summary["too_long"] == 1
    assert made["scores/base@dev"].manifest.summary["reports"][-1]["unscored"] == 1


def test_rows_without_a_grader_are_counted(tmp_path: Path, store: Workspace) -> None:
    from burnish.errors import DataError

    recipe = loop.write_loop(tmp_path)
    assert "the rows of $clean carry no grader" in refused(recipe, store, "steps.pairs.grader=null")
    with (tmp_path / "chats.jsonl").open("a") as stream:
        stream.write(json.dumps({**loop.talk("One and two?", "3"), "grader": "numeric", "target": "3"}) + "\n")
    with pytest.raises(DataError, match="none of 25 prompts gave a pair: no grader 24, all answers scored alike 1"):
        run(recipe, store, "steps.pairs.grader=null")


def test_a_damaged_artifact_stops_only_what_needs_it(
    tmp_path: Path, store: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = _only_sft(loop.write_loop(tmp_path))
    run(recipe, store)
    (store.root / "artifacts" / ".DS_Store").write_text("")
    (store.root / "artifacts" / "model-other").mkdir()
    assert {planned.state for planned in Plan(load_recipe(recipe), store).steps.values()} == {"cached"}
    assert "left out: damaged artifact" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------ long rows


def long_row(folder: Path) -> None:
    words = "the quick brown fox jumps over the lazy dog " * 60
    with (folder / "chats.jsonl").open("a") as stream:
        turns = [("user", "a short one"), ("assistant", "yes"), ("user", words), ("assistant", "no")]
        messages = [{"role": role, "content": content} for role, content in turns]
        stream.write(json.dumps({"id": "long", "messages": messages}) + "\n")


@pytest.mark.parametrize(("policy", "rows", "dropped", "truncated"), [("drop", 24, 1, 0), ("truncate", 25, 0, 1)])
def test_overlong_rows_are_counted(
    policy: str, rows: int, dropped: int, truncated: int, tmp_path: Path, store: Workspace
) -> None:
    recipe = _only_sft(loop.write_loop(tmp_path))
    long_row(tmp_path)
    facts = run(recipe, store, f"steps.sft.overlong={policy}").artifacts["sft"].manifest.summary
    assert (facts["rows_in"], facts["rows"], facts["truncated"]) == (25, rows, truncated)
    assert sum(facts["dropped"].values()) == dropped


def test_an_overlong_row_is_an_error_unless_the_recipe_says_otherwise(tmp_path: Path, store: Workspace) -> None:
    from burnish.errors import DataError

    recipe = _only_sft(loop.write_loop(tmp_path))
    long_row(tmp_path)
    with pytest.raises(DataError, match=r"row long has \d+ tokens, and 256 fit") as caught:
        run(recipe, store)
    assert "overlong: drop" in caught.value.hint and caught.value.where.endswith("chats.jsonl:28")
