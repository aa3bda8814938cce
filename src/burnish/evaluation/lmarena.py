"""LMArena's rows of votes, read and written as JSONL, JSON, CSV and Parquet.

The columns are those of its public releases: `model_a`, `model_b`, `winner`, `judge`, `turn`, `anony`, `language`,
`tstamp`, `conversation_a` and `conversation_b`; releases that say `user` or `judge_hash`, `timestamp`, `both_bad`, or
write conversations as JSON text are read too, and the one that has a column for each winner and lists of prompts and
responses. `battle_id` is ours: with it, reading a file again adds nothing.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from burnish.data.sources import read
from burnish.errors import DataError
from burnish.evaluation.votes import WINNERS, Vote, VoteStore, turns_text
from burnish.log import ticker
from burnish.types import ROLES, Message
from burnish.workspace import disk_error, file_digest

Row = dict[str, Any]

BOTH_BAD = ("both_bad", "bothbad", "tie (both bad)")
"""What some releases call `tie (bothbad)`."""
READ = {"battle_id", "model_a", "model_b", "winner", "judge", "user", "judge_hash", "turn", "anony", "language",
        "tstamp", "timestamp", "conversation_a", "conversation_b"}  # fmt: skip
ONE_HOT = {"winner_model_a": "model_a", "winner_model_b": "model_b", "winner_tie": "tie"}
"""Columns of the release that has one for each winner."""
BATCH = 10_000
"""Rows between two steps of the progress bar, and in a group of a Parquet file."""


# -------------------------------------------------------------------------------------------------------------- reading


@dataclass
class Imported:
    """What became of a file's rows: each was added, known before, or rejected."""

    rows: int = 0
    added: int = 0
    known: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """Reason -> rows."""
    first: dict[str, str] = field(default_factory=dict)
    """Reason -> where it was met first."""
    remarks: Counter[str] = field(default_factory=Counter)
    """What was missing or left out in rows that were added, and in how many."""

    def lines(self) -> list[str]:
        """The result in words."""
        lost = sum(self.rejected.values())
        said = [f"{self.rows:,} rows: {self.added:,} votes added, {self.known:,} known before, {lost:,} rejected"]
        said += [f"rejected {count:,}: {why} (first: {self.first[why]})" for why, count in self.rejected.most_common()]
        return said + [f"{count:,} rows: {what}" for what, count in self.remarks.most_common()]


def import_votes(store: VoteStore, path: Path) -> Imported:
    """Add the votes of a file to the store: all that are sound, or nothing when the file cannot be read to its end.

    Raises DataError for a file that cannot be read, or of which no row is a vote.
    """
    found = Imported()
    found.added = store.add_all(_votes(path, found))
    lost = sum(found.rejected.values())
    found.known = found.rows - lost - found.added
    if lost == found.rows:
        why = found.rejected.most_common(1)[0][0]
        raise DataError(f"no row of {path.name} is a vote: {why}", where=found.first[why],
                        hint="rows need model_a, model_b and winner: " + ", ".join(WINNERS))  # fmt: skip
    return found


def _votes(path: Path, found: Imported) -> Iterator[Vote]:
    ids = Ids(path)
    with ticker(f"votes of {path.name}", None, "votes") as tick:
        for raw in read(path):
            found.rows += 1
            if found.rows % BATCH == 0:
                tick.advance(BATCH)
            try:
                if raw.value is None:
                    raise DataError("the row cannot be read", hint=raw.error or "")
                vote, remarks = vote_from_row(raw.value, ids)
            except DataError as error:
                found.rejected[error.what] += 1
                found.first.setdefault(error.what, f"{raw.where}{': ' if error.hint else ''}{error.hint}")
                continue
            for remark in remarks:
                found.remarks[remark] += 1
            yield vote


class Ids:
    """Battle ids for rows that have none: a hash of what the row says, so that a file read twice gives the same ids.

    Rows that are alike are told apart by counting them. A row without time and id could stand in any file, so the
    file's own hash is part of its id.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._seen = path, Counter[str]()
        self._file = ""

    def of(self, row: Row, read: tuple[Any, ...], time: float | None, sides: list[tuple[Message, ...]]) -> str:
        """The id of a row of which `read`, `time` and `sides` were read."""
        named = row.get("question_id") or row.get("id") or ""
        if not named and time is None:
            named = self._file = self._file or file_digest(self._path)
        said = [turn.content for side in sides for turn in side]
        text = "\x1f".join(map(str, (named, *read, time, *said)))
        content = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        self._seen[content] += 1
        return content if self._seen[content] == 1 else f"{content}-{self._seen[content]}"


def vote_from_row(row: Row, ids: Ids) -> tuple[Vote, list[str]]:
    """A row as a vote, and what was missing or left out. Raises DataError with the reason for a row that is no vote."""
    remarks = []
    row = _from_columns(row) if row.keys() >= ONE_HOT.keys() else row
    first, second = _name(row, "model_a"), _name(row, "model_b")
    if first == second:
        raise DataError("a model against itself")
    sides = [_turns(row, "conversation_a"), _turns(row, "conversation_b")]
    judge, turn, anony = _get(row, "judge", "judge_hash", "user"), _get(row, "turn"), _get(row, "anony")
    time, language = _get(row, "tstamp", "timestamp"), _get(row, "language")
    if judge is None:
        remarks.append("no judge, so all are taken for one voter")
    if turn is None:
        turn = max(1, sum(message.role == "user" for message in sides[0]))
        remarks.append("no turn, so the user's turns are counted" if sides[0] else "no turn, taken for 1")
    if anony is None:
        remarks.append("no anony, taken for hidden names")
    if time is None:
        remarks.append("no time")
    if extra := row.keys() - READ:
        remarks.append(f"not kept: {', '.join(sorted(map(str, extra)))}")
    read = (first, second, _winner(row), "unknown" if judge is None else str(judge), _turn(turn),
            True if anony is None else _flag(anony), "unknown" if language is None else str(language))  # fmt: skip
    when = None if time is None else _time(time)
    battle = str(_get(row, "battle_id") or "") or ids.of(row, read, when, sides)
    return Vote(battle, *read, when, *sides), remarks


def _from_columns(row: Row) -> Row:
    """A row with a column for each winner, written as the others are."""
    won = [winner for column, winner in ONE_HOT.items() if str(row[column]).lower() in ("1", "1.0", "true")]
    if len(won) != 1:
        raise DataError(f"{len(won)} of {', '.join(ONE_HOT)} are 1")
    asked = _texts(row, "prompt")
    talks = {}
    for side in "ab":
        answers = _texts(row, f"response_{side}")
        if len(answers) != len(asked):
            raise DataError(f"prompt and response_{side} have different numbers of turns")
        talks[f"conversation_{side}"] = [
            {"role": role, "content": text}
            for both in zip(asked, answers, strict=True)
            for role, text in zip(("user", "assistant"), both, strict=True)
        ]
    kept = {key: value for key, value in row.items() if key not in (*ONE_HOT, "prompt", "response_a", "response_b")}
    return kept | talks | {"winner": won[0]}


def _texts(row: Row, key: str) -> list[str]:
    """A column's texts, one for each turn: a list, its JSON, or one text. A turn without words is an empty text."""
    value = row.get(key)
    if isinstance(value, str) and value.startswith("["):
        with suppress(ValueError, RecursionError):  # a prompt may begin so
            value = json.loads(value)
    return ["" if one is None else str(one) for one in (value if isinstance(value, list) else [value])]


def _get(row: Row, *names: str) -> Any:
    """The first of these that the row has; None when it has none."""
    for name in names:
        value = row.get(name)
        if value is not None and value != "":
            return value
    return None


def _name(row: Row, key: str) -> str:
    name = row.get(key)
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"no {key}")
    return name


def _winner(row: Row) -> Any:
    winner = row.get("winner")
    if winner in BOTH_BAD:
        return "tie (bothbad)"
    if winner not in WINNERS:
        raise DataError("winner is none of " + ", ".join(WINNERS), hint=f"winner is {winner!r}"[:80])
    return winner


def _turn(value: Any) -> int:
    try:
        turn = int(value)
    except (TypeError, ValueError, OverflowError):
        turn = 0
    if not 1 <= turn < 2**31:
        raise DataError("turn is not a number from 1 on", hint=f"turn is {value!r}"[:80])
    return turn


def _flag(value: Any) -> bool:
    flag = {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())
    if flag is None:
        raise DataError("anony is neither true nor false", hint=f"anony is {value!r}"[:80])
    return flag


def _time(value: Any) -> float:
    """Seconds since 1970, from seconds, a date, or a date's text; a date without a zone is in UTC."""
    try:
        if isinstance(value, str):
            value = float(value) if value.replace(".", "", 1).isdigit() else datetime.fromisoformat(value)
        if isinstance(value, datetime):
            value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        time = float(value)
    except (TypeError, ValueError, OverflowError):
        time = math.nan
    if not math.isfinite(time):
        raise DataError("tstamp is no time", hint=f"tstamp is {value!r}"[:80])
    return time


def _turns(row: Row, key: str) -> tuple[Message, ...]:
    value = row.get(key)
    if isinstance(value, str) and value:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise DataError(f"{key} is not JSON") from None
    if not value:
        return ()
    if not isinstance(value, list):
        raise DataError(f"{key} is not a list of turns")
    return tuple(_message(turn, key) for turn in value)


def _message(turn: Any, key: str) -> Message:
    if not isinstance(turn, dict) or turn.get("role") not in ROLES or "content" not in turn:
        raise DataError(f"{key} holds a turn without role or content")
    content = turn["content"]
    if isinstance(content, list):
        content = "".join(map(_part, content))
    if not isinstance(content, str):
        raise DataError(f"{key} holds a turn that is not text")
    return Message(turn["role"], content)


def _part(part: Any) -> str:
    """A part of a turn: its text, or, where it is none, such as an image, its JSON."""
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else json.dumps(part, default=str)


# -------------------------------------------------------------------------------------------------------------- writing


def row_of(vote: Vote) -> Row:
    """A vote as LMArena's row."""
    return {
        "battle_id": vote.battle, "model_a": vote.model_a, "model_b": vote.model_b, "winner": vote.winner,
        "judge": vote.judge, "turn": vote.turn, "anony": vote.anony, "language": vote.language, "tstamp": vote.tstamp,
        "conversation_a": [{"role": turn.role, "content": turn.content} for turn in vote.conversation_a],
        "conversation_b": [{"role": turn.role, "content": turn.content} for turn in vote.conversation_b],
    }  # fmt: skip


def export_votes(votes: Iterable[Vote], path: Path) -> int:
    """Write votes as the kind of file that the name says; returns how many. A reader sees all of it or the old file.

    Raises DataError for an unknown kind, WorkspaceError when the disk is full or the folder cannot be written.
    """
    writers = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".parquet": _parquet}
    if path.suffix not in writers:
        raise DataError(f"'{path.name}' is of a kind that cannot be written", hint="known: " + ", ".join(writers))
    with _drafted(path) as draft:
        return writers[path.suffix](draft, iter(votes))


@contextmanager
def _drafted(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place at the end: `write_atomic` for what is too large to hold as text."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        with draft.open("rb") as stream:
            os.fsync(stream.fileno())
        draft.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        draft.unlink(missing_ok=True)


def _jsonl(draft: Path, votes: Iterator[Vote]) -> int:
    count = 0
    with draft.open("w", encoding="utf-8") as stream:
        for vote in votes:
            stream.write(json.dumps(row_of(vote), ensure_ascii=False) + "\n")
            count += 1
    return count


def _json(draft: Path, votes: Iterator[Vote]) -> int:
    count = 0
    with draft.open("w", encoding="utf-8") as stream:
        stream.write("[")
        for count, vote in enumerate(votes, start=1):
            stream.write((",\n" if count > 1 else "\n") + json.dumps(row_of(vote), ensure_ascii=False))
        stream.write("\n]\n")
    return count


def _csv(draft: Path, votes: Iterator[Vote]) -> int:
    count = 0
    with draft.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        for count, vote in enumerate(votes, start=1):
            sides = turns_text(vote.conversation_a), turns_text(vote.conversation_b)
            row = row_of(vote) | dict(zip(("conversation_a", "conversation_b"), sides, strict=True))
            if count == 1:
                writer.writerow(row)
            writer.writerow(row.values())
    return count


def _parquet(draft: Path, votes: Iterator[Vote]) -> int:
    import pyarrow
    import pyarrow.parquet

    text = pyarrow.string()
    turns = pyarrow.list_(pyarrow.struct({"role": text, "content": text}))
    kinds = {"turn": pyarrow.int64(), "anony": pyarrow.bool_(), "tstamp": pyarrow.float64(), "conversation_a": turns,
             "conversation_b": turns}  # fmt: skip
    names = row_of(Vote("", "", "", "tie", ""))
    schema = pyarrow.schema([(name, kinds.get(name, text)) for name in names])
    count = 0
    with pyarrow.parquet.ParquetWriter(draft, schema) as writer:
        while rows := [row_of(vote) for vote in islice(votes, BATCH)]:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
            count += len(rows)
    return count
