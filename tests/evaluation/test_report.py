"""The page says what the numbers say, runs no script whatever models write, and stays small."""

from __future__ import annotations

import json
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, fields, replace
from html.parser import HTMLParser
from pathlib import Path
from shutil import which

import pytest

from burnish.evaluation.report import (
    Answer,
    Flow,
    Loss,
    ModelScores,
    Origin,
    RunReport,
    Sample,
    build_report,
    side_by_side,
    words,
)
from burnish.evaluation.report.page import thirds
from burnish.evaluation.report.svg import tag, ticks
from burnish.evaluation.report.verdict import verdict
from burnish.evaluation.runner import Outcome, compare, report
from burnish.evaluation.scorecard import Decision, Evidence
from burnish.evaluation.stats import point_from_row
from burnish.ledger import LedgerRow
from burnish.types import Example, Message, Score
from evaluation.sample_run import TASKS, outcomes, sample_report, scores

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'`</pre></svg>{{7*7}} | [x](javascript:alert(1))"


class Tags(HTMLParser):
    """Collects elements with their attributes, and checks that they nest."""

    VOID = ("meta", "br", "img", "link", "input")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((name, dict(attrs)))
        if name not in self.VOID:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open and self.open[-1] == name, f"</{name}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def parsed(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    tags.close()
    assert not tags.open
    return tags


@pytest.fixture(scope="module")
def full() -> tuple[str, str]:
    return build_report(sample_report())


def test_the_page_is_whole_and_needs_nothing_else(full: tuple[str, str]) -> None:
    html, _ = full
    tags = parsed(html)
    names = {name for name, _ in tags.found}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    assert not any(key.startswith("on") or key in ("src", "href") for _, attrs in tags.found for key in attrs)
    assert "url(" not in html and "@import" not in html
    policy = next(attrs["content"] for _, attrs in tags.found if "Content-Security-Policy" in attrs.values())
    assert policy is not None and policy.startswith("default-src 'none'") and "script-src" not in policy
    assert len(html.encode()) < 300_000
    assert "prefers-color-scheme: dark" in html


def test_every_drawing_is_well_formed_and_says_what_it_shows(full: tuple[str, str]) -> None:
    drawings = re.findall(r"<svg.*?</svg>", full[0], re.S)
    assert len(drawings) == 7  # two suites, one decision, one curve, one funnel, two losses
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert root.get("aria-label")
        width, height = map(float, root.attrib["viewBox"].split()[2:])
        for mark in root.iter("rect"):
            assert float(mark.attrib["x"]) >= 0 and float(mark.attrib["width"]) >= 0
            assert float(mark.attrib["x"]) + float(mark.attrib["width"]) <= width + 0.2
            assert float(mark.attrib["y"]) + float(mark.attrib["height"]) <= height
        assert "nan" not in drawing.lower()


def test_numbers_on_the_page_are_the_data(full: tuple[str, str]) -> None:
    html, text = full
    data = sample_report()
    shown = "".join(parsed(html).words)
    for row in data.scores:
        assert words.percent(row.overall.mean) in shown and words.percent(row.overall.mean) in text
        for change in row.against_base.values():
            assert words.signed(change.difference) in shown and words.signed(change.difference) in text
    for third in thirds(data.ledger):
        assert words.percent(third["share"]) in shown
    assert sum(third["share"] for third in thirds(data.ledger)) == pytest.approx(1)
    for flow in data.flows:
        assert f"{flow.rows_out:,} of {flow.rows_in:,}" in shown


def poisoned() -> RunReport:
    """A report in which every text is an attack."""
    tasks = {EVIL: (0.1, 0.5, 0.6, 0.7), "fine": (0.1, 0.5, 0.6, 0.7)}
    rows = [replace(row, model=f"{row.model} {EVIL}", suite=EVIL) for row in scores("dev", tasks, 20)]
    answers = tuple(Answer(row.model, EVIL, 0.5, EVIL) for row in rows)
    data = sample_report()
    return RunReport(
        title=EVIL,
        baseline=rows[0].model,
        scores=rows,
        suites={EVIL: EVIL},
        decisions=[
            Decision(
                EVIL, EVIL, "hold", EVIL, (EVIL,), (EVIL,), (Evidence("judge", EVIL, 0.1, -0.1, 0.3, 9, 0, (EVIL,)),)
            )
        ],
        judges=[
            replace(card, judge=EVIL, unscored=1, why_unscored=EVIL, alarms=(EVIL,), null={EVIL: card.null["empty"]})
            for card in data.judges
        ],
        curves=[replace(curve, model=EVIL, suite=EVIL, strategy=EVIL) for curve in data.curves],
        losses=[Loss(EVIL, [(1, 2.0), (2, 1.0)], EVIL)],
        flows=[Flow(EVIL, 10, 6, {EVIL: 4}, EVIL)],
        samples=[Sample(EVIL, (Message("user", EVIL), Message("assistant", EVIL)), EVIL, answers)],
        ledger=[LedgerRow(EVIL, "data", 1.0, 1, 1, 1, 1)],
        pedigree=[Origin(EVIL, EVIL, EVIL, (EVIL,), 0, 1.0, EVIL, EVIL)],
        environment={EVIL: EVIL},
        recipe=EVIL,
        made_at=EVIL,
        samples_note=EVIL,
        remarks=(EVIL,),
    )


def test_the_scorecard_speaks_first_and_tempers_a_gain() -> None:
    data = sample_report()
    assert data.decisions[0].action == "promote" and verdict(data).kind == "better"
    assert verdict(data).details[0].startswith("The scorecard, which joins all evidence, says: promote dpo.")
    held = replace(data, decisions=[replace(data.decisions[0], action="collect more")])
    assert verdict(held).kind == "unclear"
    assert "says: collect more on dpo" in verdict(held).details[0]


def test_no_text_becomes_markup() -> None:
    data = poisoned()
    assert all(getattr(data, field.name) for field in fields(data)), "every part must carry the attack"
    html, text = build_report(data)
    tags = parsed(html)
    clean = parsed(build_report(sample_report())[0])
    assert {name for name, _ in tags.found} <= {name for name, _ in clean.found}
    assert not any(key.startswith("on") for _, attrs in tags.found for key in attrs)
    assert "{{7*7}}" in "".join(tags.words)  # no template runs in a text
    for drawing in re.findall(r"<svg.*?</svg>", html, re.S):
        ElementTree.fromstring(drawing)
    outside_code = re.sub(r"^(`{3,})[^\n]*\n.*?^\1$", "", text, flags=re.S | re.M)
    assert "<script" not in outside_code and not re.search(r"(?<!\\)\]\(", outside_code)


def test_a_fence_inside_an_answer_does_not_end_the_block() -> None:
    sample = Sample("t", (Message("user", "?"),), "", (Answer("m", "```\n# not a heading\n````", 1.0),))
    text = build_report(RunReport("r", samples=[sample]))[1]
    assert "`````\n```\n# not a heading\n````\n`````" in text


@pytest.mark.skipif(which("chromium") is None, reason="needs Chromium")
@pytest.mark.browser
def test_chromium_runs_no_script_of_an_answer(tmp_path: Path) -> None:
    attack = "<script>document.title='owned'</script><svg onload=\"document.title='owned'\">"
    sample = Sample("t", (Message("user", attack),), attack, (Answer("m", attack, 0.0, attack),))
    page = tmp_path / "report.html"
    page.write_text(build_report(replace(sample_report(), samples=[sample]))[0], encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile",
               "--dump-dom", page.as_uri()]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "<title>quickstart · Burnish report</title>" in dom


# -------------------------------------------------------------------------------------------------------------- verdict


def against(chances: tuple[float, float], n: int = 60) -> RunReport:
    """A base and one model with such chances on one task."""
    tasks = {"sums": (chances[0], chances[1], 0.0, 0.0)}
    base, sft = outcomes("base", tasks, n), outcomes("sft", tasks, n)
    rows = [ModelScores("base", "dev", report(base)), ModelScores("sft", "dev", report(sft), compare(base, sft))]
    return RunReport("r", scores=rows)


def test_verdict_follows_the_interval() -> None:
    better, same, worse = (verdict(against(chances)) for chances in ((0.2, 0.8), (0.5, 0.52), (0.8, 0.2)))
    assert (better.kind, same.kind, worse.kind) == ("better", "unclear", "worse")
    assert "above base" in better.headline
    assert same.headline == "No model is measurably better than base on dev."
    assert worse.headline == "sft is worse than base on dev."
    assert "flatters" not in " ".join(better.details)  # a single candidate was not chosen among several


def test_verdict_names_what_got_worse_and_what_could_not_be_graded() -> None:
    tasks = {**TASKS, "old skill": (0.9, 0.3, 0.3, 0.3)}
    said = " ".join(verdict(RunReport("r", scores=scores("dev", tasks, 40))).details)
    assert "worse on old skill (\N{MINUS SIGN}" in said
    assert "best of 3 models" in said
    assert "in no mean: 1 of base on dev." in said


def test_without_a_comparison_the_page_says_so() -> None:
    assert verdict(RunReport("r")).headline == "Nothing was compared with the base model."
    html, text = build_report(RunReport("empty"))
    parsed(html)
    assert "Nothing was compared" in html and text.startswith("# empty")
    alone = RunReport("r", scores=scores("dev", {"sums": (0.5, 0.6, 0.7, 0.8)}, 20)[:1])
    assert "nothing was compared with it" in build_report(alone)[0]


def test_long_answers_are_cut_and_say_so() -> None:
    sample = Sample("t", (Message("user", "?"),), "", (Answer("m", "x" * 10_000, 1.0),))
    html, _ = build_report(RunReport("r", samples=[sample] * 30))
    assert "[6,000 more characters]" in html and "24 of 30 items" in html
    many = RunReport("r", losses=[Loss("long", [(step, 1.0 / step) for step in range(1, 50_000)])])
    assert len(build_report(many)[0]) < 60_000


def test_samples_are_drawn_by_chance_tasks_in_turn() -> None:
    items = [
        Example(f"{task}/{number}", (Message("user", f"{number}?"),), str(number), meta={"task": task})
        for task in ("a", "b") for number in range(6)
    ]  # fmt: skip
    base = [Outcome(item.id, "a", Score(0.0, why="wrong"), f"base {item.id}", 1) for item in items]
    sft = [
        Outcome(item.id, "a", Score(None, error="broken"), f"sft {item.id}", 1) for item in items if item.id != "a/0"
    ]
    found = side_by_side(items, {"base": base, "sft": sft}, limit=5)
    assert [sample.task for sample in found] == ["a", "b", "a", "b", "a"]
    assert found == side_by_side(items[::-1], {"base": base, "sft": sft}, limit=5)
    numbers = {seed: [sample.target for sample in side_by_side(items, {"base": base}, 6, seed)] for seed in range(4)}
    assert len({tuple(drawn) for drawn in numbers.values()}) > 1
    one = found[0]
    name = f"a/{one.target}"
    assert one.answers == [Answer("base", f"base {name}", 0.0, "wrong"), Answer("sft", f"sft {name}", None, "broken")]
    assert all(sample.target != "0" for sample in side_by_side(items[:6], {"base": base, "sft": sft}, 6))


def test_points_come_back_from_json() -> None:
    for curve in sample_report().curves:
        assert [point_from_row(json.loads(json.dumps(asdict(point)))) for point in curve.points] == curve.points


def test_odd_series_do_not_break_the_page() -> None:
    losses = [Loss("flat", [(1, 0.7), (2, 0.7)]), Loss("one", [(1, 0.7)]), Loss("lost", [(1, 0.7), (2, float("nan"))])]
    html, _ = build_report(RunReport("r", losses=losses))
    assert html.count("<svg") == 1 and "nan" not in re.sub(r"<style>.*?</style>", "", html, flags=re.S)


# ---------------------------------------------------------------------------------------------------------------- words


def test_words() -> None:
    assert [words.percent(0.7124), words.percent(float("nan"))] == ["71.2%", "?"]
    assert [words.signed(0.048), words.signed(-0.1), words.signed(-0.0001)] == ["+4.8", "\N{MINUS SIGN}10.0", "0.0"]
    assert [words.duration(5.04), words.duration(59.96), words.duration(725), words.duration(7260)] == [
        "5.0 s", "60.0 s", "12 min 5 s", "2 h 1 min",
    ]  # fmt: skip
    assert [words.count(9999), words.count(18_420), words.count(2_310_000)] == ["9999", "18.4 k", "2.31 M"]
    assert [words.p_words(0.0132), words.p_words(1e-9)] == ["p = 0.013", "p < 0.001"]


def test_ticks_and_tags() -> None:
    assert ticks(0, 1, 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(3.2, 3.2) == [3.2]
    assert ticks(1, 370, 5) == [100, 200, 300]
    assert tag("text", "<b>", class_="a\"b", stroke_width=1.25, id=None) == (
        '<text class="a&#34;b" stroke-width="1.2">&lt;b&gt;</text>'
    )  # fmt: skip
