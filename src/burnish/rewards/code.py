"""A program in the answer, run against tests.

Every answer runs in a sandbox of its own (`sandbox.py`). Everywhere: a separate interpreter with nothing of this one in
its memory or environment, an empty temporary folder as current folder and home, no input, limits on processor time,
wall time, address space, size of files, open files and number of processes, and an end to all that it started.
On Linux, where a user may make namespaces, also: no network, no sight of other processes and no way to signal them,
and no file that can be written but those of its own folder (64 MiB, gone afterwards).

Not promised: a program can read what the user can read, can keep 32 processes busy until its time is up, and runs in
one interpreter with its tests. An early exit or a printed "ok" does not pass: a secret must come back after the last
test; but a program written to look for that secret in its own interpreter would find it. Started by root where no
namespaces can be made (some containers), nothing bounds the number of its processes but its time. Where something is
missing it is said once. Run answers of a model that you do not trust at all in a virtual machine.

Source: functional correctness by unit tests as in HumanEval, arXiv:2107.03374 section 2.2.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from functools import cache
from typing import IO, Any, ClassVar

from pydantic import Field, field_validator

from burnish.code import source
from burnish.config import Config
from burnish.log import note
from burnish.rewards.parts import broken, unread
from burnish.types import Example, Score

SANDBOX = "burnish.rewards.sandbox"
FENCE = re.compile(r"\s*(`{3,}|~{3,})\s*([^\s`{]*)")
PYTHON = ("", "python", "py", "python3")
"""What a fenced block of Python may be marked as."""
PROCESSES = 32
"""Processes and threads that a program may have at once."""
FILE_MIB = 16
"""Largest file that it may write."""
KEPT = 2000
"""Bytes of its output that are kept: the last ones."""
LONGEST_RESULT = 1 << 16
LONGEST_REASON = 1000
WALL = 3
"""Seconds by the clock for each second of processor time."""
PATIENCE = 10.0
"""Seconds that the launcher may need beyond the program's own wall time."""
STARTED = b"started"
"""First line of a result, written before the answer has any say."""
FULL = {"processes", "network", "files"}


class Code(Config):
    """1.0 when the tests pass on the answer's program: its longest fenced block of Python, or else all of it."""

    parallel: ClassVar[bool] = True
    """Whether grading starts a process, so that several answers are graded side by side."""

    tests: str = ""
    """Python that runs after the answer in its module and raises when the answer is wrong: `assert add(2, 3) == 5`.
    A task fills it in from each row."""
    seconds: int = Field(default=5, ge=1, le=600)
    """Processor time of the program. It may take three times as long by the clock."""
    memory_mib: int = Field(default=1024, ge=64)
    """Address space of the program."""

    @field_validator("tests")
    @classmethod
    def _compiles(cls, tests: str) -> str:
        try:
            compile(tests, "<tests>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"the tests are not Python: {error}") from None
        return tests

    def grade(self, example: Example, text: str) -> Score:
        if not self.tests.strip():
            return broken("there are no tests to run on the answer")
        program = program_in(text)
        if not program:
            return unread("there is no Python in the answer" if text.strip() else "the answer is empty")
        try:
            why = self._run(program)
        except OSError as error:  # no room for a folder or a process
            return broken(f"the sandbox could not be made: {error}")
        return Score(float(not why), program, why)

    def _run(self, program: str) -> str:
        """Why the program failed; empty when it passed. Raises OSError when it could not be started."""
        nonce = secrets.token_hex(16)
        wall = float(WALL * self.seconds)
        # Not all is always gone: a program may make folders that nobody can empty.
        with (
            tempfile.TemporaryDirectory(prefix="burnish-", ignore_cleanup_errors=True) as folder,
            tempfile.TemporaryFile() as job,
        ):
            job.write(json.dumps({"answer": program, "tests": self.tests, "nonce": nonce}).encode())
            job.seek(0)
            plan = {"folder": folder, "seconds": self.seconds, "wall": wall, "memory_mib": self.memory_mib,
                    "file_mib": FILE_MIB, "processes": PROCESSES, "environment": _environment(folder)}  # fmt: skip
            said = _launch(plan, job, folder, wall + PATIENCE)
        if said["status"]:
            _tell_what_is_missing(frozenset(FULL.difference(json.loads(said["status"])["held"])))
        return self._verdict(said, nonce)

    def _verdict(self, said: dict[str, bytes], nonce: str) -> str:
        began, _, result = said["result"].partition(b"\n")
        if began != STARTED:
            raise OSError(_tail(said["output"]) or "it did not start in time")
        if result == nonce.encode():
            return ""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return str(json.loads(result)["why"])[:LONGEST_REASON] or "it failed without a reason"
        printed = _tail(said["output"])
        return self._ending(said["status"]) + (f"; it printed last: {printed}" if printed else "")

    def _ending(self, status: bytes) -> str:
        """How a program ended that said nothing."""
        ended = json.loads(status) if status else {"late": True}
        if ended["late"]:
            return f"still running after {WALL * self.seconds} s"
        code = int(ended["code"])
        if code == 128 + signal.SIGXCPU:
            return f"more than {self.seconds} s of processor time"
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(code - 128).name} before the tests were done"
        return f"ended with exit code {code} before the tests were done"


def program_in(text: str) -> str:
    """The program in an answer: the longest fenced block of Python, the later of equals, or else the whole answer.

    Empty when all of its blocks are in other languages. A block that was cut off counts as far as it goes.
    """
    blocks: list[tuple[str, list[str]]] = []
    fence = ""
    for line in text.splitlines():
        found = FENCE.match(line)
        if fence and found and found[1].startswith(fence) and not line.strip(" `~"):
            fence = ""
        elif fence:
            blocks[-1][1].append(line)
        elif found:
            fence = found[1]
            blocks.append((found[2].lower(), []))
    if not blocks:
        return text.strip("\n") if text.strip() else ""
    programs = [textwrap.dedent("\n".join(lines)).strip("\n") for mark, lines in blocks if mark in PYTHON]
    return max(reversed(programs), key=len, default="")


def _environment(folder: str) -> dict[str, str]:
    return {"HOME": folder, "TMPDIR": folder, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0",
            "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # fmt: skip


def _launch(plan: dict[str, Any], job: IO[bytes], folder: str, patience: float) -> dict[str, bytes]:
    """Start the launcher, and read what it and the program say until both are gone."""
    results, result = os.pipe()
    statuses, status = os.pipe()
    try:
        script = str(source(SANDBOX))
        told = json.dumps({**plan, "result": result, "status": status})
        launcher = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", script, "launch", told], stdin=job, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, cwd=folder, env=_environment(folder), pass_fds=(result, status),
            start_new_session=True,
        )  # fmt: skip
    except BaseException:
        os.close(results)
        os.close(statuses)
        raise
    finally:
        os.close(result)
        os.close(status)
    assert launcher.stdout is not None
    try:
        return _listen({"output": launcher.stdout.fileno(), "result": results, "status": statuses}, patience)
    finally:
        with contextlib.suppress(OSError):
            os.killpg(launcher.pid, signal.SIGKILL)
        launcher.wait()
        launcher.stdout.close()
        os.close(results)
        os.close(statuses)


def _listen(pipes: dict[str, int], patience: float) -> dict[str, bytes]:
    """What is written to the pipes until the status pipe is closed; of the output only the end."""
    said = dict.fromkeys(pipes, b"")
    until = time.monotonic() + patience
    with selectors.DefaultSelector() as selector:
        for name, pipe in pipes.items():
            os.set_blocking(pipe, False)
            selector.register(pipe, selectors.EVENT_READ, name)
        while pipes["status"] in selector.get_map() and (left := until - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if not _take(key.fd, key.data, said):
                    selector.unregister(key.fd)
    for name in ("output", "result"):
        while _take(pipes[name], name, said):  # what was written last
            pass
    return said


def _take(pipe: int, name: str, said: dict[str, bytes]) -> bool:
    """Read once. False at the end of a pipe, when nothing is there, or when a result is longer than any can be."""
    try:
        data = os.read(pipe, 1 << 16)
    except BlockingIOError:
        return False
    said[name] = (said[name] + data)[-KEPT:] if name == "output" else said[name] + data
    return bool(data) and (name == "output" or len(said[name]) < LONGEST_RESULT)


def _tail(output: bytes) -> str:
    lines = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[-200:] if lines else ""


@cache
def _tell_what_is_missing(missing: frozenset[str]) -> None:
    """Say once what this system does not let the sandbox take away."""
    words = {"processes": "see and signal other processes", "network": "use the network",
             "files": "write files of this user"}  # fmt: skip
    if missing:
        can = ", ".join(text for name, text in words.items() if name in missing)
        note(f"code: this system lets no user make namespaces, so the programs in answers can {can}")
