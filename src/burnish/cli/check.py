"""`burnish check`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from burnish.cli.options import AsJson, Overrides, RecipePath, StorePath, open_store, print_json
from burnish.errors import BurnishError, ConfigError, DataError
from burnish.types import Example, PreferencePair

if TYPE_CHECKING:
    from rich.text import Text

    from burnish.models.chat import Rendered
    from burnish.models.load import LanguageModel
    from burnish.recipe.plan import Plan, Planned
    from burnish.steps.base import Inputs
    from burnish.steps.training import Training
    from burnish.training.checks import Fit, Proof, Way
    from burnish.training.optim import Optimization
    from burnish.training.step import After
    from burnish.workspace import Artifact

T = TypeVar("T")
Rows = Sequence[Example | PreferencePair]
MOST = 4000
"""Rows of a step that are turned into tokens; of more, so many spread over all."""
SHOWN = 3
"""Conversations whose loss spans are shown."""
STRETCH, STRETCHES = 60, 9
"""Characters of a stretch of tokens, and stretches of a conversation, that are shown."""


def command(
    recipe: RecipePath,
    n: Annotated[int, typer.Option("-n", min=2, help="How many rows of each training step to train on.")] = 8,
    overrides: Overrides = None,
    store: StorePath = None,
    as_json: AsJson = False,
) -> None:
    """Prove on your own model and rows that training does what it says.

    \b
    For each training step of the recipe, on all of its rows (of very many, on 4,000 spread over them):
      loss spans                   what is learned of a few conversations, in ⟦ ⟧, and its share of all tokens
      training ids = serving ids   the tokens before an answer are those the model is asked with
      stop tokens are learned      every learned answer ends with one; which one, and how many do
    and by training on a few of them, with the step's own loss, adapter, optimiser and settings:
      1 x N = N x 1                how a batch is cut does not change the gradient
      together = alone             nor do shared beginnings, packing, checkpointing and compiling
      resumed = uninterrupted      a killed run goes on to the same bits

    Rows that do not exist yet are taken from where they will come from, if that is known; a model that is not trained
    yet, from its root. Exit code 0 when every training step is proven; 1 when one fails or could not be looked at.
    """
    from burnish.recipe.load import load_recipe
    from burnish.recipe.plan import Plan

    plan = Plan(load_recipe(recipe, overrides), open_store(store))
    plan.raise_problems()
    found = []
    for checked in _checked(plan, n, f"`burnish run {recipe}`"):
        found.append(checked)
        if not as_json:
            _print(checked)
    if not found:
        raise ConfigError(f"{recipe} has no training step", hint="`burnish list steps` shows them")
    if as_json:
        print_json({one.name: one.as_row() for one in found})
    missing = [one.name for one in found if not one.proven]
    if missing:
        if not as_json:
            print(f"not proven: {', '.join(missing)} ({len(missing)} of {len(found)} training steps)")
        raise typer.Exit(1)


@dataclass
class Checked:
    """What was found of one training step."""

    name: str
    headline: str = ""
    """How many rows there are, and what of them is learned."""
    spans: list[Text] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was done otherwise than a run will."""
    proofs: list[Proof] = field(default_factory=list)
    stopped: str = ""
    """Why not all could be proven."""

    @property
    def proven(self) -> bool:
        return not self.stopped and all(one.holds for one in self.proofs)

    def as_row(self) -> dict[str, Any]:
        proofs = [{**asdict(one), "holds": one.holds} for one in self.proofs]
        return {"proven": self.proven, "headline": self.headline, "spans": [text.plain for text in self.spans],
                "notes": self.notes, "proofs": proofs, "stopped": self.stopped}  # fmt: skip


def _print(checked: Checked) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(f"{checked.name}: {checked.headline}" if checked.headline else checked.name, style="bold")
    for text in checked.spans:
        console.print(" ", text)
    for line in checked.notes:
        console.print(f"  note: {line}")
    for one in checked.proofs:
        console.print(f"  {'holds' if one.holds else 'FAILS'}  {one.name:<27} {one.difference:<8.2g} {one.detail}")
    if checked.stopped:
        console.print("  NOT PROVEN: " + checked.stopped.replace("\n", "\n  "))


# ------------------------------------------------------------------------------------------------------------ one step


def _checked(plan: Plan, n: int, run: str) -> Iterator[Checked]:
    """Every training step, looked at. `run`: the command that makes what is missing."""
    from burnish.steps.training import Training

    for planned in plan.steps.values():
        step = planned.node.step
        if isinstance(step, Training):
            checked = Checked(planned.node.name)
            try:
                _check(plan, planned, step, n, run, checked)
            except BurnishError as error:
                checked.stopped = str(error)
            yield checked


def _check(plan: Plan, planned: Planned, step: Training, n: int, run: str, checked: Checked) -> None:
    """Find all there is to find of one step. Raises BurnishError for what stops it."""
    from burnish.training import checks

    rows = _rows(plan, planned, step, run, checked)
    models = _models(plan, planned, step, checked)
    with TemporaryDirectory() as name:
        whole = _inputs(models, rows, Path(name, "all"))
        few = _inputs(models, evenly(rows, n), Path(name, "few"))
        lm = step.load(whole)
        _look(step, lm, rows, whole, checked)
        count = len(step.rendered(lm, few, _limit(step, lm)).rows)
        del lm  # training loads its own
        if count < 2:
            raise DataError(f"{count} of the rows that were tried can be trained on", hint="try more of them: -n 32")
        fit = _fit_of(step, few, planned)
        checked.proofs += checks.cut_as_whole(fit, step.train, count)
        checked.proofs.append(checks.resumed_as_uninterrupted(fit, step.train, count))


def _rows(plan: Plan, planned: Planned, step: Training, run: str, checked: Checked) -> Rows:
    """The step's rows, or those that can be known before they are made. Raises DataError when there are none."""
    from burnish.data.io import read_rows

    artifact = plan.artifact(planned.node.inputs["data"][0])
    if artifact:
        rows: Rows = read_rows(artifact.file("rows.jsonl"))
    else:
        rows = plan.view(planned.node).sample(step.data)
    if not rows:
        raise DataError(f"the rows of {step.data} do not exist yet", hint=f"{run} makes them; then check again")
    if not artifact:
        checked.notes.append(f"{step.data} is not made yet: these are the first rows of its source, before filters")
    if len(rows) > MOST:
        checked.notes.append(f"{MOST:,} of {len(rows):,} rows are looked at, spread over all")
    return evenly(rows, MOST)


def _models(plan: Plan, planned: Planned, step: Training, checked: Checked) -> dict[str, list[Artifact | str]]:
    """The models that the step names; of one that is not trained yet, the model at its root."""
    from burnish.config import refs_of
    from burnish.recipe.load import OUTSIDE

    found: dict[str, list[Artifact | str]] = {}
    for label in (key for key, mark in refs_of(type(step)).items() if mark.kind == "model"):
        for name in planned.node.inputs.get(label, ()):
            artifact = plan.artifact(name)
            root = name[len(OUTSIDE) :] if name.startswith(OUTSIDE) else plan.view(planned.node).root(f"${name}")
            found.setdefault(label, []).append(artifact or root)
            if not artifact and not name.startswith(OUTSIDE):
                checked.notes.append(f"${name} is not trained yet: tried with {root} in its place")
    return found


def _inputs(models: Mapping[str, Sequence[Artifact | str]], rows: Rows, folder: Path) -> Inputs:
    """What a step is given, with these rows in place of its own."""
    from burnish.data.io import write_rows
    from burnish.steps.base import Inputs
    from burnish.workspace import Artifact, Manifest

    folder.mkdir()
    write_rows(folder / "rows.jsonl", rows)
    made = Manifest(id="", kind="dataset", use="", step="", config={}, inputs={}, seed=0, code="", versions={},
                    phase="data", seconds=0.0, usage={}, made_at="")  # fmt: skip
    return Inputs({**models, "data": [Artifact(folder, made)]}, {})


def evenly(rows: Sequence[T], most: int) -> Sequence[T]:
    """At most so many rows, spread over all."""
    return rows if len(rows) <= most else [rows[place * len(rows) // most] for place in range(most)]


# ------------------------------------------------------------------------------------------------- what is looked at


def _look(step: Training, lm: LanguageModel, rows: Rows, inputs: Inputs, checked: Checked) -> None:
    """Find what of the rows is learned, and prove what can be proven without training."""
    from burnish.objectives import OBJECTIVES
    from burnish.training import checks

    limit = _limit(step, lm)
    objective = OBJECTIVES.build(step.objective)
    kept = step.rendered(lm, inputs, limit if step.overlong == "error" else sys.maxsize)
    checked.notes += [f"rows that {why}: {count:,}, left out" for why, count in kept.dropped.items()]
    found = checks.conversations(kept.sources, kept.rows, objective)
    fitting = [one for one in found if len(one[1].ids) <= limit]
    if len(fitting) < len(found):
        checked.notes.append(f"{len(found) - len(fitting):,} of {len(found):,} conversations are longer than {limit:,}"
                             f" tokens (overlong: {step.overlong}) and left out here")  # fmt: skip
    if getattr(objective, "whole_step", False):
        checked.notes.append("this loss sees all rows of a step at once, so there is no cut to try")
    checked.headline = f"{len(rows):,} rows of {step.data}, {_learned([one for _, one in fitting])}"
    checked.spans = [picture(one, lm.tokenizer) for _, one in (*fitting[: SHOWN - 1], *fitting[SHOWN - 1 :][-1:])]
    checked.proofs += [checks.served_as_trained(lm.chat, fitting), checks.stops_are_learned(lm.chat, fitting)]


def _limit(step: Training, lm: LanguageModel) -> int:
    return min(lm.longest, step.max_tokens or lm.longest)


def _learned(rows: Sequence[Rendered]) -> str:
    tokens, learned = sum(len(row.ids) for row in rows), sum(sum(map(bool, row.weights)) for row in rows)
    return f"{learned:,} of {tokens:,} tokens learned ({learned / max(1, tokens):.1%})"


def picture(rendered: Rendered, tokenizer: Any) -> Text:
    """A conversation on one line: what is learned in ⟦ ⟧, with its weight where that is not 1; what is long, shortened
    in its middle."""
    from rich.text import Text

    stretches = []
    for weight, group in groupby(zip(rendered.weights, rendered.ids, strict=True), key=itemgetter(0)):
        words = tokenizer.decode([token for _, token in group]).replace("\n", "⏎")
        if len(words) > STRETCH:
            words = f"{words[: STRETCH // 4]}…{words[-3 * STRETCH // 4 :]}"  # a question ends where its answer begins
        times = "" if weight == 1 else f"×{weight:g}"
        stretches.append(Text(f"⟦{words}⟧{times}", "green") if weight else Text(words, "dim"))
    if len(stretches) > STRETCHES:
        half = STRETCHES // 2
        stretches = [*stretches[:half], Text(" … ", "dim"), *stretches[-half:]]
    return Text().join(stretches)


def _fit_of(step: Training, inputs: Inputs, planned: Planned) -> Fit:
    """The step's own way from a model to a trained one, without what it watches, shows and saves."""
    from burnish.models.adapters import attach
    from burnish.objectives import OBJECTIVES
    from burnish.steps.base import Running
    from burnish.steps.training import blamed
    from burnish.training import checks
    from burnish.workspace import Workspace

    objective = OBJECTIVES.build(step.objective)

    def fit(train: Optimization, folder: Path, way: Way, after: After | None) -> LanguageModel:
        tried = step.model_copy(update={"train": train, "dtype": step.dtype if way == "own" else "float32"})
        lm = tried.load(inputs)
        rows = tried.rendered(lm, inputs, _limit(step, lm)).rows
        with TemporaryDirectory() as store:  # nothing of what is tried stays in the user's
            running = Running(planned.node.name, folder, planned.seed, Workspace(Path(store)))
            reference = tried.reference(lm, rows, objective, running)
        lm = attach(lm, step.lora, planned.seed) if step.lora else lm
        if way != "own":
            checks.quieten(lm.model)
        if way == "plain":
            lm.trees = False
        with blamed(objective):
            tried.fit(lm, rows, objective, reference, inputs,
                      {"seed": planned.seed, "folder": folder, "checkpoint_every_s": 0.0, "after": after})  # fmt: skip
        return lm

    return fit
