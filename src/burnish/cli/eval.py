"""`burnish eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.options import AsJson, StorePath, model_path, open_store, print_json
from burnish.errors import ConfigError


def command(
    models: Annotated[list[str], typer.Argument(help="Models: pebble, folders, Hub ids, artifacts or RUN:STEP.")],
    tasks: Annotated[str, typer.Option(help="Tasks by name, with commas: pebble-arithmetic,pebble-facts.")] = "",
    data: Annotated[Path | None, typer.Option(help="A JSONL file of your own questions and answers.")] = None,
    gsm8k: Annotated[Path | None, typer.Option(help="GSM8K's own JSONL, graded by the final number.")] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Use so many items of each task, drawn by a seed.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    store: StorePath = None,
    as_json: AsJson = False,
) -> None:
    """Score models on tasks. The first model is the baseline, and the others are compared with it item by item.

    \b
    burnish eval pebble quickstart:sft --tasks pebble-arithmetic,pebble-facts
    burnish eval ./my-model --data questions.jsonl
    """
    from burnish.recipe.load import recipe_from
    from burnish.recipe.plan import Plan
    from burnish.recipe.run import run_plan

    opened = open_store(store)
    settings = {"n": limit} if limit else {}
    chosen: list[object] = [{task: settings} for task in tasks.split(",") if task]
    files = {"jsonl": data, "gsm8k": gsm8k}
    chosen += [{name: {"path": str(path), **settings}} for name, path in files.items() if path]
    if not chosen:
        raise ConfigError("nothing to score on", hint="--tasks NAME,NAME (see `burnish list tasks`) or --data FILE")
    paths = [model_path(opened, name) for name in models]
    recipe = recipe_from(
        "eval",
        {
            "base": paths[0],
            "suites": {"asked": {"tasks": chosen}},
            "steps": {"scores": {"use": "evaluate", "models": ["base", *paths[1:]], "suites": ["asked"],
                                 "max_tokens": max_tokens}},
        },
    )  # fmt: skip
    result = run_plan(Plan(recipe, opened))
    table = result.artifacts["scores"].manifest.summary["table"]
    names = dict(zip(["base", *paths[1:]], models, strict=True))
    if as_json:
        print_json({names[label]: rows["asked"] for label, rows in table.items()})
        return
    for label, rows in table.items():
        print(names[label])
        for row in rows["asked"]["reports"]:
            difference = rows["asked"]["against_base"].get(row["task"]) if label != "base" else None
            print(_line(row, difference))
    print(f"report: {result.report}")


def _line(row: dict[str, float], difference: dict[str, float] | None) -> str:
    text = f"  {row['task']:<28} {row['mean']:7.1%}  [{row['low']:.1%}, {row['high']:.1%}]  n={row['n']}"
    if row["unscored"]:
        text += f", {row['unscored']} unscored"
    if difference:
        text += f"   {difference['difference']:+.1%} [{difference['low']:+.1%}, {difference['high']:+.1%}]"
        text += f" p={difference['p_value']:.3g}"
    return text
