"""`burnish eval new`: a task from a file of one's own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from burnish.cli.options import print_json
from burnish.errors import ConfigError, Problems
from burnish.evaluation.tasks.author import (
    Draft,
    Given,
    Tried,
    draft,
    first_item,
    needs_judge,
    resolution,
    shortened,
    sound_rows,
    text_of,
)
from burnish.log import note
from burnish.workspace import write_atomic


@dataclass(frozen=True)
class Writing:
    """Where things go."""

    to: Path | None = None
    """The task; NAME.yaml when left out."""
    clean: Path | None = None
    """The rows without problems; without it, a file with problems is refused."""
    force: bool = False
    """Whether a file that is there is replaced."""


def new_task(file: Path, given: Given, writing: Writing, as_json: bool) -> None:
    """Look at a file's rows, try each, and write the task. Raises `Problems` when a row cannot be used as it is."""
    if not file.exists():
        raise ConfigError(f"no such file: {file}", hint="paths are relative to the current folder")
    found = draft(file, given)
    to = writing.to or Path(f"{found.settings['name']}.yaml")
    if to.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{to} is no name of a task's file", hint=f"--to {to.with_suffix('.yaml')}")
    if not as_json:
        print(_columns(file, found))
    for path in filter(None, (to, writing.clean)):
        if path.exists() and not writing.force:
            hint = "choose another name with --to or --clean, or replace it with --force"
            raise ConfigError(f"{path} is there already", hint=hint)
    if found.problems and writing.clean is None:
        if not as_json:
            print(f"{len(found.problems)} problems in {found.rows} rows; nothing was written")
        raise Problems(shortened(found.problems, "--clean FILE.jsonl leaves such rows out"))
    if found.problems and writing.clean is not None:
        file, found = writing.clean, _cleaned(file, given, found, writing.clean)
    if len(found.items) < 2:
        raise ConfigError(f"{file} has {len(found.items)} row", hint="one item measures nothing: add more")
    write_atomic(to, text_of(found, file, to))
    if as_json:
        print_json(_as_row(file, found, to))
        return
    print("\n".join(["", *_first(found), "", *_can_tell(found), f"wrote {to}", *_next(found, to)]))


def _cleaned(file: Path, given: Given, found: Draft, clean: Path) -> Draft:
    """The task of the rows without problems, which are written to a file of their own; the others are told."""
    rows = sound_rows(file, found.problems)
    write_atomic(clean, "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows))
    for problem in shortened(found.problems):
        note(f"left out: {problem.where}{': ' if problem.where else ''}{problem.what}")
    note(f"wrote {clean}: {len(rows)} of {found.rows} rows")
    return draft(clean, replace(given, name=str(found.settings["name"])))


def _columns(file: Path, found: Draft) -> str:
    lines = [f"{file}: {found.rows} rows, kind {found.kind} ({found.why})"]
    keys = ("prompt", "template", "turns", "answer", "choices", "tests", "entry_point", "grader")
    lines += [f"  {key:<11} {found.settings[key]!r}" for key in keys if key in found.settings]
    return "\n".join(lines)


def _first(found: Draft) -> list[str]:
    item = found.items[0]
    plain = item.choices and len(item.messages) == 1
    how = "as plain text, which each option continues" if plain else "in each model's own chat template"
    lines = [f"The first item, word for word, {how}:"]
    lines += [f"  | {line}" for line in (item.messages[0].content if plain else first_item(item)).splitlines()]
    if item.choices:
        return [*lines, f"options: {', '.join(map(repr, item.choices))}; right is {item.target!r}"]
    lines += map(_graded, found.tried)
    if needs_judge(found):
        reference = f"; its reference answer begins {item.target[:60]!r}" if item.target else ""
        lines.append(f"a judge model scores the answers{reference}")
    if found.untried:
        lines.append(f"{found.untried} rows have no right answer that could be tried; a wrong one was")
    return lines


def _graded(tried: Tried) -> str:
    first, *more = tried.text.strip().splitlines() or [""]
    shown = repr(first[:60] + (" ..." if more or len(first) > 60 else ""))
    why = f": {tried.why.splitlines()[0][:90]}" if tried.why else ""
    return f"a {'right' if tried.right else 'wrong'} answer, {shown}, scores {tried.score}{why}"


def _can_tell(found: Draft) -> list[str]:
    n = len(found.items)
    half, apart = resolution(n)
    known = f"{n} items: a score near 50 % is known to about ±{half * 100:.0f} points."
    if apart is None:
        return [known, "So few cannot tell two models apart that differ on a fifth of them."]
    return [known, f"Two models that differ on a fifth of them are told apart from about {apart * 100:.0f} points on."]


def _next(found: Draft, to: Path) -> list[str]:
    judge = " --judge MODEL" if needs_judge(found) else ""
    place = to if to.is_absolute() or str(to).startswith(".") else f"./{to}"
    return [f"next:  burnish eval pebble --tasks {to}{judge}",
            f"       suites: {{dev: {{tasks: [{place}]}}}}      in a recipe"]  # fmt: skip


def _as_row(file: Path, found: Draft, to: Path) -> dict[str, Any]:
    half, apart = resolution(len(found.items))
    return {"file": str(file), "task": str(to), "kind": found.kind, "why": found.why, "items": len(found.items),
            "settings": found.settings, "first": first_item(found.items[0]), "untried": found.untried,
            "tried": [asdict(one) for one in found.tried],
            "interval": half, "tells_apart": apart, "needs_judge": needs_judge(found)}  # fmt: skip
