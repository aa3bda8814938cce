"""Imports point down: each part may use the parts below it, never the ones above."""

from __future__ import annotations

import subprocess
import sys

import pytest

from burnish import code

LAYERS = [
    {"types", "errors", "log", "rng", "code", "hardware", "parallel"},
    {"registry", "workspace"},
    {"config", "ledger"},
    {"models", "engines", "objectives", "merging"},
    {"judges", "rewards"},
    {"pebble"},
    {"data", "evaluation", "test_time"},
    {"training"},
    {"steps"},
    {"recipe"},
    {"cli", "studio"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

WITHIN = {("log", "parallel"), ("engines", "models"), ("objectives", "models"), ("merging", "models"),
          ("judges", "rewards"), ("evaluation", "data"), ("test_time", "evaluation"), ("cli", "studio")}  # fmt: skip
"""Neighbours on one layer that may be used: (user, used)."""


def modules() -> list[str]:
    files = sorted(code.PACKAGE.rglob("*.py"))
    names = [".".join(("burnish", *file.relative_to(code.PACKAGE).with_suffix("").parts)) for file in files]
    return [name.removesuffix(".__init__") for name in names]


def imported(module: str) -> set[str]:
    """What a module imports by statement; rows of registries are text and may point anywhere."""
    return {name for name in code.statements(module) if code.source(name)}


@pytest.mark.parametrize("module", modules())
def test_imports_point_down(module: str) -> None:
    part = module.split(".")[1] if "." in module else ""
    if part in ("", "__main__"):
        return
    for name in sorted(imported(module)):
        used = name.split(".")[1] if "." in name else part
        below = RANK[used] < RANK[part] or used == part or (part, used) in WITHIN
        message = (
            f"{module} imports {name}, which is not below it: move what both need down, or pass it in as an argument"
        )
        assert below, message


@pytest.mark.parametrize(
    "folder", ["objectives", "data.filters", "merging.methods", "rewards", "test_time.strategies", "steps"]
)
def test_siblings_do_not_import_each_other(folder: str) -> None:
    """Plug-in files stand alone; what they share is in parts.py, base.py or rendering.py."""
    shared = {"parts", "base", "rendering", "estimate"}
    kinds = {"measure", "training", "sft", "merge"} if folder == "steps" else set()  # settings that other steps extend
    prefix = f"burnish.{folder}."
    for module in (name for name in modules() if name.startswith(prefix)):
        for name in imported(module):
            if name.startswith(prefix) and name != module:
                assert name.removeprefix(prefix) in shared | kinds, f"{module} imports its sibling {name}"


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "steps"]])
def test_help_and_list_import_no_torch(arguments: list[str]) -> None:
    script = (
        "import sys; from burnish.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules, 'a heavy import'"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
