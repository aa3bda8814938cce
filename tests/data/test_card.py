"""Facts about a dataset."""

from __future__ import annotations

from burnish.data.card import card, card_markdown
from burnish.types import Example, Message, PreferencePair


def test_examples() -> None:
    rows = [
        Example(
            str(n), (Message("user", "q"), Message("assistant", "w " * n)), source=f"a.jsonl:{n}", meta={"skill": "s"}
        )
        for n in (1, 3)
    ]
    facts = card(rows)
    assert (facts["rows"], facts["sources"], facts["skills"]) == (2, {"a.jsonl": 2}, {"s": 2})
    assert facts["answer_words"]["p50"] == 2.0 and facts["answer_words"]["p100"] == 3.0
    assert "| a.jsonl | 2 |" in card_markdown(facts)


def test_pairs() -> None:
    pair = PreferencePair("p", (Message("user", "q"),), "longer one", "short", source="b.jsonl:1")
    facts = card([pair])
    assert facts["chosen_longer"] == 1.0 and facts["chosen_words"]["p50"] == 2.0
    assert "chosen longer: 1" in card_markdown(facts)


def test_nothing() -> None:
    assert card([]) == {"rows": 0}
    assert card_markdown(card([])) == "# Dataset\n\n0 rows.\n"
