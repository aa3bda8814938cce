"""Run a plan: each step once, under its lock, skipped when finished, resumed when killed."""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from burnish import __version__, code, parallel
from burnish.config import origins
from burnish.log import listening, note
from burnish.recipe.load import OUTSIDE
from burnish.recipe.plan import Plan, Planned
from burnish.steps.base import Inputs, Running
from burnish.workspace import Artifact, Manifest, Workspace, begin_attempt, write_atomic

PACKAGES = ("torch", "transformers", "peft", "safetensors", "tokenizers", "numpy", "pydantic")


@dataclass(frozen=True)
class RunResult:
    """What a run left behind."""

    folder: Path
    artifacts: dict[str, Artifact]
    """Step name -> artifact."""
    made: list[str]
    """Names of the steps that were worked on; the others were cached."""
    report: Path | None


def run_plan(plan: Plan) -> RunResult:
    """Do what a plan says. Raises the plan's problems, or what a step raises; all that was finished stays finished.

    Of several processes the leader does all of it; the others help with what trains, see `help_plan`.
    """
    plan.raise_problems()
    folder = plan.store.new_run(plan.recipe.name)
    _open_run(plan, folder)
    log = folder / "log.txt"
    artifacts: dict[str, Artifact] = {}
    made: list[str] = []
    with listening(_appender(log)):
        for count, (name, planned) in enumerate(plan.steps.items(), start=1):
            label = f"[{count}/{len(plan.steps)}] {name}"
            artifact, fresh = _make(plan, planned, artifacts, label)
            artifacts[name] = artifact
            if fresh:
                made.append(name)
    parallel.told(None)
    return RunResult(folder, artifacts, made, _copy_report(plan, artifacts, folder))


def help_plan(plan: Plan) -> None:
    """Take a share of every training step that the leader works on, until it has done all steps."""
    plan.raise_problems()
    while (task := parallel.told(None)) is not None:
        name, folder = task
        planned = plan.steps[name]
        artifacts = {other: found for other in plan.steps if (found := plan.artifact(other))}
        running = Running(name, Path(folder), planned.seed, plan.store, plan.looks)
        planned.node.step.run(_inputs(planned, artifacts), running)


def _appender(path: Path) -> Callable[[str], None]:
    def append(text: str) -> None:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(f"{time.strftime('%H:%M:%S')} {text}\n")

    return append


def _make(plan: Plan, planned: Planned, artifacts: dict[str, Artifact], label: str) -> tuple[Artifact, bool]:
    store = plan.store
    finished = store.find(planned.id)
    if finished is None:
        with store.lock(planned.id):
            finished = store.find(planned.id)  # another run may have made it while this one waited
            if finished is None:
                note(f"{label}: {'resuming' if store.unfinished(planned.id) else planned.node.step.use}")
                _work(plan, planned, artifacts)
                artifact = store.find(planned.id)
                assert artifact is not None
                took = artifact.manifest.seconds
                note(f"{label}: done in {took:.1f} s{_headline(artifact.manifest.summary)}")
                return artifact, True
    note(f"{label}: cached{_headline(finished.manifest.summary)}")
    return finished, False


def _headline(summary: dict[str, Any]) -> str:
    return f" - {summary['headline']}" if "headline" in summary else ""


def _work(plan: Plan, planned: Planned, artifacts: dict[str, Artifact]) -> None:
    step, node = planned.node.step, planned.node
    inputs = _inputs(planned, artifacts)
    with plan.store.building(planned.id) as building:
        spent, attempts = begin_attempt(building.folder)
        running = Running(node.name, building.folder, planned.seed, plan.store, plan.looks)
        began = time.perf_counter()
        if step.in_all_processes:
            parallel.told((node.name, str(building.folder)))
        summary = step.run(inputs, running)
        seconds = spent + time.perf_counter() - began
        building.manifest = Manifest(
            id=planned.id,
            kind=step.kind,
            use=step.use,
            step=node.name,
            config=step.content(),
            inputs=planned.input_ids,
            seed=planned.seed,
            code=code.version(type(step).__module__),
            versions=versions(),
            phase=step.phase,
            seconds=round(seconds, 3),
            usage=asdict(running.usage),
            made_at=time.strftime("%Y-%m-%dT%H:%M:%S"),
            attempts=attempts,
            template=summary.pop("template", ""),
            certified=summary.pop("certified", []),
            summary=summary,
        )


def _inputs(planned: Planned, artifacts: dict[str, Artifact]) -> Inputs:
    node = planned.node
    found: dict[str, list[Artifact | str]] = {
        label: [name[len(OUTSIDE) :] if name.startswith(OUTSIDE) else artifacts[name] for name in names]
        for label, names in node.inputs.items()
    }
    return Inputs(found, {label: [_spoken(name) for name in names] for label, names in node.inputs.items()})


def _spoken(name: str) -> str:
    return name[len(OUTSIDE) :] if name.startswith(OUTSIDE) else name


def versions() -> dict[str, str]:
    """Versions of the packages that can change a result."""
    found = {"burnish": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _open_run(plan: Plan, folder: Path) -> None:
    """Write what the run is about before it starts, so that a killed run can be read too."""
    recipe = plan.recipe
    settings = origins(recipe.config, recipe.document)
    for node in recipe.nodes.values():
        settings |= {
            key.replace(".".join(map(str, node.key)), f"steps.{node.name}", 1): value
            for key, value in origins(node.step, recipe.document, node.key).items()
        }
    steps = [
        {"step": name, "id": planned.id, "use": planned.node.step.use, "state": planned.state, "why": planned.why}
        for name, planned in plan.steps.items()
    ]
    (folder / "recipe.yaml").write_text(recipe.text, encoding="utf-8")
    write_atomic(folder / "resolved.json", json.dumps(settings, indent=2, ensure_ascii=False, default=str) + "\n")
    environment = {"versions": versions(), "platform": platform.platform(), "machine": platform.machine()}
    write_atomic(folder / "environment.json", json.dumps(environment, indent=2) + "\n")
    write_atomic(folder / "plan.json", json.dumps({"recipe": recipe.name, "steps": steps}, indent=2) + "\n")


def _copy_report(plan: Plan, artifacts: dict[str, Artifact], folder: Path) -> Path | None:
    for name, planned in plan.steps.items():
        if planned.node.step.kind == "report":
            for file in ("report.html", "report.md"):
                shutil.copyfile(artifacts[name].file(file), folder / file)
            return folder / "report.html"
    return None


def run_artifacts(store: Workspace, folder: Path) -> dict[str, Artifact]:
    """The finished artifacts of a run, by step name."""
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    found = {row["step"]: store.find(row["id"]) for row in plan["steps"]}
    return {name: artifact for name, artifact in found.items() if artifact is not None}
