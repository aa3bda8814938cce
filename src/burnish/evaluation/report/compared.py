"""A comparison of models as sentences and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from burnish.evaluation.comparison import Compared, Gain
from burnish.evaluation.report import figures
from burnish.evaluation.report.page import PAGE_FILES, template
from burnish.evaluation.report.words import joined, p_words, percent, signed
from burnish.evaluation.runner import OVERALL

FLIPS = 30
"""Changed answers that a page shows of each model."""


def sentences(models: Sequence[Compared]) -> list[str]:
    """What the comparison says, the most important first."""
    return list(_said(models))


def _said(models: Sequence[Compared]) -> Iterator[str]:
    baseline, *others = models
    best = max(others, key=lambda one: one.gain(OVERALL).difference.difference)
    gain = best.gain(OVERALL)
    words = {"better": "is better than", "worse": "is worse than", "unclear": "is not measurably different from"}
    leads = f"{best.model}, the best of {len(others)}," if len(others) > 1 else best.model
    yield f"{leads} {words[gain.finding]} {baseline.model}: {_numbers(gain)}."
    for one in others:
        yield from _about(one, baseline, one is best)
    counts = [f"{one.reports[-1].unscored} of {one.model}" for one in models if one.reports[-1].unscored]
    if counts:
        yield f"Unscored answers, which are in no mean: {joined(counts)}."


def _about(one: Compared, baseline: Compared, said: bool) -> Iterator[str]:
    overall = one.gain(OVERALL)
    if not said:
        yield f"{one.model} against {baseline.model}: {_numbers(overall)}."
    lost = [f"{gain.task} ({signed(gain.difference.difference)})" for gain in one.regressions]
    tasks = [gain for gain in one.gains if gain.task != OVERALL]
    if lost:
        yield f"Its gain has a price: {one.model} is measurably worse on {joined(lost)}."
    elif len(tasks) > 1:
        yield f"{one.model} is measurably worse on none of {len(tasks)} tasks."
    if overall.finding == "unclear" and overall.needed:
        yield (f"A true difference of one point between {one.model} and {baseline.model} takes about {overall.needed:,}"
               f" items to show at 80% power; there are {overall.difference.n:,}.")  # fmt: skip


def _numbers(gain: Gain) -> str:
    found = gain.difference
    interval = f"95% interval {signed(found.low)} to {signed(found.high)}, {p_words(gain.adjusted)}"
    changed = f"{found.fixed} of {found.n} answers became better and {found.broken} worse"
    return f"{signed(found.difference)} points, {interval}; {changed}"


def lines(models: Sequence[Compared]) -> Iterator[str]:
    """The comparison as a table for a terminal, a block for each task."""
    widest = max(len(one.model) for one in models)
    baseline, *others = models
    for report in reversed(baseline.reports):
        yield f"{report.task}  ({report.n} items)"
        interval = f"[{percent(report.low)}, {percent(report.high)}]"
        yield f"  {baseline.model:<{widest}}  {percent(report.mean):>6}  {interval}"
        for one in others:
            mean = next(row.mean for row in one.reports if row.task == report.task)
            gain = one.gain(report.task)
            found = gain.difference
            mark = {"better": "  better", "worse": "  WORSE", "unclear": ""}[gain.finding]
            yield (f"  {one.model:<{widest}}  {percent(mean):>6}  {signed(found.difference):>6} "
                   f"[{signed(found.low)}, {signed(found.high)}]  {p_words(gain.adjusted)}{mark}")  # fmt: skip


def comparison_page(title: str, models: Sequence[Compared]) -> str:
    """The page: it loads nothing and runs nothing."""
    first, *others = sentences(models)
    headline, _, numbers = first.partition(": ")
    return template("compare.html").render(
        title=title, models=models, baseline=models[0].model, headline=f"{headline}.", details=[numbers, *others],
        shown=FLIPS,
        figure=figures.gains(models), style=Markup((PAGE_FILES / "style.css").read_text(encoding="utf-8")),
    )  # fmt: skip
