"""One verdict: what is promoted, held back, and left open, with the reason."""

from __future__ import annotations

import pytest

from burnish.evaluation.judge_card import JudgeCard
from burnish.evaluation.scorecard import Evidence, decide, from_benchmark, from_corrected, from_judge, from_votes
from burnish.evaluation.stats import Estimate, paired, prediction_powered

CLEAN = JudgeCard("j", 10, 0, "", None, None, None, None, None, None, None, None, None, None, {}, ())
GAIN = Evidence("benchmark", "dev", 0.10, 0.05, 0.15, 200)
NOTHING = Evidence("benchmark", "dev", 0.01, -0.03, 0.05, 200)
EQUAL = Evidence("benchmark", "dev", 0.0, -0.005, 0.005, 20_000)
LOSS = Evidence("votes", "arena", -0.2, -0.3, -0.1, 100)
CHEERED = Evidence("judge", "j", 0.4, 0.3, 0.5, 200, 0, ("it likes length",))


@pytest.mark.parametrize(
    ("evidence", "action", "words"),
    [
        ([GAIN], "promote", "is better than base by benchmark dev (+10.0, +5.0 to +15.0)"),
        ([GAIN, NOTHING], "promote", "benchmark dev cannot tell them apart"),
        ([GAIN, LOSS], "hold", "is worse than base by human votes arena (-20.0, -30.0 to -10.0), although it gains"),
        ([NOTHING], "collect more", "no evidence tells"),
        ([EQUAL], "hold", "equal to within 1 point"),
        ([CHEERED], "collect more", "nothing that can be trusted"),
        ([CHEERED, NOTHING], "collect more", "no evidence tells"),
        ([], "collect more", "nothing that can be trusted"),
    ],
)
def test_decisions(evidence: list[Evidence], action: str, words: str) -> None:
    found = decide("new", "base", evidence)
    assert found.action == action
    assert words in found.reason


def test_a_benchmark_gain_that_people_cannot_see_does_not_count() -> None:
    leaked = Evidence("benchmark", "dev", 0.32, 0.28, 0.36, 300)
    nothing = Evidence("corrected", "rm", -0.06, -0.25, 0.13, 50)
    found = decide("new", "base", [leaked, nothing])
    assert found.action == "collect more"
    assert "does not count: people see no gain of that size" in found.disagreements[0]
    assert any("made after training" in one for one in found.advice)
    assert decide("new", "base", [GAIN, nothing]).action == "promote"  # 5 to 15 is in line with up to 13
    assert decide("new", "base", [leaked, Evidence("votes", "v", 0.1, 0.05, 0.2, 90)]).action == "promote"


def test_contradictions_are_named() -> None:
    (first,) = decide("new", "base", [GAIN, LOSS]).disagreements
    assert "benchmark dev" in first and "human votes arena" in first and "contradict" in first
    doubted = decide("new", "base", [GAIN, CHEERED]).disagreements
    assert doubted == ("judge j (+40.0, +30.0 to +50.0) does not count: it likes length",)


def test_what_would_settle_it() -> None:
    # A lead of 1 point with half-width 4 on 200 items: 200 x 16 x ((1.96 + 0.84) / 1.96)^2 = 3200 x 2.041 = 6,531.
    advice = decide("new", "base", [NOTHING]).advice
    assert "about 6,531 items in all" in advice[0]
    assert any("burnish arena" in one for one in advice)
    assert any("label some pairs" in one for one in decide("new", "base", [GAIN, CHEERED]).advice)


def test_evidence_of_each_kind() -> None:
    assert (
        from_benchmark("dev", paired([0.0] * 30 + [1.0] * 10, [1.0] * 25 + [0.0] * 5 + [1.0] * 10)).finding == "better"
    )
    wins = Estimate(100, 0.7, 0.05, 0.6, 0.8)
    assert from_votes("arena", wins).low == pytest.approx(0.2)
    assert from_judge("j", wins, None).doubts == ("its judge card is missing",)
    assert from_judge("j", wins, CLEAN).counts
    corrected = from_corrected("j", prediction_powered([1.0, 0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0], [1.0] * 50))
    assert corrected.counts and corrected.lead > 0


def test_a_gain_on_three_items_is_no_gain() -> None:
    few = from_benchmark("dev", paired([0.1, 0.2, 0.3], [0.2, 0.4, 0.4]))
    assert few.low > 0 and few.p_value is not None and few.p_value > 0.05
    assert few.finding == "unclear" and decide("new", "base", [few]).action == "collect more"
