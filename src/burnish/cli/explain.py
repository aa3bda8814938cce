"""`burnish explain`."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer
from pydantic import BaseModel

from burnish.cli.list import TABLES
from burnish.cli.options import AsJson, print_json
from burnish.config import Config, Explained, Table, explain, fields_at, models_in, tables_of
from burnish.errors import ConfigError
from burnish.recipe.load import RecipeConfig, RepeatConfig
from burnish.registry import suggest


def command(
    name: Annotated[str, typer.Argument(help="A step, filter, task, ... or one of its settings: sft.train.epochs.")],
    as_json: AsJson = False,
) -> None:
    """Explain a setting: its type, its default, and what it does.

    The text is the one in the code under the field. `recipe` explains the top level of a recipe.
    """
    first, *rest = name.split(".")
    title, model, rows = _lookup(first, rest, name)
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
        print(f"rows for `{model.model_fields[field].alias or field}`: {', '.join(table.load().names())}")
    others = [title.partition(":")[0] for title, _ in _find(first)[1:]] if not rest else []
    if others:
        print(f"also called so: {', '.join(others)}")


def _print(row: Explained) -> None:
    default = "required" if row.default == "required" else f"default {row.default}"
    print(f"{row.name}: {row.type} ({default})")
    print(textwrap.indent(textwrap.fill(row.doc, 96), "    "))


def _lookup(first: str, rest: list[str], name: str) -> tuple[str, type[BaseModel], list[Explained]]:
    """What a dotted name means. Rows of several tables may share a name: the first that has the setting is taken."""
    problem: ConfigError | None = None
    for title, model in _find(first):
        try:
            return title, model, _settings(model, rest, name)
        except ConfigError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _settings(model: type[BaseModel], rest: list[str], name: str) -> list[Explained]:
    for part in rest[:-1]:
        model = _inside(model, part, name)
    rows = explain(model)
    if not rest:
        return rows
    found = [row for row in rows if row.name == rest[-1]]
    if not found:
        raise ConfigError(f"there is no setting '{name}'", hint=suggest(rest[-1], [row.name for row in rows]))
    inner = _inner(model, rest[-1])
    return [*found, *(explain(inner) if inner else [])]


def _find(name: str) -> list[tuple[str, type[BaseModel]]]:
    """Everything that has a name: (title, settings), steps first."""
    if name == "recipe":
        return [("recipe: the top level of a recipe", RecipeConfig)]
    if name == "repeat":
        return [("repeat: a block of steps run for several rounds", RepeatConfig)]
    found = []
    names = ["recipe", "repeat"]
    for registry in TABLES.values():
        table = Table(registry).load()
        names += table.names()
        if name in table.names():
            entry = table.entry(name)
            source = f" ({entry.source})" if entry.source else ""
            found.append((f"{name} ({table.kind}): {entry.summary}{source}", table.resolve(name)))
    if not found and (settings := _settings_called(name)):
        raise ConfigError(f"'{name}' is a setting of {', '.join(settings)}", hint=f"burnish explain {settings[0]}")
    if not found:
        raise ConfigError(f"nothing is called '{name}'", hint=suggest(name, list(dict.fromkeys(names))))
    return found


def _settings_called(name: str) -> list[str]:
    """The dotted names of all settings whose last part is this."""
    found = [f"recipe.{name}"] if name in fields_at(RecipeConfig, ()) else []
    for registry in TABLES.values():
        table = Table(registry).load()
        for row in table.names():
            model = table.resolve(row)
            inner = [(f"{row}.{field}", part) for field, info in model.model_fields.items()
                     for part in models_in(info.annotation)]  # fmt: skip
            found += [f"{title}.{name}" for title, part in [(row, model), *inner] if name in fields_at(part, ())]
    return list(dict.fromkeys(found))


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
