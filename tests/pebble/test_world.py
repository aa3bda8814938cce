"""Pebble's world: the splits share nothing, gold answers grade 1.0, documents are no chats."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest

from burnish.errors import DataError
from burnish.pebble.source import PebbleChats
from burnish.pebble.world import (
    SKILLS,
    SPLITS,
    Split,
    arithmetic,
    chats,
    choices,
    dialogue,
    documents,
    formats,
    plant_copies,
    sorting,
    split_of,
    units,
    word_problems,
)
from burnish.pebble.world.words import FOODS, FRUITS, NOUNS, THINGS, plural
from burnish.rewards import grade

PLANNED = {
    "arithmetic", "word_problems", "units", "sorting", "facts", "reading", "summary", "formats", "dialogue"
}  # fmt: skip


def test_the_skills() -> None:
    assert set(SKILLS) == PLANNED
    assert all(name == skill.name and skill.summary and skill.share > 0 for name, skill in SKILLS.items())


@pytest.mark.parametrize("name", sorted(PLANNED))
def test_splits_are_disjoint_by_parameters(name: str) -> None:
    """10,000 problems of each skill fall into three splits, near 80:10:10, that share no identity."""
    skill, rng = SKILLS[name], Random(7)
    found: dict[Split, set[str]] = {split: set() for split in SPLITS}
    for _ in range(10_000):
        problem = skill.draw(rng)
        found[split_of(name, problem)].add(repr(getattr(problem, "identity", problem)))
    assert not found["train"] & found["dev"]
    assert not found["train"] & found["held_out"]
    assert not found["dev"] & found["held_out"]
    total = sum(map(len, found.values()))
    # Standard deviation of a share of 10 % in 2,000 draws or more: sqrt(0.1*0.9/2000) = 0.7 %; 3 % is over four of it.
    assert total > 2000
    assert abs(len(found["dev"]) / total - 0.1) < 0.03
    assert abs(len(found["held_out"]) / total - 0.1) < 0.03


def test_no_prompt_is_in_two_splits_whatever_the_seed() -> None:
    prompts = {
        split: {
            tuple(message.content for message in item.prompt)
            for seed in (0, 1)
            for item in chats(None, split, 900, seed)
        }
        for split in SPLITS
    }
    assert not prompts["train"] & (prompts["dev"] | prompts["held_out"])
    assert not prompts["dev"] & prompts["held_out"]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", sorted(PLANNED))
def test_gold_answers_grade_one(name: str, split: Split) -> None:
    for item in chats(name, split, 120, seed=3):
        score = grade(item, item.meta["solution"])
        assert score.value == 1.0, (item, score)
        assert score.answer
        assert grade(item, "").value == 0.0
        assert item.messages[-1].role == ("assistant" if split == "train" else "user")
        assert item.meta["skill"] == name and item.meta["split"] == split


def test_chats_are_unique_stable_and_a_prefix_of_more() -> None:
    items = chats(None, "dev", 90, seed=5)
    assert len({item.id for item in items}) == 90
    assert items == chats(None, "dev", 90, seed=5)
    assert items[:20] == chats(None, "dev", 20, seed=5)
    assert items != chats(None, "dev", 90, seed=6)
    assert [item.meta["skill"] for item in items[:9]] == list(SKILLS)


def test_enough_evaluation_items_for_a_suite() -> None:
    for name in SKILLS:
        assert len(chats(name, "held_out", 150, seed=0)) == 150


def test_unknown_names_and_too_many_are_errors() -> None:
    with pytest.raises(DataError, match="arithmetik") as caught:
        chats("arithmetik", "dev", 1, 0)
    assert "arithmetic" in caught.value.hint
    with pytest.raises(DataError, match="test"):
        chats(None, "test", 1, 0)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="has only"):
        chats("units", "dev", 10_000, 0)
    with pytest.raises(DataError, match="cannot plant 3"):
        plant_copies(chats(None, "dev", 2, 0), 3, 0)


def test_documents_are_plain_repeatable_and_start_anywhere() -> None:
    pages = list(documents(600, seed=2))
    assert pages == list(islice(documents(None, seed=2), 600))
    assert pages[590:] == list(documents(10, seed=2, start=590))
    assert len(set(pages)) == 600
    for page in pages:
        assert "<|" not in page and "|>" not in page
        assert "Please" not in page


def test_documents_hold_no_evaluation_prompt_or_reading_text() -> None:
    pages = "\n".join(documents(4000, seed=0))
    for item in chats(None, "dev", 270, seed=0):
        assert item.prompt[-1].content not in pages or item.meta["skill"] == "dialogue"
    lines = set(pages.split("\n"))
    for item in chats("arithmetic", "dev", 200, seed=0):
        whole = item.meta["solution"].splitlines()[-2]  # 347+586=933
        if whole.index("=") > 5:  # small sums such as 25-17 may be single steps of a story; see the world's docstring
            assert whole not in lines, whole


def test_a_fact_is_in_the_documents_though_its_question_is_not() -> None:
    pages = "\n".join(documents(6000, seed=0))
    items = chats("facts", "dev", 100, seed=0)
    told = [item.meta["solution"].splitlines()[0] in pages for item in items]
    assert sum(told) >= 95


def test_choices_are_well_formed() -> None:
    items = choices("dev", 200, seed=0)
    assert len({item.id for item in items}) == 200
    for item in items:
        assert item.target in item.choices and len(set(item.choices)) == len(item.choices) >= 3
        assert item.messages[0].content.startswith("Question: ") and item.messages[0].content.endswith("\nAnswer:")
    asked = {(item.messages[0].content, tuple(sorted(item.choices))) for item in items}
    others = {(item.messages[0].content, tuple(sorted(item.choices))) for item in choices("held_out", 200, seed=0)}
    assert not asked & others


def test_planted_copies_are_near_and_not_equal() -> None:
    items = chats(None, "dev", 90, seed=0)
    copies = plant_copies(items, 30, seed=1)
    assert copies == plant_copies(items, 30, seed=1)
    originals = {item.id: item for item in items}
    for copy in copies:
        original = originals[copy.meta["copy_of"]]
        assert copy.prompt != original.prompt and copy.messages[-1].role == "assistant"
        assert copy.messages[:-2] == original.prompt[:-1]
        ours, theirs = copy.prompt[-1].content.lower().split(), original.prompt[-1].content.lower().split()
        assert sum(word in ours for word in theirs) >= 0.7 * len(theirs)
        assert grade(copy, copy.messages[-1].content).value == 1.0


def test_the_source_of_the_ingest_step() -> None:
    rows = list(PebbleChats(n=20).rows(seed=4))
    assert [row.meta["skill"] for row in rows] == [*SKILLS, *SKILLS, *list(SKILLS)[:2]]  # the skills take turns
    assert list(PebbleChats(n=500).rows(seed=4, limit=7)) == rows[:7]
    assert {row.meta["skill"] for row in PebbleChats(n=5, skills=["units"]).rows(seed=4)} == {"units"}
    with pytest.raises(ValueError, match="there is no skill 'unit', did you mean 'units'"):
        PebbleChats(skills=["unit"])


def test_planted_rows_come_last_and_copy_items_of_the_dev_suite() -> None:
    rows = list(PebbleChats(n=20, planted=9).rows(seed=4))
    items = {item.id for skill in SKILLS for item in chats(skill, "dev", 50, 0)}
    assert len(rows) == 29 and all("copy_of" not in row.meta for row in rows[:20])
    assert all(row.meta["copy_of"] in items for row in rows[20:])


# ------------------------------------------------------------------------------------------ the sums of single skills


def test_arithmetic_by_columns() -> None:
    # 347+586: 7+6=13; 4+8+1=13; 3+5+1=9; 933.
    assert arithmetic.working(arithmetic.Sum("add", 586, 347)) == [
        "6+7=13, write 3 carry 1", "8+4+1=13, write 3 carry 1", "5+3+1=9", "586+347=933"
    ]  # fmt: skip
    # 502-347: 12-7=5 after a borrow; 0-1-4 needs one too: 10-1-4=5; 5-1-3=1; 155.
    assert arithmetic.working(arithmetic.Sum("subtract", 502, 347)) == [
        "12-7=5, borrow 1", "10-1-4=5, borrow 1", "5-1-3=1", "502-347=155"
    ]  # fmt: skip
    # 47*6: 42; 4*6+4=28; 282.
    assert arithmetic.working(arithmetic.Sum("multiply", 47, 6)) == [
        "7*6=42, write 2 carry 4", "4*6+4=28, write 8 carry 2", "47*6=282"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["arithmetic", "word_problems", "units"])
def test_every_written_equation_holds(name: str) -> None:
    for item in chats(name, "train", 200, seed=8):
        for line in item.meta["solution"].splitlines():
            left, _, right = line.partition("=")
            if left and set(left) <= set("0123456789+-*"):
                assert eval(left) == int(right.partition(",")[0]), line


def test_word_problems_never_go_below_zero() -> None:
    # 10 + 3*4 - 5 = 17
    assert word_problems.Story("Mia", "fig", 10, (("packs", 3, 4), ("lose", 5, 0))).answer == 17
    rng = Random(0)
    for _ in range(3000):
        story = word_problems.draw(rng)
        now = story.start
        for event in story.events:
            now += word_problems._change(event)
            assert now >= 0
        assert now == story.answer


def test_units_go_there_and_back() -> None:
    # 2 hours 15 minutes = 2*60+15 = 135 minutes
    there = units.Conversion(5, 2, 15, back=False)
    assert (there.large, there.small, units.answer(there)) == ("hours", "minutes", "135 minutes")
    assert units.answer(units.Conversion(5, 2, 15, back=True)) == "2 hours, 15 minutes"
    assert split_of("units", there) == split_of("units", units.Conversion(5, 2, 15, back=True))


def test_sorting_and_counting() -> None:
    assert sorting.Listing("words", ("pig", "ant", "owl")).answer == "ant, owl, pig"
    assert sorting.Listing("up", ("31", "9", "20")).answer == "9, 20, 31"
    assert sorting.Listing("down", ("31", "9", "20")).answer == "31, 20, 9"
    assert sorting.Listing("count", ("a", "b", "a"), "a").answer == "2"


def test_dialogue_state() -> None:
    assert dialogue.totals(dialogue.Session("total", ("+10", "+5", "-3"))) == [10, 15, 12]
    assert dialogue.lists(dialogue.Session("list", ("+tea", "+fig", "-tea", "+jam")))[-1] == ("fig", "jam")


def test_formats() -> None:
    assert formats.Shaping("numbered", ("fig", "jam")).answer == "1. fig\n2. jam"
    assert formats.Shaping("upper", ("the", "owl")).answer == "THE OWL"
    assert formats.Shaping("json", ("Mia", "30", "cook")).answer == '{"name": "Mia", "age": 30, "job": "cook"}'


def test_words_are_plain_and_plurals_are_right() -> None:
    assert [plural(word) for word in ("mouse", "brush", "potato", "key", "cherry", "vase", "box")] == [
        "mice", "brushes", "potatoes", "keys", "cherries", "vases", "boxes"
    ]  # fmt: skip
    assert all(word.isascii() and word.islower() for word in NOUNS)
    assert not set(FRUITS) & set(FOODS) and not set(FOODS) & set(THINGS)
