"""`burnish arena` as it is typed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from commands import Burnish


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Votes of two voters on three models: a over b 6:2, b over c 5:1, one tie of a and c, one with names in sight."""
    pairs = [("a", "b", "model_a")] * 6 + [("a", "b", "model_b")] * 2 + [("b", "c", "model_a")] * 5
    pairs += [("b", "c", "model_b"), ("a", "c", "tie (bothbad)"), ("c", "a", "model_a")]
    written = [
        {"model_a": first, "model_b": second, "winner": winner, "judge": f"user_{number % 2}", "turn": 1,
         "anony": number < 15, "tstamp": number} for number, (first, second, winner) in enumerate(pairs)
    ]  # fmt: skip
    path = tmp_path / "votes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*written, {"model_a": "a"}]))
    return path


def test_import_export_and_ranking(burnish: Burnish, rows: Path, tmp_path: Path) -> None:
    store = ("--store", tmp_path / "store")
    said = burnish("arena", "--import", rows, "--export", tmp_path / "out.csv", "--ranking", *store)
    assert said.code == 0, said.err
    assert "17 rows: 16 votes added, 0 known before, 1 rejected" in said.out
    assert "rejected 1: no model_b" in said.out and f"{rows}:17" in said.out
    assert "16 votes in" in said.out and len((tmp_path / "out.csv").read_text().splitlines()) == 17
    assert [line.split()[1] for line in said.out.splitlines()[-3:]] == ["a", "b", "c"]
    assert "1 votes with names in sight are not counted" in said.err and "2 voters are too few" in said.err

    again = json.loads(burnish("arena", "--import", rows, "--ranking", "--json", *store).out)
    assert (again["import"]["added"], again["import"]["known"]) == (0, 16)
    assert again["import"]["rejected"] == {"no model_b": 1}
    table = again["ranking"]
    # 15 votes with hidden names: a was in 8 + 1, b in 8 + 6, c in 6 + 1 of them.
    assert {row["model"]: row["votes"] for row in table} == {"a": 9, "b": 14, "c": 7}
    assert sum(row["rating"] for row in table) == pytest.approx(3000)
    assert all(row["low"] < row["rating"] < row["high"] for row in table)


def test_ranking_with_style_held_equal(burnish: Burnish, tmp_path: Path) -> None:
    """The longer answer wins four times in five, whoever wrote it: told by style, the models are alike."""
    rows = tmp_path / "styled.jsonl"
    written = []
    for number in range(300):
        longer = number % 3 > 0  # a writes more in two of three
        texts = [" ".join(["word"] * size) for size in ((40, 10) if longer else (10, 40))]
        talks = [[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": text}] for text in texts]
        row = {"model_a": "a", "model_b": "b", "winner": "model_a" if longer == (number % 5 > 0) else "model_b"}
        written.append({**row, "conversation_a": talks[0], "conversation_b": talks[1], "judge": f"v{number % 12}"})
    rows.write_text("".join(json.dumps(row) + "\n" for row in written), encoding="utf-8")
    store = ("--store", tmp_path / "store")
    plain = json.loads(burnish("arena", "--import", rows, "--ranking", "--json", *store).out)["ranking"]
    said = burnish("arena", "--style", *store)
    assert said.code == 0, said.err
    assert "more words (one standard deviation): +" in said.out
    styled = json.loads(burnish("arena", "--style", "--json", *store).out)["ranking"]
    gap = {kind: table[0]["rating"] - table[1]["rating"] for kind, table in (("plain", plain), ("styled", styled))}
    assert gap["plain"] > 60 and abs(gap["styled"]) < gap["plain"] / 3


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        ((), "no models to compare", "--answers FILE"),
        (("a", "b", "--host", "0.0.0.0"), "anyone who reaches 0.0.0.0 could vote", "set --password"),
        (("a", "b", "--answers", "x.jsonl"), "both given", "need no models"),
        (("a", "a"), "a model is named twice", "two different models"),
        (("a",), "an arena needs two models, got 1", "burnish arena MODEL MODEL"),
        (("--answers", "missing.jsonl"), "no such file", "relative"),
        (("--import", "missing.jsonl"), "no such file", "relative"),
        (("--ranking",), "no votes to rank by", "burnish arena"),
    ],
)
def test_what_cannot_be_done_is_said(
    burnish: Burnish, tmp_path: Path, words: tuple[str, ...], what: str, hint: str
) -> None:
    said = burnish("arena", *words, "--store", tmp_path / "store")
    assert said.code != 0 and what in said.err and hint in said.err and "Traceback" not in said.err


def test_the_page_opens_and_ends(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps({"prompt": "p", "model": name, "output": "x"}) + "\n" for name in "ab"))
    words = ["arena", "--answers", str(answers), "--port", "0", "--store", str(tmp_path)]
    command = [sys.executable, "-m", "burnish", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+/", line)
            assert found, line
            with urllib.request.urlopen(f"{found[0]}login", timeout=20) as page:
                assert b"Your name" in page.read()
            process.send_signal(signal.SIGINT)
            rest = process.stderr.read()
            assert process.wait(20) == 0 and "ended; 0 votes are in" in rest and "Traceback" not in rest
        finally:
            process.kill()
