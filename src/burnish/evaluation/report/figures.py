"""The drawings of a report. Each is a function of plain data; every mark tells its numbers when pointed at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from burnish.evaluation.comparison import Compared
from burnish.evaluation.report.data import Curve, Flow, Loss, ModelScores
from burnish.evaluation.report.svg import (
    CHARACTER,
    WIDTH,
    Scale,
    figure,
    fitted,
    line,
    linear,
    logarithmic,
    path,
    tag,
    text,
    ticks,
)
from burnish.evaluation.report.words import count, percent, signed
from burnish.evaluation.runner import OVERALL, Report
from burnish.evaluation.scorecard import KINDS, Decision
from burnish.evaluation.stats import PairedDifference, Point

COLORS = 8
"""Colours in the style sheet, `--c0` (the baseline's grey) to `--c7`; more models begin again at `--c1`."""
BINS = 240
"""Points of a drawn line; longer series are averaged into so many."""

GAP = 5.0
"""Space between two bars of a group."""

Colors = Mapping[str, int]


def color(number: int) -> str:
    """The style that gives a mark its colour."""
    return f"--c:var(--c{number if number < COLORS else 1 + (number - 1) % (COLORS - 1)})"


# ------------------------------------------------------------------------------------------------------------- accuracy


def accuracy(rows: Sequence[ModelScores], colors: Colors) -> Markup:
    """A bar with its interval for each model, in a group for each task; overall on top."""
    tasks = [OVERALL, *(report.task for report in rows[0].reports if report.task != OVERALL)]
    if len(tasks) == 2:
        tasks = tasks[1:]  # one task is the overall
    left = _label_room(tasks)
    right = WIDTH - 64
    top = max(1.0, *(report.high for row in rows for report in row.reports))
    x = linear(0, top, left, right)
    marks: list[Markup] = []
    y = 34.0
    for task in tasks:
        thick = 15.0 if task == OVERALL else 10.0
        height = len(rows) * (thick + GAP) - GAP
        kind = "label strong" if task == OVERALL else "label"
        marks.append(text(left - 14, y + height / 2 + 4.5, fitted(task, left - 14), kind, "end"))
        for place, row in enumerate(rows):
            at = y + place * (thick + GAP)
            marks.append(_bar(row.model, row.report(task), row.against_base.get(task), x, at, thick, colors))
        y += height + (32 if task == OVERALL else 20)
    grid = [
        line(x(value), 22, x(value), y - 6, "grid") + text(x(value), 14, f"{100 * value:.0f}%", "tick", "middle")
        for value in ticks(0, top, 5)
    ]
    return figure(WIDTH, y, f"Accuracy of {len(rows)} models on {len(tasks)} tasks with 95% intervals", *grid, *marks)


def _bar(model: str, report: Report, change: PairedDifference | None, x: Scale, y: float, thick: float, colors: Colors
         ) -> Markup:  # fmt: skip
    middle = y + thick / 2
    told = f"{model} on {report.task}: {percent(report.mean)}, 95% interval {percent(report.low)} to "
    told += f"{percent(report.high)}, {report.n} items" + (f", {report.unscored} unscored" if report.unscored else "")
    if change:
        told += f"; {signed(change.difference)} points paired ({signed(change.low)} to {signed(change.high)})"
    return tag(
        "g",
        tag("title", told),
        tag("rect", x=x(0), y=y, width=max(1.0, x(report.mean) - x(0)), height=thick, rx=2, class_="bar"),
        line(x(report.low), middle, x(report.high), middle, "whisker"),
        line(x(report.low), middle - 3, x(report.low), middle + 3, "whisker"),
        line(x(report.high), middle - 3, x(report.high), middle + 3, "whisker"),
        tag("circle", cx=x(report.mean), cy=middle, r=3.2, class_="dot"),
        text(WIDTH, middle + 4, percent(report.mean), "value", "end"),
        class_="mark",
        style=color(colors[model]),
    )


def _label_room(labels: Sequence[str]) -> float:
    return min(250.0, max(90.0, max(map(len, labels)) * CHARACTER + 22))


def gains(models: Sequence[Compared]) -> Markup:
    """Differences to the first model with their intervals, in a group for each task; overall on top."""
    others = models[1:]
    tasks = [report.task for report in reversed(models[0].reports)]
    left, right, step = _label_room(tasks), WIDTH - 64, 17.0
    ends = [end for one in others for gain in one.gains for end in (gain.difference.low, gain.difference.high)]
    low, high = min(0.0, *ends), max(0.0, *ends)
    x = linear(low, high, left, right)
    marks: list[Markup] = []
    y = 40.0
    for task in tasks:
        kind = "label strong" if task == OVERALL else "label"
        marks.append(text(left - 14, y + step * (len(others) - 1) / 2 + 4.5, fitted(task, left - 14), kind, "end"))
        for place, one in enumerate(others):
            marks.append(_gain(one, task, x, y + place * step, 1 + place))
        y += step * len(others) + (24 if task == OVERALL else 12)
    grid = [
        line(x(value), 22, x(value), y - 12, "axis" if value == 0 else "grid")
        + text(x(value), 14, signed(value), "tick", "middle")
        for value in ticks(low, high, 7)
    ]
    told = f"Points that {len(others)} models gain over {models[0].model} on {len(tasks)} tasks"
    return figure(WIDTH, y, told, *grid, *marks)


def _gain(model: Compared, task: str, x: Scale, y: float, number: int) -> Markup:
    gain = model.gain(task)
    found = gain.difference
    told = f"{model.model} on {task}: {signed(found.difference)} points ({signed(found.low)} to {signed(found.high)}), "
    told += f"{found.fixed} answers better, {found.broken} worse"
    kind = "dot hollow" if gain.finding == "unclear" else "dot"
    return tag(
        "g", tag("title", told), line(x(found.low), y, x(found.high), y, "whisker wide"),
        tag("circle", cx=x(found.difference), cy=y, r=4.5, class_=kind),
        text(WIDTH, y + 4, signed(found.difference), "value", "end"), class_="mark", style=color(number),
    )  # fmt: skip


def evidence(decision: Decision) -> Markup:
    """A line for each piece of evidence: a candidate's lead with its interval."""
    labels = [f"{KINDS[one.source]} {one.name}" for one in decision.evidence]
    left, right, step = _label_room(labels), WIDTH - 64, 24.0
    ends = [end for one in decision.evidence for end in (one.low, one.high) if math.isfinite(end)]
    low, high = max(-1.0, min(0.0, *ends)), min(1.0, max(0.0, *ends))
    x = linear(low, high, left, right)
    y, marks = 36.0, []
    for label, one in zip(labels, decision.evidence, strict=True):
        told = f"{label}: {signed(one.lead)} ({signed(one.low)} to {signed(one.high)}), {one.n} items"
        marks.append(text(left - 14, y + 4.5, fitted(label, left - 14), "label", "end"))
        marks.append(tag(
            "g", tag("title", told), line(x(max(low, one.low)), y, x(min(high, one.high)), y, "whisker wide"),
            tag("circle", cx=x(one.lead), cy=y, r=4.5, class_="dot" if one.counts else "dot hollow"),
            text(WIDTH, y + 4, signed(one.lead), "value", "end"), class_="mark",
            style=color({"better": 3, "worse": 2}.get(one.finding, 0)),
        ))  # fmt: skip
        y += step
    grid = [
        line(x(value), 20, x(value), y - 10, "axis" if value == 0 else "grid")
        + text(x(value), 12, signed(value), "tick", "middle")
        for value in ticks(low, high, 7)
    ]
    return figure(WIDTH, y, f"Evidence on {decision.model} against {decision.baseline}", *grid, *marks)


# -------------------------------------------------------------------------------------------------- accuracy and tokens


def tokens(curves: Sequence[Curve]) -> Markup:
    """Accuracy of each strategy against the tokens a question takes, below the ceiling that no picker can pass."""
    height, left, right, floor, head = 380.0, 54.0, WIDTH - 196, 316.0, 20.0
    every = [point for curve in curves for point in curve.points]
    ceiling = max(curves, key=lambda curve: len(curve.points)).points
    spent = [max(point.tokens, 1.0) for point in every]
    x = logarithmic(min(spent) * 0.9, max(spent) * 1.08, left, right)
    low = max(0.0, min(point.accuracy.low for point in every) - 0.03)
    high = max(max(point.ceiling.high, point.accuracy.high) for point in every)
    y = linear(low, min(1.0, high + 0.02), floor, head)
    grid = [
        line(left, y(value), right, y(value), "grid")
        + text(left - 10, y(value) + 4, f"{100 * value:.0f}%", "tick", "end")
        for value in ticks(low, min(1.0, high + 0.02), 5)
    ]
    marks = [_ceiling(ceiling, x, y)]
    ends = [(y(ceiling[-1].ceiling.mean), f"pass@n {percent(ceiling[-1].ceiling.mean)}", "end-label muted", "")]
    for place, curve in enumerate(curves):
        style = color(_strategy_color(place))
        marks.append(_curve(curve, x, y, style))
        name = curve.strategy.replace("_", " ")
        ends.append((y(curve.points[-1].accuracy.mean), f"{name} {percent(curve.points[-1].accuracy.mean)}",
                     "end-label", style))  # fmt: skip
    labels = [
        tag("text", words, x=right + 14, y=at + 4, class_=kind, style=style or None)
        for at, words, kind, style in _apart(ends)
    ]
    axis = [_token_tick(point, x, floor) for point in ceiling]
    caption = text(
        (left + right) / 2, floor + 58, "tokens a question, prompt and all samples (logarithmic)", "tick", "middle"
    )
    told = f"Accuracy against tokens for {', '.join(curve.strategy for curve in curves)}"
    return figure(WIDTH, height, told, *grid, *axis, *marks, *labels, caption)


def _strategy_color(place: int) -> int:
    return (2, 1, 3, 4, 5, 6, 7)[place % 7]


def _token_tick(point: Point, x: Scale, floor: float) -> Markup:
    at = x(max(point.tokens, 1.0))
    return tag(
        "g",
        line(at, floor, at, floor + 5, "axis"),
        text(at, floor + 20, f"n = {point.n}", "label small", "middle"),
        text(at, floor + 36, count(point.tokens), "tick", "middle"),
    )


def _ceiling(points: Sequence[Point], x: Scale, y: Scale) -> Markup:
    told = "; ".join(f"pass@{point.n} {percent(point.ceiling.mean)}" for point in points)
    drawn = path([(x(max(point.tokens, 1.0)), y(point.ceiling.mean)) for point in points], "ceiling")
    return tag("g", tag("title", f"Chance that a right answer is among the samples: {told}"), drawn)


def _curve(curve: Curve, x: Scale, y: Scale, style: str) -> Markup:
    at = [x(max(point.tokens, 1.0)) for point in curve.points]
    upper = [(here, y(point.accuracy.high)) for here, point in zip(at, curve.points, strict=True)]
    lower = [(here, y(point.accuracy.low)) for here, point in zip(at, curve.points, strict=True)]
    means = [(here, y(point.accuracy.mean)) for here, point in zip(at, curve.points, strict=True)]
    dots = [
        tag("circle", tag("title", _told(curve, point)), cx=here, cy=mean, r=4.5, class_="dot")
        for (here, mean), point in zip(means, curve.points, strict=True)
    ]
    band = path([*upper, *reversed(lower)], "band", closed=True)
    return tag("g", band, path(means, "trend"), *dots, class_="mark", style=style)


def _told(curve: Curve, point: Point) -> str:
    accuracy, gain = point.accuracy, point.gain
    told = (
        f"{curve.strategy} of {point.n}: {percent(accuracy.mean)} ({percent(accuracy.low)} to {percent(accuracy.high)})"
    )
    gained = f"{signed(gain.difference)} points over one sample ({signed(gain.low)} to {signed(gain.high)})"
    return f"{told}, {count(point.tokens)} tokens a question; {gained}"


def _apart(ends: Sequence[tuple[float, str, str, str]], gap: float = 17.0) -> list[tuple[float, str, str, str]]:
    """Labels moved down where they would overlap."""
    placed: list[tuple[float, str, str, str]] = []
    for at, words, kind, style in sorted(ends):
        free = placed[-1][0] + gap if placed else at
        placed.append((max(at, free), words, kind, style))
    return placed


# ----------------------------------------------------------------------------------------------------------- data, loss


def funnel(flows: Sequence[Flow]) -> Markup:
    """A bar for each data step: what was kept, and what was dropped, by reason."""
    left, right = _label_room([flow.step for flow in flows]), WIDTH - 150
    x = linear(0, max(max(flow.rows_in, flow.rows_out, 1) for flow in flows), 0, right - left)
    marks, y = [], 6.0
    for flow in flows:
        marks.append(text(left - 14, y + 17, fitted(flow.step, left - 14), "label", "end"))
        marks.append(_flow(flow, left, y, x))
        below = _reasons(flow)
        marks.append(text(left, y + 42, below, "tick"))
        marks.append(text(WIDTH, y + 17, f"{flow.rows_out:,} of {flow.rows_in:,}", "value", "end"))
        y += 66 if below else 42
    return figure(WIDTH, y, "Rows kept and left out by each data step", *marks)


def _reasons(flow: Flow) -> Markup:
    """What was left out and why, each reason beside its colour."""
    words: list[Markup] = []
    for place, (reason, number) in enumerate(flow.dropped.items()):
        if number:
            square = tag("tspan", "■", dx=12 if words else 6, class_="dropped", style=color(_reason_color(place)))
            words.append(square + tag("tspan", f"{reason.replace('_', ' ')} {number:,}", dx=5))
    left_out = [Markup("left out:") + Markup("").join(words)] if words else []
    return Markup(" · ").join([*left_out, *([escape(flow.note)] if flow.note else [])])


def _reason_color(place: int) -> int:
    return (2, 1, 5, 4, 6, 7)[place % 6]  # without the colour of what was kept


def _flow(flow: Flow, left: float, y: float, x: Scale) -> Markup:
    kept = tag("rect", tag("title", f"{flow.step}: {flow.rows_out:,} rows kept"), x=left, y=y,
               width=max(1.0, x(flow.rows_out)), height=24, rx=3, class_="kept")  # fmt: skip
    parts, start = [kept], left + x(flow.rows_out)
    if flow.rows_out + sum(flow.dropped.values()) == flow.rows_in:
        for place, (reason, number) in enumerate(flow.dropped.items()):
            if number:
                width = max(2.0, x(number) - 1)
                told = tag("title", f"{flow.step}: {number:,} rows left out: {reason}")
                parts.append(tag("rect", told, x=start + 1, y=y, width=width, height=24, rx=2,
                                 class_="dropped", style=color(_reason_color(place))))  # fmt: skip
                start += width + 1
    elif flow.rows_in > flow.rows_out:
        parts.append(tag("rect", x=start + 1, y=y + 0.5, width=max(1.0, x(flow.rows_in) - x(flow.rows_out) - 1),
                         height=23, rx=3, class_="rest"))  # fmt: skip
    return tag("g", *parts)


def loss(series: Loss, number: int) -> Markup:
    """One training run: each measured loss faint, their running mean strong."""
    width, height, left, floor, head = 440.0, 210.0, 44.0, 172.0, 14.0
    points = _binned(series.points)
    low, high = min(value for _, value in points), max(value for _, value in points)
    x = linear(points[0][0], points[-1][0], left, width - 8)
    y = linear(max(0.0, low - 0.06 * (high - low)), high + 0.04 * (high - low), floor, head)
    grid = [
        line(left, y(value), width - 8, y(value), "grid") + text(left - 8, y(value) + 4, f"{value:g}", "tick", "end")
        for value in (round(value, 6) for value in ticks(max(0.0, low), high))
    ]
    steps = [
        text(x(value), floor + 20, f"{value:,.0f}", "tick", "middle") for value in ticks(points[0][0], points[-1][0], 5)
    ]
    raw = path([(x(step), y(value)) for step, value in points], "raw")
    smooth = path([(x(step), y(value)) for step, value in _smoothed(points)], "trend")
    told = f"Loss of {series.step} from {points[0][1]:.3f} to {points[-1][1]:.3f}"
    inside = tag("g", tag("title", told), raw, smooth, class_="mark", style=color(number))
    caption = text((left + width) / 2, floor + 36, f"optimiser steps; loss in {series.unit}", "tick", "middle")
    return figure(width, height, told, *grid, *steps, inside, caption)


def _binned(points: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """At most BINS points: the means of neighbours."""
    size = -(-len(points) // BINS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(s for s, _ in group) / len(group), sum(v for _, v in group) / len(group)) for group in groups]


def _smoothed(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Mean of the neighbours within a twentieth of the series on either side; shorter windows at the ends."""
    reach = max(1, len(points) // 20)
    found = []
    for place, (step, _) in enumerate(points):
        near = min(reach, place, len(points) - 1 - place)
        window = points[place - near : place + near + 1]
        found.append((step, sum(value for _, value in window) / len(window)))
    return found
