"""Put a judge to the test: let it compare labelled pairs, some of them twice, and answers to nothing with real ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Protocol

from burnish.data.ingest import ingest
from burnish.engines.responses import CachedEngine
from burnish.errors import EvaluationError
from burnish.evaluation.judge_card import JudgeCard, Pair, findings, judge_card, null_pairs
from burnish.evaluation.runner import Outcome
from burnish.judges.parts import of_scores
from burnish.log import note
from burnish.rng import seed_for
from burnish.types import Example, PreferencePair, Verdict


class Judge(Protocol):
    """What compares answers; the rows of the `judges` table do."""

    def compare(self, engine: Any, prompts: Sequence[Example], firsts: Sequence[str], seconds: Sequence[str]
                ) -> list[Verdict]:  # fmt: skip
        """A verdict on two answers to each prompt."""


def examine(judge: Judge, engine: Any, pairs: Sequence[PreferencePair], *, retest: int = 50, null: int = 50,
            seed: int = 0) -> tuple[JudgeCard, list[Pair]]:  # fmt: skip
    """A judge's card and its verdicts on pairs that people have labelled.

    Args:
        engine: the model that judges. pairs: chosen is what people prefer; which of the two is the first is drawn, so
            that a judge gains nothing from a place. retest: so many pairs are asked again. null: each control answers
            so many of the requests.
    Raises:
        EvaluationError: for no pairs.
    """
    if not pairs:
        raise EvaluationError("there are no labelled pairs to test the judge on", hint="rows with chosen and rejected")
    items = [Example(pair.id, pair.prompt) for pair in pairs]
    ahead = [bool(Random(seed_for(seed, "side", pair.id)).getrandbits(1)) for pair in pairs]
    firsts = [pair.chosen if left else pair.rejected for pair, left in zip(pairs, ahead, strict=True)]
    seconds = [pair.rejected if left else pair.chosen for pair, left in zip(pairs, ahead, strict=True)]
    verdicts = judge.compare(engine, items, firsts, seconds)
    compared = [
        Pair(pair.id, first, second, verdict, float(left),
             cluster="\n".join(message.content for message in pair.prompt))
        for pair, first, second, verdict, left in zip(pairs, firsts, seconds, verdicts, ahead, strict=True)
    ]  # fmt: skip
    by_id = {item.id: item for item in items}
    return card_of(judge, engine, by_id, compared, retest=retest, null=null), compared


def card_of(judge: Judge, engine: Any, items: Mapping[str, Example], pairs: Sequence[Pair], *, retest: int, null: int,
            own_model: str = "") -> JudgeCard:  # fmt: skip
    """The card of a judge that has compared some pairs: asks it the first of them again, and about answers to nothing.

    Args:
        items: by id, what the pairs answer. In the controls, real answers are those that it or people preferred.
    """
    pairs = sorted(pairs, key=lambda pair: pair.verdict.preference is None)  # the unscored may not fit the judge
    twice = [pair for pair in pairs[:retest] if pair.verdict.preference is not None]
    behind = engine.engine if isinstance(engine, CachedEngine) else engine  # a kept answer would agree with itself
    again = judge.compare(behind, *_columns(items, twice)) if twice else []
    asked = [*(replace(pair, again=verdict) for pair, verdict in zip(twice, again, strict=True)), *pairs[len(twice) :]]
    shown = [pair for pair in pairs[:null] if pair.verdict.preference is not None]
    real = [pair.first if _better_first(pair) else pair.second for pair in shown]
    nothing = null_pairs(len(shown), real) if shown else {}
    prompts = [items[pair.id] for pair in shown]
    fooled = {name: judge.compare(engine, prompts, *answers) for name, answers in nothing.items()}
    return judge_card(str(engine.name), asked, fooled, own_model=own_model)


def rated_pairs(answers: Mapping[str, Sequence[Outcome]], baseline: str) -> list[Pair]:
    """Pairs of answers to one item that a judge has rated, of each model, by name, and the baseline. No call is made.

    Conversations are left out: their turns are rated behind different answers.
    """
    before = {one.id: one for one in answers[baseline] if one.judged and not one.turns}
    return [
        Pair(one.id, one.text, before[one.id].text, of_scores(one.score, before[one.id].score), first_model=model,
             second_model=baseline, cluster=one.cluster)
        for model, outcomes in answers.items() if model != baseline
        for one in outcomes if one.judged and one.id in before and one.text != before[one.id].text
    ]  # fmt: skip


def _columns(items: Mapping[str, Example], pairs: Sequence[Pair]) -> tuple[list[Example], list[str], list[str]]:
    return [items[pair.id] for pair in pairs], [pair.first for pair in pairs], [pair.second for pair in pairs]


def _better_first(pair: Pair) -> bool:
    value = pair.human if pair.human is not None else pair.verdict.preference
    return value is None or value >= 0.5


def read_labelled(path: Any, n: int | None, seed: int = 0) -> list[PreferencePair]:
    """Pairs of a file of preferences, `n` of them drawn by the seed. Says how many rows could not be used.

    Raises EvaluationError for a file without pairs.
    """
    found = ingest([path], "auto")
    pairs = [row for row in found.rows if isinstance(row, PreferencePair)]
    if not pairs:
        raise EvaluationError("the file holds no pairs", where=str(path), hint="rows with prompt, chosen and rejected")
    if found.quarantine:
        note(f"{path}: {len(found.quarantine)} rows cannot be used; the first: {found.quarantine[0].why}")
    if n is not None and n < len(pairs):
        chosen = sorted(Random(seed_for(seed, "pairs", str(n))).sample(range(len(pairs)), n))
        pairs = [pairs[place] for place in chosen]
    return pairs


def say_alarms(card: JudgeCard) -> None:
    """Say what makes a judge that is in use unfit for a decision, while it can still be changed."""
    for alarm in card.alarms:
        note(f"ALARM: judge {card.judge}: {alarm}")


def card_lines(card: JudgeCard) -> Iterator[str]:
    """A judge card for a terminal."""
    yield f"judge card: {card.judge}"
    yield f"  {'pairs':<34}{card.pairs:>7}" + (
        f"  ({card.unscored} unscored: {card.why_unscored})" if card.unscored else ""
    )
    for label, found in findings(card):
        yield f"  {label:<34}{found.mean:7.2f}  [{found.low:.2f}, {found.high:.2f}]  n={found.n}"
    yield from (f"  ALARM: {alarm}" for alarm in card.alarms)
    if not card.alarms:
        yield "  no alarm"
