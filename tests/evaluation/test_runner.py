"""Asking, grading, reporting and comparing, with an engine that says what it is told."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from burnish.engines.base import Prompt, Scored
from burnish.engines.scripted import Scripted
from burnish.errors import EngineError, EvaluationError
from burnish.evaluation.judged import Judge
from burnish.evaluation.runner import OVERALL, Outcome, choice_prompt, compare, evaluate, read_outcomes, report
from burnish.evaluation.turns import turn
from burnish.judges.pointwise import Pointwise
from burnish.types import Completion, Example, Message, Sampling, Score, StopReason


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


# ------------------------------------------------------------------------------------------------------- conversations

NUMBER: dict[str, dict[str, Any]] = {"numeric": {}}
JUDGED: dict[str, dict[str, Any]] = {"judge": {}}


def conversation(number: int, *turns: tuple[str, str | None, dict[str, dict[str, Any]] | None]) -> Example:
    (text, target, grader), *rest = turns
    return Example(f"talks/{number}", (Message("user", text),), target, grader,
                   meta={"task": "talks", "turns": [turn(*one) for one in rest]})  # fmt: skip


def counting(prompt: Prompt, sample: int) -> str:
    """Adds one to the last number that was said."""
    assert not isinstance(prompt, str)
    return f"Answer: {int(prompt[-1].content.split()[-1]) + 1 if len(prompt) == 1 else prompt[-2].content[-1:]}"


class Calls(Scripted):
    """Keeps the prompts of each call."""

    def __init__(self, script: Any) -> None:
        super().__init__(script)
        self.seen: list[list[Prompt]] = []

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, n: int = 1) -> list[list[Completion]]:
        self.seen.append(list(prompts))
        return super().generate(prompts, sampling, n)


def test_a_later_turn_stands_behind_the_models_own_answers_and_is_asked_of_all_items_at_once() -> None:
    items = [
        conversation(1, ("Say 3", "4", NUMBER), ("Again?", "4", NUMBER), ("And again?", "5", NUMBER)),
        asked(1, "2"),
        conversation(2, ("Say 7", None, None), ("Again?", "8", NUMBER)),
    ]
    engine = Calls(counting)
    found = evaluate(engine, items, Sampling(), label="m")
    assert [len(prompts) for prompts in engine.seen] == [3, 2, 1]
    assert engine.seen[1][1] == (Message("user", "Say 7"), Message("assistant", "Answer: 8"), Message("user", "Again?"))
    # 4 and 4 are right, the third turn repeats 4 where 5 is right: (1 + 1 + 0) / 3
    assert found[0].score.value == pytest.approx(2 / 3)
    assert found[0].score.why == "turn 3: read '4', expected '5'"
    assert (
        found[0].text == "Answer: 4\n\nuser: Again?\n\nassistant: Answer: 4\n\nuser: And again?\n\nassistant: Answer: 4"
    )
    assert [one.id for one in found] == ["talks/1", "sums/1", "talks/2"]
    assert found[2].turns[0].score is None and found[2].score.value == 1.0  # its first turn is asked and not graded


def test_turns_have_rows_of_their_own_and_count_once_in_the_overall() -> None:
    items = [conversation(n, (f"Say {n}", str(n + 1), NUMBER), ("Again?", "3", NUMBER)) for n in (2, 5, 6)]
    found = evaluate(Scripted(counting), [*items, asked(1, "2"), asked(2, "9")], Sampling(), label="m")
    rows = report(found)
    # turn 1: all three right; turn 2: only '3' again; together 4 of 6; overall (4/6 + 1/2) / 2
    assert [(row.task, row.n, row.mean) for row in rows] == [
        ("talks/turn-1", 3, 1.0), ("talks/turn-2", 3, pytest.approx(1 / 3)), ("talks", 6, pytest.approx(4 / 6)),
        ("sums", 2, 0.5), (OVERALL, 8, pytest.approx(7 / 12)),
    ]  # fmt: skip
    gains = compare(found, found)
    assert list(gains) == ["talks/turn-1", "talks/turn-2", "talks", "sums", OVERALL]
    assert gains["talks"].n == 6 and gains["talks"].difference == 0.0


def test_the_turns_of_a_conversation_go_together() -> None:
    def talks(values: Sequence[tuple[int, int]]) -> list[Outcome]:
        # the model says n + 1 in both turns; where 0 is wanted, something else is right
        items = [conversation(n, (f"Say {n}", str(n + first), NUMBER), ("Again?", str(n + last), NUMBER))
                 for n, (first, last) in enumerate(values)]  # fmt: skip
        return evaluate(Scripted(counting), items, Sampling(), label="m")

    together, apart = [(1, 1), (0, 0)] * 4, [(1, 0), (0, 1)] * 4
    wide, narrow = (next(row for row in report(talks(values)) if row.task == "talks") for values in (together, apart))
    assert wide.mean == narrow.mean == 0.5
    assert wide.stderr > 1.3 * narrow.stderr  # eight values that vary in pairs say as much as four


def test_a_turn_that_does_not_fit_is_unscored_and_the_turns_before_it_are_kept() -> None:
    class Short(Scripted):
        def too_long(self, prompts: Sequence[Prompt], options: object = None) -> dict[int, str]:
            return {number: "no room" for number, prompt in enumerate(prompts) if "long" in str(prompt)}

    items = [conversation(n, (f"Say {n}", str(n + 1), NUMBER), (last, str(n + 1), NUMBER), ("Well?", None, None))
             for n, last in ((1, "long"), (2, "Again?"))]  # fmt: skip
    found = evaluate(Short(counting), items, Sampling(), label="m")
    assert [one.score.value for one in found[0].turns if one.score] == [1.0, None]
    assert found[0].score.error == "no room" and found[1].score.value == 1.0
    assert [(row.task, row.n, row.unscored) for row in report(found)] == [
        ("talks/turn-1", 2, 0), ("talks/turn-2", 1, 1), ("talks", 3, 1), (OVERALL, 3, 1),
    ]  # fmt: skip


def test_an_answer_that_a_server_did_not_give_is_unscored() -> None:
    class Failing(Scripted):
        def generate(self, prompts: Sequence[Prompt], sampling: Sampling, n: int = 1) -> list[list[Completion]]:
            return [[Completion("timed out", stop=StopReason.FAILED)] for _ in prompts]

    (found,) = evaluate(Failing([]), [asked(1, "4")], Sampling(), label="m")
    assert found.score == Score(None, error="timed out")


# -------------------------------------------------------------------------------------------------------------- judges


def rating(prompt: Prompt, sample: int) -> str:
    """A judge that likes long answers, and the reference."""
    text = prompt[-1].content
    answer = text.partition("Answer:\n")[2].partition("\n\nReply")[0]
    return f"[[{10 if 'Reference answer' in text else min(9, len(answer))}]]"


def test_a_judge_scores_what_it_is_named_for_and_sees_the_conversation_and_the_reference() -> None:
    judge = Calls(rating)
    items = [conversation(1, ("Name a fish", None, JUDGED), ("Another?", "an eel", JUDGED)), asked(1, "4")]
    said = {"Name a fish": "carp", "Another?": "it", "item 1": "4"}
    opened: list[int] = []
    model = Judge(lambda: opened.append(1) or judge, Pointwise())  # type: ignore[func-returns-value]
    found = evaluate(Scripted(lambda prompt, _: said[prompt[-1].content]), items, Sampling(), label="m", judge=model)
    # 'carp' has four letters: (4 - 1) / 9; the second has a reference: (10 - 1) / 9
    assert [turn.score and turn.score.value for turn in found[0].turns] == [pytest.approx(3 / 9), 1.0]
    assert found[0].judged and found[0].turns[0].judged and not found[1].judged and found[1].score.value == 1.0
    assert opened == [1] and len(judge.seen) == 1, "one call for all that is judged"
    shown = str(judge.seen[0][1])
    assert "user: Name a fish" in shown and "assistant: carp" in shown and "an eel" in shown


def test_without_a_judge_judged_items_are_unscored_counted_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    items = [Example(f"open/{n}", (Message("user", "Hi"),), None, JUDGED, meta={"task": "open"}) for n in range(3)]
    answer = Scripted(lambda prompt, sample: "4")
    found = evaluate(answer, [*items, asked(1, "4"), asked(2, "4")], Sampling(), label="m")
    said = " ".join(capsys.readouterr().err.split())
    assert said == "m: 3 of 5 items unscored: a judge scores them, and none was named"
    rows = report(found)
    assert [(row.task, row.n, row.unscored) for row in rows] == [("open", 0, 3), ("sums", 2, 0), (OVERALL, 2, 3)]
    assert math.isnan(rows[0].mean) and rows[2].mean == rows[1].mean == 1.0
    assert list(compare(found, found)) == ["sums", OVERALL]
    assert [(row.task, row.n, row.unscored) for row in report(found[:3])] == [("open", 0, 3), (OVERALL, 0, 3)]
    turns = conversation(1, ("Say 3", "4", NUMBER), ("Again?", None, JUDGED))
    mixed = report(evaluate(answer, [turns], Sampling(), label="m"))
    assert [(row.task, row.n, row.unscored) for row in mixed] == [
        ("talks/turn-1", 1, 0), ("talks/turn-2", 0, 1), ("talks", 1, 1), (OVERALL, 1, 1),
    ]  # fmt: skip


def test_a_judge_is_not_opened_for_nothing() -> None:
    judge = Judge(lambda: pytest.fail("opened"))
    evaluate(Scripted(lambda prompt, sample: "4"), [asked(1, "4")], Sampling(), label="m", judge=judge)
    assert judge.opened is None


@pytest.mark.parametrize("by", ["text", "logprob"])
def test_what_is_too_long_for_the_judge_is_unscored_alone(by: str) -> None:
    items = [Example(f"open/{n}", (Message("user", f"item {n}"),), None, JUDGED, meta={"task": "open"})
             for n in range(5)]  # fmt: skip
    judge = Judge(lambda: Small(lambda prompt, sample: "[[7]]"), Pointwise(by=by))
    found = evaluate(Scripted(lambda prompt, sample: "x"), items, Sampling(), label="m", judge=judge)
    assert [one.score.error for one in found] == [
        None, None, "too long for the judge: 9 tokens are needed", None, None,
    ]  # fmt: skip
    assert all(one.score.value is not None for one in found if one.id != "open/2")


def test_judged_intervals_stay_on_the_scale() -> None:
    items = [Example(f"open/{n}", (Message("user", "Hi"),), None, JUDGED, meta={"task": "open"}) for n in range(3)]
    judge = Judge(lambda: Scripted(["[[10]]", "[[10]]", "[[7]]"]), Pointwise())
    rows = report(evaluate(Scripted(lambda prompt, sample: "x"), items, Sampling(), label="m", judge=judge))
    # 1, 1 and 6/9: mean 8/9, standard error (1/9), t(2) reaches 4.3 of them above it
    assert rows[0].mean == pytest.approx(8 / 9) and rows[0].high == 1.0 and rows[0].low < 0.5


def test_a_reward_model_is_asked_for_rewards() -> None:
    class Rewards:
        name = "rewards"

    judge = Judge(Rewards, Pointwise())
    with pytest.raises(EngineError, match="rewards is a reward model, which says nothing"):
        judge.score([asked(1, "4")], ["x"])


def test_a_judge_that_says_nothing_of_use_is_an_error_with_a_way_out() -> None:
    items = [Example(f"open/{n}", (Message("user", "Hi"),), None, JUDGED, meta={"task": "open"}) for n in range(2)]
    judge = Judge(lambda: Scripted(lambda prompt, sample: "quack"), Pointwise())
    found = evaluate(Scripted(lambda prompt, sample: "x"), items, Sampling(), label="m", judge=judge)
    with pytest.raises(EvaluationError, match="no rating in the judge's reply") as caught:
        report(found)
    assert "by: logprob" in caught.value.hint


def test_outcomes_come_back_from_a_file(tmp_path: Path) -> None:
    items = [conversation(1, ("Say 3", "4", NUMBER), ("Again?", None, None))]
    outcomes = graded("a", [1.0, None], ["x", ""]) + evaluate(Scripted(counting), items, Sampling(), label="m")
    path = tmp_path / "outcomes.jsonl"
    path.write_text("".join(json.dumps(asdict(outcome)) + "\n" for outcome in outcomes), encoding="utf-8")
    assert read_outcomes(path) == outcomes


def test_options_of_which_the_beginning_is_known_are_not_weighed_by_length() -> None:
    class Begins(Scripted):
        def choices(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[Scored]]:
            return [[] if n else [Scored(-0.5, 1, begins=True), Scored(-1.2, 1, begins=True)]
                    for n in range(len(prompts))]  # fmt: skip

    items = [choice(n, "hen", ("hen", "a very long animal")) for n in range(2)]
    first, failed = evaluate(Begins(["x"]), items, Sampling(), label="m")
    assert first.text == "hen" and first.score.value == 1.0
    assert failed.score.value is None and failed.score.error == "the request failed"
