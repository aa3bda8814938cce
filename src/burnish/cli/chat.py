"""`burnish chat`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from burnish.cli.options import AsJson, StorePath, model_path, open_store, print_json
from burnish.errors import EngineError
from burnish.types import Message, Sampling

HELP = "/new starts again, /undo takes back the last turn, /quit ends (so does Ctrl-D)"


def command(
    model: Annotated[str, typer.Argument(help="pebble, a folder, a Hub id, an artifact or RUN:STEP.")],
    message: Annotated[str, typer.Option("--message", "-m", help="Ask one thing and print the answer.")] = "",
    system: Annotated[str, typer.Option(help="A system message.")] = "",
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.7,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    store: StorePath = None,
    as_json: AsJson = False,
) -> None:
    """Talk to a model in the terminal, through its own chat template.

    \b
    burnish chat quickstart:dpo
    burnish chat pebble -m "What is 17 + 25?"
    """
    from burnish.engines.opening import open_model

    engine = open_model(model_path(open_store(store), model))
    opening = (Message("system", system),) if system else ()
    history = opening
    turn = 0

    def answer(text: str) -> str:
        nonlocal history, turn
        asked = (*history, Message("user", text))
        sampling = Sampling(max_tokens, temperature, seed=turn)
        reply = engine.generate([asked], sampling)[0][0]
        history, turn = (*asked, Message("assistant", reply.text)), turn + 1
        if as_json:
            print_json({"text": reply.text, "stop": reply.stop, "tokens": len(reply.ids)})
        else:
            print(reply.text)
        return reply.text

    if message:
        answer(message)
        return
    print(f"{model}: {HELP}", file=sys.stderr)
    while (text := _ask()) is not None:
        if text == "/quit":
            break
        if text == "/new":
            history = opening
        elif text == "/undo":
            history = history[:-2] if len(history) > len(opening) else history
        elif text.startswith("/"):
            print(HELP, file=sys.stderr)
        elif text:
            try:
                answer(text)
            except EngineError as error:  # too long for the model: the conversation goes on without it
                print(error, file=sys.stderr)


def _ask() -> str | None:
    """One line from the user, None at the end of the input."""
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None
