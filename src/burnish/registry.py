"""Explicit tables of everything that can be named in a recipe.

A row names its implementation as "module:Class" text, so listing imports nothing; the class is imported when it is
used. A user's own class needs no packaging: `./my_loss.py:MyLoss` resolves from the file.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.code import USER
from burnish.errors import ConfigError


def suggest(name: str, allowed: list[str]) -> str:
    """'Did you mean ...? Allowed: ...' for a name that is not in `allowed`."""
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    return (f"did you mean '{close[0]}'? " if close else "") + "allowed: " + ", ".join(allowed)


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: the name used in YAML, where it lives, one sentence, and the paper or document it follows."""

    name: str
    target: str
    summary: str
    source: str = ""


class Registry:
    """A table of entries of one kind."""

    def __init__(self, kind: str, entries: list[Entry], elsewhere: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self._elsewhere = elsewhere or {}
        """What others call a row, and what is written here instead."""
        self._entries = {entry.name: entry for entry in entries}
        if len(self._entries) != len(entries):
            raise ValueError(f"registry '{kind}' lists a name twice")

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def names(self) -> list[str]:
        return list(self._entries)

    def entry(self, name: str) -> Entry:
        if name in self._entries:
            return self._entries[name]
        raise ConfigError(f"there is no {self.kind} '{name}'", hint=self.instead(name))

    def instead(self, name: str, allowed: list[str] | None = None) -> str:
        """What to write in the place of a name that is not listed."""
        known = self._elsewhere.get(name)
        return f"here it is {known}" if known else suggest(name, allowed or self.names())

    def resolve(self, name: str) -> Any:
        """The class behind a name, or behind `./file.py:Class`.

        Raises ConfigError for a name that is not listed, a file that is missing or a class it does not define.
        """
        if ".py:" in name:
            return _from_file(name)
        module, _, attribute = self.entry(name).target.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def build(self, choice: str | dict[str, Any]) -> Any:
        """An instance from `name` or `{name: {settings}}`, the two forms a recipe uses."""
        name, settings = split_choice(choice, self.kind)
        return self.resolve(name)(**settings)


def table_at(place: str) -> Registry:
    """The registry at "module:NAME"."""
    module, _, name = place.partition(":")
    table: Registry = getattr(importlib.import_module(module), name)
    return table


def split_choice(choice: str | dict[str, Any], kind: str) -> tuple[str, dict[str, Any]]:
    """`name` or `{name: {settings}}` as (name, settings); `{use: ./file.py:Class, ...settings}` is accepted too."""
    if isinstance(choice, str):
        return choice, {}
    if not isinstance(choice, dict):
        raise ConfigError(f"the {kind} is written `name` or `{{name: {{settings}}}}`, got {choice!r}")
    if "use" in choice:
        return str(choice["use"]), {key: value for key, value in choice.items() if key != "use"}
    if len(choice) != 1:
        raise ConfigError(f"the {kind} is written `name` or `{{name: {{settings}}}}`, got {choice!r}")
    name, settings = next(iter(choice.items()))
    if settings is not None and not isinstance(settings, dict):
        raise ConfigError(f"settings of {kind} '{name}' must be a mapping, got {settings!r}")
    return name, dict(settings or {})


def distinct(names: Sequence[str]) -> list[str]:
    """Names with a number behind each that was there before: ['length', 'length 2']."""
    return [name if names[:place].count(name) == 0 else f"{name} {names[:place].count(name) + 1}"
            for place, name in enumerate(names)]  # fmt: skip


def _from_file(reference: str) -> Any:
    file, _, attribute = reference.rpartition(":")
    path = Path(file).resolve()
    if not path.is_file():
        raise ConfigError(f"no such file: {file}", where=reference, hint="paths are relative to the current folder")
    name = f"{USER}{path.stem}_{hashlib.blake2b(str(path).encode(), digest_size=8).hexdigest()}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:  # whatever a user's file does when it is read
            del sys.modules[name]
            line = (
                error.lineno if isinstance(error, SyntaxError) else traceback.extract_tb(error.__traceback__)[-1].lineno
            )
            raise ConfigError(f"{file} cannot be loaded: {type(error).__name__}: {error}", where=f"{path}:{line}",
                              hint=f"python {file}") from error  # fmt: skip
    own = [key for key, value in vars(sys.modules[name]).items() if getattr(value, "__module__", "") == name]
    if not hasattr(sys.modules[name], attribute):
        raise ConfigError(f"{file} defines no '{attribute}'", hint=suggest(attribute, own))
    found = getattr(sys.modules[name], attribute)
    if not hasattr(found, "model_fields"):
        raise ConfigError(f"{attribute} in {file} has no settings that a recipe could give", where=reference,
                          hint="derive it from burnish.config.Config, or from what it is a kind of")  # fmt: skip
    return found
