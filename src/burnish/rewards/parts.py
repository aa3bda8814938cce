"""Reading answers out of text: what the graders share."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from burnish.types import Score

MARKED = re.compile(r"answer\s*(?:is\b\s*[:=]?|[:=])\s*(.*)", re.IGNORECASE)
BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
"""LaTeX's frame around a final answer, with one level of braces in it."""
WHOLE = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
NUMBER = re.compile(rf"[-+]?(?:{WHOLE}(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{{1,3}}(?!\d)|\s*/\s*{WHOLE})?")
AROUND = " .,;:!?\"'`\u201c\u201d\u2018\u2019"
"""What may stand around an answer without being part of it; signs and brackets are part of it."""


def unframed(text: str) -> str:
    """A text without LaTeX's frames, and with a hyphen for the minus sign."""
    return BOXED.sub(r"\1", text).replace("\u2212", "-")


def marked_answer(text: str) -> str | None:
    """What follows the last `####`, or else the last 'Answer:' or 'answer is', up to the end of its line. Bold stars
    that began before the mark, or end behind the answer, are left out."""
    text = unframed(text)
    if "####" in text:
        return text.rpartition("####")[2].strip().partition("\n")[0].strip()
    found = MARKED.findall(text)
    if not found:
        return None
    answer = str(found[-1])
    return (answer.replace("**", "", 1) if answer.count("**") % 2 else answer).strip()


def final_number(text: str) -> Decimal | None:
    """The number in the marked answer, or else the last number of the text; commas, signs, $, % and a/b are read.

    None when there is no number, or when its fraction divides by zero. `1,000` is one thousand, `1,2` are two numbers.
    """
    marked = marked_answer(text)
    for part in () if marked is None else (marked.rpartition("=")[2], marked):  # 'the answer is 5 * 4 = 20'
        if found := numbers(part):
            # '18 dollars, 2 more than before': the first number of a marked answer is the answer.
            return to_decimal(found[0])
    found = numbers(text)
    return to_decimal(found[-1]) if found else None


def numbers(text: str) -> list[str]:
    """Every number as written. A minus sign belongs to a number unless it follows another one, as in `9-4`."""
    found = []
    for match in NUMBER.finditer(unframed(text).replace("$", "")):
        written = match.group().rstrip(",")
        before = match.string[: match.start()].rstrip()
        follows = before[-1:].isalnum() or before[-1:] == ")"
        found.append(written.lstrip("+-") if follows and written[0] in "+-" else written)
    return found


def to_decimal(written: str) -> Decimal | None:
    """The value of a number as written, or None when it has none."""
    above, _, below = written.replace(",", "").replace(" ", "").partition("/")
    try:
        return Decimal(above) / Decimal(below) if below else Decimal(above)
    except (InvalidOperation, ZeroDivisionError):
        return None


def plain(value: Decimal) -> str:
    """A number as votes count it: no exponent, no trailing zeros, so 18.00 and 18 are one answer."""
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def tidy(text: str, *, ignore_case: bool) -> str:
    """Single spaces, and no sentence marks, quotes or bold stars around the whole, unless there is nothing else."""
    flat = " ".join(text.split())
    bare = re.sub(r"^\*\*(.+?)\*\*(.*)$", r"\1\2", flat.strip(AROUND)).strip(AROUND) or flat
    return bare.lower() if ignore_case else bare


def items_of(text: str, *, ignore_case: bool) -> list[str]:
    """The items of a comma separated list; a final 'and' counts as a comma."""
    parts = re.split(r",|;|\n|\s+and\s+", text.strip())
    found = [tidy(re.sub(r"^\s*and\s+", "", part), ignore_case=ignore_case) for part in parts]
    return [item for item in found if item]


def verdict(right: bool, answer: str, expected: str) -> Score:
    """1.0 or 0.0, with the answer that was read."""
    return Score(1.0 if right else 0.0, answer, "" if right else f"read {answer!r}, expected {expected!r}")


def unread(why: str) -> Score:
    """The text holds no answer, so it is wrong."""
    return Score(0.0, None, why)


def broken(error: str) -> Score:
    """The item cannot be graded, whatever the answer."""
    return Score(None, None, error=error)
