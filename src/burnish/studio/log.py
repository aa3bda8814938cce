"""The page of votes: when, who by hash, and what, the latest first."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from burnish.evaluation.votes import Vote, VoteStore
from burnish.studio.door import Door, html, page

ROWS = 50


def route(store: VoteStore, door: Door) -> Route:
    """Serves the page at /votes?page=1."""

    def votes(request: Request) -> Response:
        total = store.count()
        pages = max(1, -(-total // ROWS))
        asked = request.query_params.get("page", "1")
        number = min(max(int(asked) if asked.isdecimal() and len(asked) < 9 else 1, 1), pages)
        rows = [_row(vote) for vote in store.latest(ROWS, (number - 1) * ROWS)]
        voter = door.voter(request.headers) or ""
        return html(page("votes.html").render(rows=rows, total=total, page=number, pages=pages, voter=voter))

    return Route("/votes", votes)


def _row(vote: Vote) -> dict[str, object]:
    return {"when": _when(vote.tstamp), "who": vote.judge[:8], "what": what(vote), "turn": vote.turn}


def _when(time: float | None) -> str:
    try:
        return "unknown" if time is None else datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):  # an imported vote from beyond the calendar
        return "unknown"


def what(vote: Vote) -> str:
    """A vote in words that name both models."""
    if vote.winner in ("model_a", "model_b"):
        better, worse = (vote.model_a, vote.model_b)[:: 1 if vote.winner == "model_a" else -1]
        return f"{better} is better than {worse}"
    return f"{vote.model_a} and {vote.model_b} are {'equally good' if vote.winner == 'tie' else 'both bad'}"
