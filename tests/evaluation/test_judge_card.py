"""Judge cards: each habit on pairs that show it and nothing else, and the alarms they raise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from burnish.engines.base import Prompt
from burnish.engines.scripted import Scripted
from burnish.errors import EvaluationError
from burnish.evaluation.judge_card import NULL_ANSWERS, Pair, judge_card
from burnish.evaluation.judging import card_lines, examine
from burnish.evaluation.stats import kappa, prediction_powered
from burnish.judges.pairwise import Pairwise
from burnish.types import Message, PreferencePair, Verdict

FIRST, SECOND, TIE = (Verdict(value, (value, value)) for value in (1.0, 0.0, 0.5))
SWAYED = Verdict(0.5, (1.0, 0.0))
"""Prefers what is shown first: the first answer in one order, the second in the other."""


def pair(k: int, verdict: Verdict, human: float | None = None, first: str = "same", second: str = "size", **more: object
         ) -> Pair:  # fmt: skip
    return replace(Pair(f"p{k}", first, second, verdict, human), **more)


def test_kappa_by_hand() -> None:
    # 20 both yes, 5 yes-no, 10 no-yes, 15 both no: agreement 0.7, by chance 0.5 x 0.6 + 0.5 x 0.4 = 0.5: kappa 0.4.
    first = [1.0] * 25 + [0.0] * 25
    second = [1.0] * 20 + [0.0] * 5 + [1.0] * 10 + [0.0] * 15
    found = kappa(first, second)
    assert found.mean == pytest.approx(0.4)
    assert found.low < 0.2 and 0.6 < found.high < 0.7
    assert kappa([1.0, 1.0], [1.0, 1.0]).mean == 0.0  # nothing to agree on beyond chance
    assert kappa([1.0, 0.0], [1.0, 0.0]).mean == 1.0


def test_pairs_of_one_request_go_together() -> None:
    first, second = [1.0, 0.0] * 40, [1.0, 0.0, 1.0, 1.0] * 20
    apart = kappa(first, second)
    together = kappa(first, second, [f"request {k // 8}" for k in range(80)])
    assert together.mean == apart.mean and together.high - together.low != apart.high - apart.low


def test_agreement_counts_a_verdict_that_the_order_decides_as_none() -> None:
    rows = [pair(0, FIRST, 1.0), pair(1, SECOND, 0.0), pair(2, SWAYED, 1.0), pair(3, TIE, 0.5)]
    card = judge_card("j", rows)
    assert card.agreement is not None and card.agreement.mean == 0.75
    assert card.flips is not None and card.flips.mean == 0.25
    # Shown first is preferred: in one order of pair 0 and of pair 1, in both of pair 2, and half of each tie:
    # (1 + 0 + 0 + 1 + 1 + 1 + 0.5 + 0.5) / 8.
    assert card.first_position is not None and card.first_position.mean == pytest.approx(5 / 8)


def test_habits_of_length_and_lists() -> None:
    long, short = "word " * 40, "word " * 20
    listed = "Do this:\n- one\n- two"
    rows = [pair(0, FIRST, 0.0, long, short), pair(1, SECOND, 1.0, short, long), pair(2, SECOND, 0.0, long, short),
            pair(3, FIRST, 1.0, listed, "Do this one two")]  # fmt: skip
    card = judge_card("j", rows)
    assert card.longer is not None and (card.longer.n, card.longer.mean) == (4, 0.75)  # the list is longer too
    assert card.human_longer is not None and card.human_longer.mean == 0.25
    assert card.lists is not None and (card.lists.n, card.lists.mean) == (1, 1.0)


def test_self_preference_is_what_people_do_not_share() -> None:
    mine = {"first_model": "me", "second_model": "other"}
    rows = [pair(k, FIRST, float(k < 2), **mine) for k in range(4)] + [pair(9, SECOND, 1.0, first_model="x")]
    # Judge prefers its own in all 4, people in 2 of 4: 0, 0, 1, 1 more.
    card = judge_card("j", rows, own_model="me")
    assert card.own is not None and (card.own.n, card.own.mean) == (4, 0.5)
    assert judge_card("j", rows).own is None


def test_the_same_said_twice_and_replies_that_cannot_be_read() -> None:
    rows = [pair(0, FIRST, again=FIRST), pair(1, FIRST, again=TIE), pair(2, Verdict(None, error="no verdict in 'hm'"))]
    card = judge_card("j", rows)
    assert card.retest is not None and card.retest.mean == 0.5
    assert (card.unscored, card.why_unscored) == (1, "no verdict in 'hm'")
    assert "1 of 3 replies could not be read" in card.alarms
    assert card.kappa is None


def test_an_answer_to_nothing_that_wins_is_an_alarm() -> None:
    rows = [pair(k, FIRST if k % 2 else SECOND, float(k % 2)) for k in range(40)]
    fooled = judge_card("j", rows, {"commanding": [FIRST] * 8 + [SECOND] * 2, "empty": [SECOND] * 10})
    assert [alarm for alarm in fooled.alarms if "commanding" in alarm and "80%" in alarm]
    assert not judge_card("j", rows, {"commanding": [SECOND] * 10}).alarms


def test_a_control_that_could_not_be_judged_raises_nothing() -> None:
    rows = [pair(k, FIRST if k % 2 else SECOND, float(k % 2)) for k in range(40)]
    card = judge_card("j", rows, {"commanding": [Verdict(None, error="too long")] * 10})
    assert not card.null and not card.alarms


def test_a_judge_that_knows_length_alone_is_an_alarm() -> None:
    rows = [pair(k, FIRST, float(k % 3 > 0), "a long answer indeed", "short") for k in range(60)]
    rows += [pair(k, SECOND, 0.0, "short", "a long answer indeed") for k in range(60, 90)]
    card = judge_card("j", rows)
    assert any("taking the longer answer agrees with people as well" in alarm for alarm in card.alarms)


# ---------------------------------------------------------------------------------------------------- a judge is tested

PAIRS = [PreferencePair(f"q{k}", (Message("user", f"Question {k}?"),), f"right {k}", f"wrong {k} and long") for k in
         range(30)]  # fmt: skip


def by_content(prompt: Prompt, sample: int) -> str:
    text = prompt if isinstance(prompt, str) else prompt[0].content
    first, second = text.split("Answer A:\n")[1].split("\n\nReply")[0].split("\n\nAnswer B:\n")
    if "commanding" in str(NULL_ANSWERS) and NULL_ANSWERS["commanding"] in (first, second):
        return "A" if first == NULL_ANSWERS["commanding"] else "B"
    return "A" if first.startswith("right") else "B" if second.startswith("right") else "T"


def test_a_good_judge_with_one_weakness() -> None:
    card, compared = examine(Pairwise(by="text"), Scripted(by_content, "judge"), PAIRS, retest=5, null=10)
    assert card.agreement is not None and card.agreement.mean == 1.0
    assert card.flips is not None and card.flips.mean == 0.0
    assert card.retest is not None and card.retest.n == 5
    assert {name: rate.mean for name, rate in card.null.items()} == {
        "empty": 0.0, "evasive": 0.0, "flattering": 0.0, "commanding": 1.0}  # fmt: skip
    assert len(card.alarms) == 1 and "can be fooled" in card.alarms[0]
    sides = [one.human for one in compared]
    assert 5 < sum(filter(None, sides)) < 25  # the preferred answer is on either side
    shown = "\n".join(card_lines(card))
    assert "Cohen's kappa with people" in shown and "ALARM" in shown


def test_a_judge_that_always_says_the_first() -> None:
    card, _ = examine(Pairwise(by="text"), Scripted(lambda prompt, sample: "A", "judge"), PAIRS)
    assert card.flips is not None and card.flips.mean == 1.0
    assert card.first_position is not None and card.first_position.mean == 1.0
    assert any("the order of the answers decides 100%" in alarm for alarm in card.alarms)


def test_no_pairs_no_card() -> None:
    with pytest.raises(EvaluationError, match="no labelled pairs"):
        examine(Pairwise(), Scripted(["A"]), [])


# ----------------------------------------------------------------------------------------- a judge corrected by people


def test_the_correction_by_hand() -> None:
    # Judge and people agree on 3 of 4; judge says 1 on all ten others. cov = 1/6 on (1,1,0,0) and (1,1,1,0):
    # mean products 2/4 - 0.5 x 0.75 = 0.125, times 4/3 = 0.1667. Judge's variance over 14: 13 ones and a zero, 0.0714.
    # trust = min(1, 0.1667 / (1.4 x 0.0714)) = 1: mean = 0.5 + (1 - 0.75) = 0.75.
    found = prediction_powered([1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0], [1.0] * 10)
    assert found.trust == 1.0
    assert found.estimate.mean == pytest.approx(0.75)
    assert found.bias == pytest.approx(0.25)
    # Variance: human minus judge is 0, 0, -1, 0: 0.25, over 4; the others have none: standard error 0.25.
    assert found.estimate.stderr == pytest.approx(0.25)


def test_a_judge_that_says_nothing_is_not_used() -> None:
    found = prediction_powered([1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, 0.0] * 20)
    assert found.trust == 0.0 and found.estimate.mean == 0.5
    assert found.worth == pytest.approx(1.0, abs=0.02)


def test_the_correction_is_unbiased_and_its_interval_holds() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    inside, naive, widths = [], [], []
    for _ in range(300):
        truth = (rng.random(600) < 0.4).astype(float)
        judge = np.where(rng.random(600) < 0.85, truth, 1.0)  # says yes to 15 % of what it cannot tell
        found = prediction_powered(truth[:60].tolist(), judge[:60].tolist(), judge[60:].tolist())
        inside.append(found.estimate.low <= 0.4 <= found.estimate.high)
        naive.append(found.judge.low <= 0.4 <= found.judge.high)
        widths.append(found.worth)
    assert 0.91 < np.mean(inside) < 0.99
    assert np.mean(naive) < 0.3  # the judge alone is surely wrong
    assert np.mean(widths) > 2  # each human label is worth more than two


def test_labels_of_everything_are_the_answer() -> None:
    found = prediction_powered([1.0] * 9 + [0.0], [0.0] * 10, [])
    assert (found.estimate.mean, found.trust) == (0.9, 0.0)
    assert found.estimate.high == 1.0  # 0.9 + t(9) 0.1 is beyond the scale


def test_labels_that_agree_leave_room() -> None:
    # Wilson's interval of 10 of 10: 1 / (1 + 1.96^2 / 10) = 0.7225
    found = prediction_powered([1.0] * 10, [1.0] * 10, [1.0] * 30)
    assert (found.estimate.low, found.estimate.high) == (pytest.approx(0.7225, abs=1e-4), 1.0)
    # half of the items are ties to anybody: 0.5 x 0.7225 + 0.5 x 0.5
    assert found.with_known(0.5, 40, 40).estimate.low == pytest.approx(0.6112, abs=1e-4)
    assert found.with_known(0.5, 40, 40).estimate.mean == 0.75
