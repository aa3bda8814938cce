"""`burnish arena`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish.cli.options import AsJson, StorePath, model_path, open_store, print_json
from burnish.errors import ConfigError
from burnish.evaluation.votes import VoteStore
from burnish.log import note
from burnish.types import Message

LOCAL = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine can reach."""


def command(
    models: Annotated[list[str] | None, typer.Argument(help="Two or more: pebble, folders, Hub ids, RUN:STEP.")] = None,
    answers: Annotated[Path | None, typer.Option(help="Ready answers instead: rows {prompt, model, output}.")] = None,
    votes: Annotated[Path | None, typer.Option(help="File of votes; default votes.sqlite in the store.")] = None,
    host: Annotated[str, typer.Option(help="Address to serve on; others than 127.0.0.1 need a password.")] = LOCAL[0],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve on; 0 is any that is free.")] = 7860,
    password: Annotated[str, typer.Option(envvar="BURNISH_ARENA_PASSWORD", help="What voters must know.")] = "",
    per_minute: Annotated[int, typer.Option(min=1, help="Votes of one voter in a minute.")] = 20,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 512,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.7,
    seed: Annotated[int, typer.Option(help="Decides between pairs that teach alike.")] = 0,
    import_: Annotated[Path | None, typer.Option("--import", help="Add the votes of a file of LMArena's rows.")] = None,
    export: Annotated[Path | None, typer.Option(help="Write all votes: .jsonl, .json, .csv or .parquet.")] = None,
    ranking: Annotated[bool, typer.Option("--ranking", help="Print the ranking by the votes.")] = False,
    style: Annotated[bool, typer.Option("--style", help="Rank with length, headings, lists, bold held equal.")] = False,
    store: StorePath = None,
    as_json: AsJson = False,
) -> None:
    """Compare models blindly on a local page: two answers side by side, a vote, then the names.

    With --import, --export or --ranking it does that; the page opens when models or --answers are given as well.

    \b
    burnish arena pebble quickstart:dpo
    burnish arena --answers answers.jsonl --host 0.0.0.0 --password "..."
    burnish arena --ranking --style
    burnish arena --import chatbot_arena.parquet --export all.jsonl
    """
    if host not in LOCAL and not password:
        raise ConfigError(f"anyone who reaches {host} could vote", hint="set --password, or leave --host out")
    pages = bool(models or answers)
    if not pages and not (import_ or export or ranking or style):
        raise ConfigError("no models to compare", hint="burnish arena MODEL MODEL, or --answers FILE")
    if models and answers:
        raise ConfigError("models and --answers are both given", hint="answers in a file need no models")
    opened = open_store(store)
    kept = VoteStore(votes or opened.root / "votes.sqlite")
    done: dict[str, Any] = {}
    if import_:
        done["import"] = _import(kept, import_, as_json)
    if export:
        done["export"] = _export(kept, export, as_json)
    if ranking or style:
        done["ranking"] = _ranking(kept, as_json, style)
    if as_json and done:
        print_json(done)
    if pages:
        from burnish.types import Sampling

        _serve(opened, kept, models or [], answers, Sampling(max_tokens, temperature), per_minute=per_minute, seed=seed,
               host=host, port=port, password=password)  # fmt: skip
    kept.close()


def _import(kept: VoteStore, path: Path, as_json: bool) -> dict[str, Any]:
    from burnish.evaluation.lmarena import import_votes

    found = import_votes(kept, path)
    for line in [] if as_json else found.lines():
        print(line)
    return {"rows": found.rows, "added": found.added, "known": found.known, "rejected": dict(found.rejected),
            "first": found.first, "remarks": dict(found.remarks)}  # fmt: skip


def _export(kept: VoteStore, path: Path, as_json: bool) -> dict[str, Any]:
    from burnish.evaluation.lmarena import export_votes

    count = export_votes(kept, path)
    if not as_json:
        print(f"{count:,} votes in {path}")
    return {"votes": count, "path": str(path)}


def _spoken(turns: Sequence[Message]) -> str:
    """What a side said in all its turns."""
    return "\n\n".join(turn.content for turn in turns if turn.role == "assistant")


def _ranking(kept: VoteStore, as_json: bool, style: bool) -> list[dict[str, Any]]:
    from burnish.evaluation.ranking import FEW, battles, known_voters, rank

    rows, voters = known_voters(kept.outcomes())
    if hidden := kept.count() - len(rows):
        note(f"{hidden:,} votes with names in sight are not counted")
    if 0 < voters < FEW:
        note(f"{voters} voters are too few to tell how voters differ: intervals take each vote by itself")
    counted = battles(rows)
    if style:
        from burnish.evaluation.style import with_style

        said = ((vote.conversation_a, vote.conversation_b) for vote in kept if vote.anony)
        counted = with_style(counted, ((_spoken(a), _spoken(b)) for a, b in said))
    found = rank(counted)
    if len(found.groups) > 1:
        note(f"votes do not connect all models; {len(found.groups)} groups are compared by assumption only")
    table = [
        {"model": model, "rank": int(found.ranks[k]), "rating": float(found.ratings[k]), "low": float(found.low[k]),
         "high": float(found.high[k]), "votes": int(found.counts[k])} for k, model in enumerate(found.models)
    ]  # fmt: skip
    for row in [] if as_json else table:
        print(f"{row['rank']:>4}  {row['model']:<32} {row['rating']:7.0f}  [{row['low']:.0f}, {row['high']:.0f}]"
              f"  {row['votes']:,} votes")  # fmt: skip
    for name, (effect, error) in [] if as_json else found.style.items():
        print(f"more {name} (one standard deviation): {effect:+.0f} points ± {1.96 * error:.0f}")
    return table


def _serve(opened: Any, kept: VoteStore, models: list[str], answers: Path | None, sampling: Any, *, per_minute: int,
           seed: int, host: str, port: int, password: str) -> None:  # fmt: skip
    try:
        from burnish.studio.arena import serve
    except ImportError as error:
        raise ConfigError(f"the page needs Gradio: {error}", hint='pip install "burnish[studio]"') from None
    from burnish.studio.battles import Arena
    from burnish.studio.contestants import Contestants, LiveModels, ReadyAnswers, read_answers, several

    contestants: Contestants
    if answers:
        contestants = ReadyAnswers(read_answers(answers), seed)
    else:
        from burnish.engines.opening import open_model

        contestants = LiveModels({name: open_model(model_path(opened, name)) for name in several(models)})
    arena = Arena(kept, contestants, sampling=sampling, per_minute=per_minute, seed=seed)
    with suppress(KeyboardInterrupt):  # where a shell lets programs in the background ignore it, there is none
        serve(arena, host=host, port=port, password=password,
              opened=lambda url: note(f"the arena is at {url}, its votes in {kept.path}; Ctrl-C ends it"))  # fmt: skip
    note(f"ended; {kept.count():,} votes are in {kept.path}")
