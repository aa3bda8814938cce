"""Best against worst, by hand."""

from __future__ import annotations

from burnish.data.preferences import Answer, pair_up
from burnish.types import Example, Message, Score


def prompt(name: str) -> Example:
    return Example(name, (Message("user", "Q"), Message("assistant", "gold")), source="f:1")


def test_the_best_is_chosen_and_the_worst_rejected() -> None:
    answers = [Answer("worst", "m"), Answer("best!", "n"), Answer("middle", "m")]
    found = pair_up([prompt("p")], [answers], [[Score(0.0), Score(1.0), Score(0.5)]], min_margin=0.5)
    (pair,) = found.pairs
    assert (pair.chosen, pair.rejected, pair.margin) == ("best!", "worst", 1.0)
    assert pair.prompt == (Message("user", "Q"),)
    assert (pair.meta["chosen_model"], pair.meta["rejected_model"]) == ("n", "m")
    assert found.longer_chosen == 0.0  # both have five characters


def test_prompts_are_pairs_or_dropped_with_a_reason() -> None:
    answers = [Answer("a", "m"), Answer("bb", "m")]
    scores = [
        [Score(1.0), Score(0.0)],  # a pair
        [Score(1.0), Score(1.0)],  # alike
        [Score(1.0), Score(0.8)],  # too close
        [Score(1.0), Score(None, error="no rating")],  # one score alone
    ]
    found = pair_up([prompt(f"p{n}") for n in range(4)], [answers] * 4, scores, min_margin=0.5)
    assert found.paired + sum(found.dropped.values()) == 4
    assert found.dropped == {"all answers scored alike": 2, "fewer than two scored answers": 1}
    assert found.unscored == 1


def test_equal_texts_make_no_pair() -> None:
    found = pair_up([prompt("p")], [[Answer("a", "m"), Answer("a", "n")]], [[Score(1.0), Score(0.0)]], min_margin=0.5)
    assert found.pairs == []


def test_a_text_that_was_scored_twice_counts_with_its_mean() -> None:
    # "a" has 9 and 1, the mean is 5: "b" with 6 is chosen over it, and never the other way round, though 9 > 6.
    answers = [Answer("a", "m"), Answer("b", "m"), Answer("a", "n")]
    scores = [Score(9.0), Score(6.0), Score(1.0)]
    found = pair_up([prompt("p")], [answers], [scores], min_margin=0.5, per_prompt=9)
    assert [(pair.chosen, pair.rejected, pair.margin) for pair in found.pairs] == [("b", "a", 1.0)]
    both = pair_up([prompt(f"p{n}") for n in range(40)], [answers] * 40, [scores] * 40, min_margin=0.5)
    assert {pair.meta["rejected_model"] for pair in both.pairs} == {"m", "n"}


def test_ties_are_broken_by_the_prompt_and_not_by_the_place() -> None:
    answers = [Answer("good 0", "m"), Answer("good 1", "m"), Answer("bad", "m")]
    scores = [Score(1.0), Score(1.0), Score(0.0)]
    names = [f"p{n}" for n in range(40)]
    found = pair_up([prompt(name) for name in names], [answers] * 40, [scores] * 40, min_margin=0.5)
    chosen = [pair.chosen for pair in found.pairs]
    assert 8 < chosen.count("good 0") < 32  # 20 expected, a fair coin stays within 8..32 but for 1 in 10^4


def test_several_pairs_of_a_prompt_the_widest_first() -> None:
    answers = [Answer(text, "m") for text in ("a", "b", "c", "b")]
    scores = [Score(1.0), Score(0.5), Score(0.0), Score(0.5)]
    found = pair_up([prompt("p")], [answers], [scores], min_margin=0.5, per_prompt=9)
    # a over c by 1.0; then a over b and b over c by 0.5, each once although b was said twice
    assert [(pair.chosen, pair.rejected, pair.margin) for pair in found.pairs][:1] == [("a", "c", 1.0)]
    assert {(pair.chosen, pair.rejected) for pair in found.pairs} == {("a", "c"), ("a", "b"), ("b", "c")}
    assert len({pair.id for pair in found.pairs}) == 3 and found.paired == 1
    assert len(pair_up([prompt("p")], [answers], [scores], min_margin=0.5, per_prompt=2).pairs) == 2


def test_prompts_that_are_guessed_at_or_settled_are_left_out() -> None:
    answers = [Answer("a", "m"), Answer("b", "m"), Answer("c", "m"), Answer("d", "m")]
    quarter, half = [Score(1.0), *[Score(0.0)] * 3], [Score(1.0), Score(1.0), Score(0.0), Score(0.0)]
    found = pair_up(
        [prompt("p"), prompt("q")], [answers, answers], [quarter, half], min_margin=0.5, mean_score=(0.3, 1.0)
    )
    assert [pair.id for pair in found.pairs] == ["q/pair"]
    assert found.dropped == {"mean score out of bounds": 1}
