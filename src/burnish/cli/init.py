"""`burnish init`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.options import AsJson, print_json
from burnish.errors import ConfigError
from burnish.registry import suggest
from burnish.workspace import write_atomic

PURPOSES = {
    "general": "an assistant for everything: broad conversations, then preference alignment",
    "domain": "an assistant that knows your field: general and domain conversations mixed, adapters merged",
    "task": "a model for one job with answers that can be graded",
}


def command(
    purpose: Annotated[str, typer.Argument(help="general, domain or task.")] = "task",
    to: Annotated[Path, typer.Option(help="Where to write the recipe.")] = Path("recipe.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a starter recipe with comments. It runs as it is, on the embedded model; then put in your own data.

    \b
    general  an assistant for everything: broad conversations, then preference alignment
    domain   an assistant that knows your field: general and domain conversations, merged specialists
    task     a model for one job with answers that can be graded
    """
    if purpose not in PURPOSES:
        raise ConfigError(f"there is no starter '{purpose}'", hint=suggest(purpose, list(PURPOSES)))
    if to.exists() and not force:
        raise ConfigError(f"{to} is there already", hint="choose another name with --to, or replace it with --force")
    text = (resources.files("burnish.cli") / "starters" / f"{purpose}.yaml").read_text(encoding="utf-8")
    write_atomic(to, text)
    if as_json:
        print_json({"recipe": str(to), "purpose": purpose})
        return
    print(f"wrote {to}: {PURPOSES[purpose]}\nnext:  burnish plan {to}\n       burnish run {to}")
