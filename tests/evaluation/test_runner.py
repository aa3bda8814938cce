"""Asking, grading, reporting and comparing, with an engine that says what it is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from burnish.engines.base import Prompt, Scored
from burnish.engines.scripted import Scripted
from burnish.errors import EvaluationError
from burnish.evaluation.runner import OVERALL, Outcome, choice_prompt, compare, evaluate, read_outcomes, report
from burnish.types import Example, Message, Sampling, Score


def asked(number: int, target: str, **more: object) -> Example:
    meta = {"task": "sums", **more}
    return Example(f"sums/{number}", (Message("user", f"item {number}"),), target, {"numeric": {}}, meta=meta)


def choice(number: int, target: str, options: tuple[str, ...], **more: object) -> Example:
    meta = {"task": "facts", **more}
    return Example(f"facts/{number}", (Message("user", "Question:\nAnswer:"),), target, None, options, meta=meta)


class Weighing(Scripted):
    """Gives every option the log-probability of its table, and keeps what it was asked."""

    def __init__(self, table: dict[str, Scored]) -> None:
        super().__init__([])
        self.table, self.seen = table, []

    def choices(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[Scored]]:
        self.seen += list(zip(prompts, options, strict=True))
        return [[self.table[option.strip()] for option in group] for group in options]


class Small(Scripted):
    """Refuses prompts that mention 'item 2'."""

    def too_long(self, prompts: Sequence[Prompt], options: object = None) -> dict[int, str]:
        return {index: "9 tokens are needed" for index, prompt in enumerate(prompts) if "item 2" in str(prompt)}


def test_items_of_both_kinds_keep_their_order() -> None:
    items = [choice(1, "foal", ("calf", "foal")), asked(1, "4"), asked(2, "5"), choice(2, "calf", ("calf", "foal"))]
    said = {"item 1": "Answer: 4", "item 2": "Answer: 6", "Question:\nAnswer:": " foal"}
    engine = Scripted(lambda prompt, sample: said[prompt if isinstance(prompt, str) else prompt[-1].content])
    found = evaluate(engine, items, Sampling(), label="scripted")
    assert [(one.id, one.score.value) for one in found] == [
        ("facts/1", 1.0), ("sums/1", 1.0), ("sums/2", 0.0), ("facts/2", 0.0),
    ]  # fmt: skip
    assert (found[0].text, found[1].score.answer) == ("foal", "4")


def test_options_of_unequal_length_are_compared_by_character() -> None:
    # 'ox' -2.0 / 2 = -1 a character; 'elephant' -4.0 / 8 = -0.5: the longer wins by character, the shorter by sum;
    # by token -2 / 1 against -4 / 4 the longer wins again
    table = {"ox": Scored(-2.0, 1), "elephant": Scored(-4.0, 4)}
    for normalize, answer in (("characters", "elephant"), ("sum", "ox"), ("tokens", "elephant")):
        item = choice(1, "elephant", ("ox", "elephant"), normalize=normalize)
        (found,) = evaluate(Weighing(table), [item], Sampling(), label="m")
        assert (found.text, found.score.value, found.tokens) == (answer, float(answer == "elephant"), 5)


def test_equal_options_go_to_the_first() -> None:
    table = {"A": Scored(-1.0, 1), "B": Scored(-1.0, 1)}
    (found,) = evaluate(Weighing(table), [choice(1, "B", ("A", "B"))], Sampling(), label="m")
    assert found.text == "A"


def test_options_follow_text_with_a_space_and_a_chat_without() -> None:
    engine = Weighing({"A": Scored(-1.0, 1), "B": Scored(-2.0, 1)})
    plain, chat = choice(1, "A", ("A", "B")), choice(2, "A", ("A", "B"), style="chat")
    evaluate(engine, [plain, chat], Sampling(), label="m")
    assert engine.seen[0] == ("Question:\nAnswer:", [" A", " B"])
    assert engine.seen[1] == (chat.messages, ["A", "B"])
    turns = Example("t", (Message("user", "a"), Message("assistant", "b"), Message("user", "c")), meta={})
    assert choice_prompt(turns) == turns.messages


def test_what_is_too_long_is_unscored_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    engine = Small(lambda prompt, sample: "Answer: 4")
    found = evaluate(engine, [asked(1, "4"), asked(2, "4"), asked(3, "5")], Sampling(), label="small")
    assert [one.score.value for one in found] == [1.0, None, 0.0]
    assert found[1].score.error == "9 tokens are needed"
    assert engine.usage.calls == 2
    assert "small: 1 of 3 items unscored" in " ".join(capsys.readouterr().err.split())


def graded(task: str, values: Sequence[float | None], clusters: Sequence[str] = ()) -> list[Outcome]:
    names = clusters or [""] * len(values)
    return [
        Outcome(f"{task}/{place}", task, Score(value, error=None if value is not None else "broken"), "", 1, name)
        for place, (value, name) in enumerate(zip(values, names, strict=True))
    ]


def test_report_leaves_out_the_unscored_and_weighs_tasks_alike() -> None:
    # a: 1 of 2 scored right (one unscored); b: 0 of 4. overall (0.5 + 0) / 2
    rows = report(graded("a", [1.0, None, 0.0]) + graded("b", [0.0] * 4))
    assert [(row.task, row.n, row.unscored, row.mean) for row in rows] == [
        ("a", 2, 1, 0.5), ("b", 4, 0, 0.0), (OVERALL, 6, 1, 0.25),
    ]  # fmt: skip
    assert all(0 <= row.low <= row.mean < row.high <= 1 for row in rows)


def test_a_task_that_nothing_can_grade_is_an_error() -> None:
    with pytest.raises(
        EvaluationError, match="none of the 2 items of task 'a' could be scored; the first: a/0: broken"
    ):
        report(graded("a", [None, None]) + graded("b", [1.0, 0.0]))
    with pytest.raises(EvaluationError, match="no items"):
        report([])


def test_clusters_widen_the_interval() -> None:
    values = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0] * 3
    together = report(graded("a", values, [str(place // 3) for place in range(18)]))[0]
    alone = report(graded("a", values))[0]
    assert together.high - together.low > alone.high - alone.low


def test_compare_pairs_by_item_and_skips_what_either_lacks() -> None:
    before, after = graded("a", [0.0, 0.0, 1.0, None]), graded("a", [1.0, 1.0, None, 1.0])
    found = compare(before, list(reversed(after)))
    assert (found["a"].n, found["a"].fixed, found["a"].broken, found["a"].difference) == (2, 2, 0, 1.0)
    assert found[OVERALL] == found["a"]
    two = compare(before + graded("b", [1.0, 1.0]), after + graded("b", [0.0, 1.0]))
    assert two[OVERALL].difference == pytest.approx((1.0 - 0.5) / 2)
    with pytest.raises(EvaluationError, match="different items"):
        compare(before, after[:2])


def test_outcomes_come_back_from_a_file(tmp_path: Path) -> None:
    outcomes = graded("a", [1.0, None], ["x", ""])
    path = tmp_path / "outcomes.jsonl"
    path.write_text("".join(json.dumps(asdict(outcome)) + "\n" for outcome in outcomes), encoding="utf-8")
    assert read_outcomes(path) == outcomes
