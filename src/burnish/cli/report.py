"""`burnish report`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from burnish.cli.options import AsJson, StorePath, open_store, print_json
from burnish.recipe.run import run_artifacts


def command(
    run: Annotated[str, typer.Argument(help="A run, or a recipe's name for its newest run; the newest if left out.")]
    = "",
    store: StorePath = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Build the report of a run from what the store holds, finished or not, and say where it is."""
    from burnish.steps.report import write_report

    opened = open_store(store)
    folder = opened.run(run)
    artifacts = {
        name: found for name, found in run_artifacts(opened, folder).items() if found.manifest.kind != "report"
    }
    recipe = (folder / "recipe.yaml").read_text(encoding="utf-8")
    name = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["recipe"]
    write_report(name, list(artifacts.items()), recipe, folder)
    if as_json:
        print_json({"run": str(folder), "html": str(folder / "report.html"), "markdown": str(folder / "report.md")})
        return
    print(folder / "report.html")
