"""`burnish list`."""

from __future__ import annotations

from typing import Annotated

import typer

from burnish.cli.options import AsJson, StorePath, open_store, print_json
from burnish.errors import ConfigError
from burnish.registry import suggest, table_at

TABLES = {
    "steps": "burnish.steps:STEPS",
    "filters": "burnish.data.filters:FILTERS",
    "generators": "burnish.data.generators:GENERATORS",
    "tasks": "burnish.evaluation.tasks:TASKS",
    "rewards": "burnish.rewards:REWARDS",
    "judges": "burnish.judges:JUDGES",
    "objectives": "burnish.objectives:OBJECTIVES",
    "methods": "burnish.merging.methods:METHODS",
    "strategies": "burnish.test_time:STRATEGIES",
}
STORED = ("runs", "artifacts")


def command(
    what: Annotated[str, typer.Argument(help="steps, filters, tasks, ..., runs or artifacts; all tables if left out.")]
    = "",
    store: StorePath = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """List what a recipe can name, or what a store holds."""
    if what in STORED:
        rows = {what: _stored(what, store)}
    elif what in TABLES or not what:
        names = [what] if what else list(TABLES)
        rows = {name: _table(TABLES[name]) for name in names}
    else:
        raise ConfigError(f"there is no table '{what}'", hint=suggest(what, [*TABLES, *STORED]))
    if as_json:
        print_json(rows)
        return
    for name, entries in rows.items():
        print(f"{name}:")
        width = max((len(entry["name"]) for entry in entries), default=0)
        for entry in entries:
            source = f"  [{entry['source']}]" if entry.get("source") else ""
            print(f"  {entry['name']:<{width}}  {entry['summary']}{source}")
    if not what:
        print("\n`burnish explain NAME` says what can be set; `burnish list runs` shows what the store holds.")


def _table(registry: str) -> list[dict[str, str]]:
    return [{"name": row.name, "summary": row.summary, "source": row.source} for row in table_at(registry)]


def _stored(what: str, store: StorePath) -> list[dict[str, str]]:
    opened = open_store(store)
    if what == "runs":
        return [{"name": folder.name, "summary": str(folder)} for folder in opened.runs()]
    return [
        {"name": artifact.id, "summary": f"{artifact.manifest.step}: {artifact.manifest.summary.get('headline', '')}"}
        for artifact in opened.artifacts()
    ]
