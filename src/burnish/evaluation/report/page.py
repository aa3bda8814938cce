"""The HTML page. Text from models and data is escaped by the template, and the page may run no script at all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from burnish.evaluation.judge_card import findings
from burnish.evaluation.report import figures
from burnish.evaluation.report.data import Loss, RunReport
from burnish.evaluation.report.markdown import markdown
from burnish.evaluation.report.verdict import judge, verdict
from burnish.evaluation.report.words import count, duration, p_words, percent, shortened, signed
from burnish.evaluation.runner import OVERALL
from burnish.ledger import PHASES, LedgerRow

PAGE_FILES = Path(__file__).parent
"""The folder of the page's template and style sheet."""
TEXT = 4000
"""Characters of one message or answer that are shown."""
SAMPLES = 24
"""Sample conversations that are shown."""


def build_report(data: RunReport) -> tuple[str, str]:
    """The report as (HTML, Markdown). The HTML loads nothing and runs nothing; it follows the reader's colours."""
    colors = {model: number for number, model in enumerate(data.models())}
    html = template("page.html").render(
        data=data,
        verdict=verdict(data),
        colors=colors,
        tiles=_tiles(data),
        suites=[_suite(data, suite, colors) for suite in data.suite_names()],
        curves=_curves(data),
        losses=[(loss, figures.loss(loss, 1 + place % 4)) for place, loss in enumerate(data.losses) if _drawn(loss)],
        funnel=figures.funnel(data.flows) if data.flows else "",
        thirds=thirds(data.ledger),
        ledger=_ledger(data.ledger),
        samples=data.samples[:SAMPLES],
        style=Markup((PAGE_FILES / "style.css").read_text(encoding="utf-8")),
    )
    return html, markdown(data)


@cache
def template(name: str) -> jinja2.Template:
    """A template of this folder, with the words and colours of all pages."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE_FILES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent, "signed": signed, "duration": duration, "count": count, "color": figures.color,
        "evidence": figures.evidence, "findings": findings, "sentence": lambda text: text[:1].upper() + text[1:] + ".",
        "p_words": p_words, "judge": judge, "cut": lambda text: shortened(text, TEXT),
        "plain": lambda text: str(text).replace("_", " "),
    }  # fmt: skip
    return environment.get_template(name)


def _tiles(data: RunReport) -> list[tuple[str, str, str]]:
    """(label, value, explanation) of the few numbers on top."""
    said = verdict(data)
    tiles = []
    rows = {row.model: row for row in data.on(data.suite_names()[0])} if data.scores else {}
    for model in dict.fromkeys([data.baseline, said.model]):
        if model in rows:
            overall = rows[model].overall
            interval = f"{percent(overall.low)} to {percent(overall.high)}, {overall.n} items"
            tiles.append((f"{model} on {rows[model].suite}", percent(overall.mean), interval))
    if data.ledger:
        trained = sum(row.trained_tokens for row in data.ledger)
        written = sum(row.completion_tokens for row in data.ledger)
        tiles.append(("Time", duration(sum(row.seconds for row in data.ledger)), f"{len(data.ledger)} steps"))
        tiles.append(("Tokens trained", count(trained), f"{count(written)} generated"))
    return tiles


def _suite(data: RunReport, suite: str, colors: Mapping[str, int]) -> dict[str, Any]:
    rows = data.on(suite)
    tasks = [report.task for report in rows[0].reports]
    return {
        "name": suite,
        "about": data.suites.get(suite, ""),
        "figure": figures.accuracy(rows, colors),
        "rows": rows,
        "tasks": [OVERALL, *(task for task in tasks if task != OVERALL)] if len(tasks) > 2 else tasks[:1],
    }


def _curves(data: RunReport) -> list[dict[str, Any]]:
    """Curves of one model on one suite share a drawing."""
    found = []
    for (model, suite), group in groupby(
        (curve for curve in data.curves if curve.points), lambda c: (c.model, c.suite)
    ):
        curves = list(group)
        left_out = curves[0].points[0].unscored
        found.append({"model": model, "suite": suite, "figure": figures.tokens(curves), "curves": curves,
                      "left_out": left_out})  # fmt: skip
    return found


def _drawn(loss: Loss) -> bool:
    return len(loss.points) > 1 and all(math.isfinite(value) for _, value in loss.points)


def thirds(rows: Sequence[LedgerRow]) -> list[dict[str, Any]]:
    """Time and tokens of data, training and evaluation, with their share of the time."""
    total = sum(row.seconds for row in rows)
    found = []
    for phase in PHASES if rows else ():
        mine = [row for row in rows if row.phase == phase]
        seconds = sum(row.seconds for row in mine)
        found.append({
            "phase": phase,
            "seconds": seconds,
            "share": seconds / total if total else 0.0,
            "read": sum(row.prompt_tokens for row in mine),
            "written": sum(row.completion_tokens for row in mine),
            "trained": sum(row.trained_tokens for row in mine),
        })  # fmt: skip
    return found


def _ledger(rows: Sequence[LedgerRow]) -> list[dict[str, Any]]:
    longest = max((row.seconds for row in rows), default=0.0) or 1.0
    return [{"row": row, "share": row.seconds / longest, "phase": PHASES.index(row.phase)} for row in rows]
