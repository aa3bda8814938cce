"""Rows to token ids for the training steps: chat template, loss spans, and what happens to rows that are too long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from burnish.errors import BurnishError, DataError, Problem
from burnish.steps.base import SUITE, Holds, View
from burnish.types import Example, PreferencePair

if TYPE_CHECKING:
    from burnish.models.chat import ChatTemplate
    from burnish.training.preference import RenderedPair

Overlong = Literal["error", "drop", "truncate"]
Row = TypeVar("Row", Example, PreferencePair)
Rendered = TypeVar("Rendered")


@dataclass(frozen=True)
class Kept:
    """Rendered rows and the account of the others: rows in = rows + dropped."""

    rows: list[Any]
    dropped: dict[str, int]
    truncated: int


def render_all(
    rows: Sequence[Row], render: Callable[[Row], Rendered], length: Callable[[Rendered], int], limit: int,
    policy: Overlong,
) -> Kept:  # fmt: skip
    """Render rows and apply the policy for those of more than `limit` tokens.

    Raises DataError for a row that is too long under `error`, or that no cut can make short enough.
    """
    kept: list[Any] = []
    dropped = truncated = 0
    for row in rows:
        rendered = _named(row, render)
        if length(rendered) <= limit:
            kept.append(rendered)
            continue
        if policy == "error":
            raise DataError(
                f"row {row.id} has {length(rendered)} tokens, and {limit} fit",
                where=row.source,
                hint="choose what happens to such rows: `overlong: drop`, or `overlong: truncate` to cut whole turns",
            )
        shorter = None
        if policy == "truncate":
            shorter = next((cut for cut in map(render, cuts(row)) if length(cut) <= limit), None)
        if shorter is not None:
            kept.append(shorter)
            truncated += 1
        else:
            dropped += 1
    return Kept(kept, {"overlong": dropped} if dropped else {}, truncated)


def _named(row: Row, render: Callable[[Row], Rendered]) -> Rendered:
    """The rendered row; an error says which row it was."""
    try:
        return render(row)
    except BurnishError as error:
        raise DataError(f"row {row.id}: {error.what}", where=row.source, hint=error.hint) from None


def cuts(row: Row) -> Iterator[Row]:
    """The row with ever fewer whole turns: an example loses its last turns, a pair the oldest of its prompt."""
    return _fewer_turns(row) if isinstance(row, Example) else _later_start(row)


def _fewer_turns(row: Example) -> Iterator[Example]:
    for stop in range(len(row.messages) - 1, 1, -1):
        if row.messages[stop - 1].role == "assistant":
            yield replace(row, messages=row.messages[:stop])


def _later_start(row: PreferencePair) -> Iterator[PreferencePair]:
    system = row.prompt[:1] if row.prompt[0].role == "system" else ()
    for start in range(len(system) + 1, len(row.prompt)):
        if row.prompt[start].role == "user":
            yield replace(row, prompt=(*system, *row.prompt[start:]))


def render_pair(template: ChatTemplate, pair: PreferencePair) -> RenderedPair:
    """Both answers as token ids behind the same prompt; only the answers are learned."""
    from burnish.training.preference import RenderedPair

    return RenderedPair(template.answer_ids(pair.prompt, pair.chosen), template.answer_ids(pair.prompt, pair.rejected),
                        pair.id, pair.margin or 0.0)  # fmt: skip


def longest(pair: RenderedPair) -> int:
    """Tokens of a pair's longer side."""
    return max(len(pair.chosen.ids), len(pair.rejected.ids))


def check_training_data(view: View, data: str, holds: Sequence[Holds]) -> Iterator[Problem]:
    """Refuse to train without a frozen suite, on data that was not checked against it, or on rows of the wrong kind."""
    found = view.holds(data)
    if found is not None and found not in holds:
        wanted = " or ".join("conversations" if kind == "examples" else "preference pairs" for kind in holds)
        yield Problem(f"{data} holds {found}, and this step learns from {wanted}", "data")
    if not view.suites:
        yield Problem("training starts only after the evaluation is frozen, and this recipe has no suite", "",
                      "add at the top level: suites: {dev: {tasks: [...]}}")  # fmt: skip
    missing = sorted(set(view.suites) - view.certified(data))
    if missing:
        line = f"clean: {{use: filter, data: {data}, with: [{{decontaminate: {{against: [{', '.join(missing)}]}}}}]}}"
        yield Problem(f"{data} was not checked against {', '.join(SUITE + name for name in missing)}", "data",
                      f"add the step `{line}` and train on $clean")  # fmt: skip


def check_rendering(view: View, model: str, rows: Sequence[Row], render: Callable[[ChatTemplate, Row], object]
                    ) -> Iterator[Problem]:  # fmt: skip
    """Render the rows known so far with the model's own chat template; report the first that cannot be learned."""
    from burnish.models.chat import ChatTemplate
    from burnish.models.load import check, load_tokenizer

    found = check(view.root(model))
    yield from (replace(problem, where="model") for problem in found)
    if found or not rows:
        return
    template = ChatTemplate(load_tokenizer(view.root(model)))
    for row in rows:
        try:
            render(template, row)
        except BurnishError as error:
            yield Problem(f"row {row.id}: {error.what}", "data", error.hint)
            return
