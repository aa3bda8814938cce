"""A disk that is really full: one clear message, nothing half-written, and the same command goes on later."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import loop

SCRIPT = """
set -e
mount -t tmpfs -o size=160k none {store}
set +e
{burnish} run {recipe} --store {store}
echo "exit code $?"
for artifact in {store}/artifacts/*; do test -s $artifact/manifest.json || echo "half-written: $artifact"; done
mount -o remount,size=60m {store}
{burnish} run {recipe} --store {store}
echo "exit code $?"
"""


def _may_mount() -> bool:
    unshare = shutil.which("unshare")
    if unshare is None:
        return False
    trial = [unshare, "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(trial, capture_output=True).returncode == 0


@pytest.mark.skipif(not _may_mount(), reason="needs a mount of its own")
def test_a_full_disk_is_told_and_the_same_command_goes_on(tmp_path: Path) -> None:
    recipe = loop.write_loop(tmp_path)
    store = tmp_path / "store"
    store.mkdir()
    script = SCRIPT.format(store=store, recipe=recipe, burnish=f"{sys.executable} -m burnish")
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if "exit code" in line] == ["exit code 1", "exit code 0"]
    assert "half-written" not in done.stdout
    assert "the disk is full" in done.stderr and "--store" in done.stderr and "Traceback" not in done.stderr
    assert "suite:dev: cached" in done.stderr, "what was finished before the disk was full is kept"
