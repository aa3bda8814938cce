"""`burnish eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from burnish.cli.options import AsJson, StorePath, judge_setting, model_path, open_store, print_json
from burnish.cli.scoring import chosen_tasks, scored
from burnish.errors import ConfigError
from burnish.workspace import Workspace


def command(
    models: Annotated[list[str], typer.Argument(help="Models: pebble, folders, Hub ids, RUN:STEP; or new FILE.")],
    tasks: Annotated[str, typer.Option(help="Tasks with commas: pebble-facts,./mine.yaml,mmlu=./mmlu.")] = "",
    data: Annotated[Path | None, typer.Option(help="A JSONL file of your own questions and answers.")] = None,
    gsm8k: Annotated[Path | None, typer.Option(help="The same as --tasks gsm8k=FILE.")] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Use so many items of each task, drawn by a seed.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    judge: Annotated[str, typer.Option(help="The model that scores judged items, such as MT-Bench's.")] = "",
    judge_with: Annotated[str, typer.Option(help="How it is asked, as YAML: {pointwise: {by: logprob}}.")] = "",
    lm_eval: Annotated[str, typer.Option(help="Tasks of lm-evaluation-harness: hellaswag,mmlu=./data/mmlu.")] = "",
    shots: Annotated[int | None, typer.Option(min=0, help="lm-eval: solved examples before each question.")] = None,
    chat: Annotated[bool, typer.Option("--chat", help="lm-eval: ask through the chat template.")] = False,
    lm_tasks: Annotated[Path | None, typer.Option(help="lm-eval: a folder with YAML tasks of your own.")] = None,
    save: Annotated[Path | None, typer.Option(help="lm-eval: write each model's answers to this folder.")] = None,
    store: StorePath = None,
    as_json: AsJson = False,
    kind: Annotated[str, typer.Option(help="new: how answers are graded; found from the rows when left out.")] = "",
    prompt: Annotated[str, typer.Option(help="new: the column of the question.")] = "",
    answer: Annotated[str, typer.Option(help="new: the column of the right answer.")] = "",
    choices: Annotated[str, typer.Option(help="new: the column of the choices.")] = "",
    tests: Annotated[str, typer.Option(help="new: the column of a program's tests.")] = "",
    turns: Annotated[str, typer.Option(help="new: the column of the user's turns.")] = "",
    name: Annotated[str, typer.Option(help="new: the task's name; the file's name when left out.")] = "",
    to: Annotated[Path | None, typer.Option(help="new: where to write the task; NAME.yaml here when left out.")] = None,
    clean: Annotated[
        Path | None, typer.Option(help="new: write the sound rows here, and leave the others out.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="new: replace a file that is there.")] = False,
) -> None:
    """Score models on tasks. The first model is the baseline, and the others are compared with it item by item.

    `burnish eval new FILE` makes a task of your own rows: it finds the columns, proposes how answers are graded, tries
    every row, and writes a task file. Kinds: choice, letter, numeric, exact, regex, code, judged, multi-turn.

    `--lm-eval` runs any task of lm-evaluation-harness; NAME=FOLDER reads its data from a folder, without a network.

    \b
    burnish eval new questions.jsonl --to mine.yaml
    burnish eval pebble quickstart:sft --tasks ./mine.yaml,pebble-arithmetic
    burnish eval ./base ./sft --tasks mmlu=./data/mmlu,gsm8k=./data/gsm8k/test.jsonl
    burnish eval ./base ./sft --lm-eval hellaswag,mmlu=./data/mmlu --shots 5
    """
    from burnish.evaluation.tasks.author import Given

    about = Given(*(text or None for text in (kind, prompt, answer, choices, turns, tests, name)))
    plain = {"--tasks": tasks, "--data": data, "--gsm8k": gsm8k, "--judge": judge, "--judge-with": judge_with}
    harness = {"--shots": shots, "--chat": chat, "--lm-tasks": lm_tasks, "--save": save}
    if models[0] == "new":
        from burnish.cli.eval_new import Writing, new_task

        if len(models) != 2:
            raise ConfigError("`eval new` takes one file", hint="burnish eval new questions.jsonl")
        _refuse({**plain, **harness, "--limit": limit, "--lm-eval": lm_eval}, "has no part in `eval new`")
        new_task(Path(models[1]), about, Writing(to, clean, force), as_json)
        return
    if about != Given() or to or clean or force:
        raise ConfigError("that option belongs to `burnish eval new FILE`", hint="burnish eval new questions.jsonl")
    if len(set(models)) < len(models):
        raise ConfigError(f"'{next(one for one in models if models.count(one) > 1)}' is named twice",
                          hint="name each model once")  # fmt: skip
    _refuse(plain if lm_eval else harness, "has no part in --lm-eval" if lm_eval else "belongs to --lm-eval TASKS")
    opened = open_store(store)
    if lm_eval:
        from burnish.cli.eval_harness import Asked, run_harness

        named_tasks = tuple(filter(None, lm_eval.split(",")))
        asked = Asked(named_tasks, shots, limit, chat, lm_tasks, save)
        run_harness([(model, model_path(opened, model)) for model in models], asked, as_json)
        return
    chosen = chosen_tasks(",".join(filter(None, [tasks, f"gsm8k={gsm8k}" if gsm8k else ""])), limit, data)
    if not chosen:
        raise ConfigError("nothing to score on", hint="--tasks NAME,NAME (see `burnish list tasks`) or --data FILE")
    paths = [model_path(opened, name) for name in models]
    found = scored(opened, paths, chosen, max_tokens=max_tokens, **_judge(opened, judge, judge_with))
    named = dict(zip(models, found.table.values(), strict=True))
    if as_json:
        print_json(named)
        return
    for name, row in named.items():
        print(name)
        for report in row["reports"]:
            print(_line(report, row["against_base"].get(report["task"]) if name != models[0] else None))
    print(f"report: {found.report}")


def _refuse(options: dict[str, Any], why: str) -> None:
    """Raises ConfigError for the first option that was given, though nothing would come of it."""
    for option, value in options.items():
        if value not in (None, "", False):
            raise ConfigError(f"{option} {why}", hint="see `burnish eval --help`")


def _judge(store: Workspace, model: str, how: str) -> dict[str, Any]:
    """The judge as a setting of an evaluate step."""
    if not model:
        if how:
            raise ConfigError("--judge-with says how a judge is asked, and none is named", hint="--judge MODEL")
        return {}
    asked = {"how": judge_setting("--judge-with", how)} if how else {}
    return {"judge": {"model": model_path(store, model, ("model", "reward_model")), **asked}}


def _line(row: dict[str, float], difference: dict[str, float] | None) -> str:
    text = f"  {row['task']:<28} {'no score':>7}  n=0"
    if row["n"]:
        text = f"  {row['task']:<28} {row['mean']:7.1%}  [{row['low']:.1%}, {row['high']:.1%}]  n={row['n']}"
    if row["unscored"]:
        text += f", {row['unscored']} unscored"
    if difference:
        text += f"   {difference['difference']:+.1%} [{difference['low']:+.1%}, {difference['high']:+.1%}]"
        text += f" p={difference['p_value']:.3g}"
    return text
