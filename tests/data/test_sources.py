"""Files to rows: every kind, gzipped too, and every way a file can be broken."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from burnish.data.sources import Raw, expected_rows, read
from burnish.errors import DataError

ROWS = [{"prompt": 'a, "b"', "completion": "ä"}, {"prompt": "c", "completion": "line\nbreak"}]


def written(folder: Path, name: str) -> Path:
    path = folder / name
    kind = name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
        content = path.read_bytes()
    elif kind == "csv":
        content = 'prompt,completion\n"a, ""b""",ä\nc,"line\nbreak"\n'.encode()
    elif kind == "json":
        content = json.dumps({"data": ROWS}).encode()
    else:
        content = "".join(json.dumps(row) + "\n\n" for row in ROWS).encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


KINDS = ["jsonl", "ndjson", "json", "csv", "parquet", "jsonl.gz", "json.gz", "csv.gz", "parquet.gz"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_rows(kind: str, tmp_path: Path) -> None:
    assert [raw.value for raw in read(written(tmp_path, f"rows.{kind}"))] == ROWS


def test_a_folder_is_its_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"n": 2}\n')
    (tmp_path / "a.jsonl").write_text('{"n": 1}\n')
    (tmp_path / "notes.txt").write_text("not data")
    assert [raw.value for raw in read(tmp_path)] == [{"n": 1}, {"n": 2}]


def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b'{"n": 1}\n')
    assert [raw.value for raw in read(tmp_path / "a.jsonl")] == [{"n": 1}]


def test_broken_lines_are_told_with_their_number(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": \n[1, 2]\n{"n": "\xff"}\n{"n": 5}\n')
    found = list(read(path))
    assert [raw.where for raw in found] == [f"{path}:{line}" for line in (1, 2, 3, 4, 5)]
    assert [raw.value for raw in found] == [{"n": 1}, None, None, None, {"n": 5}]
    assert (found[1].error or "").startswith("not valid JSON") and found[1].text == '{"n":'
    assert found[2].error == "a row must be a JSON object, got list"
    assert found[3].error == "not UTF-8: byte 7 is 0xff"


def test_a_csv_row_with_a_field_too_many(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,completion\na,b\na,b,c\nd\n")
    found = list(read(path))
    assert found[0] == Raw({"prompt": "a", "completion": "b"}, f"{path}:2")
    assert [raw.error for raw in found[1:]] == ["the row has another number of fields than the header"] * 2


def zipped(content: bytes) -> bytes:
    """The content as gzip without the time: a test's name must be the same in every process."""
    return gzip.compress(content, mtime=0)


def test_rows_are_counted_roughly_without_reading_them(tmp_path: Path) -> None:
    # of Parquet the count is known, of lines it is that of the first ones, of JSON size / each, of gzip three times it
    (tmp_path / "a.jsonl").write_bytes((b"x" * 999 + b"\n") * 30)
    (tmp_path / "long.jsonl").write_bytes((b"x" * 99 + b"\n") * 20_000)
    (tmp_path / "a.json").write_bytes(b"x" * 5000)
    (tmp_path / "notes.txt").write_bytes(b"x" * 10_000)  # of no known kind
    assert expected_rows(written(tmp_path, "a.parquet"), 1000) == len(ROWS)
    assert expected_rows(tmp_path / "long.jsonl", 1) == pytest.approx(20_000, rel=0.001)
    (tmp_path / "long.jsonl").unlink()
    assert expected_rows(tmp_path, 1000) == 30 + 5 + len(ROWS)
    (tmp_path / "b.jsonl.gz").write_bytes(b"x" * 2000)
    assert expected_rows(tmp_path / "b.jsonl.gz", 1000) == 6.0
    (tmp_path / "c.parquet").write_bytes(b"PAR1 not really")
    assert expected_rows(tmp_path / "c.parquet", 1000) == 0.0


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.jsonl", b"", "the file is empty"),
        ("a.jsonl", b"\n\n", "holds no rows"),
        ("a.json", b"{", "not valid JSON"),
        ("a.json", b'["\xff"]', "not UTF-8"),
        ("a.json", b"[]", "holds no rows"),
        ("a.csv", b"prompt\n\xff\xff\n", "not UTF-8"),
        ("a.parquet", b"PAR1 not really", "Parquet file cannot be read"),
        ("a.jsonl.gz", b"not gzip at all", "the file breaks off"),
        ("a.jsonl.gz", zipped(b'{"n": 1}\n' * 1000)[:40], "the file breaks off"),
        ("a.json.gz", b"not gzip at all", "the file breaks off"),
        ("a.json.gz", zipped(b'[{"n": 1}]' * 1000)[:40], "the file breaks off"),
        ("a.csv.gz", zipped(b"a,b\n" * 1000)[:30], "the file breaks off"),
        ("a.parquet.gz", b"not gzip at all", "the file breaks off"),
        ("a.jsonl.gz", zipped(b'{"n": 1}\n' * 10)[:12] + b"\xff" * 60, "the file breaks off"),
        ("a.json", b"[" * 100_000, "not valid JSON"),
        ("a.json", b'{"train": [{}], "test": [{}]}', "several lists of rows: train, test"),
        ("a.docx", b"x", "of a kind that cannot be read"),
    ],
)
def test_files_that_cannot_be_used(name: str, content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=what):
        list(read(tmp_path / name))


def test_rows_that_only_look_like_json(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": "\\ud800"}\n' + "[" * 100_000 + '\n{"a": "\\ud83d\\ude42"}\n')
    found = list(read(path))
    assert [raw.value for raw in found] == [None, None, {"a": "🙂"}]
    assert "half of a surrogate pair" in str(found[0].error) and "not valid JSON" in str(found[1].error)


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        ({"messages": [{"role": "user"}]}, [{"messages": [{"role": "user"}]}]),  # one conversation, not its turns
        ({"version": 1, "data": [{"n": 1}]}, [{"n": 1}]),
        ({"n": 1}, [{"n": 1}]),
        (5, [None]),
        (None, [None]),
    ],
)
def test_what_a_json_file_may_hold(value: object, rows: list[object], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert [raw.value for raw in read(tmp_path / "a.json")] == rows


def test_missing_paths(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        list(read(tmp_path / "nowhere.jsonl"))
    with pytest.raises(DataError, match="holds no data files"):
        list(read(tmp_path))
