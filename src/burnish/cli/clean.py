"""`burnish clean`."""

from __future__ import annotations

from typing import Annotated

import typer

from burnish.cli.options import AsJson, StorePath, open_store, print_json
from burnish.log import note


def command(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Runs to forget, or recipes' names for their newest runs: what only"
                       " they made goes too."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it. Without this nothing is removed.")] = False,
    store: StorePath = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show what a store holds that nothing needs, and with --yes remove it.

    That is work which was broken off and which the newest run of its recipe does without, and results that no run
    names. What is removed is computed again when a recipe needs it. Held-out looks stay spent.
    """
    from burnish.recipe.leftovers import leftovers

    opened = open_store(store)
    found = leftovers(opened, runs or [])
    busy = {one.folder for one in found if yes and not opened.remove(one.folder)}
    removed = [one for one in found if yes and one.folder not in busy]
    for folder in busy:
        note(f"left: another process is making {folder.name}")
    if as_json:
        rows = [
            {"folder": str(one.folder), "what": one.what, "why": one.why, "bytes": one.size, "removed": one in removed}
            for one in found
        ]
        print_json(rows)
        return
    for one in found:
        print(f"{_size(one.size):>10}  {one.what:<6}  {one.folder.name}  ({one.why})")
    if not found:
        print("a run needs every result and all work here; `burnish clean RUN` forgets a run")
    elif yes:
        print(f"removed {len(removed)} of {len(found)}: {_size(sum(one.size for one in removed))}")
    else:
        print(f"{_size(sum(one.size for one in found))} in {len(found)}; nothing was removed: --yes removes it")


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
