"""`burnish compare`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from burnish.cli.options import AsJson, StorePath, find_artifact, model_path, open_store, print_json
from burnish.errors import ConfigError
from burnish.workspace import Workspace, write_atomic

if TYPE_CHECKING:
    from burnish.evaluation.comparison import Compared, Flip
    from burnish.evaluation.runner import Outcome

OUTCOMES = "outcomes.jsonl"


def command(
    what: Annotated[
        list[str],
        typer.Argument(
            help="Models (with --tasks or --data), or results: a run, RUN:SCORES, artifacts, outcomes.jsonl."
        ),
    ],
    tasks: Annotated[str, typer.Option(help="Tasks that models are scored on, with commas.")] = "",
    data: Annotated[Path | None, typer.Option(help="A JSONL file of your own questions and answers.")] = None,
    suite: Annotated[str, typer.Option(help="Which suite of a run; its first when left out.")] = "",
    limit: Annotated[int | None, typer.Option(min=2, help="Use so many items of each task, drawn by a seed.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    flips: Annotated[int, typer.Option(min=0, help="List so many changed answers of each model.")] = 0,
    html: Annotated[
        Path | None, typer.Option(help="Also write a page with the picture and the changed answers.")
    ] = None,
    store: StorePath = None,
    as_json: AsJson = False,
) -> None:
    """Say whether models differ: each against the first one, item by item.

    Prints gains with intervals, tests adjusted for their number, tasks that got worse (the alignment tax), unscored
    answers, and how many items it would take to see one point.

    \b
    burnish compare quickstart                                 all models of a run
    burnish compare base-model ./sft ./dpo --tasks pebble-arithmetic,pebble-facts --html gains.html
    burnish compare a/outcomes.jsonl b/outcomes.jsonl --flips 10
    """
    from burnish.evaluation.comparison import compare_models
    from burnish.evaluation.report.compared import comparison_page, lines, sentences

    opened = open_store(store)
    if suite and (tasks or data):
        raise ConfigError("--suite names a suite of a run, and --tasks and --data score models now",
                          hint="leave one of them out")  # fmt: skip
    if tasks or data:
        answers = _measured(opened, what, tasks, data, limit, max_tokens)
    else:
        answers = _finished(opened, what, suite)
    models = compare_models(answers)
    if html:
        write_atomic(html, comparison_page(" · ".join(answers), models))
    if as_json:
        print_json([_row(one, flips) for one in models])
        return
    for line in [*lines(models), "", *sentences(models)]:
        print(line)
    for one in models[1:]:
        for flip in one.flips[:flips]:
            print(f"\n{one.model} {flip.id}: {_graded(flip.before)}\n  now {_graded(flip.after)}")
    if html:
        print(f"page: {html}")


def _graded(outcome: Outcome) -> str:
    return f"{outcome.score.value:g} {outcome.text[:200]!r}"


def _row(one: Compared, flips: int) -> dict[str, Any]:
    gains = [{**asdict(gain), "finding": gain.finding} for gain in one.gains]
    return {"model": one.model, "reports": [asdict(row) for row in one.reports], "gains": gains,
            "regressions": [gain.task for gain in one.regressions], "flipped": len(one.flips),
            "flips": [_flip(flip) for flip in one.flips[:flips]]}  # fmt: skip


def _flip(flip: Flip) -> dict[str, Any]:
    return {"id": flip.id, "task": flip.task, "before": asdict(flip.before), "after": asdict(flip.after)}


def _measured(store: Workspace, models: list[str], tasks: str, data: Path | None, limit: int | None,
              max_tokens: int) -> dict[str, list[Outcome]]:  # fmt: skip
    """Answers of models, scored now or found in the store."""
    from burnish.cli.scoring import chosen_tasks, scored

    chosen = chosen_tasks(tasks, limit, data)
    table = scored(store, [model_path(store, name) for name in models], chosen, max_tokens=max_tokens).table
    found = [_answers(store, row["scores"]) for row in table.values()]
    return dict(zip(models, found, strict=True))


def _answers(store: Workspace, scores: str) -> list[Outcome]:
    from burnish.evaluation.runner import read_outcomes

    artifact = store.find(scores)
    if artifact is None:
        raise ConfigError(f"the answers {scores[:12]} are no longer in the store", hint="run the recipe again")
    return read_outcomes(artifact.file(OUTCOMES))


def _finished(store: Workspace, what: list[str], suite: str) -> dict[str, list[Outcome]]:
    """Answers that lie in files or in the store."""
    from burnish.evaluation.runner import read_outcomes

    if len(what) == 1:
        return _of_run(store, what[0], suite)
    answers = {}
    for name in what:
        path = Path(name)
        if not path.is_file():
            artifact = find_artifact(store, name)
            if artifact is None or artifact.manifest.kind != "scores":
                raise ConfigError(f"'{name}' holds no answers to a suite", hint="to score models, say on what: --tasks"
                                  " NAME,NAME or --data FILE")  # fmt: skip
            path = artifact.file(OUTCOMES)
        if name in answers:
            raise ConfigError(f"'{name}' is named twice", hint="name each once")
        answers[name] = read_outcomes(path)
    return answers


def _of_run(store: Workspace, name: str, suite: str) -> dict[str, list[Outcome]]:
    """All models that a run has compared on a suite."""
    from burnish.recipe.run import run_artifacts
    from burnish.registry import suggest

    made = run_artifacts(store, store.run(name)).values()
    tables = [artifact.manifest.summary["table"] for artifact in made if artifact.manifest.kind == "comparison"]
    found: dict[str, dict[str, str]] = {}
    for table in tables:
        for model, suites in table.items():
            for label, row in suites.items():
                found.setdefault(label, {}).setdefault(model, row["scores"])
    if not found:
        raise ConfigError(f"run '{name}' compares no models", hint="give the recipe an `evaluate` step")
    label = suite or next(iter(found))
    if label not in found:
        raise ConfigError(f"run '{name}' measured nothing on '{suite}'", hint=suggest(suite, list(found)))
    return {model: _answers(store, scores) for model, scores in found[label].items()}
