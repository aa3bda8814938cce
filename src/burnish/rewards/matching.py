"""The child process of the grader `regex`: a script that reads questions as JSON lines and answers each with a line.

A pattern may take longer than the age of the universe. An alarm is set before each and ends the process when it runs
out; whoever asked then reads the end of the file.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from typing import Any


def find(pattern: str, text: str, flags: int, whole: bool, group: int | str) -> list[str | None] | None:
    """[matched text, text of the group] of the whole text's match or of the last match in it; None for no match."""
    if whole:
        match = re.fullmatch(pattern, text, flags)
    else:
        match = None
        for found in re.finditer(pattern, text, flags):
            match = found
    return None if match is None else [match.group(), match.group(group)]


def main() -> None:
    """Answer until there are no more questions."""
    for line in sys.stdin:
        question: dict[str, Any] = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, question.pop("seconds"))
        answer = find(**question)
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
