"""Drawing: SVG elements whose text is always escaped, scales, and axes.

Colours and type come from the page's style sheet through classes, so one drawing serves light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

WIDTH = 920
"""Units across a full-width drawing; the page scales it."""
CHARACTER = 6.7
"""Mean width of a character of a label, in the same units."""

Scale = Callable[[float], float]


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """An element. `class_` and `stroke_width` become `class` and `stroke-width`; None leaves an attribute out."""
    parts = [Markup("<") + name]
    for key, value in attributes.items():
        if value is not None:
            shown = f"{value:.1f}" if isinstance(value, float) else value
            parts.append(Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), shown))
    inside = Markup("").join(escape(child) for child in children)
    return Markup("").join([*parts, Markup(">"), inside, Markup("</"), name, Markup(">")])


def figure(width: float, height: float, label: str, *children: object) -> Markup:
    """A drawing with a text for those who cannot see it."""
    box = f"0 0 {width:.0f} {height:.0f}"
    return tag("svg", *children, viewBox=box, role="img", aria_label=label, class_="figure")


def text(x: float, y: float, words: object, kind: str = "", anchor: str = "start") -> Markup:
    return tag("text", words, x=x, y=y, class_=kind or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, kind: str, color: str | None = None) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind, style=color)


def path(points: Sequence[tuple[float, float]], kind: str, color: str | None = None, closed: bool = False) -> Markup:
    steps = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return tag("path", d=f"M{steps}" + ("Z" if closed else ""), class_=kind, style=color)


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """A scale from [low, high] to [start, end]."""
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """A scale of logarithms; values must be above zero."""
    inner = linear(math.log(low), math.log(high), start, end)
    return lambda value: inner(math.log(value))


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers in [low, high], about so many."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    step = next(size for size in _round_sizes(span) if span / size <= about)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _round_sizes(span: float) -> list[float]:
    power = math.floor(math.log10(span)) - 2
    return [factor * 10.0**exponent for exponent in range(power, power + 5) for factor in (1, 2, 5)]


def fitted(label: str, room: float) -> Markup:
    """A label that fits, with the whole of it as a tooltip."""
    most = max(4, int(room / CHARACTER))
    shown = label if len(label) <= most else label[: most - 1] + "…"
    return tag("tspan", shown, tag("title", label)) if shown != label else Markup(escape(label))
