"""The sides of a benchmark: peers' environments, and processes that each print one line of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent


def interpreter(peer: str, packages: Sequence[str], *, ours_too: bool = True) -> str:
    """The Python of a peer's own environment, `.peers/NAME`, which is made when it is missing.

    `ours_too` holds the packages that both sides use to the versions of our constraints.
    """
    folder = ROOT / ".peers" / peer
    python = folder / "bin" / "python"
    ready = folder / "ready"  # an installation that was broken off leaves an interpreter behind
    if not ready.exists():
        print(f"making {peer}'s environment ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        constraints = ["-c", str(ROOT / "constraints.txt")] if ours_too else []
        subprocess.run([str(python), "-m", "pip", "install", "-q", *constraints, *packages], check=True)
        ready.touch()
    return str(python)


def measure(python: str, script: str, *arguments: object) -> dict[str, Any]:
    """The JSON line that a script prints, run in a process of its own. Ends the benchmark when it fails."""
    command = [python, str(HERE / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[1:])} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
