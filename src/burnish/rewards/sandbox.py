"""The inside of the sandbox of the grader `code`: a script that shuts itself in and then runs a program.

    launch    takes away rights, then starts the program in a process of its own and ends it when its time is up
    program   runs the answer and then its tests, and writes how that went

It uses the standard library alone and is started by path in an interpreter of its own, so nothing of the evaluation is
in its memory. What each system lets it take away is written to the status pipe: `processes`, `network` and `files`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

NOBODY = 65534
"""The user a program is, or appears to be: never root, so that starting it drops every capability."""
NEW_NAMESPACES = 0x00020000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
"""mounts, shared memory, users, processes, network: the CLONE_NEW* flags of unshare(2)."""
NO_SETUID, NO_DEVICES = 2, 4
MOUNT_SETATTR, HERE, RECURSIVE, READ_ONLY, PRIVATE = 442, -100, 0x8000, 1, 1 << 18
"""mount_setattr(2) has one number on every architecture and no wrapper in older C libraries."""
PARENT_DEATH_SIGNAL, DUMPABLE, SUBREAPER, NO_NEW_PRIVILEGES = 1, 4, 36, 38
"""Options of prctl(2)."""
STARTED = b"started\n"
"""What the result begins with: all that comes later may be the answer's doing."""
SWEEP_SECONDS = 2.0
REASON = 400
"""Longest reason, in characters."""


# --------------------------------------------------------------------------------------------------------------- launch


def launch(plan: dict[str, Any]) -> NoReturn:
    """Run the program that stands on stdin within the limits of `plan`, and say on the status pipe how it ended."""
    os.set_inheritable(plan["status"], False)
    _control(SUBREAPER, 1)
    _leave_root(plan["folder"])
    held = _isolate()
    first = os.fork()
    if first == 0:
        os.close(plan["status"])
        _alone(plan) if held else _start(plan, held)
    _let_go(plan)
    code, late = _wait(first, plan["wall"])
    _sweep()
    os.write(plan["status"], json.dumps({"held": held, "code": code, "late": late}).encode())
    os._exit(0)


def _let_go(plan: dict[str, Any]) -> None:
    """Close what only the program may hold: its job and the pipe of its result."""
    os.close(plan["result"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def _leave_root(folder: str) -> None:
    """Become nobody when started by root: limits do not bind root.

    Where nobody cannot read the interpreter, only the real user becomes nobody, by whom processes are counted.
    """
    if os.geteuid() != 0:
        return
    with contextlib.suppress(OSError, AttributeError):
        os.chown(folder, NOBODY, NOBODY)
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        needed = (sys.executable, os.__file__, __file__)
        readable = all(os.access(path, os.R_OK, effective_ids=True) for path in needed)
        os.seteuid(0)
        os.setegid(0)
        if not readable:
            os.setresuid(NOBODY, 0, 0)
        else:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            _control(DUMPABLE, 1)  # a process that changed its user may not write its own /proc/self files otherwise


def _isolate() -> list[str]:
    """Leave the namespaces of this machine: no network, no other processes, no files to write but the folder's."""
    user, group = os.geteuid(), os.getegid()
    if not _call("unshare", NEW_NAMESPACES):
        return []
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{NOBODY} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{NOBODY} {group} 1")
    except OSError:
        return ["processes", "network"]
    return ["processes", "network", *(["files"] if _read_only() else [])]


def _read_only() -> bool:
    """Make every mount read-only but a small file system in memory over the current folder."""

    class Attributes(ctypes.Structure):
        _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user")]

    def change(path: str, flags: int, **changes: int) -> bool:
        wanted = Attributes(**changes)
        return _call("syscall", MOUNT_SETATTR, HERE, path.encode(), flags, ctypes.byref(wanted), ctypes.sizeof(wanted))

    folder = str(Path.cwd())
    if not change("/", RECURSIVE, propagation=PRIVATE):
        return False
    if not _call("mount", b"tmpfs", folder.encode(), b"tmpfs", NO_SETUID | NO_DEVICES, b"size=64m,mode=0700"):
        return False
    os.chdir(folder)
    return change("/", RECURSIVE, set=READ_ONLY) and change(folder, 0, clear=READ_ONLY)


def _alone(plan: dict[str, Any]) -> NoReturn:
    """The first process of a process namespace: when it ends, the system ends all that are left in it."""
    _control(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if not _call("mount", b"proc", b"/proc", b"proc", NO_SETUID | NO_DEVICES, None):
        _call("mount", b"tmpfs", b"/proc", b"tmpfs", NO_SETUID | NO_DEVICES, b"size=4k")  # nothing to see, then
    program = os.fork()
    if program == 0:
        _start(plan, ["processes"])
    _let_go(plan)
    while True:
        pid, status = os.wait()
        if pid == program:
            os._exit(_code(status))


def _start(plan: dict[str, Any], held: list[str]) -> NoReturn:
    """Become the program."""
    try:
        os.setsid()  # signals to its own group reach nothing else
        _control(NO_NEW_PRIVILEGES, 1)
        _limit(plan, held)
        # As `-I`, with an environment of its own that holds one thing more: the order of sets, the same every time.
        isolated = [sys.executable, "-s", "-P", "-B", __file__, "program", str(plan["result"])]
        os.execve(sys.executable, isolated, plan["environment"])
    finally:
        os._exit(1)


def _limit(plan: dict[str, Any], held: list[str]) -> None:
    memory, file = plan["memory_mib"] << 20, plan["file_mib"] << 20
    # In a namespace the program's own processes count; outside it all of the user's do.
    processes = plan["processes"] + (0 if held else _threads_here())
    limits = {
        resource.RLIMIT_CPU: (plan["seconds"], plan["seconds"] + 1),
        resource.RLIMIT_AS: (memory, memory),
        resource.RLIMIT_FSIZE: (file, file),
        resource.RLIMIT_NPROC: (processes, processes),
        resource.RLIMIT_NOFILE: (64, 64),
        resource.RLIMIT_CORE: (0, 0),
    }
    for name, value in limits.items():
        with contextlib.suppress(ValueError, OSError):  # macOS limits no address space
            resource.setrlimit(name, value)


def _threads_here() -> int:
    try:
        return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    except (OSError, ValueError, IndexError):
        return 1024


def _wait(pid: int, seconds: float) -> tuple[int, bool]:
    """The program's exit code, and whether it was ended because its time was up."""

    def out_of_time(number: int, frame: types.FrameType | None) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, out_of_time)
    code, late = 0, False
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        code = _code(os.waitpid(pid, 0)[1])
        signal.setitimer(signal.ITIMER_REAL, 0)
    except TimeoutError:
        late = True
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)  # the program's own group, where it is no namespace's
    return code, late


def _code(status: int) -> int:
    """An exit code as a shell gives it: 128 and the number of the signal for a process that one ended."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def _sweep() -> None:
    """End what the program left behind: orphans become children of this process."""
    until = time.monotonic() + SWEEP_SECONDS
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while time.monotonic() < until:
        with contextlib.suppress(OSError, ValueError):
            for child in children.read_text().split():
                os.kill(int(child), signal.SIGKILL)
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.001)
        except ChildProcessError:
            return


def _call(name: str, *arguments: Any) -> bool:
    """Call the C library; False when it fails or knows no such function."""
    function: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    words = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return function is not None and function(*words) == 0


def _control(option: int, value: int) -> None:
    _call("prctl", option, value, 0, 0, 0)


# -------------------------------------------------------------------------------------------------------------- program


def program(result: int) -> NoReturn:
    """Run the job on stdin and write its nonce, or else the reason why it failed, as JSON."""
    job = json.loads(sys.stdin.buffer.read())
    os.write(result, STARTED)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.set_inheritable(result, False)
    sys.argv = ["answer"]
    why = run(job["answer"], job["tests"])
    os.write(result, json.dumps({"why": why}).encode() if why else job["nonce"].encode())
    os._exit(0)  # what the answer left to be done at the end is not waited for


def run(answer: str, tests: str) -> str:
    """Run an answer and then its tests in one module. What went wrong; empty when nothing did."""
    module = types.ModuleType("answer")  # not __main__: a program's own trial run is no part of its functions
    sys.modules["answer"] = module
    for name, text in (("answer", answer), ("tests", tests)):
        try:
            exec(compile(text, f"<{name}>", "exec", dont_inherit=True), module.__dict__)
        except BaseException as error:  # whatever a program may raise, SystemExit too
            return _reason(name, text, error)
    return ""


def _reason(name: str, text: str, error: BaseException) -> str:
    """One line: what was raised, and the line of the text where it happened."""
    if isinstance(error, SyntaxError):
        number, what = error.lineno, str(error.msg)
    else:
        frames = [line for frame, line in traceback.walk_tb(error.__traceback__)
                  if frame.f_code.co_filename == f"<{name}>"]  # fmt: skip
        number, what = (frames[-1] if frames else None), str(error)
    lines = text.splitlines()
    line = lines[number - 1].strip() if number and number <= len(lines) else ""
    said = f"{type(error).__name__}: {what}" if what else type(error).__name__
    place = f" at line {number} of the {name}: {line}" if line else f" in the {name}"
    return (said[:REASON] + place)[: 2 * REASON]


if __name__ == "__main__":
    if sys.argv[1] == "launch":
        launch(json.loads(sys.argv[2]))
    program(int(sys.argv[2]))
