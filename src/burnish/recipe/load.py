"""From YAML to a graph of steps: rounds written out, implicit steps added, names resolved, all problems at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from burnish.config import Config, Document, Key, override, read_yaml, refs_of, validate
from burnish.errors import BurnishError, Problem, Problems, raise_all
from burnish.registry import suggest
from burnish.steps import STEPS
from burnish.steps.base import BASE, BASELINE, SUITE, Step
from burnish.steps.measure import Measure

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
REFERENCE = re.compile(r"\$([A-Za-z][\w.@/-]*)")
OUTSIDE = "model:"
"""Prefix of an input that is a model from outside the store."""
INNER_USES = {"suite", "measure"}
"""Step types that recipes get by other means than `use:`."""


class RecipeConfig(Config):
    """The top level of a recipe."""

    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][\w.-]*$")
    """Name of its runs: letters, digits, dots, dashes. The file's name when left out."""
    seed: int = 0
    """Every random choice of the recipe follows from it. Suites have their own, so that seeds share one test."""
    base: str = "pebble"
    """The model everything starts from and is compared with: `pebble`, a local folder, or a Hub id (`org/name`, or
    `org/name@revision`). `trust:` before it lets the model's own code run."""
    suites: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Evaluation items, frozen before anything trains: `dev: {tasks: [...]}`; `looks: 3` makes a suite held-out."""
    steps: dict[str, dict[str, Any]]
    """Named steps. `$name` refers to what another step makes."""


class RepeatConfig(Config):
    """A block of steps that is run for several rounds; what one round makes, the next starts from."""

    repeat: int = Field(ge=1)
    """How many rounds."""
    start: dict[str, str] = Field(default_factory=dict)
    """Names and what they refer to in the first round: `{model: $sft}`; inside the block they are `$model`."""
    steps: dict[str, dict[str, Any]]
    """The steps of one round. They may refer to steps outside, to each other and to the names in `start`."""
    carry: dict[str, str] = Field(default_factory=dict)
    """The same names for the next round: `{model: $dpo}`. After the block they are `$block.model`."""


@dataclass(frozen=True)
class Node:
    """One step of the written-out recipe."""

    name: str
    step: Step
    key: Key
    inputs: dict[str, list[str]]
    """Input name -> names of other nodes, or `model:REF` for models from outside the store."""


@dataclass(frozen=True)
class Recipe:
    """A loaded recipe. `nodes` are in an order in which each comes after what it needs."""

    name: str
    config: RecipeConfig
    document: Document
    text: str
    nodes: dict[str, Node] = field(default_factory=dict)


@dataclass(frozen=True)
class _Written:
    """A step as text: its name, settings with references renamed, and the YAML key it came from."""

    name: str
    raw: dict[str, Any]
    key: Key


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read and check a recipe. Raises ConfigError, or `Problems` with every mistake found."""
    document = read_yaml(path)
    override(document, overrides or [])
    return _checked(document, re.sub(r"[^\w.-]", "-", path.stem), path.read_text(encoding="utf-8"))


def recipe_from(name: str, data: dict[str, Any]) -> Recipe:
    """A recipe from plain data, for verbs that are short for one."""
    return _checked(Document(data, f"<{name}>"), name, yaml.safe_dump(data, sort_keys=False))


def _checked(document: Document, name: str, text: str) -> Recipe:
    config, problems = validate(RecipeConfig, document.data, document)
    raise_all(problems)
    assert isinstance(config, RecipeConfig)
    steps = dict(_suites(config, document, problems))
    for written in _write_out(config, document, problems):
        step = _build(written, document, problems)
        if step is not None:
            steps[written.name] = (step, written.key)
    raise_all(problems)
    name = config.name or name
    _add_implicit(config, steps)
    text = _as_run(text, document)
    _complete_reports(steps, name, text)
    nodes = _resolve(config, steps, document, problems)
    raise_all(problems)
    ordered = _ordered(nodes, document)
    return Recipe(name, config, document, text, ordered)


def _suites(
    config: RecipeConfig, document: Document, problems: list[Problem]
) -> Iterator[tuple[str, tuple[Step, Key]]]:
    for name, raw in config.suites.items():
        key: Key = ("suites", name)
        step, found = validate(STEPS.resolve("suite"), {"use": "suite", **raw}, document, key)
        problems.extend(found)
        if step is not None:
            yield SUITE + name, (step, key)


# --------------------------------------------------------------------------------------------------- rounds written out


def _write_out(config: RecipeConfig, document: Document, problems: list[Problem]) -> Iterator[_Written]:
    """The steps with each `repeat` block written out as `block.1.step`, `block.2.step`, ..."""
    renamed: dict[str, str] = {}
    blocks: dict[str, RepeatConfig] = {}
    for name, raw in config.steps.items():
        if not NAME.fullmatch(name):
            where = document.where(("steps", name))
            problems.append(Problem(f"'{name}' cannot name a step", where, "letters, digits, - and _, a letter first"))
        elif "repeat" in raw:
            block, found = validate(RepeatConfig, raw, document, ("steps", name))
            problems.extend(found)
            if block is not None and _carries(block, name, document, problems):
                blocks[name] = block
                renamed |= {f"{name}.{label}": end for label, end in _ends(name, block).items()}
    for name, raw in config.steps.items():
        if name in blocks:
            yield from _rounds(name, blocks[name], renamed)
        elif "repeat" not in raw:
            yield _Written(name, _rename(raw, renamed), ("steps", name))


def _carries(block: RepeatConfig, name: str, document: Document, problems: list[Problem]) -> bool:
    unknown = sorted(set(block.carry) ^ set(block.start))
    for label in unknown:
        where = document.where(("steps", name, "carry" if label in block.carry else "start", label))
        problems.append(Problem(f"'{label}' must be in both `start` and `carry`", where,
                                "start: {model: $sft} with carry: {model: $dpo}"))  # fmt: skip
    return not unknown


def _ends(name: str, block: RepeatConfig) -> dict[str, str]:
    """What the carried names refer to after the last round."""
    carried = dict(block.start)
    for count in range(1, block.repeat + 1):
        inner = {step: f"${name}.{count}.{step}" for step in block.steps}
        carried = {label: _rename(end, {**inner, **carried}) for label, end in block.carry.items()}
    return carried


def _rounds(name: str, block: RepeatConfig, renamed: dict[str, str]) -> Iterator[_Written]:
    carried = {label: _rename(start, renamed) for label, start in block.start.items()}
    for count in range(1, block.repeat + 1):
        inner = {step: f"${name}.{count}.{step}" for step in block.steps}
        names = {**renamed, **inner, **carried}
        for step, raw in block.steps.items():
            yield _Written(f"{name}.{count}.{step}", _rename(raw, names), ("steps", name, "steps", step))
        carried = {label: _rename(end, names) for label, end in block.carry.items()}


def _rename(value: Any, names: dict[str, str]) -> Any:
    """Replace each string that is exactly `$name` by what `names` says it refers to."""
    if isinstance(value, dict):
        return {key: _rename(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_rename(item, names) for item in value]
    if isinstance(value, str) and (match := REFERENCE.fullmatch(value)):
        return names.get(match[1], value)
    return value


# ------------------------------------------------------------------------------------------------------------- building


def _build(written: _Written, document: Document, problems: list[Problem]) -> Step | None:
    use = written.raw.get("use")
    allowed = [name for name in STEPS.names() if name not in INNER_USES]
    where = document.where((*written.key, "use"))
    if use is None:
        problems.append(Problem("key 'use' is missing", where, "step types: " + ", ".join(allowed)))
        return None
    if use not in allowed and ".py:" not in str(use):
        problems.append(Problem(f"there is no step '{use}'", where, STEPS.instead(str(use), allowed)))
        return None
    try:
        step_class = STEPS.resolve(str(use))
    except BurnishError as error:
        problems.append(Problem(error.what, where, error.hint))
        return None
    step, found = validate(step_class, written.raw, document, written.key)
    problems.extend(problem for problem in found if problem not in problems)
    return step if isinstance(step, Step) else None


def _add_implicit(config: RecipeConfig, steps: dict[str, tuple[Step, Key]]) -> None:
    """Parts of composed steps, the baseline before all else, and a report at the end."""
    for name, (step, key) in list(steps.items()):
        steps |= {part: (made, key) for part, made in step.parts(name).items()}
    measured = {step.suite: step for step, _ in steps.values() if isinstance(step, Measure) and step.model == BASE}
    for suite in config.suites if any(step.phase == "training" for step, _ in steps.values()) else ():
        # Where the recipe measures the base anyway, that is the baseline: the same settings make it the same artifact.
        step = measured.get(suite) or Measure(use="measure", model=BASE, suite=suite)
        steps[f"{BASELINE}{suite}"] = (step, ("suites", suite))
    if not any(step.kind == "report" for step, _ in steps.values()):
        steps["report"] = (STEPS.resolve("report")(use="report"), ("steps",))


def _as_run(text: str, document: Document) -> str:
    """The recipe's text with the overrides it was run with."""
    return "".join(f"# --set {assignment}\n" for assignment in document.assignments) + text


def _complete_reports(steps: dict[str, tuple[Step, Key]], title: str, recipe: str) -> None:
    """Give report steps the recipe's name and text where they have none of their own."""
    for name, (step, key) in steps.items():
        if step.kind == "report":
            own = {"title": title, "recipe": recipe, **step.model_dump(include={"title", "recipe"}, exclude_none=True)}
            steps[name] = (step.model_copy(update=own), key)


def _resolve(
    config: RecipeConfig, steps: dict[str, tuple[Step, Key]], document: Document, problems: list[Problem]
) -> dict[str, Node]:
    nodes = {}
    for name, (step, key) in steps.items():
        references = step.references(name)
        if step.kind == "report" and not references.get("of"):
            references["of"] = [f"${other}" for other, (made, _) in steps.items() if made.kind != "report"]
        kinds = {field_name: mark.kind for field_name, mark in refs_of(type(step)).items()}
        inputs: dict[str, list[str]] = {}
        for label, refs in references.items():
            found = [_target(ref, kinds.get(label, "any"), config, steps, document.where((*key, label)), problems)
                     for ref in refs]  # fmt: skip
            inputs[label] = [target for target in found if target is not None]
        nodes[name] = Node(name, step, key, inputs)
    return nodes


def _target(ref: str, kind: str, config: RecipeConfig, steps: dict[str, tuple[Step, Key]], where: str,
            problems: list[Problem]) -> str | None:  # fmt: skip
    """The node name or outside model that a reference means; None, with a problem noted, when it means nothing."""
    if ref.startswith(SUITE):
        if ref in steps:
            return ref
        known = list(config.suites)
        hint = suggest(ref[len(SUITE) :], known) if known else "add: suites: {dev: {tasks: [...]}}"
        problems.append(Problem(f"there is no suite '{ref[len(SUITE) :]}'", where, hint))
        return None
    if not ref.startswith("$"):
        if kind in ("model", "any") and ref not in steps:
            return OUTSIDE + (config.base if ref == BASE else ref)
        problems.append(Problem(f"'{ref}' is not a reference", where, f"write ${ref} for what step '{ref}' makes"))
        return None
    name = ref[1:]
    if name not in steps:
        visible = [known for known in steps if not known.startswith(SUITE) and "@" not in known]
        problems.append(Problem(f"there is no step '{name}'", where, suggest(name, visible)))
        return None
    made = steps[name][0].kind
    if kind not in ("any", "step", made):
        fitting = [other for other, (step, _) in steps.items() if step.kind == kind]
        hint = "steps that make one: " + (", ".join(fitting) or "none")
        problems.append(Problem(f"${name} makes a {made}, and a {kind} is needed here", where, hint))
        return None
    return name


def _ordered(nodes: dict[str, Node], document: Document) -> dict[str, Node]:
    """Topological order: suites, then the baseline, then the order of the file as far as it can be kept."""
    rank = {name: (0 if name.startswith(SUITE) else 1 if name.startswith(BASELINE) else 2) for name in nodes}
    ordered: dict[str, Node] = {}
    trail: list[str] = []

    def visit(name: str) -> None:
        if name in ordered or name not in nodes:
            return
        if name in trail:
            circle = [*trail[trail.index(name) :], name]
            where = document.where(nodes[name].key)
            raise Problems([Problem("these steps wait for each other: " + " -> ".join(circle), where,
                                    "one of them must start from something outside the circle")])  # fmt: skip
        trail.append(name)
        for needed in [item for items in nodes[name].inputs.values() for item in items]:
            visit(needed)
        trail.pop()
        ordered[name] = nodes[name]

    for name in sorted(nodes, key=lambda item: rank[item]):
        visit(name)
    places = {name: place for place, name in enumerate(ordered)}
    for node in ordered.values():
        if node.step.kind == "report":  # it tells the steps in the order in which they ran
            node.inputs["of"].sort(key=places.__getitem__)
    return ordered
