"""`burnish show`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish.cli.options import AsJson, Overrides, StorePath, find_artifact, model_path, open_store, print_json
from burnish.errors import ConfigError
from burnish.registry import suggest
from burnish.types import Example, PreferencePair, as_row
from burnish.workspace import Artifact, Workspace

VIEWS = {
    "masks": "the tokens of conversations, those that are learned in colour",
    "data": "rows of a file or dataset as conversations",
    "dropped": "rows that a filter dropped, with reasons",
    "artifact": "the pedigree and result of an artifact",
    "run": "the steps of a run and where its time went",
}


def command(
    view: Annotated[str, typer.Argument(help="masks, data, dropped, artifact or run.")],
    what: Annotated[str, typer.Argument(help="A recipe, data file, artifact, RUN:STEP or run.")] = "",
    model: Annotated[str, typer.Option(help="Whose chat template to use for masks.")] = "pebble",
    n: Annotated[int, typer.Option("-n", min=1, help="How many rows.")] = 3,
    overrides: Overrides = None,
    store: StorePath = None,
    as_json: AsJson = False,
) -> None:
    """Look at what Burnish works with.

    \b
    burnish show masks recipes/quickstart.yaml     tokens that are learned, in colour
    burnish show data chats.jsonl -n 5             rows as conversations, quarantined ones with the reason
    burnish show dropped quickstart:clean          what a filter dropped, and why
    burnish show artifact quickstart:sft           pedigree: inputs, settings, versions, time, tokens
    burnish show run quickstart                    steps, results and the ledger
    """
    views = {"masks": _masks, "data": _data, "dropped": _dropped, "artifact": _artifact, "run": _run}
    if view not in views:
        raise ConfigError(f"there is no view '{view}'", hint=suggest(view, list(VIEWS)))
    asked = _Asked(open_store(store), what, model, n, overrides or [], as_json)
    views[view](asked)


class _Asked:
    """The arguments of one call."""

    def __init__(self, store: Workspace, what: str, model: str, n: int, overrides: list[str], as_json: bool) -> None:
        self.store, self.what, self.model, self.n = store, what, model, n
        self.overrides, self.as_json = overrides, as_json

    def artifact(self) -> Artifact:
        found = find_artifact(self.store, self.what)
        if found is None:
            raise ConfigError(f"there is no artifact '{self.what}'", hint="`burnish list artifacts`, or RUN:STEP")
        return found


def _rows(asked: _Asked) -> Sequence[Example | PreferencePair]:
    from burnish.data.ingest import ingest
    from burnish.data.io import read_rows

    if Path(asked.what).exists():
        found = ingest([Path(asked.what)], "auto", limit=asked.n)
        for row in found.quarantine:
            typer.echo(f"quarantined: {row.where}: {row.why}", err=True)
        return found.rows
    artifact = asked.artifact()
    if not artifact.file("rows.jsonl").exists():
        raise ConfigError(f"{asked.what} is a {artifact.manifest.kind} and holds no rows")
    return list(islice(read_rows(artifact.file("rows.jsonl")), asked.n))


def _training_rows(asked: _Asked) -> tuple[str, Sequence[Example | PreferencePair]]:
    """The model and first rows of the first training step of a recipe."""
    from burnish.recipe.load import load_recipe
    from burnish.recipe.plan import Plan

    plan = Plan(load_recipe(Path(asked.what), asked.overrides), asked.store)
    plan.raise_problems()
    for planned in plan.steps.values():
        step = planned.node.step
        view = plan.view(planned.node)
        rows = view.sample(step.data) if step.phase == "training" and hasattr(step, "data") else []
        if rows:
            return view.root(getattr(step, "model", "base")), rows[: asked.n]
    raise ConfigError(f"{asked.what} has no training step whose rows exist already", hint="run it first")


def _masks(asked: _Asked) -> None:
    from rich.console import Console
    from rich.markup import escape

    from burnish.models.chat import ChatTemplate, mask_view
    from burnish.models.load import load_tokenizer

    if asked.what.endswith((".yaml", ".yml")):
        model, rows = _training_rows(asked)
    else:
        model, rows = model_path(asked.store, asked.model), _rows(asked)
    template = ChatTemplate(load_tokenizer(model))
    rendered = []
    for row in rows:
        if isinstance(row, Example):
            rendered.append((row.id, template.render(row.messages)))
        else:
            rendered.append((f"{row.id} chosen", template.answer_ids(row.prompt, row.chosen)))
            rendered.append((f"{row.id} rejected", template.answer_ids(row.prompt, row.rejected)))
    if asked.as_json:
        print_json([{"id": name, **asdict(one)} for name, one in rendered])
        return
    console = Console(highlight=False)
    for name, one in rendered:
        learned = sum(weight > 0 for weight in one.weights)
        console.print(f"[bold]{escape(name)}[/bold]: {learned} of {len(one.ids)} tokens are learned")
        console.print(mask_view(one, template.tokenizer), "\n")


def _data(asked: _Asked) -> None:
    rows = _rows(asked)
    if asked.as_json:
        print_json([as_row(row) for row in rows])
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    for row in rows:
        console.print(f"[bold]{escape(row.id)}[/bold]  {escape(row.source)}")
        for message in row.messages if isinstance(row, Example) else row.prompt:
            console.print(f"[cyan]{message.role}:[/cyan] {escape(message.content)}")
        if isinstance(row, PreferencePair):
            console.print(f"[green]chosen:[/green] {escape(row.chosen)}\n[red]rejected:[/red] {escape(row.rejected)}")
        console.print()


def _dropped(asked: _Asked) -> None:
    artifact = asked.artifact()
    names = [name for name in ("dropped.jsonl", "quarantine.jsonl") if artifact.file(name).exists()]
    if not names:
        raise ConfigError(f"{asked.what} dropped nothing it could show")
    rows: list[dict[str, Any]] = []
    for name in names:
        with artifact.file(name).open(encoding="utf-8") as stream:
            rows += map(json.loads, stream)
    if asked.as_json:
        print_json(rows[: asked.n])
        return
    for row in rows[: asked.n]:
        match = f" (like {row['match']})" if row.get("match") else ""
        print(f"{row.get('id', row.get('where'))}: {row.get('filter', 'quarantine')}: {row['why']}{match}")
    print(f"{len(rows)} rows in all: {artifact.manifest.summary.get('dropped')}")


def _artifact(asked: _Asked) -> None:
    artifact = asked.artifact()
    row: dict[str, Any] = {"path": str(artifact.path), **asdict(artifact.manifest)}
    if asked.as_json:
        print_json(row)
        return
    from rich.console import Console
    from rich.pretty import Pretty

    Console(highlight=False).print(Pretty(row, expand_all=False))


def _run(asked: _Asked) -> None:
    from burnish.ledger import ledger, shares
    from burnish.recipe.run import run_artifacts

    folder = asked.store.run(asked.what)
    artifacts = run_artifacts(asked.store, folder)
    rows = ledger((name, artifact.manifest) for name, artifact in artifacts.items())
    if asked.as_json:
        print_json({"run": str(folder), "ledger": [asdict(row) for row in rows], "seconds": shares(rows)})
        return
    print(folder)
    for name, artifact in artifacts.items():
        manifest = artifact.manifest
        print(f"  {name:<24} {manifest.seconds:8.1f} s  {manifest.summary.get('headline', '')}")
    total = sum(shares(rows).values()) or 1.0
    print("  " + ", ".join(f"{phase} {value:.0f} s ({value / total:.0%})" for phase, value in shares(rows).items()))
