"""Rows that are too long: the policy is explicit, whole turns go, and every row is accounted for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import tiny
from burnish.errors import DataError, Problem
from burnish.models.chat import ChatTemplate
from burnish.steps.rendering import PART, Kept, check_rendering, cuts, render_all
from burnish.types import Example, Message, PreferencePair

TALK = Example("e", tuple(Message(role, f"{role[0]}{n}") for n in (1, 2, 3) for role in ("user", "assistant")))  # type: ignore[arg-type]


def texts(row: Example | PreferencePair) -> list[str]:
    turns = row.messages if isinstance(row, Example) else row.prompt
    return [turn.content for turn in turns]


def test_a_conversation_loses_its_last_turns() -> None:
    assert [texts(cut) for cut in cuts(TALK)] == [["u1", "a1", "u2", "a2"], ["u1", "a1"]]


def test_a_pair_loses_the_oldest_turns_of_its_prompt_and_keeps_the_system() -> None:
    pair = PreferencePair("p", (Message("system", "s"), *TALK.messages[:-1]), "c", "r")
    assert [texts(cut) for cut in cuts(pair)] == [["s", "u2", "a2", "u3"], ["s", "u3"]]
    plain = PreferencePair("p", TALK.messages[:-1], "c", "r")
    assert [texts(cut) for cut in cuts(plain)] == [["u2", "a2", "u3"], ["u3"]]
    assert list(cuts(PreferencePair("p", TALK.messages[:1], "c", "r"))) == []


@pytest.mark.parametrize("labels", [{"label": 1.0}, {"step_labels": (1.0, 0.0)}])
def test_a_labelled_answer_stays_and_the_oldest_turns_before_it_go(labels: dict[str, Any]) -> None:
    row = Example("l", (Message("system", "s"), *TALK.messages), **labels)
    assert [texts(cut) for cut in cuts(row)] == [["s", "u2", "a2", "u3", "a3"], ["s", "u3", "a3"]]
    assert list(cuts(Example("l", TALK.messages[-1:], **labels))) == []


def length(row: Example) -> int:
    return len(row.messages)


SHORT = Example("s", TALK.messages[:2])


def test_policies_account_for_every_row() -> None:
    whole = render_all([TALK, SHORT], lambda row: row, length, 6, "error")
    assert (len(whole.rows), whole.dropped, whole.truncated) == (2, {}, 0)
    dropped = render_all([TALK, SHORT], lambda row: row, length, 4, "drop")
    assert (dropped.rows, dropped.dropped, dropped.truncated) == ([SHORT], {"overlong": 1}, 0)
    cut = render_all([TALK, SHORT], lambda row: row, length, 5, "truncate")
    assert ([length(row) for row in cut.rows], cut.dropped, cut.truncated) == ([4, 2], {}, 1)
    hopeless = render_all([TALK, SHORT], lambda row: row, length, 1, "truncate")
    assert (hopeless.rows, hopeless.dropped) == ([], {"overlong however it is cut": 2})


def test_without_a_policy_a_long_row_is_an_error() -> None:
    with pytest.raises(DataError, match="row e has 6 tokens, and 5 fit") as caught:
        render_all([TALK], lambda row: row, length, 5, "error")
    assert "overlong: truncate" in caught.value.hint


# ------------------------------------------------------------------------------------------- with a template of its own


def template() -> ChatTemplate:
    return ChatTemplate(tiny.tiny_tokenizer("llama"))


def chats(chat: ChatTemplate, rows: list[Example], limit: int = 10**6, policy: Any = "error", refused: Any = "error"
          ) -> Kept:  # fmt: skip
    return render_all(rows, lambda row: chat.render(row.messages), lambda row: len(row.ids), limit, policy, refused)


def said(name: str, *words: str) -> Example:
    turns = (Message("assistant" if place % 2 else "user", text) for place, text in enumerate(words))
    return Example(name, tuple(turns), source=f"chats.jsonl:{name}")


def test_a_cut_that_leaves_nothing_to_learn_is_a_counted_drop() -> None:
    quiet = Message("assistant", "yes", train=False)
    row = Example("q", (Message("user", "a"), quiet, Message("user", "b" * 90), Message("assistant", "no")))
    kept = chats(template(), [row, said("1", "a", "b")], 60, "truncate")
    assert len(kept.rows) == 1 and kept.truncated == 0
    assert kept.dropped == {"overlong, and what a cut leaves cannot be learned": 1}


def test_one_error_counts_all_rows_that_cannot_be_trained_on_by_reason() -> None:
    rows = [said(str(n), f"<|im_end|> {n}", "yes") for n in range(5)]
    rows += [said("5", "fine", "yes"), said("6", "hm", ""), said("7", "long " * 60, "yes")]
    with pytest.raises(DataError) as caught:
        chats(template(), rows, 100)
    head, *lines = caught.value.what.splitlines()
    assert head == "7 of 8 rows cannot be trained on"
    refused = "the words of turn 0 (user) hold the special token <|im_end|>"
    assert lines[:4] == [f"  row {n}: {refused} (chats.jsonl:{n})" for n in range(3)] + [
        "  and 2 more like these, 5 in all"
    ]
    assert lines[4] == "  row 6: turn 1 (assistant) would train no token of its text (chats.jsonl:6)"
    assert lines[5].startswith("  row 7 has ") and lines[5].endswith(" tokens, and 100 fit (chats.jsonl:7)")
    assert caught.value.where == "chats.jsonl:0"
    assert "take it out of the row" in caught.value.hint and "overlong: drop" in caught.value.hint


def test_rows_that_cannot_be_trained_on_are_dropped_where_that_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [said("0", "<|im_end|>", "yes"), said("1", "a", "b"), said("2", "hm", "")]
    kept = chats(template(), rows, refused="drop")
    assert (len(kept.rows), kept.sources, kept.dropped) == (1, [rows[1]], {"cannot be trained on": 2})
    told = capsys.readouterr().err
    assert "2 of 3 rows cannot be trained on and are dropped" in told
    assert "row 0: " in told and "(chats.jsonl:2)" in told
    with pytest.raises(DataError, match="1 of 3 rows cannot be trained on\n  row 1 has "):  # too long is another matter
        chats(template(), rows, 5, refused="drop")


def test_rows_keep_their_order_and_their_tokens_when_several_are_rendered_at_a_time() -> None:
    chat = template()
    chat.tokenizer.backend_tokenizer.enable_truncation(4)  # as some files say; the first row takes it back
    chat.tokenizer.backend_tokenizer.enable_padding(length=9)
    rows = [said(str(n), f"what is {n} and {n}?", "yes " * (n % 7 + 1)) for n in range(PART + 50)]
    kept = chats(chat, rows)
    assert kept.rows == [template().render(row.messages) for row in rows]


def test_the_plan_says_the_first_row_of_each_reason(tmp_path: Path) -> None:
    folder = tiny.tiny_model("llama", tmp_path)
    rows = [said("0", "<|im_end|>", "yes"), said("1", "a", "<|im_end|>"), said("2", "a", "b"), said("3", "a", "")]
    view = cast(Any, SimpleNamespace(root=lambda model: folder))

    def found_in(rows: list[Example], refused: Any = "error") -> list[Problem]:
        return list(check_rendering(view, "base", rows, lambda chat, row: chat.render(row.messages), refused))

    found = found_in(rows)
    assert [problem.what for problem in found] == [
        "row 0: the words of turn 0 (user) hold the special token <|im_end|> (chats.jsonl:0), and 1 more of 4 rows",
        "row 3: turn 1 (assistant) would train no token of its text (chats.jsonl:3)",
    ]
    assert all(problem.hint for problem in found)
    assert found_in(rows, "drop") == []  # one can be learned
    assert found_in(rows[:2], "drop") == found_in(rows[:2]) != []
