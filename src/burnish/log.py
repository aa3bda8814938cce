"""What a run says while it works: notes, and progress with rate and ETA, on stderr so that stdout stays for results."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from burnish import parallel

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")
EVERY_S = 30.0
"""Seconds between two lines on how far work is, where there is no bar."""

_listeners: list[Callable[[str], None]] = []


@cache
def console() -> Console:
    """The one console for everything that is not a result."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """Say one line; a run also keeps it in its log.txt. Of several processes, the leader speaks."""
    if not parallel.leads():
        return
    console().print(text, markup=False)
    for listen in _listeners:
        listen(text)


@cache
def note_once(text: str) -> None:
    """Say a line that a process would repeat."""
    note(text)


@contextmanager
def listening(listen: Callable[[str], None]) -> Iterator[None]:
    """Also pass every note to `listen` while the context is open."""
    _listeners.append(listen)
    try:
        yield
    finally:
        _listeners.remove(listen)


class Ticker:
    """Says how far work is. `advance(done)` counts units; `tell(text)` gives a value to say with it, such as the loss.

    Where there is no terminal for a bar to move on, it says so in lines, one every `EVERY_S`.
    """

    def __init__(self, label: str, total: float | None, unit: str, done: float) -> None:
        self._label, self._total, self._unit, self._done, self._text = label, total, unit, done, ""
        self._began = self._said = time.monotonic()
        self._before = done

    def advance(self, done: float = 1.0) -> None:
        self._done += done
        if time.monotonic() - self._said >= EVERY_S:
            self._said = time.monotonic()
            note(self._line())

    def tell(self, text: str) -> None:
        self._text = text

    def _line(self) -> str:
        rate = (self._done - self._before) / (self._said - self._began)
        of = f" of {self._total:,.0f}" if self._total else ""
        left = f", {_duration((self._total - self._done) / rate)} left" if self._total and rate else ""
        line = f"{self._label}: {self._done:,.0f}{of} {self._unit}, {_rate(rate, self._unit)}{left}"
        return f"{line}, {self._text}" if self._text else line


class _Bar(Ticker):
    """The same on a terminal."""

    def __init__(self, bar: Any, task: Any) -> None:
        self._bar, self._task = bar, task

    def advance(self, done: float = 1.0) -> None:
        self._bar.advance(self._task, done)

    def tell(self, text: str) -> None:
        self._bar.update(self._task, text=text)


def _rate(speed: float, unit: str) -> str:
    return f"{speed:,.0f} {unit}/s" if speed >= 10 else f"{speed:.1f} {unit}/s"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


@contextmanager
def ticker(label: str, total: float | None, unit: str, done: float = 0) -> Iterator[Ticker]:
    """Progress with rate and time left: a bar on a terminal, else lines. `done`: units finished before, when work is
    resumed."""
    if not sys.stderr.isatty() or not parallel.leads():
        yield Ticker(label, total, unit, done)
        return
    from rich import progress as rich_progress

    class Rate(rich_progress.ProgressColumn):
        def render(self, task: Any) -> str:
            speed = task.finished_speed or task.speed
            return _rate(speed, unit) if speed else ""

    columns = [
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(bar_width=24),
        rich_progress.TextColumn("{task.percentage:>3.0f}%"),
        Rate(),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[text]}"),
    ]
    with rich_progress.Progress(*columns, console=console(), transient=True) as bar:
        yield _Bar(bar, bar.add_task(label, total=total, completed=int(done), text=""))


def progress(items: Iterable[T], label: str, unit: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a progress bar; `total` is taken from the iterable's length when it has one."""
    length = total if total is not None else len(items) if isinstance(items, Sized) else None
    with ticker(label, length, unit) as tick:
        for item in items:
            yield item
            tick.advance()
