"""What a step is: settings, the inputs they name, checks that need no compute, an estimate, and the work itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

from burnish.config import Config, Ref, refs_of
from burnish.errors import Problem
from burnish.rng import seed_for
from burnish.types import Example, PreferencePair
from burnish.workspace import SCRATCH, Artifact, Workspace

Holds = Literal["examples", "pairs"]
Phase = Literal["data", "training", "evaluation", "report"]
DatasetRef = Annotated[str, Ref("dataset")]
ModelRef = Annotated[str, Ref("model")]
ModelRefs = Annotated[list[str], Ref("model")]

SUITE = "suite:"
"""Prefix of a reference to a frozen suite."""
BASE = "base"
"""The reference to the model that a recipe starts from, the baseline of every comparison."""
BASELINE = "baseline@"
"""Prefix of the steps that measure the base on each suite before all else."""
MODEL = "model"
"""The folder inside a model artifact that any Hugging Face program can load."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a step will need, as the plan prints it. None: cannot be said before its inputs exist."""

    rows: float | None = None
    seconds: float | None = None
    memory_gib: float | None = None
    disk_mib: float | None = None


class View(Protocol):
    """What a step may ask the plan while it checks itself: all of it without compute."""

    @property
    def base(self) -> str: ...
    @property
    def suites(self) -> Mapping[str, Step]: ...
    def step(self, ref: str) -> Step | None:
        """The step behind a reference; None for a model from outside."""

    def root(self, ref: str) -> str:
        """The folder or Hub id whose tokenizer and architecture a model reference has."""

    def certified(self, ref: str) -> frozenset[str]:
        """The suites that the data behind a reference was checked against."""

    def sample(self, ref: str) -> Sequence[Example | PreferencePair]:
        """A few rows of the data behind a reference; empty when they do not exist yet."""

    def holds(self, ref: str) -> Holds | None:
        """Whether the data behind a reference are examples or preference pairs."""

    def expect(self, ref: str) -> Expectation:
        """The expectation of the step behind a reference."""

    def speed(self, use: str, model_bytes: int | None = None) -> float | None:
        """Work a second that this store has measured for a step type and size of model (`work` in summaries)."""


@dataclass(slots=True)
class Usage:
    """Tokens and calls that a step used."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    trained_tokens: int = 0
    calls: int = 0


@dataclass
class Running:
    """What a step's work is given besides its inputs."""

    name: str
    folder: Path
    """Where the artifact's files go; holds the leftovers of a killed attempt."""
    seed: int
    store: Workspace
    looks: Mapping[str, int] = field(default_factory=dict)
    """Held-out suites by id: how many scores of models other than the base they may ever give."""
    usage: Usage = field(default_factory=Usage)

    @property
    def scratch(self) -> Path:
        """Where a step keeps what a resumed attempt need not do again, and nobody needs afterwards."""
        folder = self.folder / SCRATCH
        folder.mkdir(exist_ok=True)
        return folder


@dataclass(frozen=True)
class Inputs:
    """The resolved inputs of a step: artifacts, and models from outside as their reference."""

    found: Mapping[str, Sequence[Artifact | str]]
    names: Mapping[str, Sequence[str]]
    """The names the recipe uses for them, for messages and tables."""

    def artifact(self, name: str) -> Artifact:
        item = self.found[name][0]
        assert isinstance(item, Artifact)
        return item

    def artifacts(self, name: str) -> list[Artifact]:
        return [item for item in self.found.get(name, ()) if isinstance(item, Artifact)]

    def models(self, name: str) -> list[str]:
        """Folders or Hub ids of the models of this input, ready to load."""
        return [str(item.file(MODEL)) if isinstance(item, Artifact) else item for item in self.found[name]]

    def model(self, name: str) -> str:
        return self.models(name)[0]


class Step(Config):
    """Base of all step types."""

    use: str
    """The step type; `burnish list steps` shows them."""

    kind: ClassVar[str]
    """The artifact it makes: dataset, model, suite, scores, comparison, curves or report."""
    phase: ClassVar[Phase]
    in_all_processes: ClassVar[bool] = False
    """Whether all processes of a run under torchrun work on it at once; otherwise the leader does."""

    def references(self, name: str) -> dict[str, list[str]]:
        """Input name -> what the settings refer to: `$step`, `suite:NAME`, `base`, a folder or a Hub id."""
        found: dict[str, list[str]] = {}
        for key in refs_of(type(self)):
            held = getattr(self, key)
            if held is not None:
                found[key] = [held] if isinstance(held, str) else list(held)
        return found

    def parts(self, name: str) -> dict[str, Step]:
        """Steps that this one is made of, by name; they are planned, cached and resumed on their own."""
        return {}

    def content(self) -> dict[str, Any]:
        """The settings that decide the result, references aside."""
        return self.model_dump(mode="json", exclude=set(refs_of(type(self))))

    def outside(self) -> list[str]:
        """Content hashes of files that the settings name."""
        return []

    def own_seed(self, recipe_seed: int, name: str) -> int:
        """The seed of the step called `name`; adding a step never changes another's."""
        return seed_for(recipe_seed, name)

    def check(self, view: View) -> Iterator[Problem]:
        """Problems that can be found before any compute. `where` is a key below the step, such as `data`."""
        return iter(())

    def certifies(self, view: View) -> frozenset[str]:
        """The suites that this step's data is known to be clean of."""
        data = [ref for key, mark in refs_of(type(self)).items() if mark.kind == "dataset"
                for ref in self.references("").get(key, [])]  # fmt: skip
        found = [view.certified(ref) for ref in data]
        return frozenset.intersection(*found) if found else frozenset()

    def sample(self, view: View) -> Sequence[Example | PreferencePair]:
        """A few of the rows it will make, as far as they can be known before it ran."""
        return []

    def holds(self, view: View) -> Holds | None:
        """What a dataset step's rows are."""
        return "examples" if self.kind == "dataset" else None

    def expect(self, view: View) -> Expectation:
        """What the step will need."""
        return Expectation()

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        """Do the work: write the artifact's files into `run.folder` and return the manifest's summary."""
        raise NotImplementedError
