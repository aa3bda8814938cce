"""Settings: typed, frozen, documented under each field, and traced to the line that set them.

Every part owns a small `Config`. A recipe's YAML is read into a `Document` that remembers the line of each key, so a
mistake anywhere is reported as `file:line: key: what`, all mistakes at once. Nothing is changed after it is loaded.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from burnish.errors import BurnishError, ConfigError, Problem
from burnish.registry import Registry, split_choice, suggest, table_at

Key = tuple[str | int, ...]
Mark = TypeVar("Mark")


class Config(BaseModel):
    """Base of everything that can be configured. A key it does not know is an error."""

    elsewhere: ClassVar[Mapping[str, str]] = {}
    """What other tools call a setting, and what is written here instead."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=(),
                              allow_inf_nan=False)  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _yes_is_no_number(cls, values: Any) -> Any:
        """YAML reads `yes` as true, and true would pass for 1."""
        for name, info in cls.model_fields.items() if isinstance(values, dict) else ():
            kinds = {info.annotation, *get_args(info.annotation)}
            held = values.get(info.alias or name)
            if isinstance(held, bool) and kinds & {int, float} and bool not in kinds:
                raise ValueError(f"'{info.alias or name}' must be a number, got {str(held).lower()}")
        return values


@dataclass(frozen=True, slots=True)
class Table:
    """Marks a field whose values are rows of a registry: `name`, `{name: {settings}}` or a list of these.

    `registry` is "module:NAME" text, so that declaring a field imports nothing. `form` "mapping": text in the field is
    something else, such as a path.
    """

    registry: str
    form: Literal["any", "mapping"] = "any"

    def load(self) -> Registry:
        return table_at(self.registry)


@dataclass(frozen=True, slots=True)
class Ref:
    """Marks a field that names an input: `$step`, for a model also `base`, a folder or a Hub id."""

    kind: Literal["dataset", "model", "step", "any"]


# ---------------------------------------------------------------------------------------------- YAML with line numbers


@dataclass
class Document:
    """A YAML file as plain data, with the line of each key and the overrides laid over it."""

    data: dict[str, Any]
    file: str = ""
    lines: dict[Key, int] = field(default_factory=dict)
    overridden: set[Key] = field(default_factory=set)
    assignments: list[str] = field(default_factory=list)
    """The overrides as they were written."""

    def where(self, key: Key) -> str:
        """`file:line: a.b` of a key, or of its nearest known parent when the key itself is missing."""
        name = dotted(key)
        for length in range(len(key), -1, -1):
            if key[:length] in self.overridden:
                return f"--set {name}"
            if key[:length] in self.lines:
                return f"{self.file}:{self.lines[key[:length]]}" + (f": {name}" if name else "")
            if any(made[:length] == key[:length] for made in self.overridden):  # an override made this mapping
                return f"--set {name}"
        return f"{self.file}: {name}" if name else self.file

    def origin(self, key: Key) -> str:
        """Where a value came from: `file:line`, `--set` or `default`."""
        if any(key[:length] in self.overridden for length in range(1, len(key) + 1)):
            return "--set"
        return f"{self.file}:{self.lines[key]}" if key in self.lines else "default"


def dotted(key: Key) -> str:
    return ".".join(map(str, key))


def read_yaml(path: Path) -> Document:
    """Read a YAML mapping. Raises ConfigError for a missing file, broken YAML, a repeated key or another top level."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"no such file: {path}", hint="`burnish init` writes a starter recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", hint="a recipe is a UTF-8 text file") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, file: str = "recipe") -> Document:
    """`read_yaml` for text; `file` is the name that errors show."""
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        document = Document({}, file)
        value = _construct(loader, node, (), document) if node else {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"not valid YAML: {what}", where=f"{file}:{mark.line + 1}" if mark else file,
                          hint="check indentation, colons and brackets") from None  # fmt: skip
    except RecursionError:
        raise ConfigError("an alias stands within what it stands for", where=file, hint="write it out") from None
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(value, dict):
        raise ConfigError(f"expected a mapping of settings, got {type(value).__name__}", where=file)
    document.data = value
    return document


def _construct(loader: yaml.SafeLoader, node: yaml.Node, key: Key, document: Document) -> Any:
    document.lines.setdefault(key, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, item, (*key, index), document) for index, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node, deep=True)
    loader.flatten_mapping(node)
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        name = str(loader.construct_object(key_node, deep=True))
        line = key_node.start_mark.line + 1
        if name in result:
            raise ConfigError(f"key '{name}' is given twice", where=f"{document.file}:{line}: {dotted((*key, name))}")
        document.lines[(*key, name)] = line
        result[name] = _construct(loader, value_node, (*key, name), document)
    return result


def override(document: Document, assignments: list[str]) -> None:
    """Lay `a.b=c` assignments over a document; values are read as YAML, list items are named by number.

    Raises ConfigError for text without `=`, or a path that runs through a value which is not a mapping or list.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise ConfigError(f"--set {assignment}: expected KEY=VALUE", hint="--set steps.sft.train.epochs=2")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"--set {assignment}: the value is not valid YAML", hint="quote it") from None
        parts = path.split(".")
        target: Any = document.data
        key: list[str | int] = []
        for part in parts[:-1]:
            place = _place(target, part, path)
            if isinstance(target, dict):
                target.setdefault(place, {})
            target = target[place]
            key.append(place)
            if not isinstance(target, dict | list):
                raise ConfigError(f"--set {path}: '{dotted(tuple(key))}' is not a mapping")
        last = _place(target, parts[-1], path)
        target[last] = value
        document.overridden.add((*key, last))
        document.assignments.append(assignment)


def _place(target: dict[str, Any] | list[Any], part: str, path: str) -> str | int:
    """One part of an override's path: a key, or the number of an item that a list has."""
    if isinstance(target, dict):
        return part
    if not part.isdigit() or int(part) >= len(target):
        raise ConfigError(f"--set {path}: the list has {len(target)} items, there is no item '{part}'",
                          hint="items are named by number, the first is 0")  # fmt: skip
    return int(part)


# ---------------------------------------------------------------------------------------------------- checked settings


def validate(model: type[Config], data: Any, document: Document, prefix: Key = ()) -> tuple[Any, list[Problem]]:
    """Build `model` from `data`, or return None and every problem in it, rows of registries included."""
    try:
        value = model.model_validate(data)
    except ValidationError as error:
        return None, [_problem(model, item, document, prefix) for item in _fitting(error.errors())]
    return value, list(_check_tables(value, document, prefix))


def _fitting(errors: list[Any]) -> Iterator[Any]:
    """What is wrong, without the complaints of a union's members that something else was evidently not meant for."""
    keys = [_key_of(item) for item in errors]
    for item, key in zip(errors, keys, strict=True):
        others = [(other, deep) for other, deep in zip(errors, keys, strict=True) if other is not item]
        deeper = any(deep[: len(key)] == key and len(deep) > len(key) for _, deep in others)
        better = any(deep == key and not other["type"].endswith("_type") for other, deep in others)
        if not deeper and not (item["type"].endswith("_type") and better):
            yield item


def _key_of(item: Any) -> Key:
    return tuple(part for part in item["loc"] if not _is_union_tag(part))


def _problem(model: type[Config], item: Any, document: Document, prefix: Key) -> Problem:
    key = (*prefix, *_key_of(item))
    where = document.where(key)
    if item["type"] == "extra_forbidden":
        return Problem(f"unknown key '{key[-1]}'", where, _instead(model, item["loc"][:-1], str(key[-1])))
    if item["type"] == "missing":
        return Problem(f"key '{key[-1]}' is missing", where, _doc_hint(model, item["loc"]))
    if item["type"] == "literal_error" and isinstance(item["input"], str):
        allowed = re.findall("'([^']*)'", item["ctx"]["expected"])
        return Problem(f"unknown value '{item['input']}'", where, suggest(item["input"], allowed))
    message = item["msg"].removeprefix("Value error, ")
    shown = repr(item["input"])
    got = f", got {shown if len(shown) < 80 else shown[:77] + '...'}"
    return Problem(message[0].lower() + message[1:] + got, where, _doc_hint(model, item["loc"]))


def _instead(model: type[Config], loc: tuple[str | int, ...], key: str) -> str:
    """What to write in the place of a key that the mapping at `loc` does not know."""
    found = _model_at(model, loc)
    if known := getattr(found, "elsewhere", {}).get(key):
        return f"here it is {known}"
    for name, info in found.model_fields.items() if found else ():
        if any(key in fields_at(inner, ()) for inner in models_in(info.annotation)):
            return f"it belongs to `{info.alias or name}`: {{{key}: ...}}"
    return suggest(key, sorted(fields_at(model, loc)))


def _is_union_tag(part: str | int) -> bool:
    """Pydantic puts the tried member of a union into an error's path; those parts are not keys."""
    return isinstance(part, str) and (part in {"str", "int", "float", "bool", "dict", "list"} or "[" in part)


def _model_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for part in loc:
        if current is None or part not in current.model_fields:
            continue
        current = next(models_in(current.model_fields[str(part)].annotation), None)
    return current


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The config classes that a type mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


def fields_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """The keys allowed in the mapping at `loc`."""
    found = _model_at(model, loc)
    return [info.alias or name for name, info in found.model_fields.items()] if found else []


def _doc_hint(model: type[BaseModel], loc: tuple[str | int, ...]) -> str:
    parent = _model_at(model, loc[:-1]) if loc else None
    for name, info in (parent.model_fields if parent else {}).items():
        if parent and (info.alias or name) == loc[-1] and (doc := doc_of(parent, name)):
            return f"{loc[-1]}: {doc}"
    return ""


def tables_of(model: type[BaseModel]) -> dict[str, Table]:
    """The fields of a config class that hold rows of a registry."""
    return _marked(model, Table)


def refs_of(model: type[BaseModel]) -> dict[str, Ref]:
    """The fields of a config class that name inputs."""
    return _marked(model, Ref)


def _marked(model: type[BaseModel], kind: type[Mark]) -> dict[str, Mark]:
    return {name: mark for name, info in model.model_fields.items() for mark in _marks(info) if isinstance(mark, kind)}


def _marks(info: FieldInfo) -> Iterator[Any]:
    """What a field is annotated with, also where it may be None: then the marks stand on the other kind."""
    yield from info.metadata
    for part in get_args(info.annotation):
        yield from getattr(part, "__metadata__", ())


def _check_tables(value: Config, document: Document, prefix: Key) -> Iterator[Problem]:
    for name, table in tables_of(type(value)).items():
        held = getattr(value, name)
        key = (*prefix, type(value).model_fields[name].alias or name)
        if held is None or (table.form == "mapping" and not isinstance(held, dict)):
            continue
        choices = [(key, held)] if not isinstance(held, list) else [((*key, i), item) for i, item in enumerate(held)]
        for at, choice in choices:
            yield from _check_choice(table.load(), choice, document, at)
    for name in type(value).model_fields:
        held = getattr(value, name)
        if isinstance(held, Config):
            yield from _check_tables(held, document, (*prefix, name))


def _check_choice(registry: Registry, choice: Any, document: Document, at: Key) -> Iterator[Problem]:
    try:
        name, settings = split_choice(choice, registry.kind)
        model = registry.resolve(name)
    except BurnishError as error:
        yield Problem(error.what, document.where(at), error.hint)
        return
    if isinstance(model, type) and issubclass(model, Config):
        inner = at if isinstance(choice, str) or "use" in choice else (*at, name)
        yield from validate(model, settings, document, inner)[1]


def origins(value: Config, document: Document, prefix: Key = ()) -> dict[str, dict[str, Any]]:
    """Every setting as {dotted key: {value, origin}}; what resolved.json holds."""
    found: dict[str, dict[str, Any]] = {}
    for name, info in type(value).model_fields.items():
        key = (*prefix, info.alias or name)
        held = getattr(value, name)
        if isinstance(held, Config):
            found |= origins(held, document, key)
        else:
            found[dotted(key)] = {"value": _plain(held), "origin": document.origin(key)}
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | type(None)) else str(value)


# ------------------------------------------------------------------------------------------------------------- explain


@dataclass(frozen=True, slots=True)
class Explained:
    """What `burnish explain` says of one setting."""

    name: str
    type: str
    default: str
    doc: str


def explain(model: type[BaseModel]) -> list[Explained]:
    """Each setting of a config class with its type, default and the text under its field."""
    rows = []
    for name, info in model.model_fields.items():
        default = "required" if info.is_required() else repr(info.get_default(call_default_factory=True))
        rows.append(Explained(info.alias or name, type_name(info.annotation), default, doc_of(model, name)))
    return rows


def doc_of(model: type[BaseModel], name: str) -> str:
    """The text under a field, or under the field of a base class that it narrows."""
    for owner in model.__mro__:
        if issubclass(owner, BaseModel) and name in owner.model_fields and owner.model_fields[name].description:
            return str(owner.model_fields[name].description)
    return ""


def type_name(annotation: Any) -> str:
    """A type as a reader of YAML would say it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_name(arguments[0])
    if origin is Literal:
        return " | ".join(map(repr, arguments))
    if origin in (Union, types.UnionType):
        return " | ".join(type_name(argument) for argument in arguments)
    if origin in (list, tuple):
        return f"list of {type_name(arguments[0])}" if arguments else "list"
    if origin is dict:
        return "mapping"
    if annotation is type(None):
        return "null"
    if annotation is Any or annotation is typing.Any:
        return "name | {name: {settings}}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping (" + ", ".join(annotation.model_fields) + ")"
    return str(getattr(annotation, "__name__", annotation))
