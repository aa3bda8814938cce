"""`burnish check`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from burnish.cli.options import AsJson, Overrides, RecipePath, StorePath, open_store, print_json
from burnish.errors import ConfigError
from burnish.types import Example, Message, PreferencePair

if TYPE_CHECKING:
    from burnish.recipe.plan import Plan, Planned
    from burnish.steps.training import Training
    from burnish.training.checks import Proof


def command(
    recipe: RecipePath,
    n: Annotated[int, typer.Option("-n", min=2, help="How many rows of each training step to try.")] = 8,
    overrides: Overrides = None,
    store: StorePath = None,
    as_json: AsJson = False,
) -> None:
    """Prove on your own model and rows that training does what it says.

    \b
    For each training step of the recipe, on its first rows:
      training ids = serving ids   the tokens before an answer are those the model is asked with
      stop tokens are learned      every learned turn ends with one
      together = alone             rows that share a batch, and what they begin with, do not see each other
      1 x N = N x 1                how a batch is cut does not change the gradient
      resumed = uninterrupted      a killed run goes on to the same bits

    Steps that start from another step's model are tried on the model at their root; of pairs, both answers are tried
    as rows of their own. Exit code 1 when one fails.
    """
    from burnish.recipe.load import load_recipe
    from burnish.recipe.plan import Plan

    plan = Plan(load_recipe(recipe, overrides), open_store(store))
    plan.raise_problems()
    found = {name: list(proofs) for name, proofs in _steps(plan, n)}
    if not any(found.values()):
        raise ConfigError(f"{recipe} has no training step whose rows exist already", hint="run its data steps first")
    if as_json:
        print_json({name: [{**asdict(one), "holds": one.holds} for one in proofs] for name, proofs in found.items()})
    else:
        for name, proofs in found.items():
            print(name if proofs else f"{name}: its rows do not exist yet")
            for one in proofs:
                print(f"  {'holds' if one.holds else 'FAILS'}  {one.name:<27} {one.difference:<8.2g} {one.detail}")
    if not all(one.holds for proofs in found.values() for one in proofs):
        raise typer.Exit(1)


PAIR = "answer of a pair"
"""Marks conversations whose last turn alone is learned."""


def _steps(plan: Plan, n: int) -> Iterator[tuple[str, Iterator[Proof]]]:
    from burnish.steps.training import Training

    for planned in plan.steps.values():
        step = planned.node.step
        if isinstance(step, Training):
            rows = _rows(plan, planned, n)
            root = plan.view(planned.node).root(step.model)
            yield planned.node.name, _proofs(root, step, rows) if rows else iter(())


def _rows(plan: Plan, planned: Planned, n: int) -> Sequence[Example | PreferencePair]:
    """The step's first rows: made ones, or those that can be known before they are."""
    from burnish.data.io import read_rows

    artifact = plan.store.find(planned.input_ids["data"][0])
    if artifact is not None:
        return list(islice(read_rows(artifact.file("rows.jsonl")), n))
    return plan.view(planned.node).sample(planned.node.step.data)[:n]  # type: ignore[attr-defined]


def _proofs(model: str, step: Training, rows: Sequence[Example | PreferencePair]) -> Iterator[Proof]:
    from burnish.models.adapters import attach, fold
    from burnish.models.load import LanguageModel, load_model
    from burnish.steps.rendering import render_all
    from burnish.training import checks

    def load(dtype: str) -> LanguageModel:
        lm = load_model(model, dtype=dtype, train_adapter=step.lora is not None)
        return attach(lm, step.lora, 0) if step.lora else fold(lm)

    exact = load("float32")

    def render(row: Example) -> checks.Conversation:
        if row.target == PAIR:
            return row.messages, exact.chat.answer_ids(row.messages[:-1], row.messages[-1].content)
        return row.messages, exact.chat.render(row.messages)

    limit = min(exact.context, step.max_tokens or exact.context)
    found = render_all(_examples(rows), render, lambda one: len(one[1].ids), limit, step.overlong).rows
    if len(found) < 2:
        raise ConfigError("fewer than two of the rows fit the context", hint="try more of them: -n 32")
    rendered = [row for _, row in found]
    yield checks.served_as_trained(exact.chat, found)
    yield checks.stops_are_learned(exact.chat, found)
    yield checks.shared_as_separate(exact, rendered)
    yield checks.accumulated_as_whole(exact, rendered)
    yield checks.resumed_as_uninterrupted(lambda: load(step.dtype), rendered)


def _examples(rows: Sequence[Example | PreferencePair]) -> list[Example]:
    """Conversations; of a pair one for each answer."""
    found = []
    for row in rows:
        if isinstance(row, Example):
            found.append(row)
            continue
        for side in (row.chosen, row.rejected):
            found.append(Example(row.id, (*row.prompt, Message("assistant", side)), target=PAIR, source=row.source))
    return found
