"""Every verb, with and without --json."""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import loop
import tiny
from burnish import __version__
from burnish.cli.list import TABLES
from burnish.cli.main import VERBS
from commands import Burnish, Finished

# ------------------------------------------------------------------------------------------------------- help and speed


def test_help_names_every_verb_and_every_verb_has_help(burnish: Burnish) -> None:
    text = burnish("--help").out
    for verb in VERBS:
        assert f"  {verb} " in text
        said = burnish(verb, "--help")
        assert said.code == 0 and "Usage: burnish " + verb in said.out and len(said.out.splitlines()) > 6, verb
    assert burnish().out == text == burnish("help").out
    assert burnish("--version").out == f"burnish {__version__}\n"


@pytest.mark.parametrize("words", [["--help"], ["list"], ["list", "steps"]])
def test_help_and_list_are_quick(words: list[str]) -> None:
    def seconds(command: list[str]) -> float:
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime

    ours = min(seconds([sys.executable, "-m", "burnish", *words]) for _ in range(5))
    libraries = min(seconds([sys.executable, "-c", "import typer, pydantic, yaml"]) for _ in range(5))
    assert ours < 3 * libraries  # of the processor's time, whatever the machine; torch alone would take ten times


def test_a_verb_or_option_that_does_not_exist(burnish: Burnish) -> None:
    said = burnish("rn", "recipe.yaml")
    assert said.code == 2 and "there is no verb 'rn'" in said.err and "did you mean 'run'?" in said.err
    assert burnish("run", "--fast").code == 2
    assert burnish("run").code == 2


# -------------------------------------------------------------------------------------------------------- list, explain


def test_list_shows_every_table(burnish: Burnish) -> None:
    rows = json.loads(burnish("list", "--json").out)
    assert rows.keys() == TABLES.keys()
    text = burnish("list").out
    for table, entries in rows.items():
        assert f"{table}:" in text and all(entry["name"] in text for entry in entries)
    assert "there is no table 'stps'" in burnish("list", "stps").err


def test_explain_answers_for_every_row_and_setting(burnish: Burnish) -> None:
    said = burnish("explain", "sft.train.learning_rate")
    assert said.code == 0 and "learning_rate: float (default 0.0001)" in said.out and "LoRA" in said.out
    assert "suites" in burnish("explain", "recipe").out and "carry" in burnish("explain", "repeat").out
    for entries in json.loads(burnish("list", "--json").out).values():
        for entry in entries:
            assert burnish("explain", entry["name"]).code == 0, entry
    (row,) = json.loads(burnish("explain", "dpo.beta", "--json").out)
    assert row["name"] == "beta" and row["default"] == "0.1" and "reference" in row["doc"]
    assert "there is no setting 'dpo.bta'" in burnish("explain", "dpo.bta").err
    assert "nothing is called 'dop'" in burnish("explain", "dop").err
    # Rows of several tables share a name: the one that has the setting is meant.
    assert "last_line: bool" in burnish("explain", "exact.last_line").out
    assert "split" in burnish("explain", "pebble.split").out
    assert "also called so: exact (reward)" in burnish("explain", "exact").out


# ----------------------------------------------------------------------------------------------------------- init, plan


@pytest.mark.parametrize("purpose", ["general", "domain", "task"])
def test_starters_are_commented_and_their_plans_have_no_problem(purpose: str, burnish: Burnish, tmp_path: Path) -> None:
    recipe, store = tmp_path / "mine.yaml", tmp_path / "store"
    assert burnish("init", purpose, "--to", recipe).code == 0
    text = recipe.read_text()
    assert text.count("#") > 8 and "<-" in text and yaml.safe_load(text)["suites"]
    said = burnish("plan", recipe, "--store", store)
    assert said.code == 0 and "sft" in said.out and "of work" in said.out, said.err
    again = burnish("init", purpose, "--to", recipe)
    assert again.code == 2 and "is there already" in again.err
    assert burnish("init", purpose, "--to", recipe, "--force").code == 0
    assert "there is no starter 'tsk'" in burnish("init", "tsk").err


@pytest.mark.parametrize("name", ["quickstart"])
def test_shipped_recipes_have_no_problem(name: str, burnish: Burnish, tmp_path: Path) -> None:
    recipe = Path(__file__).parents[2] / "recipes" / f"{name}.yaml"
    said = burnish("plan", recipe, "--store", tmp_path)
    assert said.code == 0, said.err


def test_a_missing_test_file_is_one_problem_and_not_two(burnish: Burnish, finished: Finished, tmp_path: Path) -> None:
    missing = f"suites.dev.tasks=[{{jsonl: {{path: {tmp_path}/none.jsonl}}}}]"
    said = burnish("plan", finished.recipe, "--store", tmp_path / "store", "--set", missing)
    assert said.code == 2 and "no such file" in said.err and "log-probability" not in said.err


def test_check_shows_what_is_learned_and_proves_every_training_step(finished: Finished, burnish: Burnish) -> None:
    said = burnish("check", finished.recipe, "--store", finished.store, "-n", 4)
    assert said.code == 0, said.out + said.err
    assert said.out.count("  holds  ") == 15 and "FAILS" not in said.out  # sft, lora and dpo, five proofs each
    assert "note:" not in said.out  # rows and models are there, and all of them were looked at
    line = next(line for line in said.out.splitlines() if line.startswith("sft: "))
    rows = json.loads(burnish("show", "artifact", "loop:clean", "--store", finished.store, "--json").out)
    assert line.startswith(f"sft: {rows['summary']['rows']} rows of $clean, ") and "tokens learned (" in line
    assert "<|im_start|>assistant⏎⟦green red<|im_end|>⟧" in said.out
    assert f"{rows['summary']['rows']} answers end with <|im_end|>; generation stops at <|im_end|>" in said.out


def test_check_does_not_claim_what_it_could_not_look_at(finished: Finished, burnish: Burnish, tmp_path: Path) -> None:
    """In a fresh store the rows of sft and lora can be known, those of dpo are yet to be answered."""
    said = burnish("check", finished.recipe, "--store", tmp_path, "-n", 2, "--json")
    steps = json.loads(said.out)
    assert said.code == 1 and {name: one["proven"] for name, one in steps.items()} == {
        "sft": True, "lora": True, "dpo": False}  # fmt: skip
    assert steps["sft"]["notes"] == ["$clean is not made yet: these are the first rows of its source, before filters"]
    assert all(proof["holds"] for proof in steps["sft"]["proofs"]) and len(steps["sft"]["spans"]) == 3
    assert steps["dpo"]["proofs"] == [] and "the rows of $pairs do not exist yet" in steps["dpo"]["stopped"]
    assert f"`burnish run {finished.recipe}` makes them" in steps["dpo"]["stopped"]


KINDS = """
name: kinds
base: {base}
suites: {{dev: {{tasks: [{{jsonl: {{path: {folder}/items.jsonl, choices: options}}}}]}}}}
steps:
  couples: {{use: ingest, from: {folder}/pairs.jsonl}}
  pairs:   {{use: filter, data: $couples, with: [{{decontaminate: {{against: [dev]}}}}]}}
  chats:   {{use: ingest, from: {folder}/chats.jsonl}}
  clean:   {{use: filter, data: $chats, with: [{{decontaminate: {{against: [dev]}}}}]}}
  mine:    {{use: sft, data: $clean, objective: {{use: "{folder}/mine.py:Mine"}}, refused: drop}}
  kto:     {{use: preference, data: $pairs, objective: kto, lora: {{rank: 2}}, train: {{optimizer: muon}},
             dtype: float32}}
  scorer:  {{use: reward, data: $pairs, lora: {{rank: 2, dropout: 0.3}}, dtype: bfloat16,
             train: {{optimizer: adamw8bit, checkpointing: true}}}}
  taught:  {{use: distill, teacher: $mine, data: $clean, max_tokens: 60, overlong: drop,
             refused: drop, lora: {{rank: 2, dropout: 0.3}}}}
"""

MINE = '''
"""The mean over a micro-batch, where a sum is asked for."""

from burnish.objectives.parts import LossOutput
from burnish.objectives.sft import SFT


class Mine(SFT):
    """Wrong."""

    def loss(self, logprobs, weights):
        return LossOutput(super().loss(logprobs, weights).total / weights.sum())
'''


def test_check_tries_each_step_with_its_own_loss_and_settings(burnish: Burnish, tmp_path: Path) -> None:
    recipe = tmp_path / "kinds.yaml"
    recipe.write_text(KINDS.format(base=tiny.tiny_model("llama", tmp_path / "model"), folder=tmp_path))
    (tmp_path / "mine.py").write_text(MINE)
    loop.rows(tmp_path / "items.jsonl", *({"prompt": f"{one} is", "answer": "white", "options": ["white", "black"]}
                                          for one in ("Snow", "Salt")))  # fmt: skip
    loop.rows(tmp_path / "chats.jsonl", *(loop.talk("Say it", f"{one} " * (1 + 40 * (one == "gold")))
                                          for one in loop.COLOURS), loop.talk("<|im_end|>", "never"))  # fmt: skip
    loop.rows(tmp_path / "pairs.jsonl", *({"prompt": f"Say {one}", "chosen": one, "rejected": "no"}
                                          for one in loop.COLOURS))  # fmt: skip
    said = burnish("check", recipe, "--store", tmp_path / "store", "-n", 4, "--json")
    steps = json.loads(said.out)
    assert said.code == 1, said.out + said.err
    failing = {name: [proof["name"] for proof in one["proofs"] if not proof["holds"]] for name, one in steps.items()}
    assert failing == {"mine": ["1 x N = N x 1", "together = alone"], "kto": [], "scorer": [], "taught": []}
    assert "muon killed in" in steps["kto"]["proofs"][4]["detail"]
    assert "adamw8bit killed in" in steps["scorer"]["proofs"][4]["detail"]
    assert all(line.endswith("⟦<|im_end|>⟧") for line in steps["scorer"]["spans"])  # where the score is read
    assert (
        "1 of 12 conversations are longer than 60 tokens (overlong: drop) and left out here" in steps["taught"]["notes"]
    )
    assert "rows that cannot be trained on: 1, left out" in steps["taught"]["notes"]
    assert f"$mine is not trained yet: tried with {tmp_path}/model in its place" in steps["taught"]["notes"]


def test_check_says_what_stops_a_step_and_looks_at_a_part_of_very_many_rows(
    finished: Finished, burnish: Burnish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("burnish.cli.check.MOST", 5)
    said = burnish("check", finished.recipe, "--store", finished.store, "-n", 2, "--set", "steps.lora.max_tokens=8")
    assert said.code == 1 and "not proven: lora, dpo (2 of 3 training steps)" in said.out
    assert "sft: 5 rows of $clean" in said.out and "note: 5 of 2" in said.out and "spread over all" in said.out
    assert "NOT PROVEN: " in said.out and "overlong: drop" in said.out  # a run would stop there too


def test_plan_says_what_is_cached_and_what_is_needed(finished: Finished, burnish: Burnish) -> None:
    rows = json.loads(burnish("plan", finished.recipe, "--store", finished.store, "--json").out)["steps"]
    assert {row["state"] for row in rows} == {"cached"}
    changed = burnish("plan", finished.recipe, "--store", finished.store, "--set", "steps.dpo.train.epochs=2")
    line = next(line for line in changed.out.splitlines() if line.startswith("dpo"))
    assert "new" in line and line.endswith("changed setting: train") and "GiB" in line and "MiB" in line


def test_a_fresh_plan_predicts_time_memory_and_disk(finished: Finished, burnish: Burnish, tmp_path: Path) -> None:
    rows = json.loads(burnish("plan", finished.recipe, "--store", tmp_path, "--json").out)["steps"]
    by_name = {row["step"]: row for row in rows}
    assert all(row["seconds"] is not None for row in rows), "a time for every step, before any was run"
    assert all(by_name[name]["memory_gib"] > 0 for name in ("sft", "dpo", "mixed", "pairs", "scores/sft@dev"))
    assert all(by_name[name]["disk_mib"] > 0 for name in ("sft", "lora", "mixed"))


def test_every_problem_is_told_at_once_with_its_line(burnish: Burnish, tmp_path: Path) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text("""\
suites: {dev: {tasks: [pebble-arithmetik]}}
steps:
  chats: {use: ingest, from: nowhere.jsonl}
  clean: {use: filter, data: $chats, with: [exakt]}
  sft: {use: sft, dta: $clean, train: {epochs: many, learning_rate: -1}}
""")
    said = burnish("plan", recipe, "--store", tmp_path / "store")
    assert said.code == 2
    found = {1: ["there is no task 'pebble-arithmetik'"], 4: ["there is no filter 'exakt'"],
             5: ["unknown key 'dta'", "key 'data' is missing", "epochs", "learning_rate"]}  # fmt: skip
    for line, what in ((line, what) for line, group in found.items() for what in group):
        assert any(f"bad.yaml:{line}: " in row and what in row for row in said.err.splitlines()), what
    assert "did you mean 'pebble-arithmetic'?" in said.err and "did you mean 'data'?" in said.err
    problems = json.loads(burnish("plan", recipe, "--store", tmp_path / "store", "--json").out)["problems"]
    assert len(problems) >= 6 and all(problem["where"] for problem in problems)
    assert not list((tmp_path / "store").glob("*/*")), "nothing was written"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("steps: {a: {use: ingest, from: {pebble: {m: 3}}}}", "unknown key 'm'"),
        ("steps: {a: {use: ingest, from: {pebbel: {n: 3}}}}", "there is no generator 'pebbel'"),
        ("steps: {a: {use: ingest, from: x.jsonl}, r: {use: report, of: [a]}}", "write $a for what step 'a' makes"),
        ("steps: {a: {use: evaluate, models: [base, a], suites: []}}", "at least 1 item"),
        ("steps: {a: {use: sft, data: $a, train: {betas: [0.9, 1.5]}}}", "less than 1"),
        ("steps: {a: {use: test_time, model: base, n: [0]}}", "greater than or equal to 1"),
        ("steps: {a: {use: sft, data: $a, train: {epochs: yes}}}", "must be a number"),
        ("steps: [", "not valid YAML"),
        ("- a\n- b\n", "expected a mapping"),
        ("", "key 'steps' is missing"),
        ("steps: {}\nsteps: {}\n", "key 'steps' is given twice"),
        ("seed: x\nsteps: {}\n", "valid integer"),
    ],
)
def test_recipes_that_cannot_be_read(text: str, what: str, burnish: Burnish, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    said = burnish("plan", tmp_path / "r.yaml", "--store", tmp_path)
    assert said.code == 2 and what in said.err and "Traceback" not in said.err
    assert "no such file" in burnish("plan", tmp_path / "none.yaml", "--store", tmp_path).err


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "the file is empty"),
        (b'{"a": 1}\n', "none of the first 200 rows can be used"),
        (b'{"messages": [{"role": "assistant", "content": "x"}]}\n', "none of the first 200 rows can be used"),
        (b"\xff\xfe\x00\n", "none of the first 200 rows can be used"),
    ],
)
def test_the_plan_looks_into_data_files(content: bytes, what: str, burnish: Burnish, tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(content)
    (tmp_path / "r.yaml").write_text(f"steps: {{chats: {{use: ingest, from: {tmp_path}/d.jsonl}}}}\n")
    said = burnish("plan", tmp_path / "r.yaml", "--store", tmp_path)
    assert said.code == 2 and what in said.err and "r.yaml:1: steps.chats.from" in said.err


def test_too_many_broken_rows_stop_a_run(burnish: Burnish, tmp_path: Path) -> None:
    good = '{"prompt": "a", "completion": "b"}\n'
    (tmp_path / "d.jsonl").write_text(good * 9 + "{broken\n")
    (tmp_path / "r.yaml").write_text(f"steps: {{chats: {{use: ingest, from: {tmp_path}/d.jsonl}}}}\n")
    said = burnish("run", tmp_path / "r.yaml", "--store", tmp_path / "s")
    assert said.code == 2 and "1 of the first 10 rows cannot be used; the first: not valid JSON" in said.err
    assert f"{tmp_path}/d.jsonl:10" in said.err and "max_quarantined" in said.err
    assert not list((tmp_path / "s" / "artifacts").iterdir())
    allowed = burnish("run", tmp_path / "r.yaml", "--store", tmp_path / "s", "--set", "steps.chats.max_quarantined=0.1")
    assert allowed.code == 0 and "9 of 10 rows, 1 in quarantine.jsonl" in allowed.err


# ---------------------------------------------------------------------------------------------------- run, report, show


def test_run_says_what_it_did_and_where_the_report_is(finished: Finished, burnish: Burnish) -> None:
    assert "steps made, 0 cached" in finished.said.out or "cached" in finished.said.out
    assert "Ledger of all steps: data" in finished.said.out
    report = Path(finished.said.out.rpartition("report: ")[2].strip())
    assert report.name == "report.html" and report.exists() and report.with_suffix(".md").exists()
    again = json.loads(burnish("run", finished.recipe, "--store", finished.store, "--json").out)
    assert again["made"] == [] and "sft" in again["artifacts"]


def test_run_with_seeds_prints_means_and_intervals(finished: Finished, burnish: Burnish) -> None:
    said = burnish("run", finished.recipe, "--store", finished.store, "--seeds", "2", "--set", "suites.hard.looks=99")
    assert said.code == 0, said.err
    lines = said.out.partition("dev: mean of 2 seeds")[2].splitlines()
    assert any(line.strip().startswith("dpo ") and "±" in line for line in lines)
    assert "dpo, best_of_n of 4" in said.out


def test_report_builds_the_page_again(finished: Finished, burnish: Burnish) -> None:
    found = json.loads(burnish("report", "loop", "--store", finished.store, "--json").out)
    page = Path(found["html"])
    page.unlink()
    assert burnish("report", "loop", "--store", finished.store).out.strip() == str(page)
    assert "Accuracy on dev" in page.read_text() and "Accuracy on dev" in Path(found["markdown"]).read_text()
    said = burnish("report", "nothing", "--store", finished.store)
    assert said.code == 1 and "no run 'nothing'" in said.err and "loop-" in said.err


def test_runs_are_found_by_their_recipe_and_stay_in_their_order(
    finished: Finished, burnish: Burnish, tmp_path: Path
) -> None:
    for name in ("task", "task-big"):
        recipe = tmp_path / f"{name}.yaml"
        recipe.write_text(f"steps: {{chats: {{use: ingest, from: {finished.folder}/chats.jsonl}}}}\n")
        for seed in (1, 2):
            assert burnish("run", recipe, "--store", tmp_path / "s", "--set", f"seed={seed}").code == 0
    folder = Path(json.loads(burnish("report", "task", "--store", tmp_path / "s", "--json").out)["run"])
    assert folder.name.startswith("task-2") and "# --set seed=2" in (folder / "report.html").read_text()
    assert "<title>task " in (folder / "report.html").read_text()
    first = burnish("list", "runs", "--store", tmp_path / "s").out.split()[1]
    burnish("report", first, "--store", tmp_path / "s")  # writing into an old run makes it no newer
    newest = json.loads(burnish("report", "--store", tmp_path / "s", "--json").out)["run"]
    assert Path(newest).name.startswith("task-big-")


def test_names_of_runs_are_names(burnish: Burnish, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: ../../evil\nsteps: {chats: {use: ingest, from: {pebble: {n: 9}}}}\n")
    said = burnish("run", tmp_path / "r.yaml", "--store", tmp_path / "s")
    assert said.code == 2 and "r.yaml:1: name" in said.err


def test_show_masks(finished: Finished, burnish: Burnish) -> None:
    text = burnish("show", "masks", finished.recipe, "--store", finished.store, "-n", "1").out
    assert "tokens are learned" in text and "<|im_end|>" in text
    (row,) = json.loads(burnish("show", "masks", finished.recipe, "--store", finished.store, "-n", "1", "--json").out)
    learned = [weight > 0 for weight in row["weights"]]
    turn = row["turns"][0]
    assert learned == [turn["start"] <= place < turn["stop"] for place in range(len(learned))]
    pairs = burnish("show", "masks", "loop:pairs", "--store", finished.store, "--model", finished.folder / "model")
    assert pairs.code == 0 and "chosen" in pairs.out and "rejected" in pairs.out


def test_show_data_and_dropped(finished: Finished, burnish: Burnish) -> None:
    text = burnish("show", "data", finished.folder / "chats.jsonl", "-n", "2").out
    assert "user: Say red and red" in text
    assert len(json.loads(burnish("show", "data", "loop:clean", "--store", finished.store, "--json").out)) == 3
    assert "chosen:" in burnish("show", "data", "loop:pairs", "--store", finished.store).out
    dropped = burnish("show", "dropped", "loop:clean", "--store", finished.store).out
    assert "holds an item of suite 'dev'" in dropped and "2 rows in all" in dropped
    assert "the conversation has no turns" in burnish("show", "dropped", "loop:chats", "--store", finished.store).out


def test_show_artifact_and_run(finished: Finished, burnish: Burnish) -> None:
    artifact = json.loads(burnish("show", "artifact", "loop:dpo", "--store", finished.store, "--json").out)
    assert artifact["use"] == "preference" and artifact["template"] and artifact["versions"]["torch"]
    text = burnish("show", "run", "loop", "--store", finished.store).out
    assert "sft" in text and "loss" in text and "training" in text
    found = json.loads(burnish("show", "run", "loop", "--store", finished.store, "--json").out)
    assert set(found["seconds"]) == {"data", "training", "evaluation"}
    assert "no finished step 'dop'" in burnish("show", "artifact", "loop:dop", "--store", finished.store).err
    assert "there is no view 'mask'" in burnish("show", "mask").err


def test_list_stored(finished: Finished, burnish: Burnish) -> None:
    assert "loop-" in burnish("list", "runs", "--store", finished.store).out
    assert "model-" in burnish("list", "artifacts", "--store", finished.store).out


# --------------------------------------------------------------------------------------------------- eval, chat, doctor


def test_eval_compares_with_the_first_model(finished: Finished, burnish: Burnish) -> None:
    words = ["eval", finished.folder / "model", "loop:sft", "--data", finished.folder / "own.jsonl", "--store",
             finished.store, "--max-tokens", "8"]  # fmt: skip
    (finished.folder / "own.jsonl").write_text('{"prompt": "a", "answer": "b"}\n{"prompt": "c", "answer": "d"}\n')
    said = burnish(*words)
    assert said.code == 0, said.err
    assert "loop:sft" in said.out and "n=2" in said.out and "p=" in said.out
    table = json.loads(burnish(*words, "--json").out)
    assert table["loop:sft"]["against_base"]["overall"]["n"] == 2
    some = json.loads(burnish("eval", finished.folder / "model", "--tasks", "pebble-choices", "--limit", "5", "--store",
                              finished.store, "--json").out)  # fmt: skip
    assert next(iter(some.values()))["reports"][0]["n"] == 5
    assert "nothing to score on" in burnish("eval", "pebble").err
    assert "no such model" in burnish("eval", "pebbel", "--tasks", "pebble-facts", "--store", finished.store).err


def test_chat_answers_once_or_line_by_line(
    finished: Finished, burnish: Burnish, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = finished.folder / "model"
    found = json.loads(burnish("chat", model, "-m", "Hi", "--max-tokens", "4", "--json").out)
    assert found["tokens"] <= 4 and found["stop"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hi\n/undo\n/new\n/help\nHi\n/quit\n"))
    said = burnish("chat", model, "--max-tokens", "4", "--temperature", "0")
    assert said.code == 0 and said.err.count("/undo takes back") == 2
    half = len(said.out) // 2
    assert said.out[:half] == said.out[half:]  # a new conversation begins as the first did
    monkeypatch.setattr(sys, "stdin", io.StringIO("the quick brown fox " * 200 + "\nHi\n"))
    long = burnish("chat", model, "--max-tokens", "4", "--temperature", "0")
    assert long.code == 0 and "does not fit" in long.err and long.out, "the conversation goes on"
    assert "is a dataset, not a model" in burnish("chat", "loop:pairs", "--store", finished.store).err


def test_doctor(burnish: Burnish, tmp_path: Path) -> None:
    rows = {row["name"]: row for row in json.loads(burnish("doctor", "--store", tmp_path, "--json").out)}
    assert rows["torch"]["ok"] and rows["pebble"]["ok"] and rows["dtype"]["text"]
    said = burnish("doctor", "--store", tmp_path)
    assert said.code == 0 and "ok   device" in said.out


def test_a_store_that_cannot_be_made(burnish: Burnish, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = burnish("list", "runs", "--store", tmp_path / "file" / "store")
    assert said.code == 1 and "cannot use" in said.err and "Traceback" not in said.err
