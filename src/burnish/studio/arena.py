"""The arena's page, and the server that shows it.

The browser is sent what is to be seen and nothing else: a battle's models stay on the server until its vote, and what
a page sends back is the battle's id, so a page that was reloaded, or found again with the back button, votes on what it
shows. Gradio draws the page; its analytics, share links, file uploads and API are off, and fonts are the system's.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from markupsafe import Markup
from starlette.requests import Request

from burnish.errors import ConfigError
from burnish.evaluation.votes import Winner
from burnish.studio import log, view
from burnish.studio.battles import Arena, Battle
from burnish.studio.door import Door, Gate

Frame = list[Any]

FILES = Path(__file__).parent
PAUSE = 0.1
"""Seconds between two looks at what is being written."""
BUTTONS: dict[str, tuple[str, Winner]] = {
    "vote-left": ("Left is better", "model_a"),
    "vote-right": ("Right is better", "model_b"),
    "vote-tie": ("Tie", "tie"),
    "vote-bad": ("Both bad", "tie (bothbad)"),
}
HINTS = {
    True: "Enter sends, Shift+Enter starts a line, Esc leaves the box, / enters it. Then 1 2 3 4 vote, N goes on.",
    False: "1 2 3 4 vote, N goes on to the next pair.",
}
HEAD = Markup(
    '<header><h1>Burnish arena</h1><p>Two answers, names hidden until your vote.</p>'
    '<nav aria-label="Arena"><span>voter {}</span><a href="/votes">Votes</a><a href="/logout">Leave</a></nav></header>'
)  # fmt: skip


class Page:
    """Gradio's blocks, and what their events do."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        with gr.Blocks(title="Burnish arena", analytics_enabled=False) as self.blocks:
            self._lay_out()
            self._wire()
        self.blocks.queue(default_concurrency_limit=None, api_open=False)

    def _lay_out(self) -> None:
        asked = self._arena.contestants.asked
        self._head = gr.HTML(elem_id="head", js_on_load=None)
        with gr.Row(elem_id="sides"):
            self._sides = [gr.HTML(elem_id=name, js_on_load=None) for name in ("left", "right")]
        with gr.Column(elem_id="bar"):
            self._status = gr.HTML(elem_id="status", js_on_load=None)
            with gr.Row(elem_id="votes"):
                self._votes = [gr.Button(text, elem_id=name, interactive=False) for name, (text, _) in BUTTONS.items()]
            with gr.Row(elem_id="talk"):
                self._message = gr.Textbox(
                    label="Your message", placeholder="Ask both", elem_id="message", lines=1, max_lines=8,
                    interactive=False, visible=asked, scale=1,
                )  # fmt: skip
                self._send = gr.Button("Send", elem_id="send", variant="primary", interactive=False, visible=asked)
                self._next = gr.Button("Next pair", elem_id="next", interactive=False)
            gr.HTML(f"<p>{HINTS[asked]}</p>", elem_id="hints", js_on_load=None)
        self._id = gr.Textbox(visible=False)
        self._shown = [*self._sides, self._status, self._id, self._message, self._send, *self._votes, self._next]

    def _wire(self) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
        entered = self.blocks.load(self._entered, None, [self._head, *self._shown], **quiet)
        said = [self._message, self._id]
        gr.on([self._message.submit, self._send.click], self._said, said, self._shown, **quiet)
        for button, (_, winner) in zip(self._votes, BUTTONS.values(), strict=True):
            button.click(self._voting(winner), self._id, self._shown, **quiet)
        passed = self._next.click(self._passed, None, self._shown, **quiet)
        for done in (entered, passed):
            done.then(None, js="() => document.querySelector('#message textarea:enabled')?.focus()")

    # -- events

    async def _entered(self, request: gr.Request) -> AsyncIterator[Frame]:
        """The page was opened or reloaded: show the voter's battle as it stands."""
        voter = str(request.username)
        battle = await asyncio.to_thread(self._arena.current, voter)
        async for frame in self._watch(battle):
            yield [HEAD.format(voter[:8]), *frame]

    async def _said(self, text: str, battle_id: str, request: gr.Request) -> AsyncIterator[Frame]:
        """A message was sent: show what both answer while they write it."""
        voter = str(request.username)
        problem = await asyncio.to_thread(self._arena.ask, voter, battle_id, text)
        battle = await asyncio.to_thread(self._arena.current, voter)
        async for frame in self._watch(battle, problem, text if problem else ""):
            yield frame

    def _voting(self, winner: Winner) -> Callable[[str, gr.Request], Frame]:
        """What a button of the vote does."""

        def voted(battle_id: str, request: gr.Request) -> Frame:
            voter = str(request.username)
            problem = self._arena.vote(voter, battle_id, winner)
            return self._frame(self._arena.current(voter), problem)

        return voted

    async def _passed(self, request: gr.Request) -> AsyncIterator[Frame]:
        """On to the next pair."""
        battle = await asyncio.to_thread(self._arena.begin, str(request.username))
        async for frame in self._watch(battle, text=""):
            yield frame

    async def _watch(self, battle: Battle | None, problem: str = "", text: str | None = None) -> AsyncIterator[Frame]:
        """What is to be seen, again whenever it changes, until both sides are done."""
        seen = -1
        while True:
            done = battle is None or not battle.writing  # looked at first: what is shown after it is complete
            if battle is None or battle.changes != seen:
                seen = battle.changes if battle else 0
                yield self._frame(battle, problem, text)
                problem, text = "", None  # said once; later frames show how things go on
            if done:
                return
            await asyncio.sleep(PAUSE)

    def _frame(self, battle: Battle | None, problem: str = "", text: str | None = None) -> Frame:
        """Values of all that is shown. `text`: what the box holds from now on; None leaves it to the voter."""
        if battle is None:
            sides, ready, open_ = ["", ""], False, False
            status = view.status(None, problem)
        else:
            with battle.lock:
                sides = [view.side(battle, 0), view.side(battle, 1)]
                status = view.status(battle, problem)
                ready, open_ = battle.ready, not battle.vote and not battle.writing
        box: dict[str, Any] = {} if text is None else {"value": text}
        return [
            *sides, status, battle.id if battle else "",
            gr.update(interactive=open_, **box), gr.update(interactive=open_),
            *[gr.update(interactive=ready) for _ in BUTTONS],
            gr.update(interactive=battle is not None and not battle.writing,
                      variant="primary" if battle and battle.vote else "secondary"),
        ]  # fmt: skip


def _theme() -> Any:
    """The colours of the pages without scripts, and the system's fonts: Gradio's own would come from a server."""
    light = {
        "body_background_fill": "#faf8f5", "background_fill_primary": "#ffffff", "background_fill_secondary": "#f3efe8",
        "border_color_primary": "#e2ddd4", "body_text_color": "#1c1b19", "body_text_color_subdued": "#6b675f",
        "link_text_color": "#a8471c", "link_text_color_hover": "#a8471c", "link_text_color_visited": "#a8471c",
        "button_primary_background_fill": "#a8471c", "button_primary_background_fill_hover": "#8f3b16",
        "button_primary_text_color": "#ffffff", "button_secondary_background_fill": "#ece7de",
        "button_secondary_background_fill_hover": "#e0d9cd", "error_text_color": "#b3261e",
    }  # fmt: skip
    dark = {
        "body_background_fill": "#171614", "background_fill_primary": "#211f1c", "background_fill_secondary": "#2c2925",
        "border_color_primary": "#3d3934", "body_text_color": "#ece9e4", "body_text_color_subdued": "#a39e95",
        "link_text_color": "#f0905c", "link_text_color_hover": "#f0905c", "link_text_color_visited": "#f0905c",
        "button_primary_background_fill": "#f0905c", "button_primary_background_fill_hover": "#f5a67b",
        "button_primary_text_color": "#1c1208", "button_secondary_background_fill": "#35312c",
        "button_secondary_background_fill_hover": "#423d37", "error_text_color": "#ff8a80",
    }  # fmt: skip
    base = gr.themes.Base(neutral_hue="stone", font=["ui-sans-serif", "system-ui", "sans-serif"],
                          font_mono=["ui-monospace", "Consolas", "monospace"])  # fmt: skip
    return base.set(**light, **{f"{name}_dark": color for name, color in dark.items()})


def application(arena: Arena, host: str, password: str = "") -> Gate:
    """The whole of it as one ASGI application: the door, the page of votes, and the arena."""
    door = Door(arena.store, password)
    routes = [*door.routes(), log.route(arena.store, door)]
    app = FastAPI(routes=routes, docs_url=None, redoc_url=None, openapi_url=None)

    def voter(request: Request) -> str | None:
        return door.voter(request.headers)

    gr.mount_gradio_app(
        app, Page(arena).blocks, path="/", server_name=host, auth_dependency=voter, footer_links=[], run_history=False,
        ssr_mode=False, mcp_server=False, enable_monitoring=False, pwa=False, show_error=False,
        theme=_theme(), css_paths=FILES / "arena.css", js=(FILES / "arena.js").read_text(encoding="utf-8"),
    )  # fmt: skip
    # Without a password, a page of another site could point its own name here and speak for the voter.
    return Gate(app, door, () if password else ("127.0.0.1", "localhost", "[::1]"))


def serve(arena: Arena, *, host: str = "127.0.0.1", port: int = 7860, password: str = "",
          opened: Callable[[str], None] = lambda url: None) -> None:  # fmt: skip
    """Show the arena until the process is interrupted; `opened` gets its address. Port 0 takes any that is free.

    Raises ConfigError for a port that is taken, or an address that is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(f"cannot open port {port} on {host}: {os.strerror(error.errno or 0)}",
                          hint="choose another with --port, or 0 for any that is free") from None  # fmt: skip
    with bound:
        config = uvicorn.Config(application(arena, host, password), log_level="warning", timeout_graceful_shutdown=1,
                                proxy_headers=False)  # a guest could name itself in them  # fmt: skip
        opened(f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}/")
        uvicorn.Server(config).run(sockets=[bound])
