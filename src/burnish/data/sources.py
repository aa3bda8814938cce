"""Read rows from files, one at a time, with where each came from; a broken row is reported, not raised."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from burnish.errors import DataError

WRAPPERS = ("data", "rows", "train", "test", "examples", "instances", "items")
"""Keys under which a JSON file may hold its list of rows."""
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
LINES = (".jsonl", ".ndjson", ".csv")
"""Kinds of files in which a row is a line, or hardly more."""
SAMPLED = 1 << 20
"""Bytes at the beginning of a file by which its rows are counted."""

PACKED = 3.0
"""Characters of text in a byte of gzip."""
BROKEN_GZIP = (EOFError, gzip.BadGzipFile, zlib.error, OSError)
"""What reading a damaged or cut-off .gz file raises."""


@dataclass(frozen=True, slots=True)
class Raw:
    """One row of a file: its value, or why it could not be read."""

    value: dict[str, Any] | None
    where: str
    error: str | None = None
    text: str = ""
    """The row as it stands in the file, when it could not be read."""


def read(path: Path) -> Iterator[Raw]:
    """The rows of a file, or of all known files in a folder, in the order of their names.

    Raises DataError for a path that is missing, empty, or of an unknown kind.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and _suffix(file) in SUFFIXES)
        if not files:
            raise DataError("the folder holds no data files", where=str(path), hint="known: " + ", ".join(SUFFIXES))
        for file in files:
            yield from read(file)
        return
    if not path.is_file():
        raise DataError(f"no such file: {path}", hint="paths are relative to the current folder")
    suffix = _suffix(path)
    if suffix not in SUFFIXES:
        raise DataError(f"'{path.name}' is of a kind that cannot be read", where=str(path),
                        hint="known: " + ", ".join(SUFFIXES) + ", each also .gz")  # fmt: skip
    if path.stat().st_size == 0:
        raise DataError("the file is empty", where=str(path))
    rows = {".csv": _csv, ".json": _json, ".parquet": _parquet}.get(suffix, _jsonl)(path)
    any_row = False
    for row in rows:
        any_row = True
        yield row
    if not any_row:
        raise DataError("the file holds no rows", where=str(path))


def expected_rows(path: Path, each: float) -> float:
    """About how many rows `read` finds, when a row takes so many characters; without reading them. Exact for Parquet.

    Nothing counts for a file that cannot be read: `read` says why.
    """
    if path.is_dir():
        return sum(
            expected_rows(file, each) for file in path.rglob("*") if file.is_file() and _suffix(file) in SUFFIXES
        )
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        try:
            return float(pyarrow.parquet.read_metadata(path).num_rows)
        except pyarrow.ArrowException:
            return 0.0
    size = path.stat().st_size * (PACKED if path.suffix == ".gz" else 1.0)
    return size / max(1.0, (_line(path) if _suffix(path) in LINES else None) or each)


def _line(path: Path) -> float | None:
    """Mean bytes of a file's first lines; None where they cannot be read."""
    try:
        with _open(path) as stream:
            head = stream.read(SAMPLED)
    except BROKEN_GZIP:
        return None
    return len(head) / max(1, sum(1 for line in head.splitlines() if line.strip()))


def _suffix(path: Path) -> str:
    suffixes = path.suffixes
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] == ".gz" else path.suffix


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _jsonl(path: Path) -> Iterator[Raw]:
    number = 0
    try:
        with _open(path) as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield _decoded(line, f"{path}:{number}")
    except BROKEN_GZIP as error:
        raise DataError(f"the file breaks off: {error}", where=f"{path}:{number + 1}", hint="copy it again") from None


def _decoded(line: bytes, where: str) -> Raw:
    try:
        text = line.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        return Raw(None, where, f"not UTF-8: byte {error.start} is {line[error.start]:#x}", repr(line[:200]))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Raw(None, where, f"not valid JSON: {error}", text[:500])
    if "\\ud" in text.lower() and not _is_encodable(value):
        return Raw(None, where, "half of a surrogate pair, which is no character", text[:500])
    return _mapping(value, where, text)


def _is_encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _mapping(value: Any, where: str, text: str) -> Raw:
    if not isinstance(value, dict):
        return Raw(None, where, f"a row must be a JSON object, got {type(value).__name__}", text[:500])
    return Raw(value, where)


def _json(path: Path) -> Iterator[Raw]:
    try:
        with _open(path) as stream:
            value = json.loads(stream.read().decode("utf-8-sig"))
    except BROKEN_GZIP as error:
        raise DataError(f"the file breaks off: {error}", where=str(path), hint="copy it again") from None
    except UnicodeDecodeError as error:
        raise DataError(f"the file is not UTF-8 (byte {error.start})", where=str(path),
                        hint="convert it: iconv -f latin1 -t utf-8") from None  # fmt: skip
    except (ValueError, RecursionError) as error:
        raise DataError(f"the file is not valid JSON: {error}", where=str(path),
                        hint="one object per line is called .jsonl") from None  # fmt: skip
    if isinstance(value, dict):
        lists = [key for key in WRAPPERS if isinstance(value.get(key), list)]
        if len(lists) > 1:
            raise DataError(f"the file holds several lists of rows: {', '.join(lists)}", where=str(path),
                            hint="write the one that is wanted into a file of its own")  # fmt: skip
        value = value[lists[0]] if lists else [value]
    for number, row in enumerate(value if isinstance(value, list) else [value], start=1):
        yield _mapping(row, f"{path}: row {number}", str(row))


def _csv(path: Path) -> Iterator[Raw]:
    with _open(path) as binary:
        try:
            reader = csv.DictReader(io.TextIOWrapper(binary, encoding="utf-8-sig", newline=""), strict=True)
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if None in row or any(value is None for value in row.values()):
                    yield Raw(None, where, "the row has another number of fields than the header", str(row)[:500])
                else:
                    yield Raw({key: value for key, value in row.items() if value != ""}, where)
        except UnicodeDecodeError as error:
            raise DataError(f"the file is not UTF-8: {error.reason}", where=str(path),
                            hint="convert it: iconv -f latin1 -t utf-8") from None  # fmt: skip
        except BROKEN_GZIP as error:
            raise DataError(f"the file breaks off: {error}", where=str(path), hint="copy it again") from None
        except csv.Error as error:
            raise DataError(f"broken CSV: {error}", where=str(path)) from None


def _parquet(path: Path) -> Iterator[Raw]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path if path.suffix != ".gz" else io.BytesIO(_open(path).read()))
        number = 0
        for batch in file.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield Raw(row, f"{path}: row {number}")
    except BROKEN_GZIP as error:
        raise DataError(f"the file breaks off: {error}", where=str(path), hint="copy it again") from None
    except pyarrow.ArrowException as error:
        raise DataError(f"the Parquet file cannot be read: {error}", where=str(path)) from None
