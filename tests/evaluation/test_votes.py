"""Votes are appended and never changed, and come back from LMArena's files as they went in."""

from __future__ import annotations

import gzip
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from burnish.errors import DataError, WorkspaceError
from burnish.evaluation.lmarena import Ids, export_votes, import_votes, row_of, vote_from_row
from burnish.evaluation.votes import WINNERS, Vote, VoteStore, Winner, content_digest
from burnish.types import Message

TALK = (Message("user", "2+2?"), Message("assistant", "4, \"four\"\nor 四"))  # fmt: skip


@pytest.fixture
def votes(tmp_path: Path) -> Iterator[VoteStore]:
    store = VoteStore(tmp_path / "votes.sqlite")
    yield store
    store.close()


def vote(battle: str, winner: Winner = "model_a", judge: str = "ann", **rest: Any) -> Vote:
    given = {"model_a": "base", "model_b": "dpo", "tstamp": 1.5, "conversation_a": TALK, "conversation_b": TALK[:1]}
    return Vote(battle, winner=winner, judge=judge, **(given | rest))


# ---------------------------------------------------------------------------------------------------------------- store


def test_a_vote_comes_back_whole(votes: VoteStore) -> None:
    one = vote("b1", "tie (bothbad)", turn=2, anony=False, language="German", tstamp=None)
    assert votes.add(one) == one
    assert votes.of("b1") == one and list(votes) == [one] and votes.count() == 1
    assert votes.of("b2") is None


def test_a_battle_has_one_vote(votes: VoteStore) -> None:
    first = votes.add(vote("b1", "model_a"))
    assert votes.add(vote("b1", "model_b", judge="bob")) == first
    assert votes.add_all([vote("b1", "tie"), vote("b2"), vote("b2", "tie")]) == 1
    assert [one.winner for one in votes] == ["model_a", "model_a"]


@pytest.mark.parametrize(
    ("statement", "refused"),
    [
        ("UPDATE votes SET winner = 'model_b'", True),
        ("DELETE FROM votes", True),
        ("UPDATE keys SET value = x'00'", True),
        ("DELETE FROM keys", True),
        ("INSERT OR REPLACE INTO votes SELECT number, battle, model_a, model_b, 'model_b', judge, turn, anony,"
         " language, tstamp, conversation_a, conversation_b FROM votes", False),
        ("REPLACE INTO votes SELECT number, 'other', model_a, model_b, 'model_b', judge, turn, anony, language,"
         " tstamp, conversation_a, conversation_b FROM votes", False),
    ],
)  # fmt: skip
def test_no_program_changes_a_vote(votes: VoteStore, statement: str, refused: bool) -> None:
    kept = votes.add(vote("b1"))
    other = sqlite3.connect(votes.path)
    if refused:
        with pytest.raises(sqlite3.IntegrityError, match="only"):
            other.execute(statement)
    else:  # a replacement is skipped in silence, as SQLite has no trigger that could see it as one
        other.execute(statement)
    other.commit()
    other.close()
    assert list(votes) == [kept]


@pytest.mark.parametrize("values", [("b", "m", "m", "tie"), ("b", "m", "n", "left"), ("", "m", "n", "tie")])
def test_a_wrong_vote_is_refused_by_the_file_itself(votes: VoteStore, values: tuple[str, str, str, Any]) -> None:
    with pytest.raises(DataError, match="CHECK"):
        votes.add(Vote(*values, "ann"))
    assert votes.count() == 0


def test_several_writers_at_once_lose_nothing(votes: VoteStore) -> None:
    """Eight threads, each with a store: 8 x 25 battles of their own, and 25 that all of them vote on."""

    def write(name: str) -> None:
        store = VoteStore(votes.path)
        for number in range(25):
            store.add(vote(f"{name}-{number}", judge=name))
            store.add(vote(f"shared-{number}", judge=name))
        store.close()

    threads = [threading.Thread(target=write, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert votes.count() == 8 * 25 + 25
    assert Counter(one.battle.partition("-")[0] for one in votes)["shared"] == 25


def test_the_log_of_sqlite_is_used(votes: VoteStore) -> None:
    votes.add(vote("b1"))
    other = sqlite3.connect(votes.path)
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()


def test_who_is_a_hash_that_stays_and_differs_between_files(votes: VoteStore, tmp_path: Path) -> None:
    hashed = votes.who("Ann")
    assert len(hashed) == 16 and "ann" not in hashed.lower() and hashed != votes.who("Bob")
    assert VoteStore(votes.path).who("Ann") == hashed
    assert VoteStore(tmp_path / "other.sqlite").who("Ann") != hashed


def test_outcomes_and_tally(votes: VoteStore) -> None:
    votes.add_all([vote("1", "model_a"), vote("2", "model_b", "bob"), vote("3", "tie"), vote("4", "tie (bothbad)")])
    votes.add(vote("5", "model_a", anony=False))
    assert list(votes.outcomes()) == [
        ("base", "dpo", 1.0, "ann"), ("base", "dpo", 0.0, "bob"),
        ("base", "dpo", 0.5, "ann"), ("base", "dpo", 0.5, "ann"),
    ]  # fmt: skip
    rows, last = votes.tally()
    assert last == 5 and sorted(rows) == [
        ("base", "dpo", 0.0, 1), ("base", "dpo", 0.5, 1), ("base", "dpo", 0.5, 1), ("base", "dpo", 1.0, 1),
    ]  # fmt: skip
    votes.add(vote("6", "model_b"))
    assert votes.tally(last) == ([("base", "dpo", 0.0, 1)], 6)


def test_latest_is_paged_and_leaves_conversations_out(votes: VoteStore) -> None:
    votes.add_all(vote(str(number)) for number in range(7))
    assert [one.battle for one in votes.latest(3)] == ["6", "5", "4"]
    assert [one.battle for one in votes.latest(3, skip=5)] == ["1", "0"]
    assert votes.latest(1)[0].conversation_a == ()
    assert [one.battle for one in votes.by("ann")] == [str(number) for number in range(7)] and not list(votes.by("bob"))


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.sqlite"
    text.write_text("no database at all, but long enough to be looked at " * 20)
    with pytest.raises(DataError, match="not a database"):
        VoteStore(text)
    other = tmp_path / "other.sqlite"
    db = sqlite3.connect(other)
    db.execute("CREATE TABLE mine (a)")
    db.commit()
    db.close()
    with pytest.raises(DataError, match="holds no votes"):
        VoteStore(other)
    newer = tmp_path / "newer.sqlite"
    VoteStore(newer).close()
    db = sqlite3.connect(newer)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(DataError, match="newer Burnish"):
        VoteStore(newer)
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError):
        VoteStore(tmp_path / "file" / "votes.sqlite")


# ------------------------------------------------------------------------------------------------------- LMArena's rows

ARENA_ROW = {
    "question_id": "58210e39b3fd4441a2bd4a518bb44c2d", "model_a": "chatglm-6b", "model_b": "koala-13b",
    "winner": "model_b", "judge": "arena_user_973", "turn": 1, "anony": True, "language": "English",
    "tstamp": 1682351591.1322,
    "conversation_a": [{"content": "Why?", "role": "user"}, {"content": "So.", "role": "assistant"}],
    "conversation_b": [{"content": "Why?", "role": "user"}, {"content": "No.", "role": "assistant"}],
}  # fmt: skip


def test_a_row_of_the_arena() -> None:
    read, remarks = vote_from_row(ARENA_ROW, Ids(Path()))
    sides = [(Message("user", "Why?"), Message("assistant", said)) for said in ("So.", "No.")]
    assert read == Vote(read.battle, "chatglm-6b", "koala-13b", "model_b", "arena_user_973", 1, True, "English",
                        1682351591.1322, *sides)  # fmt: skip
    assert remarks == ["not kept: question_id"]


def test_a_row_of_a_newer_release() -> None:
    row = {
        "id": "x", "model_a": "a", "model_b": "b", "winner": "both_bad", "timestamp": "2025-07-01 12:00:00",
        "conversation_a": json.dumps([
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]}, {"role": "assistant", "content": "1"},
            {"role": "user", "content": "Again"}, {"role": "assistant", "content": "2"},
        ]),
    }  # fmt: skip
    read, remarks = vote_from_row(row, Ids(Path()))
    assert read.winner == "tie (bothbad)" and read.turn == 2 and read.conversation_a[0] == Message("user", "Hi")
    assert read.tstamp == 1751371200  # 2025-07-01 is day 20270 since 1970: 20270 x 86400 + 43200
    assert [remark.partition(",")[0] for remark in remarks] == ["no judge", "no turn", "no anony", "not kept: id"]


COLUMNS = {
    "id": 30192, "model_a": "a", "model_b": "b", "prompt": '["Why?", "[And] so?"]', "response_a": '["So.", null]',
    "response_b": '["No.", "Yes."]', "winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0,
}  # fmt: skip


def test_a_row_with_a_column_for_each_winner() -> None:
    read, remarks = vote_from_row(COLUMNS, Ids(Path()))
    assert (read.model_a, read.model_b, read.winner, read.turn) == ("a", "b", "model_b", 2)
    assert [turn.content for turn in read.conversation_a] == ["Why?", "So.", "[And] so?", ""]
    assert [turn.role for turn in read.conversation_b] == ["user", "assistant"] * 2
    assert remarks[-1] == "not kept: id"
    tied = {**COLUMNS, "winner_model_b": 0, "winner_tie": 1, "prompt": "[x", "response_a": "y", "response_b": "z"}
    read, _ = vote_from_row(tied, Ids(Path()))
    assert read.winner == "tie" and read.conversation_b == (Message("user", "[x"), Message("assistant", "z"))
    for change, reason in (({"winner_tie": 1}, "2 of winner_model_a"), ({"response_b": '["x"]'}, "numbers of turns")):
        with pytest.raises(DataError, match=reason):
            vote_from_row(COLUMNS | change, Ids(Path()))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_a": ""}, "no model_a"),
        ({"model_b": None}, "no model_b"),
        ({"model_b": "chatglm-6b"}, "a model against itself"),
        ({"winner": "left"}, "winner is none of"),
        ({"winner": ["model_a"]}, "winner is none of"),
        ({"turn": 0}, "turn is not a number"),
        ({"turn": 10**30}, "turn is not a number"),
        ({"anony": "maybe"}, "anony is neither"),
        ({"tstamp": "soon"}, "tstamp is no time"),
        ({"tstamp": float("nan")}, "tstamp is no time"),
        ({"conversation_a": "{"}, "conversation_a is not JSON"),
        ({"conversation_a": {"role": "user"}}, "conversation_a is not a list"),
        ({"conversation_b": [{"role": "narrator", "content": ""}]}, "conversation_b holds a turn without"),
        ({"conversation_b": [{"role": "user", "content": 3}]}, "conversation_b holds a turn that is not text"),
    ],
)
def test_a_row_that_is_no_vote_says_why(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        vote_from_row(ARENA_ROW | change, Ids(Path()))


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_import_counts_every_row(votes: VoteStore, tmp_path: Path) -> None:
    bare = {"model_a": "a", "model_b": "b", "winner": "tie"}
    odd = [{**bare, "winner": "?"}, {**bare, "winner": "x"}, [1]]
    path = lines(tmp_path / "rows.jsonl", [ARENA_ROW, bare, bare, *odd])
    found = import_votes(votes, path)
    # Six rows: the arena's, two that are alike and still two votes, two without a winner, one that is no object.
    assert (found.rows, found.added, found.known, sum(found.rejected.values())) == (6, 3, 0, 3)
    assert sorted(found.rejected.values()) == [1, 2]
    assert f"{path}:4" in found.lines()[1] and "winner is '?'" in found.lines()[1]
    assert "2 rows: no time" in found.lines()
    again = import_votes(votes, path)
    assert (again.added, again.known) == (0, 3) and votes.count() == 3


def test_alike_rows_of_two_files_are_two_votes_unless_they_have_a_time(votes: VoteStore, tmp_path: Path) -> None:
    bare = {"model_a": "a", "model_b": "b", "winner": "tie"}
    import_votes(votes, lines(tmp_path / "one.jsonl", [bare, {**bare, "tstamp": 5}]))
    found = import_votes(votes, lines(tmp_path / "two.jsonl", [bare, {**bare, "tstamp": 5.0}, {**bare, "tstamp": 6}]))
    assert (found.added, found.known) == (2, 1)


def test_import_is_all_or_nothing(votes: VoteStore, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    rows = "".join(json.dumps({"model_a": "a", "model_b": "b", "winner": "tie"}) + "\n" for _ in range(2000))
    path.write_bytes(gzip.compress(rows.encode())[:-10])  # all rows can be read before the end is found to be missing
    with pytest.raises(DataError, match="breaks off"):
        import_votes(votes, path)
    assert votes.count() == 0
    with pytest.raises(DataError, match=r"no row of bad\.jsonl is a vote: no model_a"):
        import_votes(votes, lines(tmp_path / "bad.jsonl", [{"a": 1}, {"b": 2}]))


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_what_is_exported_is_imported_again(votes: VoteStore, tmp_path: Path, suffix: str) -> None:
    for number, winner in enumerate(WINNERS):
        votes.add(vote(f"b{number}", winner, turn=number + 1))  # type: ignore[arg-type]
    votes.add(vote("no talk", judge='a,"b"\n', tstamp=None, conversation_a=(), conversation_b=(), anony=False))
    path = tmp_path / f"out{suffix}"
    assert export_votes(votes, path) == 5
    other = VoteStore(tmp_path / "other.sqlite")
    assert import_votes(other, path).added == 5
    assert list(other) == list(votes)
    assert import_votes(votes, path).known == 5  # the store's own export adds nothing to it


def test_a_broken_export_leaves_the_old_file(votes: VoteStore, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("old")

    def breaking() -> Iterator[Vote]:
        yield vote("b1")
        raise DataError("the votes cannot be used")

    with pytest.raises(DataError):
        export_votes(breaking(), path)
    assert path.read_text() == "old" and [file.name for file in tmp_path.glob("*out*")] == ["out.jsonl"]
    with pytest.raises(DataError, match="cannot be written"):
        export_votes([], tmp_path / "out.xlsx")


def test_rows_are_lmarenas() -> None:
    row = row_of(replace(vote("b1"), conversation_b=()))
    assert set(ARENA_ROW) - {"question_id"} < set(row)
    assert row["conversation_a"][0] == {"role": "user", "content": "2+2?"}


def test_the_digest_sees_votes_that_wait_in_the_log(votes: VoteStore) -> None:
    before, bytes_before = content_digest(votes.path), votes.path.read_bytes()
    votes.add(Vote("late", "a", "b", "model_a", "me", 1, True, "en", None, (), ()))
    assert votes.path.read_bytes() == bytes_before and content_digest(votes.path) != before
    after = content_digest(votes.path)
    VoteStore(votes.path).close()
    assert content_digest(votes.path) == after
