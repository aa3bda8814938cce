"""What several runs of one recipe, each with its own seed, say together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from burnish.evaluation.stats import Estimate, across_seeds
from burnish.recipe.run import RunResult


@dataclass(frozen=True, slots=True)
class Across:
    """One number over the seeds."""

    suite: str
    what: str
    """The model, or the model with a strategy and its number of samples."""
    values: tuple[float, ...]
    """One for each seed."""
    estimate: Estimate


def across(results: Sequence[RunResult]) -> list[Across]:
    """Every model's overall score on every suite, and every curve's points, with 95 % intervals over the runs."""
    found: dict[tuple[str, str], list[float]] = {}
    for result in results:
        for suite, what, value in _values(result):
            found.setdefault((suite, what), []).append(value)
    return [
        Across(suite, what, tuple(values), across_seeds(values))
        for (suite, what), values in found.items()
        if len(values) == len(results)
    ]


def _values(result: RunResult) -> Iterator[tuple[str, str, float]]:
    names = {artifact.id: name for name, artifact in reversed(result.artifacts.items())}
    for name, artifact in result.artifacts.items():
        summary, manifest = artifact.manifest.summary, artifact.manifest
        if manifest.kind == "comparison":
            for model, suites in summary["table"].items():
                for suite, row in suites.items():
                    yield suite, model, row["reports"][-1]["mean"]
        elif manifest.kind == "curves":
            suite = names.get(manifest.inputs["suite"][0], "").removeprefix("suite:")
            model = names.get(manifest.inputs["model"][0], "base")
            for strategy, points in summary["curves"].items():
                for point in points:
                    yield f"{suite}, {name}", f"{model}, {strategy} of {point['n']}", point["accuracy"]["mean"]
