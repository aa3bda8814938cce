"""What several verbs share: common options, the store, and names that stand for artifacts."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish.errors import ConfigError
from burnish.models.locate import TRUST, is_url
from burnish.registry import suggest
from burnish.workspace import Artifact, Workspace

STORE = "BURNISH_STORE"

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, such as recipes/quickstart.yaml.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting: --set steps.sft.train.epochs=2. Repeatable."),
]
StorePath = Annotated[
    Path | None,
    typer.Option("--store", help=f"Folder of artifacts and runs; default .burnish here, or ${STORE}."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def open_store(path: Path | None) -> Workspace:
    """The store that was asked for."""
    return Workspace(path or Path(os.environ.get(STORE, ".burnish")))


def print_json(value: Any) -> None:
    """Print a result for other programs."""
    print(json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str))


def _finite(value: Any) -> Any:
    """JSON has no word for infinity: a standard error of one item, say, becomes null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def find_artifact(store: Workspace, name: str) -> Artifact | None:
    """The artifact called `RUN:STEP` or by its id; None when the name has neither form.

    Raises ConfigError for a run that has no such step.
    """
    run, colon, step = name.partition(":")
    if not colon:
        return store.find(name) if (store.root / "artifacts" / name).is_dir() and "/" not in name else None
    from burnish.recipe.run import run_artifacts

    artifacts = run_artifacts(store, store.run(run))
    if step not in artifacts:
        raise ConfigError(f"run '{run}' has no finished step '{step}'", hint=suggest(step, list(artifacts)))
    return artifacts[step]


def model_path(store: Workspace, name: str, kinds: Sequence[str] = ("model",)) -> str:
    """What to load for a model named on the command line: `pebble`, a folder, a Hub id, an artifact or `RUN:STEP`.

    An artifact must be of one of `kinds`. A server's address stays as it is.
    """
    if Path(name).exists() or name.startswith(TRUST) or is_url(name):
        return name
    artifact = find_artifact(store, name)
    if artifact is None:
        return name
    if artifact.manifest.kind not in kinds:
        raise ConfigError(f"{name} is a {artifact.manifest.kind}, not a {kinds[0]}", hint="`burnish list artifacts`")
    from burnish.steps.base import MODEL

    return str(artifact.file(MODEL))


def judge_setting(option: str, text: str) -> Any:
    """How a judge is asked, from an option's YAML. Raises ConfigError when it is no judge's setting."""
    import yaml
    from pydantic import ValidationError

    from burnish.judges import JUDGES

    example = "'{pointwise: {by: logprob}}'"
    try:
        choice = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{option} {text}: not valid YAML", hint=example) from None
    try:
        JUDGES.build(choice)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{option} {text}: {place}: {first['msg']}", hint=example) from None
    return choice
