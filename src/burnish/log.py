"""What a run says while it works: notes, and progress with rate and ETA, on stderr so that stdout stays for results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from burnish import parallel

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

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


@contextmanager
def listening(listen: Callable[[str], None]) -> Iterator[None]:
    """Also pass every note to `listen` while the context is open."""
    _listeners.append(listen)
    try:
        yield
    finally:
        _listeners.remove(listen)


class Ticker:
    """Moves one progress bar. `advance(done)` counts units; `tell(text)` shows a value beside it, such as the loss."""

    def __init__(self, bar: Any, task: Any) -> None:
        self._bar, self._task = bar, task

    def advance(self, done: float = 1.0) -> None:
        self._bar.advance(self._task, done)

    def tell(self, text: str) -> None:
        self._bar.update(self._task, text=text)


@contextmanager
def ticker(label: str, total: float | None, unit: str, done: float = 0) -> Iterator[Ticker]:
    """A progress bar with rate and time left. `done`: units finished before, when work is resumed."""
    from rich import progress as rich_progress

    class Rate(rich_progress.ProgressColumn):
        def render(self, task: Any) -> str:
            speed = task.finished_speed or task.speed
            return f"{speed:,.0f} {unit}/s" if speed and speed >= 10 else f"{speed:.1f} {unit}/s" if speed else ""

    columns = [
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(bar_width=24),
        rich_progress.TextColumn("{task.percentage:>3.0f}%"),
        Rate(),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[text]}"),
    ]
    # Off a terminal a bar would only fill a log file with control characters.
    quiet = not sys.stderr.isatty() or not parallel.leads()
    with rich_progress.Progress(*columns, console=console(), transient=True, disable=quiet) as bar:
        yield Ticker(bar, bar.add_task(label, total=total, completed=int(done), text=""))


def progress(items: Iterable[T], label: str, unit: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a progress bar; `total` is taken from the iterable's length when it has one."""
    length = total if total is not None else len(items) if isinstance(items, Sized) else None
    with ticker(label, length, unit) as tick:
        for item in items:
            yield item
            tick.advance()
