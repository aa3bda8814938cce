"""What a recipe will do, found without compute: ids, what is cached and why not, every check, predicted needs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from burnish import code
from burnish.errors import BurnishError, Problem, raise_all
from burnish.models.locate import fingerprint
from burnish.recipe.load import OUTSIDE, Node, Recipe
from burnish.steps.base import BASE, SUITE, Expectation, Holds, Step, View
from burnish.types import Example, PreferencePair
from burnish.workspace import Artifact, Manifest, Workspace, digest, file_digest

State = Literal["cached", "resume", "new"]


@dataclass(frozen=True)
class Planned:
    """One step of the plan."""

    node: Node
    id: str
    seed: int
    input_ids: dict[str, list[str]]
    outside: list[str]
    state: State
    why: str
    """Why it is not cached, where it was made before."""
    expectation: Expectation


class Plan:
    """A recipe against a store. Implements `steps.base.View`, so steps can check themselves."""

    def __init__(self, recipe: Recipe, store: Workspace) -> None:
        self.recipe, self.store = recipe, store
        self.steps: dict[str, Planned] = {}
        self.problems: list[Problem] = []
        self._before = _manifests_before(recipe.name, store)
        for node in recipe.nodes.values():
            self._check(node)
        if not self.problems:
            for node in recipe.nodes.values():
                self.steps[node.name] = self._plan(node)

    def raise_problems(self) -> None:
        """Raise `Problems` when a check found any."""
        raise_all(self.problems)

    # -- one step

    def _check(self, node: Node) -> None:
        document = self.recipe.document
        try:
            for problem in node.step.check(self.view(node)):
                where = document.where((*node.key, *filter(None, problem.where.split("."))))
                self.problems.append(replace(problem, where=where))
        except BurnishError as error:
            self.problems.append(Problem(error.what, error.where or document.where(node.key), error.hint))

    def _plan(self, node: Node) -> Planned:
        seed = node.step.own_seed(self.recipe.config.seed, node.name)
        inputs = {label: [self._content(name) for name in names] for label, names in node.inputs.items()}
        outside = [*node.step.outside(), *map(file_digest, own_files(node.step.model_dump(mode="json")))]
        version = code.version(type(node.step).__module__)
        made_from = [node.step.use, node.step.content(), inputs, outside, seed, version]
        artifact_id = f"{node.step.kind}-{digest(*made_from)[:20]}"
        state: State = "new"
        why = ""
        made = self.store.find(artifact_id)
        if made:
            state = "cached"
        else:
            state = "resume" if self.store.unfinished(artifact_id) else "new"
            why = self._why_not(node, inputs, seed, version)
        expectation = node.step.expect(self.view(node))
        if made and isinstance(rows := made.manifest.summary.get("rows"), int):
            expectation = replace(expectation, rows=float(rows))  # known now, for the steps behind it too
        return Planned(node, artifact_id, seed, inputs, outside, state, why, expectation)

    def _content(self, name: str) -> str:
        """What stands for an input in the id: the artifact's id, or the fingerprint of a model from outside."""
        if name.startswith(OUTSIDE):
            return fingerprint(name[len(OUTSIDE) :])
        return self.steps[name].id

    def _why_not(self, node: Node, inputs: dict[str, list[str]], seed: int, version: str) -> str:
        before = self._before.get(node.name)
        if before is None:
            return ""
        if before.inputs != inputs:
            changed = [label for label in inputs if before.inputs.get(label) != inputs[label]]
            return "changed input: " + ", ".join(changed or ["fewer inputs"])
        content = json.loads(json.dumps(node.step.content(), default=str))
        changed = sorted(key for key in {*content, *before.config} if content.get(key) != before.config.get(key))
        reasons = [f"changed setting: {', '.join(changed)}"] if changed else []
        reasons += ["changed seed"] if before.seed != seed else []
        reasons += ["changed code"] if before.code != version else []
        return "; ".join(reasons) or "changed file"

    def view(self, node: Node) -> View:
        """The plan as one step sees it."""
        return _NodeView(self, node)

    # -- what the views share

    @cached_property
    def suites(self) -> dict[str, Step]:
        return {name[len(SUITE) :]: node.step for name, node in self.recipe.nodes.items() if name.startswith(SUITE)}

    @property
    def looks(self) -> dict[str, int]:
        """The held-out suites by artifact id, with the looks they allow."""
        allowed = {name: getattr(step, "looks", None) for name, step in self.suites.items()}
        return {self.steps[SUITE + name].id: looks for name, looks in allowed.items() if looks is not None}

    def artifact(self, name: str) -> Artifact | None:
        """The finished artifact of a step, where the plan knows its id already."""
        planned = self.steps.get(name)
        return self.store.find(planned.id) if planned else None

    @cached_property
    def _speeds(self) -> dict[tuple[str, int | None], list[float]]:
        found: dict[tuple[str, int | None], list[float]] = {}
        for artifact in self.store.artifacts():
            summary, seconds = artifact.manifest.summary, artifact.manifest.seconds
            if summary.get("work") and seconds > 0:
                key = (artifact.manifest.use, summary.get("model_bytes"))
                found.setdefault(key, []).append(summary["work"] / seconds)
        return found

    def speed(self, use: str, model_bytes: int | None) -> float | None:
        """Median work a second of the last ten results of a step type with a model of this size in this store."""
        seen = self._speeds.get((use, model_bytes), [])
        return statistics.median(seen[-10:]) if seen else None

    def unique(self) -> Iterator[Planned]:
        """The planned steps, each artifact once: two names may stand for one result."""
        seen: set[str] = set()
        for planned in self.steps.values():
            if planned.id not in seen:
                seen.add(planned.id)
                yield planned


class _NodeView:
    """The plan as one step sees it: references as they are written in its settings."""

    def __init__(self, plan: Plan, node: Node) -> None:
        self._plan, self._node = plan, node

    @property
    def base(self) -> str:
        return self._plan.recipe.config.base

    @property
    def suites(self) -> Mapping[str, Step]:
        return self._plan.suites

    def _find(self, ref: str) -> Node | None:
        return self._plan.recipe.nodes.get(ref.removeprefix("$")) if ref.startswith(("$", SUITE)) else None

    def step(self, ref: str) -> Step | None:
        node = self._find(ref)
        return node.step if node else None

    def root(self, ref: str) -> str:
        node = self._find(ref)
        if node is None:
            return self.base if ref == BASE else ref
        models = [
            target for label, targets in node.inputs.items() if label in ("model", "models") for target in targets
        ]
        if not models:
            return self.base
        first = models[0]
        if first.startswith(OUTSIDE):
            return first[len(OUTSIDE) :]
        return _NodeView(self._plan, node).root(f"${first}")

    def certified(self, ref: str) -> frozenset[str]:
        node = self._find(ref)
        return node.step.certifies(_NodeView(self._plan, node)) if node else frozenset()

    def sample(self, ref: str) -> Sequence[Example | PreferencePair]:
        node = self._find(ref)
        try:
            return node.step.sample(_NodeView(self._plan, node)) if node else []
        except BurnishError:
            return []  # the step's own check says what is wrong with its data

    def holds(self, ref: str) -> Holds | None:
        node = self._find(ref)
        return node.step.holds(_NodeView(self._plan, node)) if node else None

    def expect(self, ref: str) -> Expectation:
        node = self._find(ref)
        if node is None:
            return Expectation()
        planned = self._plan.steps.get(node.name)
        return planned.expectation if planned else node.step.expect(_NodeView(self._plan, node))

    def speed(self, use: str, model_bytes: int | None = None) -> float | None:
        return self._plan.speed(use, model_bytes)


def own_files(settings: Any) -> list[Path]:
    """The users' own Python files that settings name as `./file.py:Class`, wherever in them."""
    if isinstance(settings, dict):
        return [path for pair in settings.items() for part in pair for path in own_files(part)]
    if isinstance(settings, list):
        return [path for item in settings for path in own_files(item)]
    named = isinstance(settings, str) and len(settings.splitlines()) == 1  # a report holds the whole recipe
    file, mark, _ = settings.rpartition(".py:") if named else ("", "", "")
    return [Path(f"{file}.py")] if mark and Path(f"{file}.py").is_file() else []


def _manifests_before(name: str, store: Workspace) -> dict[str, Manifest]:
    """The manifests of the last run of this recipe, by step name; for saying what has changed since."""
    found: dict[str, Manifest] = {}
    for folder in store.runs():
        plan: dict[str, Any] = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        if plan["recipe"] != name:
            continue
        for row in plan["steps"]:
            artifact = store.find(row["id"])
            if artifact is not None:
                found[row["step"]] = artifact.manifest
    return found
