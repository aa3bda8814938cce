"""What `burnish eval` and `burnish compare` share: models measured on tasks, by a recipe that is written here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.workspace import Workspace

SUITE = "asked"


@dataclass(frozen=True)
class Scored:
    """Models measured on one suite."""

    table: dict[str, dict[str, Any]]
    """A row for each model, in the order they were given, the first labelled `base`: its reports, its differences to
    the first (`against_base`) and the id of its answers (`scores`)."""
    report: Path | None


def chosen_tasks(tasks: str, limit: int | None, data: Path | None = None) -> list[object]:
    """Tasks as a suite holds them, from a list with commas: names, task files, and NAME=PATH for one that reads a file.

    `limit` items of each are drawn; `data` is a file of the user's own rows.
    """
    settings = {"n": limit} if limit else {}
    chosen: list[object] = []
    for task in filter(None, tasks.split(",")):
        name, mark, path = task.partition("=")
        chosen.append({name: {**settings, **({"path": path} if mark else {})}})
    return [*chosen, {"jsonl": {"path": str(data), **settings}}] if data else chosen


def scored(store: Workspace, models: list[str], tasks: list[object], **settings: Any) -> Scored:
    """Measure models on tasks, or find in the store that it was done. `settings` are those of an evaluate step."""
    from burnish.recipe.load import recipe_from
    from burnish.recipe.plan import Plan
    from burnish.recipe.run import run_plan

    step = {"use": "evaluate", "models": ["base", *models[1:]], "suites": [SUITE], **settings}
    recipe = recipe_from("eval", {"base": models[0], "suites": {SUITE: {"tasks": tasks}}, "steps": {"scores": step}})
    result = run_plan(Plan(recipe, store))
    table = result.artifacts["scores"].manifest.summary["table"]
    return Scored({label: row[SUITE] for label, row in table.items()}, result.report)
