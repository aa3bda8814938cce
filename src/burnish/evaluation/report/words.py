"""Numbers as a reader would write them."""

from __future__ import annotations

import math
from collections.abc import Sequence

MINUS = "\N{MINUS SIGN}"


def percent(value: float) -> str:
    """0.712 as '71.2%'."""
    return f"{100 * value:.1f}%" if math.isfinite(value) else "?"


def signed(value: float) -> str:
    """A difference of shares in points with its sign: 0.648 as '+64.8'."""
    if not math.isfinite(value):
        return "?"
    text = f"{100 * abs(value):.1f}"
    return text if text == "0.0" else ("+" if value > 0 else MINUS) + text


def points(value: float) -> str:
    """A difference of shares without its sign: '64.8 points'."""
    return f"{100 * abs(value):.1f} points"


def p_words(p_value: float) -> str:
    """'p = 0.013', or 'p < 0.001'."""
    return f"p = {p_value:.3f}" if p_value >= 0.001 else "p < 0.001"


def duration(seconds: float) -> str:
    """'45.2 s', '12 min 5 s', '3 h 20 min'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def count(value: float) -> str:
    """'812', '18.4 k', '2.31 M'."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            scaled = value / (1e3 if unit == "k" else size)
            return f"{scaled:.3g} {unit}" if scaled < 1000 else f"{scaled:.0f} {unit}"
    return f"{value:.0f}"


def joined(items: Sequence[str]) -> str:
    """'a, b and c'."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def shortened(text: str, size: int) -> str:
    """Text cut to `size` characters, saying how many are left out."""
    return text if len(text) <= size else f"{text[:size]}\n[{len(text) - size:,} more characters]"
