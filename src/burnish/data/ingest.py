"""Files to rows: the shape found for each file, every row converted or quarantined with its reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from burnish.data.formats import FORMATS, Converted, convert, detect, unread
from burnish.data.sources import Raw, read
from burnish.errors import DataError


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row that cannot be used."""

    where: str
    why: str
    text: str
    hint: str = ""


@dataclass
class Ingested:
    """All rows of the sources: rows in = rows + quarantine."""

    rows: list[Converted] = field(default_factory=list)
    quarantine: list[Quarantined] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    """Columns that the shape of their rows does not read, and how many of `rows` had something in them."""


def ingest(paths: Sequence[Path], shape: str = "auto", limit: int | None = None) -> Ingested:
    """Read files into rows. With `auto`, the first row of a known shape decides for its file.

    A row of another shape is quarantined, and so is an example among pairs: a dataset holds one kind of row.
    Rows with equal content keep their first id and get a number behind it. `limit` counts the rows looked at.
    Raises DataError for files that cannot be read at all.
    """
    found = Ingested()
    seen: Counter[str] = Counter()
    shapes: dict[str, str] = {}
    looked = 0
    for path in paths:
        for raw in read(path):
            if limit is not None and looked >= limit:
                return found
            looked += 1
            _take(raw, shape, shapes, found, seen)
    return found


def _take(raw: Raw, shape: str, shapes: dict[str, str], found: Ingested, seen: Counter[str]) -> None:
    if raw.value is None:
        found.quarantine.append(Quarantined(raw.where, raw.error or "unreadable", raw.text))
        return
    try:
        name = _shape_of(raw, shape, shapes)
        row = convert(raw.value, name, raw.where)
        if found.rows and type(row) is not type(found.rows[0]):
            raise DataError("conversations and preference pairs are mixed", hint="ingest them in two steps")
    except DataError as error:
        text = json.dumps(raw.value, ensure_ascii=False, default=str)[:500]
        found.quarantine.append(Quarantined(raw.where, error.what, text, error.hint))
        return
    found.unread.update(unread(raw.value, name))
    found.rows.append(replace(row, id=_unused(row.id, seen)))


def _unused(name: str, seen: Counter[str]) -> str:
    """The name, with a number behind it where another row has it already."""
    found = name
    while seen[found]:
        found = f"{name}#{seen[name]}"
        seen[name] += 1
    seen[found] += 1
    return found


def _shape_of(raw: Raw, shape: str, shapes: dict[str, str]) -> str:
    if shape != "auto":
        return shape
    file = raw.where.rpartition(":")[0]
    if file not in shapes:
        assert raw.value is not None
        name = detect(raw.value)
        if name is None:
            keys = ", ".join(sorted(map(str, raw.value)))[:120]
            shapes_known = "; ".join(f"{', '.join(known.keys)} ({known.name})" for known in FORMATS)
            raise DataError(f"a row of unknown shape, with the keys {keys}",
                            hint=f"rename its columns to those of a known shape: {shapes_known}")  # fmt: skip
        shapes[file] = name
    return shapes[file]
