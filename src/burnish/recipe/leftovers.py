"""What a store holds that nothing needs: work that was broken off, results that no run names, runs to be forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.errors import WorkspaceError
from burnish.workspace import STAMP, Workspace


@dataclass(frozen=True)
class Leftover:
    """A folder that can be removed."""

    folder: Path
    what: str
    """work, result or run."""
    why: str
    size: int
    """Bytes."""


def leftovers(store: Workspace, forget: Sequence[str] = ()) -> list[Leftover]:
    """What can be removed from a store, runs first.

    A result is needed while a run names it or a needed result was made from it. Work that was broken off is needed
    while the newest run of a recipe names it, for the next one goes on from there.

    Args:
        forget: runs, or recipes' names for their newest runs, that need nothing any more.
    Raises:
        WorkspaceError: for a run that is not there, or that a process works on.
    """
    forgotten = {store.run(name) for name in forget}
    for run in forgotten:
        if busy := next((name for name in _named(run) if store.making(name)), None):
            raise WorkspaceError(f"run '{run.name}' is under way: {busy} is being made", where=str(run),
                                 hint="stop it first")  # fmt: skip
    kept = [run for run in store.runs() if run not in forgotten]
    needed = set(_with_origins(store, (name for run in kept for name in _named(run))))
    theirs = {name for run in forgotten for name in _named(run)}
    newest = {STAMP.sub("", run.name): run for run in kept}  # the oldest first, so that the newest stays
    resumable = {name for run in newest.values() for name in _named(run)}
    found = [(run, "run", "you named it") for run in sorted(forgotten)]
    for folder in store.unfinished_work():
        if folder.name not in resumable:
            by = "its recipe has a newer run" if folder.name in needed else "no run names it"
            found.append((folder, "work", f"broken off, {by}"))
    for artifact in store.artifacts():
        if artifact.id not in needed:
            by = "of a run you named" if artifact.id in theirs else "no run names it"
            found.append((artifact.path, "result", f"{artifact.manifest.step}, {by}"))
    return [Leftover(folder, what, why, _size(folder)) for folder, what, why in found]


def _named(run: Path) -> list[str]:
    plan: dict[str, Any] = json.loads((run / "plan.json").read_text(encoding="utf-8"))
    return [row["id"] for row in plan["steps"]]


def _with_origins(store: Workspace, ids: Iterable[str]) -> Iterator[str]:
    """These ids, and those of all that they were made from."""
    seen: set[str] = set()
    rest = list(ids)
    while rest:
        name = rest.pop()
        if name in seen:
            continue
        seen.add(name)
        yield name
        if "/" not in name and (artifact := store.find(name)):
            rest += [origin for origins in artifact.manifest.inputs.values() for origin in origins]


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
