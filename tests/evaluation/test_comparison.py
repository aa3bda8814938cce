"""Several models on the same items: gains, families of tests, flips, and how many items it takes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from burnish.errors import EvaluationError
from burnish.evaluation.comparison import compare_models
from burnish.evaluation.report.compared import comparison_page, lines, sentences
from burnish.evaluation.runner import OVERALL, Outcome
from burnish.evaluation.stats import holm, items_needed, paired
from burnish.types import Score


def outcomes(task: str, values: list[float | None], text: str = "answer") -> list[Outcome]:
    scores = [Score(value, error="no number" if value is None else None) for value in values]
    return [Outcome(f"{task}/{k}", task, score, f"{text} {k}", 3) for k, score in enumerate(scores)]


BASE = outcomes("sums", [0.0] * 30 + [1.0] * 10) + outcomes("facts", [1.0] * 30 + [0.0] * 10)
BETTER = outcomes("sums", [1.0] * 28 + [0.0] * 2 + [1.0] * 10, "<b>new</b>") + outcomes("facts", [0.0] * 12 + [1.0] * 18
                                                                                  + [0.0] * 10, "new")  # fmt: skip
SAME = outcomes("sums", [0.0] * 29 + [1.0] * 11) + outcomes("facts", [1.0] * 30 + [0.0] * 9 + [None])


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.5: none below the one before it.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_items_that_show_one_point() -> None:
    # 10 of 100 changed for better and 10 for worse: variance of the differences 20/99 = 0.202, so
    # ((1.960 + 0.8416) / 0.01)^2 x 0.202 = 7.849e4 x 0.202 = 15,857.
    found = paired([0.0] * 10 + [1.0] * 90, [1.0] * 10 + [0.0] * 10 + [1.0] * 80)
    assert items_needed(found) == pytest.approx(15_857, abs=2)
    assert items_needed(found, difference=0.02) == pytest.approx(15_857 / 4, abs=2)
    assert items_needed(paired([1.0, 1.0], [1.0, 1.0])) is None


def test_gains_and_their_price() -> None:
    base, better, same = compare_models({"base": BASE, "better": BETTER, "same": SAME})
    assert base.gains == [] and base.flips == []
    # On sums 28 of 40 became right, on facts 12 became wrong: +70 and -30 points, +20 overall.
    assert better.gain("sums").difference.difference == pytest.approx(0.7)
    assert better.gain("facts").difference.difference == pytest.approx(-0.3)
    assert better.gain(OVERALL).difference.difference == pytest.approx(0.2)
    assert [gain.task for gain in better.regressions] == ["facts"]
    assert better.gain("sums").finding == "better" and same.gain(OVERALL).finding == "unclear"
    # Four tests on tasks, the exact p of 12 to 0 is 2 x 0.5^12: the second smallest, times 3.
    assert better.gain("facts").adjusted == pytest.approx(3 * 2 * 0.5**12)
    assert same.reports[-1].unscored == 1
    assert len(better.flips) == 40 and better.flips[0].task == "facts"  # the lost ones first


def test_it_is_said_in_words() -> None:
    said = sentences(compare_models({"base": BASE, "better": BETTER, "same": SAME}))
    assert said[0].startswith("better, the best of 2, is better than base: +20.0 points")
    assert "Its gain has a price: better is measurably worse on facts (−30.0)." in said
    assert "Unscored answers, which are in no mean: 1 of same." in said
    assert any("takes about" in one and "same" in one for one in said)
    table = "\n".join(lines(compare_models({"base": BASE, "better": BETTER})))
    assert table.index("overall") < table.index("facts") and "WORSE" in table


def test_the_page_shows_answers_as_text() -> None:
    page = comparison_page("a & b", compare_models({"base": BASE, "better": BETTER}))
    assert "<b>new</b>" not in page and "&lt;b&gt;new&lt;/b&gt;" in page
    assert "default-src 'none'" in page and "a &amp; b" in page
    assert page.count("<svg") == 1


def test_different_items_cannot_be_compared() -> None:
    with pytest.raises(EvaluationError, match="1 are in one list only, such as facts/39"):
        compare_models({"base": BASE, "other": BETTER[:-1]})
    with pytest.raises(EvaluationError, match="nothing to compare with"):
        compare_models({"base": BASE})


def test_a_model_without_scored_items_in_a_task_is_an_error(tmp_path: Path) -> None:
    nothing = outcomes("sums", [None] * 40) + BASE[40:]
    with pytest.raises(EvaluationError, match="none of the 40 items"):
        compare_models({"base": BASE, "silent": nothing})
    assert math.isfinite(compare_models({"base": BASE, "again": BASE})[1].gain(OVERALL).difference.low)
