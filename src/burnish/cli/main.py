"""`burnish VERB ...`: pick the verb's file, run it, and turn errors into three lines and an exit code.

The help of the whole program is made from the table below, so it appears before anything heavy is imported.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
import traceback
from typing import Any

from burnish import __version__, parallel
from burnish.errors import BurnishError, ConfigError, Problems
from burnish.registry import suggest

VERBS: dict[str, tuple[str, str]] = {
    "init": ("Start", "write a commented starter recipe for a general, domain or task fine-tune"),
    "doctor": ("Start", "say what this machine offers, and what Burnish will use"),
    "plan": ("Work", "check a recipe without compute: steps, cache, predicted memory, time and disk"),
    "check": ("Work", "prove on your own model and rows that training does what it says"),
    "run": ("Work", "run a recipe; finished steps are skipped, killed ones resumed"),
    "chat": ("Work", "talk to a model in the terminal"),
    "eval": ("Prove", "score models on tasks, paired with the first one"),
    "compare": ("Prove", "say whether models differ: gains, losses, and whether the items suffice"),
    "judge": ("Prove", "test a judge: agreement with people, habits, and whether nonsense fools it"),
    "leaderboard": ("Prove", "rank judged models by win rate, with the help of length taken out"),
    "arena": ("Prove", "compare models blindly on a local page, and rank them by the votes"),
    "show": ("Look", "look at loss masks, rows, dropped rows, pairs, artifacts and runs"),
    "report": ("Look", "build the report of a run again, and say where it is"),
    "list": ("Look", "list steps, filters, tasks, objectives, methods, strategies, runs or artifacts"),
    "explain": ("Look", "explain any setting: its type, default and meaning"),
}

EXAMPLES = """Examples:
  burnish init task --to mine.yaml     # a starter recipe with comments
  burnish plan mine.yaml               # every problem at once, before anything runs
  burnish run mine.yaml --set steps.sft.train.epochs=2
  burnish show masks mine.yaml         # the tokens that are learned, in colour
  burnish explain sft.train            # what can be set, and what it does

`burnish VERB --help` explains a verb. All results can be had as JSON with --json."""


def overview() -> str:
    """The help text of the program."""
    lines = [
        f"burnish {__version__}: turn a base language model into a useful assistant, and prove that it is better.",
        "",
        "Usage: burnish VERB [OPTIONS]",
    ]
    for group in dict.fromkeys(group for group, _ in VERBS.values()):
        lines += ["", f"{group}:"]
        lines += [f"  {name:<13}{summary}" for name, (of, summary) in VERBS.items() if of == group]
    return "\n".join([*lines, "", EXAMPLES])


def main(argv: list[str] | None = None) -> None:
    """Entry point of the `burnish` command. Exits with 0, or 2 for a wrong request, or 1 for a failure."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return
    if arguments[0] in ("--version", "-V"):
        print(f"burnish {__version__}")
        return
    sys.exit(_guarded(arguments))


def _guarded(arguments: list[str]) -> int:
    """Run a verb; the exit code."""
    try:
        _verb(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        _say("stopped; finished steps and the last checkpoint are kept, the same command goes on from there", arguments)
        return 1
    except BrokenPipeError:
        return 1
    except BurnishError as error:
        if "--debug" in arguments:
            traceback.print_exc()
        _say(str(error), arguments, error)
        return error.exit_code
    return 0


def _verb(arguments: list[str]) -> None:
    name = arguments[0]
    if name not in VERBS:
        raise ConfigError(f"there is no verb '{name}'", hint=suggest(name, list(VERBS)))
    import typer

    module: Any = importlib.import_module(f"burnish.cli.{name}")
    stopped: list[KeyboardInterrupt] = []

    @functools.wraps(module.command)
    def command(*given: Any, **named: Any) -> None:
        try:
            module.command(*given, **named)
        except KeyboardInterrupt as stop:  # typer would end the process with a code and word of its own
            stopped.append(stop)

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(name)(command)
    try:
        app(args=[argument for argument in arguments[1:] if argument != "--debug"], prog_name=f"burnish {name}")
    finally:
        if stopped:
            raise stopped[0]


def _say(text: str, arguments: list[str], error: BurnishError | None = None) -> None:
    if "--json" in arguments:
        found: dict[str, Any] = {"error": text}
        if isinstance(error, Problems):
            found["problems"] = [{"what": one.what, "where": one.where, "try": one.hint} for one in error.problems]
        elif error is not None:
            found |= {"what": error.what, "where": error.where, "try": error.hint}
        print(json.dumps(found))
        return
    if parallel.leads():
        print(f"burnish: {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
