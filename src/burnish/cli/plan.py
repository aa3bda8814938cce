"""`burnish plan`."""

from __future__ import annotations

from typing import Any

from burnish.cli.options import AsJson, Overrides, RecipePath, StorePath, open_store, print_json
from burnish.errors import Problems
from burnish.recipe.load import load_recipe
from burnish.recipe.plan import Plan, Planned


def command(recipe: RecipePath, overrides: Overrides = None, store: StorePath = None, as_json: AsJson = False) -> None:
    """Check a recipe and say what a run would do; nothing is computed.

    Every check that needs no compute is done: settings, references, files, columns, models, chat templates, loss
    spans, suites and contamination certificates. All problems are printed at once, each with its line.
    """
    plan = Plan(load_recipe(recipe, overrides), open_store(store))
    if plan.problems:
        raise Problems(plan.problems)
    if as_json:
        print_json({"recipe": plan.recipe.name, "steps": [as_row(planned) for planned in plan.unique()]})
        return
    print_table(plan)


def as_row(planned: Planned) -> dict[str, Any]:
    """A planned step for JSON."""
    needs = planned.expectation
    return {"step": planned.node.name, "use": planned.node.step.use, "id": planned.id, "state": planned.state,
            "why": planned.why, "rows": needs.rows, "seconds": needs.seconds, "memory_gib": needs.memory_gib,
            "disk_mib": needs.disk_mib}  # fmt: skip


def print_table(plan: Plan) -> None:
    """Print the plan for people."""
    steps = list(plan.unique())
    rows = [("step", "does", "state", "rows", "time", "memory", "disk", "")]
    for planned in steps:
        needs = planned.expectation
        sizes = (_number(needs.rows), _duration(needs.seconds), _unit(needs.memory_gib, "GiB"),
                 _unit(needs.disk_mib, "MiB"))  # fmt: skip
        rows.append((planned.node.name, planned.node.step.use, planned.state, *sizes, planned.why))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for *row, why in rows:
        left = "  ".join(f"{cell:<{width}}" for cell, width in zip(row[:3], widths, strict=False))
        right = "  ".join(f"{cell:>{width}}" for cell, width in zip(row[3:], widths[3:], strict=False))
        print(f"{left}  {right}  {why}".rstrip())
    todo = [planned for planned in steps if planned.state != "cached"]
    known = [planned.expectation.seconds for planned in todo if planned.expectation.seconds is not None]
    guess = f"about {_duration(sum(known))} of work" + (f" and {len(todo) - len(known)} steps of unknown time"
                                                        if len(known) < len(todo) else "")  # fmt: skip
    print(f"\n{len(steps)} steps, {len(steps) - len(todo)} cached; {guess}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _unit(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:,.1f} {unit}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
