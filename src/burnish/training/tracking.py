"""The metrics of a run, sent to a tracker beside metrics.jsonl (through accelerate's adapters)."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from burnish import parallel
from burnish.errors import Problem

Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]
FOLDER = "tracking"
"""Folder of the store for trackers that write files."""


def missing_trackers(names: Sequence[Tracker]) -> Iterator[Problem]:
    """A problem for each tracker whose package is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            yield Problem(f"the package {name} is not installed", "track", f"pip install {name}")


@contextmanager
def tracked(names: Sequence[Tracker], run: str, settings: dict[str, Any], store: Path
            ) -> Iterator[Callable[[int, dict[str, float]], None] | None]:  # fmt: skip
    """What takes every step's number, from 0, and metrics while this lasts; None without trackers, or beside the
    leader. Trackers get the steps that are done, as all that people read does.

    Args:
        run: the run's name in the tracker. settings: shown as the run's parameters. store: where files go.
    """
    if not names or not parallel.leads():
        yield None
        return
    opened: list[Any] = []

    def after(step: int, row: dict[str, float]) -> None:
        values = {key: value for key, value in row.items() if key != "step"}
        for tracker in opened:
            tracker.log(values, step=step + 1)

    try:
        for name in names:
            opened.append(_open(name, run, settings, store / FOLDER))
        yield after
    finally:
        for tracker in opened:
            tracker.finish()


def _open(name: Tracker, run: str, settings: dict[str, Any], folder: Path) -> Any:
    from accelerate import PartialState, tracking

    logging.getLogger("accelerate.tracking").setLevel(logging.ERROR)
    PartialState(cpu=True) if parallel.size() == 1 else PartialState()
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, Callable[[], Any]] = {
        "tensorboard": lambda: tracking.TensorBoardTracker(run, logging_dir=folder),
        "wandb": lambda: tracking.WandBTracker("burnish", name=run, id=run, resume="allow"),  # a resumed run goes on
        "mlflow": lambda: tracking.MLflowTracker("burnish", logging_dir=str(folder / "mlflow"), run_name=run),
        "trackio": lambda: tracking.TrackioTracker("burnish", name=run, resume="allow"),
    }
    tracker = made[name]()
    tracker.start()
    tracker.store_init_configuration(_flat(settings))
    return tracker


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names; trackers take numbers and text alone."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value if isinstance(value, bool | int | float | str) else str(value)
    return found
