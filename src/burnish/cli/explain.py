"""`burnish explain`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Annotated

import typer
from pydantic import BaseModel

from burnish.cli.list import TABLES
from burnish.cli.options import AsJson, print_json
from burnish.config import Config, Explained, Table, explain, models_in, tables_of
from burnish.errors import ConfigError
from burnish.registry import Entry, suggest


def command(
    name: Annotated[str, typer.Argument(help="A step, filter, task, ... or one of its settings: sft.train.epochs.")],
    as_json: AsJson = False,
) -> None:
    """Explain a setting: its type, its default, and what it does.

    The text is the one in the code under the field. `recipe` explains the top level of a recipe.
    """
    first, *rest = name.split(".")
    title, model = _find(first)
    for part in rest[:-1]:
        model = _inside(model, part, name)
    rows = explain(model)
    if rest:
        found = [row for row in rows if row.name == rest[-1]]
        if not found:
            raise ConfigError(f"there is no setting '{name}'", hint=suggest(rest[-1], [row.name for row in rows]))
        inner = _inner(model, rest[-1])
        rows = [*found, *(explain(inner) if inner else [])]
    if as_json:
        print_json([{"name": row.name, "type": row.type, "default": row.default, "doc": row.doc} for row in rows])
        return
    if not rest:
        print(f"{title}\n")
        if model.__doc__:
            print(textwrap.fill(" ".join(model.__doc__.split()), 100), "\n")
    for row in rows:
        _print(row)
    for field, table in tables_of(model).items() if not rest else ():
        print(f"rows for `{field}`: {', '.join(table.load().names())}")


def _print(row: Explained) -> None:
    default = "required" if row.default == "required" else f"default {row.default}"
    print(f"{row.name}: {row.type} ({default})")
    print(textwrap.indent(textwrap.fill(row.doc, 96), "    "))


def _find(name: str) -> tuple[str, type[BaseModel]]:
    if name == "recipe":
        from burnish.recipe.load import RecipeConfig

        return "recipe: the top level of a recipe", RecipeConfig
    if name == "repeat":
        from burnish.recipe.load import RepeatConfig

        return "repeat: a block of steps run for several rounds", RepeatConfig
    entries = dict(_entries())
    if name not in entries:
        raise ConfigError(f"nothing is called '{name}'", hint=suggest(name, ["recipe", "repeat", *entries]))
    table, entry = entries[name]
    model = table.load().resolve(name)
    source = f" ({entry.source})" if entry.source else ""
    return f"{name}: {entry.summary}{source}", model


def _entries() -> Iterator[tuple[str, tuple[Table, Entry]]]:
    for registry in reversed(TABLES.values()):  # steps last, so that they win over a row of the same name
        for entry in Table(registry).load():
            yield entry.name, (Table(registry), entry)


def _inner(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    for field, info in model.model_fields.items():
        if (info.alias or field) == name:
            return next((found for found in models_in(info.annotation) if issubclass(found, Config)), None)
    return None


def _inside(model: type[BaseModel], part: str, name: str) -> type[BaseModel]:
    inner = _inner(model, part)
    if inner is None:
        raise ConfigError(f"'{part}' in '{name}' holds no settings", hint=suggest(part, list(model.model_fields)))
    return inner
