"""`burnish eval MODEL --lm-eval TASKS`: tasks of lm-evaluation-harness through our engine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.cli.options import print_json
from burnish.errors import ConfigError
from burnish.workspace import write_atomic

if TYPE_CHECKING:
    from burnish.evaluation.runner import Outcome


@dataclass(frozen=True)
class Asked:
    """What the command line says of the tasks."""

    tasks: tuple[str, ...]
    shots: int | None = None
    limit: int | None = None
    chat: bool = False
    own: Path | None = None
    save: Path | None = None


def run_harness(models: Sequence[tuple[str, str]], asked: Asked, as_json: bool) -> None:
    """Score models, each (name, what to load), and compare them with the first one document by document."""
    try:
        import lm_eval  # noqa: F401
    except ImportError:
        raise ConfigError("--lm-eval needs lm-evaluation-harness", hint="pip install 'burnish[bench]'") from None
    from burnish.engines.local import open_engine
    from burnish.evaluation.comparison import compare_models
    from burnish.evaluation.harness import evaluate_tasks, outcomes_of
    from burnish.evaluation.report.compared import lines, sentences

    results: dict[str, dict[str, Any]] = {}
    answers: dict[str, list[Outcome]] = {}
    for name, ref in models:
        found = evaluate_tasks(open_engine(ref), asked.tasks, shots=asked.shots, limit=asked.limit, chat=asked.chat,
                               own=asked.own)  # fmt: skip
        results[name], answers[name] = found["results"], outcomes_of(found)
        if asked.save:
            write_atomic(asked.save / f"{len(answers)}.jsonl", "".join(
                json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in answers[name]))  # fmt: skip
    if as_json:
        print_json(results)
        return
    for name, rows in results.items():
        print(name)
        for line in _lines(rows):
            print(line)
    if len(answers) > 1:
        compared = compare_models(answers)
        for line in [*lines(compared), "", *sentences(compared)]:
            print(line)


def _lines(results: dict[str, Any]) -> Iterator[str]:
    """A line for each metric of each task, with its standard error."""
    for task, row in results.items():
        for key, value in row.items():
            metric, _, how = key.partition(",")
            if not how or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = row.get(f"{metric}_stderr,{how}")
            shown = f" ± {1.96 * error:.4f}" if isinstance(error, float) else ""
            yield f"  {task:<40} {metric + ('' if how == 'none' else ' ' + how):<24} {value:8.4f}{shown}"
