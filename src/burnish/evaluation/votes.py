"""Human votes between two models: kept in one SQLite file, appended and never changed.

A battle has one vote: a second one for the same battle, from a double click or a reload, changes nothing. The file's
own triggers refuse changes and removals, so another program that opens it cannot do either by mistake. SQLite's
write-ahead log lets several voters, and a ranking being counted, use the file at once.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Literal, get_args

from burnish.errors import DataError
from burnish.types import Message
from burnish.workspace import disk_error, file_digest

Winner = Literal["model_a", "model_b", "tie", "tie (bothbad)"]
WINNERS: tuple[str, ...] = get_args(Winner)
OUTCOMES: dict[str, float] = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (bothbad)": 0.5}
"""What a vote says of the first model: 1 it won, 0 it lost. Two bad answers rank as a tie, and are stored apart."""

APPLICATION = 0x6275726E  # "burn", in the header of a file of votes
VERSION = 1
SCHEMA = f"""
CREATE TABLE votes (
    number INTEGER PRIMARY KEY,
    battle TEXT NOT NULL UNIQUE CHECK (battle <> ''),
    model_a TEXT NOT NULL CHECK (model_a <> ''),
    model_b TEXT NOT NULL CHECK (model_b <> '' AND model_b <> model_a),
    winner TEXT NOT NULL CHECK (winner IN {WINNERS}),
    judge TEXT NOT NULL,
    turn INTEGER NOT NULL CHECK (turn >= 1),
    anony INTEGER NOT NULL CHECK (anony IN (0, 1)),
    language TEXT NOT NULL,
    tstamp REAL,
    conversation_a TEXT NOT NULL,
    conversation_b TEXT NOT NULL
);
CREATE TABLE keys (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TRIGGER votes_are_not_changed BEFORE UPDATE ON votes
    BEGIN SELECT RAISE(ABORT, 'votes are only appended'); END;
CREATE TRIGGER votes_are_not_removed BEFORE DELETE ON votes
    BEGIN SELECT RAISE(ABORT, 'votes are only appended'); END;
CREATE TRIGGER a_battle_has_one_vote BEFORE INSERT ON votes
    WHEN EXISTS (SELECT 1 FROM votes WHERE battle = NEW.battle)
        OR EXISTS (SELECT 1 FROM votes WHERE number = NEW.number)
    BEGIN SELECT RAISE(IGNORE); END;
CREATE TRIGGER keys_are_not_changed BEFORE UPDATE ON keys
    BEGIN SELECT RAISE(ABORT, 'keys are only made'); END;
CREATE TRIGGER keys_are_not_removed BEFORE DELETE ON keys
    BEGIN SELECT RAISE(ABORT, 'keys are only made'); END;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
"""


@dataclass(frozen=True, slots=True)
class Vote:
    """One vote. The names are those of LMArena's public votes; `model_a` stood on the left."""

    battle: str
    """Id of the battle; it has one vote."""
    model_a: str
    model_b: str
    winner: Winner
    judge: str
    """Who voted: a salted hash (`VoteStore.who`), never a name."""
    turn: int = 1
    """How often the voter had spoken."""
    anony: bool = True
    """Whether the names were hidden until the vote. Only such votes are ranked."""
    language: str = "unknown"
    tstamp: float | None = None
    """When, in seconds since 1970; None when a file does not say."""
    conversation_a: tuple[Message, ...] = ()
    conversation_b: tuple[Message, ...] = ()


COLUMNS = tuple(field.name for field in fields(Vote))
PLACES = ", ".join("?" * len(COLUMNS))


class VoteStore:
    """The votes of one file. Threads and processes may use it at once; it is made when it is missing.

    Raises DataError for a file that holds something else, and WorkspaceError for a folder that cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, path) from error
        with self._errors():
            self._db = self._connect()
            self._prepare()
            self._key = self._made_key("voters")

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA cache_size = -131072")  # KiB: the index of a million battles, so that an import seeks less
        return db

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise DataError(f"the votes cannot be used: {error}", where=str(self.path)) from error

    def _prepare(self) -> None:
        """Make the tables of a new file; refuse a file of something else."""
        with self._writing():
            (application,) = self._db.execute("PRAGMA application_id").fetchone()
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and application != APPLICATION:
                raise DataError("this database holds no votes", where=str(self.path), hint="name another with --votes")
            if version > VERSION:
                raise DataError("a newer Burnish wrote these votes", where=str(self.path), hint="update Burnish")
            if not tables:
                for statement in _statements(SCHEMA):
                    self._db.execute(statement)
        self._db.execute("PRAGMA journal_mode = WAL")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction: all of the block or nothing of it."""
        with self._lock, self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _made_key(self, name: str) -> bytes:
        """A random key that is made once and stays in the file."""
        with self._writing():
            self._db.execute("INSERT OR IGNORE INTO keys VALUES (?, ?)", (name, secrets.token_bytes(32)))
            (value,) = self._db.execute("SELECT value FROM keys WHERE name = ?", (name,)).fetchone()
        return bytes(value)

    def close(self) -> None:
        """Let go of the file; SQLite then folds its log into it."""
        self._db.close()

    # -- voters

    def who(self, name: str) -> str:
        """The hash that stands for a voter's name, 16 hex digits. Another file has other hashes for the same names."""
        return self.sign("voter", name)[:16]

    def sign(self, purpose: str, text: str) -> str:
        """Hex HMAC of a text under this file's key."""
        return hmac.new(self._key, f"{purpose}\0{text}".encode(), hashlib.sha256).hexdigest()

    # -- writing

    def add(self, vote: Vote) -> Vote:
        """Append a vote. Returns the battle's vote: this one, or the earlier one, which stays."""
        with self._writing():
            self._insert([vote])
            found = self._find(vote.battle)
        assert found is not None
        return found

    def add_all(self, votes: Iterable[Vote]) -> int:
        """Append votes, all or none. Returns how many were new; battles that have a vote keep it."""
        with self._writing():
            before = self._db.total_changes
            self._insert(votes)
            return self._db.total_changes - before

    def _insert(self, votes: Iterable[Vote]) -> None:
        statement = f"INSERT INTO votes ({', '.join(COLUMNS)}) VALUES ({PLACES})"
        self._db.executemany(statement, map(_row, votes))

    # -- reading

    def of(self, battle: str) -> Vote | None:
        """The vote of a battle."""
        with self._lock, self._errors():
            return self._find(battle)

    def _find(self, battle: str) -> Vote | None:
        found = self._db.execute(f"SELECT {', '.join(COLUMNS)} FROM votes WHERE battle = ?", (battle,)).fetchone()
        return _vote(found) if found else None

    def count(self) -> int:
        """How many votes there are."""
        with self._lock, self._errors():
            return int(self._db.execute("SELECT count(*) FROM votes").fetchone()[0])

    def digest(self) -> str:
        """A hash of all votes. The file's own bytes do not tell them: new votes wait in SQLite's log beside it."""
        content = hashlib.blake2b(digest_size=16)
        query = "SELECT battle, model_a, model_b, winner, judge, anony FROM votes ORDER BY number"
        with self._errors(), closing(self._connect()) as db:
            for row in db.execute(query):
                content.update("\x1f".join(map(str, row)).encode() + b"\x1e")
        return content.hexdigest()

    def latest(self, limit: int, skip: int = 0) -> list[Vote]:
        """The newest votes first, without their conversations."""
        columns = ", ".join(COLUMNS[:-2])
        query = f"SELECT {columns}, '', '' FROM votes ORDER BY number DESC LIMIT ? OFFSET ?"
        with self._lock, self._errors():
            return [_vote(row) for row in self._db.execute(query, (limit, skip))]

    def by(self, judge: str) -> Iterator[Vote]:
        """The votes of one voter, in order."""
        return self._read("WHERE judge = ? ORDER BY number", judge)

    def __iter__(self) -> Iterator[Vote]:
        return self._read("ORDER BY number")

    def _read(self, rest: str, *values: object) -> Iterator[Vote]:
        # A connection of its own: a long reading must not keep voters waiting.
        with self._errors(), closing(self._connect()) as db:
            for row in db.execute(f"SELECT {', '.join(COLUMNS)} FROM votes {rest}", values):
                yield _vote(row)

    def outcomes(self) -> Iterator[tuple[str, str, float, str]]:
        """(first, second, outcome, voter) of the votes with hidden names, as a ranking reads them."""
        with self._errors(), closing(self._connect()) as db:
            for first, second, winner, judge in db.execute(
                "SELECT model_a, model_b, winner, judge FROM votes WHERE anony ORDER BY number"
            ):
                yield first, second, OUTCOMES[winner], judge

    def tally(self, after: int = 0) -> tuple[list[tuple[str, str, float, int]], int]:
        """How often (first, second, outcome) was voted with hidden names, and the number of the last vote.

        Only votes whose number is above `after` count: who keeps a tally need not count the old ones again.
        """
        query = """SELECT model_a, model_b, winner, count(*) FROM votes WHERE number > ? AND number <= ? AND anony
                   GROUP BY model_a, model_b, winner ORDER BY model_a, model_b, winner"""
        with self._errors(), closing(self._connect()) as db:
            (last,) = db.execute("SELECT coalesce(max(number), 0) FROM votes").fetchone()
            rows = db.execute(query, (after, last)).fetchall()
        return [(first, second, OUTCOMES[winner], count) for first, second, winner, count in rows], int(last)


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, to run inside a transaction, which `executescript` would end."""
    text = ""
    for line in script.strip().splitlines():
        text += line + "\n"
        if sqlite3.complete_statement(text):
            yield text
            text = ""


_plain = attrgetter(*COLUMNS[:-2])


def _row(vote: Vote) -> tuple[object, ...]:
    return (*_plain(vote), turns_text(vote.conversation_a), turns_text(vote.conversation_b))


def _vote(row: tuple[object, ...]) -> Vote:
    vote = Vote(*row)  # type: ignore[arg-type]
    turns = (turns_from_text(str(row[-2])), turns_from_text(str(row[-1])))
    return replace(vote, anony=bool(vote.anony), conversation_a=turns[0], conversation_b=turns[1])


_encode = json.JSONEncoder(ensure_ascii=False).encode


def turns_text(turns: tuple[Message, ...]) -> str:
    """A conversation as LMArena writes it: JSON of [{"role", "content"}]; nothing for none."""
    rows = [{"role": turn.role, "content": turn.content} for turn in turns]
    return _encode(rows) if rows else ""


def turns_from_text(text: str) -> tuple[Message, ...]:
    """Inverse of `turns_text`."""
    return tuple(Message(row["role"], row["content"]) for row in json.loads(text)) if text else ()


def is_store(path: Path) -> bool:
    """Whether a file is a database, so that it may hold votes."""
    with path.open("rb") as stream:
        return stream.read(15) == b"SQLite format 3"


def content_digest(path: Path) -> str:
    """A hash of the votes, or of the bytes of a file that is none of votes."""
    return VoteStore(path).digest() if is_store(path) else file_digest(path)
