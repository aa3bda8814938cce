"""`burnish doctor`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import typer

from burnish.cli.options import AsJson, StorePath, open_store, print_json
from burnish.errors import BurnishError


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    name: str
    ok: bool
    text: str


def command(store: StorePath = None, as_json: AsJson = False) -> None:
    """Say what this machine offers and what Burnish will use; exits with 1 when something is missing."""
    findings = [*_machine(), *_packages(), _store(store), _pebble()]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            print(f"{'ok ' if finding.ok else 'BAD'}  {finding.name:<{width}}  {finding.text}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _machine() -> Iterator[Finding]:
    from burnish import hardware
    from burnish.models import native

    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", sys.version_info >= (3, 11), version)
    device, why = hardware.device()
    yield Finding("device", True, f"{device}: {why}")
    dtype, why = hardware.dtype("auto", device)
    yield Finding("dtype", True, f"{dtype}: {why}")
    for name, value in hardware.describe().items():
        yield Finding(name, True, str(value))
    yield Finding("kernels", True, native.describe())


def _packages() -> Iterator[Finding]:
    from burnish.recipe.run import versions

    for name, version in versions().items():
        yield Finding(name, version != "not installed", version)


def _store(path: StorePath) -> Finding:
    try:
        root = open_store(path).root
        free = shutil.disk_usage(root).free / 2**30
    except BurnishError as error:
        return Finding("store", False, error.what)
    return Finding("store", free > 1, f"{root}, {free:.0f} GiB free")


def _pebble() -> Finding:
    from burnish.models.load import check
    from burnish.models.locate import fingerprint

    try:
        problems = check("pebble")
        if problems:
            return Finding("pebble", False, problems[0].what)
        return Finding("pebble", True, f"embedded base model, fingerprint {fingerprint('pebble')[:12]}")
    except BurnishError as error:
        return Finding("pebble", False, error.what)
