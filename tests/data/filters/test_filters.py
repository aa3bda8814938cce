"""Filters: kept + dropped = given, the second pass changes nothing, and each drops just what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from burnish.data.filters import FILTERS, apply
from burnish.data.filters.decontaminate import Decontaminate
from burnish.data.filters.exact import Exact
from burnish.data.filters.length import Length
from burnish.data.filters.minhash import MinHash, _band_length
from burnish.data.filters.parts import FilterResult, Row, tokens
from burnish.evaluation.tasks import freeze
from burnish.pebble.world import SKILLS, chats, plant_copies
from burnish.types import Example, Message, PreferencePair

LONG = "The quick brown fox jumps over the lazy dog while seven clever cats watch from an old red wall in the sun"


def row(name: str, question: str, answer: str = "yes") -> Example:
    return Example(name, (Message("user", question), Message("assistant", answer)))


def item(name: str, question: str, task: str = "t") -> Example:
    return Example(name, (Message("user", question),), "x", {"exact": {}}, meta={"task": task})


def ids(result: FilterResult) -> list[str]:
    return [one.id for one in result.kept]


@pytest.mark.parametrize("name", FILTERS.names())
def test_nothing_is_lost_and_a_second_pass_changes_nothing(name: str) -> None:
    items = chats(None, "dev", 60, seed=0)
    rows: list[Row] = [
        *chats(None, "train", 200, seed=0),
        *plant_copies(items, 20, seed=1),
        *chats(None, "train", 20, 0),
    ]
    one = FILTERS.build({name: {"against": ["dev"]} if name == "decontaminate" else {}})
    first = one.keep(rows, {"dev": items})
    places = {id(given): place for place, given in enumerate(rows)}
    kept, dropped = [places[id(one)] for one in first.kept], [places[id(one.example)] for one in first.dropped]
    assert sorted(kept + dropped) == list(range(len(rows))) and kept == sorted(kept)
    second = one.keep(first.kept, {"dev": items})
    assert second.kept == first.kept and not second.dropped


def test_filters_work_one_after_the_other() -> None:
    rows = [row("a", "x"), row("b", "x"), row("c", "y", "")]
    results = apply([Exact(), Length(min_words=1)], rows, {})
    assert [ids(result) for result in results] == [["a", "c"], ["a"]]


# -------------------------------------------------------------------------------------------------------- exact, length


def test_exact_looks_past_case_spaces_and_punctuation() -> None:
    rows = [row("a", "What is it?"), row("b", "what  is it"), row("c", "What is 1+1?"), row("d", "What is 1-1?")]
    result = Exact().keep(rows, {})
    assert ids(result) == ["a", "c", "d"]  # a sign is no punctuation
    assert [(drop.example.id, drop.match_id) for drop in result.dropped] == [("b", "a")]


@pytest.mark.parametrize(
    "texts", [("x[0]", "x(0)"), ("x_0", "x 0"), ("a && b || c", "a & b | c"), ("3.5", "35"), ("f(x)", "fx")]
)
def test_exact_keeps_what_code_says_apart(texts: tuple[str, str]) -> None:
    assert ids(Exact().keep([row(str(n), text) for n, text in enumerate(texts)], {})) == ["0", "1"]


def test_a_question_mark_and_quotes_make_no_other_row() -> None:
    assert ids(Exact().keep([row("a", 'Say "yes", now!'), row("b", "say yes now")], {})) == ["a"]


def test_turns_are_kept_apart() -> None:
    assert ids(Exact().keep([row("a", "x y", "z"), row("b", "x", "y z")], {})) == ["a", "b"]


def test_rows_of_signs_alone_are_not_all_the_same() -> None:
    assert ids(Exact().keep([row("a", "!!"), row("b", "??")], {})) == ["a", "b"]


def test_length() -> None:
    pair = PreferencePair("p", (Message("user", "q"),), "one two three", "x")
    rows = [row("short", "q", "one"), row("fits", "q", "one two"), row("long", "q", "one two three four"), pair]
    result = Length(min_words=2, max_words=3).keep(rows, {})
    assert ids(result) == ["fits", "p"]
    assert [drop.why for drop in result.dropped] == [
        "the answer has 1 words, fewer than 2",
        "the answer has 4 words, more than 3",
    ]
    assert Length(max_turns=1).keep([row("a", "q")], {}).dropped[0].why == "2 turns, more than 1"


# -------------------------------------------------------------------------------------------------------------- minhash


def test_near_repeats_go_and_are_named() -> None:
    rows = [
        row("a", LONG),
        row("b", LONG.replace("clever", "small")),
        row("c", "Something else entirely, " + LONG[40:]),
    ]
    result = MinHash(threshold=0.6).keep(rows, {})
    assert ids(result) == ["a", "c"]
    (drop,) = result.dropped
    # The row's 23 words make 21 shingles of three; a changed word changes three of them: 18 / (21 + 21 - 18) = 0.75.
    assert (drop.example.id, drop.match_id, drop.score) == ("b", "a", 0.75)


def test_similarity_is_not_passed_along_a_chain() -> None:
    """B is like A, and C is like B but not like A: only B goes, because B is not kept."""
    a, b = LONG, LONG.replace("quick", "slow")
    c = b.replace("old", "tall").replace("sun", "rain").replace("seven", "ten")
    result = MinHash(threshold=0.7).keep([row("a", a), row("b", b), row("c", c)], {})
    assert ids(result) == ["a", "c"]


def test_short_rows_are_compared_too() -> None:
    rows = [row("a", "What is the capital of France?", "Paris"), row("b", "What is the capital of France??", "paris"),
            row("c", "What is 17+25?", "42"), row("d", "What is 17+26?", "43")]  # fmt: skip
    assert ids(MinHash(threshold=0.9).keep(rows, {})) == ["a", "c", "d"]


def test_bands_find_a_pair_at_the_threshold() -> None:
    # 128 hashes in bands of r: 1 - (1 - t^r)^(128 / r). For t = 0.8: r = 8 gives 0.947, r = 6 gives 0.998.
    assert pytest.approx(0.947, abs=1e-3) == 1 - (1 - 0.8**8) ** 16
    length = _band_length(0.8)
    assert 1 - (1 - 0.8**length) ** (128 // length) >= 0.99 > 1 - (1 - 0.8 ** (length + 1)) ** (128 // (length + 1))


# -------------------------------------------------------------------------------------------------------- decontaminate


def clean(rows: Sequence[Row], items: Sequence[Example], **settings: float) -> FilterResult:
    return Decontaminate(against=["dev"], **settings).keep(rows, {"dev": items})  # type: ignore[arg-type]


def test_numbers_are_never_made_alike() -> None:
    assert tokens("Add 3,000.5 and 17!") == ["add", "3,000.5", "and", "17"]
    items = [item("i", "How many apples are there when Tom has 17 and buys 25 more?")]
    rows = [row("same", "How many apples are there when Tom has 17 and buys 25 more?"),
            row("other", "How many pears are left when Ann has 18 and eats 25 of them?")]  # fmt: skip
    assert ids(clean(rows, items)) == ["other"]


def test_an_item_within_a_longer_row_is_found_whatever_stands_around_it() -> None:
    items = [item("i", LONG)]
    result = clean([row("a", f"Hello! {LONG.upper()}, please.", "sure")], items)
    (drop,) = result.dropped
    assert (drop.match_id, drop.score) == ("i", 1.0) and "suite 'dev'" in drop.why
    assert result.report == {"items": 1, "rows_holding_items": {"dev": 1}}


def test_coverage_is_the_share_of_an_items_own_tokens() -> None:
    # The row has the first 11 of 22 tokens in one run: 11 / 22 = 0.5.
    start = " ".join(LONG.split()[:11])
    assert len(tokens(LONG)) == 22
    assert ids(clean([row("a", start)], [item("i", LONG)], coverage=0.51)) == ["a"]
    assert clean([row("a", start)], [item("i", LONG)], coverage=0.5).dropped[0].score == 0.5


def test_a_tasks_wording_is_not_what_makes_an_item() -> None:
    names = ["Ada", "Ben", "Cara", "Dora", "Eva"]
    items = [item(f"i{n}", f"Please read the text and tell me in one word who it was that came: {name}")
             for n, name in enumerate(names)]  # fmt: skip
    asks = "Please read the text and tell me in one word who it was that came: {}"
    result = clean([row("new", asks.format("Finn")), row("copy", asks.format("Cara"))], items)
    assert ids(result) == ["new"] and result.dropped[0].match_id == "i2"


def test_solved_examples_before_a_question_are_no_part_of_it() -> None:
    shots = "Question: How old is the old red wall in the sun? Answer: very. " * 8
    shown = replace(item("i", shots + LONG), meta={"task": "t", "question": LONG})
    assert ids(clean([row("copy", LONG), row("shots", shots)], [shown])) == ["shots"]


def test_short_items_are_only_found_whole() -> None:
    items = [item("i", "2 + 2")]
    result = clean([row("inside", "I know that 2 + 2 is four, and more"), row("whole", "2 + 2?")], items)
    assert ids(result) == ["inside"]


def test_planted_copies_of_every_skill_are_found_and_little_else() -> None:
    items = freeze([f"pebble-{skill.replace('_', '-')}" for skill in SKILLS], seed=0)
    copies = plant_copies(items, 90, seed=2)
    fresh = chats(None, "train", 900, seed=5)
    dropped = {drop.example.id for drop in clean([*fresh, *copies], items).dropped}
    missed = [copy.id for copy in copies if copy.id not in dropped]
    wrong = [one for one in dropped if not one.endswith("-copy")]
    assert len(missed) <= 2, missed
    assert len(wrong) <= 0.04 * len(fresh)
