"""Rows to token ids for the training steps: chat template, loss spans, and what happens to rows that are too long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from burnish.errors import BurnishError, DataError, Problem
from burnish.log import note, ticker
from burnish.steps.base import SUITE, Holds, View
from burnish.types import Example, Message, PreferencePair

if TYPE_CHECKING:
    from burnish.models.chat import ChatTemplate
    from burnish.training.preference import RenderedPair

Overlong = Literal["error", "drop", "truncate"]
Refused = Literal["error", "drop"]
Row = TypeVar("Row", Example, PreferencePair)
Rendered = TypeVar("Rendered")

THREADS = 4
"""Rows rendered at a time. Tokenizers work outside of Python's lock and templates inside, so more would only wait."""
PART = 256
"""Rows between two looks at the progress."""
NAMED = 3
"""Rows that an error names for each of its reasons."""
REFUSED = "cannot be trained on"
"""Why a row is dropped that cannot be rendered."""


@dataclass(frozen=True)
class Kept:
    """Rendered rows and the account of the others: rows in = rows + dropped."""

    rows: list[Any]
    sources: list[Any]
    """What they were rendered from, uncut."""
    dropped: dict[str, int]
    truncated: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a row: rendered, whole or cut; dropped for a reason, which may be an error; or neither, because of
    an error."""

    rendered: Any = None
    cut: bool = False
    dropped: str = ""
    error: DataError | None = None


def render_all(
    rows: Sequence[Row], render: Callable[[Row], Rendered], length: Callable[[Rendered], int], limit: int,
    overlong: Overlong, refused: Refused = "error",
) -> Kept:  # fmt: skip
    """Render rows and apply the policies for those of more than `limit` tokens and those that cannot be rendered.

    Raises one DataError for all rows whose policy is `error`.
    """

    def outcome(row: Row) -> Outcome:
        try:
            rendered = render(row)
        except BurnishError as error:
            return Outcome(error=named(row, error), dropped=REFUSED if refused == "drop" else "")
        tokens = length(rendered)
        return Outcome(rendered) if tokens <= limit else _overlong(row, tokens, render, length, limit, overlong)

    found = [outcome(row) for row in rows[:1]]  # alone: it sets the tokenizer up, which the others only read
    with ThreadPoolExecutor(THREADS) as pool, ticker("rendering", len(rows), "rows", done=len(found)) as tick:
        for start in range(1, len(rows), PART):
            part = rows[start : start + PART]
            found += pool.map(outcome, part)
            tick.advance(len(part))
    _refuse([one.error for one in found if one.error and not one.dropped], len(rows))
    _tell([one.error for one in found if one.error], len(rows))
    dropped = Counter(one.dropped for one in found if one.dropped)
    kept = [(one.rendered, row) for one, row in zip(found, rows, strict=True) if not one.dropped]
    return Kept([one for one, _ in kept], [row for _, row in kept], dict(dropped), sum(one.cut for one in found))


def _overlong(
    row: Row, tokens: int, render: Callable[[Row], Rendered], length: Callable[[Rendered], int], limit: int,
    policy: Overlong,
) -> Outcome:  # fmt: skip
    """What becomes of a row that is too long; under `truncate` the longest cut that fits, where there is one."""
    if policy == "error":
        hint = "choose what happens to such rows: `overlong: drop`, or `overlong: truncate` to cut whole turns"
        what = f"row {row.id} has {tokens} tokens, and {limit} fit"
        return Outcome(error=DataError(what, where=row.source, hint=hint))
    if policy == "drop":
        return Outcome(dropped="overlong")
    why = "overlong however it is cut"
    for cut in cuts(row):
        try:
            rendered = render(cut)
        except BurnishError:
            why = "overlong, and what a cut leaves cannot be learned"
            continue
        if length(rendered) <= limit:
            return Outcome(rendered, cut=True)
    return Outcome(dropped=why)


def named(row: Row, error: BurnishError) -> DataError:
    """The error, saying which row it is about."""
    return DataError(f"row {row.id}: {error.what}", where=row.source, hint=error.hint)


def _placed(error: DataError) -> str:
    return f"{error.what} ({error.where})" if error.where else error.what


def _by_reason(errors: Sequence[DataError]) -> list[list[DataError]]:
    """The errors of rows, those together that are mended alike; the most frequent first."""
    reasons: dict[str, list[DataError]] = {}
    for error in errors:
        reasons.setdefault(error.hint or error.what, []).append(error)
    return sorted(reasons.values(), key=len, reverse=True)


def _refuse(errors: Sequence[DataError], rows: int) -> None:
    """Raise one error for all rows that failed, if any did: how many for each reason, and the first of them."""
    if not errors:
        return
    reasons = _by_reason(errors)
    hints = dict.fromkeys(alike[0].hint for alike in reasons if alike[0].hint)
    what = "\n".join([f"{len(errors)} of {rows} rows {REFUSED}", *_lines(reasons)])
    raise DataError(what, where=reasons[0][0].where, hint="; ".join(hints))


def _tell(errors: Sequence[DataError], rows: int) -> None:
    """Say which rows are dropped because they failed."""
    if errors:
        note("\n".join([f"{len(errors)} of {rows} rows {REFUSED} and are dropped", *_lines(_by_reason(errors))]))


def _lines(reasons: Sequence[Sequence[DataError]]) -> Iterator[str]:
    for alike in reasons:
        yield from (f"  {_placed(error)}" for error in alike[:NAMED])
        if len(alike) > NAMED:
            yield f"  and {len(alike) - NAMED} more like these, {len(alike)} in all"


def cuts(row: Row) -> Iterator[Row]:
    """The row with ever fewer whole turns.

    A conversation loses its last turns. A pair, and a row whose last answer has labels, loses the oldest turns of its
    prompt.
    """
    if isinstance(row, PreferencePair):
        for prompt in _later_starts(row.prompt):
            yield replace(row, prompt=prompt)
    else:
        for messages in _fewer_turns(row):
            yield replace(row, messages=messages)


def _fewer_turns(row: Example) -> Iterator[tuple[Message, ...]]:
    if row.label is None and not row.step_labels:
        yield from _earlier_ends(row.messages)
    else:
        yield from ((*prompt, row.messages[-1]) for prompt in _later_starts(row.messages[:-1]))


def _earlier_ends(turns: tuple[Message, ...]) -> Iterator[tuple[Message, ...]]:
    for stop in range(len(turns) - 1, 1, -1):
        if turns[stop - 1].role == "assistant":
            yield turns[:stop]


def _later_starts(turns: tuple[Message, ...]) -> Iterator[tuple[Message, ...]]:
    system = tuple(turn for turn in turns[:1] if turn.role == "system")
    for start in range(len(system) + 1, len(turns)):
        if turns[start].role == "user":
            yield (*system, *turns[start:])


def render_pair(template: ChatTemplate, pair: PreferencePair) -> RenderedPair:
    """Both answers as token ids behind the same prompt; only the answers are learned. Raises DataError where the
    template makes them one."""
    from burnish.training.preference import RenderedPair

    chosen, rejected = (template.answer_ids(pair.prompt, answer) for answer in (pair.chosen, pair.rejected))
    if chosen.ids == rejected.ids:
        raise DataError("chosen and rejected are the same tokens: they differ in what the chat template strips",
                        where=pair.source, hint="leave such pairs out: `refused: drop`")  # fmt: skip
    return RenderedPair(chosen, rejected, pair.id, pair.margin or 0.0)


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


def check_rendering(view: View, model: str, rows: Sequence[Row], render: Callable[[ChatTemplate, Row], object],
                    refused: Refused) -> Iterator[Problem]:  # fmt: skip
    """Render the rows known so far with the model's own chat template; report the first that each reason forbids, where
    such rows are an error or all there are."""
    from burnish.models.chat import ChatTemplate
    from burnish.models.load import check, load_tokenizer

    found = check(view.root(model))
    yield from (replace(problem, where="model") for problem in found)
    if found or not rows:
        return
    template = ChatTemplate(load_tokenizer(view.root(model)))
    errors = []
    for row in rows:
        try:
            render(template, row)
        except BurnishError as error:
            errors.append(named(row, error))
    if refused == "drop" and len(errors) < len(rows):
        return
    for first, *others in _by_reason(errors):
        more = f", and {len(others)} more of {len(rows)} rows" if others else ""
        yield Problem(_placed(first) + more, "data", first.hint)
