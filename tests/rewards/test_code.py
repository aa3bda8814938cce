"""Programs in a sandbox: the good pass, and whatever else one can write ends as a graded failure that says why."""

from __future__ import annotations

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from burnish.code import source
from burnish.errors import EvaluationError
from burnish.rewards import grade
from burnish.rewards.code import SANDBOX, _tell_what_is_missing, program_in
from burnish.types import Example, Message, Score

TESTS = "assert add(2, 3) == 5\nassert add(-1, 1) == 0"
ADD = "def add(a, b):\n    return a + b\n"

needs_namespaces = pytest.mark.skipif(
    subprocess.run(["unshare", "--user", "--net", "--pid", "--fork", "true"], capture_output=True).returncode != 0,
    reason="this system lets no user make namespaces",
)


def score(text: str, tests: str = TESTS, **settings: object) -> Score:
    return grade(Example("e", (Message("user", "?"),), grader={"code": {"tests": tests, **settings}}), text)


def test_a_right_program_passes_and_a_wrong_one_says_where() -> None:
    assert score(f"Sure!\n```python\n{ADD}```\nThat adds them.") == Score(1.0, ADD.strip())
    found = score("def add(a, b):\n    return a - b")
    assert (found.value, found.why) == (0.0, "AssertionError at line 1 of the tests: assert add(2, 3) == 5")
    broken = score("def add(a, b) return").why
    assert broken == "SyntaxError: expected ':' at line 1 of the answer: def add(a, b) return"
    assert score("x = 1\nprint(it)").why == "NameError: name 'it' is not defined at line 2 of the answer: print(it)"


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import os; os._exit(0)", "ended with exit code 0 before the tests were done"),
        ("import os; os._exit(125)", "ended with exit code 125 before the tests were done"),
        ("print('ok'); print('started'); raise SystemExit(0)", "SystemExit: 0"),
        ("import sys; sys.exit()", "SystemExit"),
        (f"{ADD}\nimport atexit, os; atexit.register(os._exit, 0); raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "ended by SIGTERM"),
        ("import os, signal; os.kill(0, signal.SIGKILL)", "ended by SIGKILL"),
        ("import ctypes; ctypes.string_at(0)", "ended by SIGSEGV"),
        ("data = []\nwhile True: data.append(bytearray(1 << 24))", "MemoryError"),
        ("def add(a, b): return add(a, b)", "RecursionError"),
        ("raise type('Odd', (Exception,), {'__str__': lambda self: 'x' * 10 ** 6})()", "Odd: xxx"),
        ("open('big', 'wb').write(b'x' * (20 << 20))", "OSError: [Errno 27] File too large"),
        ("input()", "EOFError"),
        ("a\x00b", "null bytes"),
        ("(" * 5000, "the answer"),
        ("import os\nfor fd in range(3, 3000):\n try: os.write(fd, b'ok')\n except OSError: 0", "exit code 0 before"),
        ("import os; os.execv('/bin/true', ['true'])", "ended with exit code 0"),
        ("raise ValueError('\\ud800')", "ValueError"),
    ],
)  # fmt: skip
def test_what_is_not_right_is_wrong_and_says_why(program: str, why: str) -> None:
    found = score(program)
    assert (found.value, found.error) == (0.0, None)
    assert why in found.why and len(found.why) < 1500


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
        "import re; re.match('(a+)+b', 'a' * 60)",
        "import sys\nwhile True: sys.stdout.write('x' * 10 ** 6)",
    ],
)
def test_what_does_not_end_is_ended(program: str) -> None:
    began = time.monotonic()
    found = score(program, seconds=1)
    # on a busy machine the clock runs out before the processor time does
    ends = ("more than 1 s of processor time", "ended by SIGKILL", "still running after 3 s")
    assert found.value == 0.0 and found.why.startswith(ends)
    assert time.monotonic() - began < 20


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much time by the clock as on a processor."""
    monkeypatch.setattr("burnish.rewards.code.WALL", 1)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "program", ["import time; time.sleep(60)", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"]
)
def test_what_waits_is_ended_too(program: str) -> None:
    assert score(program, seconds=1).why == "still running after 1 s"


@pytest.mark.usefixtures("impatient")
def test_what_a_program_starts_is_ended_with_it() -> None:
    mark = f"burnish-test-{os.getpid()}"
    leave = f"""
import os, subprocess, sys, time
command = [sys.executable, "-c", "import time; time.sleep(60)", "{mark}"]
subprocess.Popen(command)
subprocess.Popen(command, start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, command)
    os._exit(0)
{ADD}"""
    assert score(leave, seconds=5).value == 1.0
    assert not running(mark)
    assert score(leave + "\ntime.sleep(60)", seconds=1).value == 0.0
    assert not running(mark)


@pytest.fixture
def without_namespaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A system that lets no user make namespaces."""
    text = source(SANDBOX).read_text()
    assert text.count('if not _call("unshare", NEW_NAMESPACES):') == 1
    script = tmp_path / "sandbox.py"
    script.write_text(text.replace('if not _call("unshare", NEW_NAMESPACES):', "if True:"))
    monkeypatch.setattr("burnish.rewards.code.source", lambda module: script)
    _tell_what_is_missing.cache_clear()


@pytest.mark.usefixtures("without_namespaces", "impatient")
def test_without_namespaces_programs_are_limited_too_and_what_is_missing_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert score(ADD).value == 1.0
    assert score("import os; os._exit(0)").why == "ended with exit code 0 before the tests were done"
    assert "ended by SIGKILL" in score("import os, signal; os.kill(0, signal.SIGKILL)").why
    assert score("import time; time.sleep(60)", seconds=1).why == "still running after 1 s"
    assert "MemoryError" in score("data = []\nwhile True: data.append(bytearray(1 << 24))").why
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("can see and signal other processes, use the network, write files of this user") == 1
    test_what_a_program_starts_is_ended_with_it()


def running(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [str(path)] if mark.encode() in path.read_bytes().split(b"\0") else []
        except OSError:
            continue
    return found


@pytest.mark.usefixtures("impatient")
def test_a_fork_bomb_goes_out() -> None:
    began = time.monotonic()
    found = score("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", seconds=1)
    assert found.value == 0.0
    assert time.monotonic() - began < 20
    assert score(ADD).value == 1.0


def test_a_program_starts_with_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRET", "value")
    empty = """
import os, sys
home = os.environ["HOME"]
assert os.listdir() == [] and os.getcwd() == os.path.realpath(home), os.listdir()
assert "SECRET" not in os.environ and "PYTHONPATH" not in os.environ
assert sys.stdin.read() == "" and sys.argv == ["answer"]
assert "burnish" not in sys.modules and __name__ == "answer"
open("note", "w").write("kept here"); assert open("note").read() == "kept here"
"""
    assert score(empty + ADD).why == ""
    assert score("if __name__ == '__main__':\n    raise ValueError\n" + ADD).value == 1.0
    assert score("from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 1\n" + ADD).value == 1.0


def test_sets_have_the_same_order_every_time() -> None:
    order = "print(list({'a', 'b', 'c', 'd', 'e', 'f', 'g'})); raise ValueError(list({'a', 'b', 'c', 'd', 'e'}))"
    assert len({score(order).why for _ in range(3)}) == 1


@needs_namespaces
def test_no_network_no_other_process_and_no_file_outside(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    outside = tmp_path / "outside"
    outside.write_text("mine")
    outside.chmod(0o666)
    program = f"""
import os, socket
def refused(action, *arguments):
    try: action(*arguments)
    except OSError as error: return error.strerror or str(error)
    return "allowed"
assert refused(socket.create_connection, ("127.0.0.1", 80), 1) == "Network is unreachable"
assert refused(os.kill, {os.getpid()}, 0) == "No such process"
assert not os.path.exists("/proc/{os.getpid()}/environ") or {os.getpid()} < 4
assert refused(open, {str(outside)!r}, "w") == "Read-only file system"
assert refused(os.remove, {str(outside)!r}) == "Read-only file system"
assert refused(open, "/dev/null", "w") == "allowed" and os.getuid() != 0
{ADD}"""
    assert score(program).why == ""
    assert outside.read_text() == "mine"


def test_programs_run_side_by_side() -> None:
    wait = "import time; time.sleep(1)\n" + ADD
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        assert [found.value for found in pool.map(score, [wait] * 8)] == [1.0] * 8
    assert time.monotonic() - began < 6  # one after the other they sleep for eight


def test_nothing_is_left_open() -> None:
    score(ADD)
    before = open_files()
    for _ in range(3):
        score(ADD)
        score("import os; os._exit(3)")
    assert open_files() == before


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("```python\nx = 1\n```", "x = 1"),
        ("```\nx = 1\n```", "x = 1"),
        ("a\n~~~py\nx = 1\n~~~\nb", "x = 1"),
        ("```python\nx = 1", "x = 1"),  # cut off
        ("  x = 1\n", "  x = 1"),
        ("1. so\n   ```python\n   if x:\n       y = 1\n   ```", "if x:\n    y = 1"),
        ("```bash\npip install it\n```\n```python\nx\n```", "x"),
        ("```bash\npip install it\n```", ""),
        ("```python\nlong = 1 + 2\n```\nUse it:\n```python\nlong\n```", "long = 1 + 2"),
        ("```python\na = 1\n```\nno:\n```python\na = 2\n```", "a = 2"),  # of equals the later
        ("````python\ns = '''\n```\n'''\n````", "s = '''\n```\n'''"),
        ("", ""),
        (" \n", ""),
    ],
)
def test_the_program_in_an_answer(text: str, program: str) -> None:
    assert program_in(text) == program


def test_an_answer_without_python_is_wrong() -> None:
    found = score("```bash\nls\n```")
    assert (found.value, found.answer, found.why) == (0.0, None, "there is no Python in the answer")


def test_tests_that_are_not_python_are_a_mistake_of_the_task() -> None:
    with pytest.raises(EvaluationError, match="the tests are not Python"):
        score(ADD, tests="assert add(")
    assert score(ADD, tests="  ").error == "there are no tests to run on the answer"


def test_a_sandbox_that_cannot_be_made_leaves_the_item_unscored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    found = score(ADD)
    assert found.value is None and found.error and found.error.startswith("the sandbox could not be made")
