"""Who may enter: a name and, where one is set, a password; and what the browser may load and run once inside.

The session is a signed cookie that holds the hash of the voter's name, so a restarted server knows its voters again,
and a changed password sends everybody back to the door.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from functools import cache
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

import jinja2
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from burnish.evaluation.votes import VoteStore
from burnish.studio.rates import Rate

COOKIE = "burnish_voter"
FOREVER = 180 * 24 * 3600
"""Seconds that a browser keeps the session."""
LONGEST_NAME = 64
OUTSIDE = ("/login", "/manifest.json", "/favicon.ico")
"""What is served to those who have not entered."""
PAGES = ("/", "/votes")
INSIDE = ("/logout", "/config", "/theme.css", "/assets/", "/static/", "/gradio_api/queue/", "/gradio_api/heartbeat/",
          "/gradio_api/app_id", "/gradio_api/startup-events", "/gradio_api/cancel")  # fmt: skip
"""What else is served. Other parts of Gradio (files, other servers, calls past the queue) are not there."""
PLAIN = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
"""What a page without scripts may do."""
SCRIPTED = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; manifest-src 'self'; form-action 'self'; "
    "base-uri 'self'; frame-ancestors 'none'"
)
"""What Gradio's page may do: run its own scripts, and none that stands in an element or attribute that came later."""


@cache
def page(name: str) -> jinja2.Template:
    """A page without scripts; all that is put into it is escaped."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True).get_template(name)  # fmt: skip


def html(text: str, status: int = 200) -> Response:
    """A page without scripts as a response."""
    return HTMLResponse(text, status, {"Content-Security-Policy": PLAIN})


class Door:
    """Lets voters in and knows them again."""

    def __init__(self, store: VoteStore, password: str = "") -> None:
        self._store, self._password = store, password
        self._failures = Rate(limit=5, seconds=60)

    def routes(self) -> list[BaseRoute]:
        """The pages of coming in and of leaving."""
        return [Route("/login", self._login, methods=["GET", "POST"]), Route("/logout", self._logout)]

    def voter(self, headers: Headers) -> str | None:
        """The voter whose cookie a request carries."""
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return None
        voter, _, proof = (cookie.value if cookie else "").partition(".")
        return voter if hmac.compare_digest(proof.encode(), self._proof(voter).encode()) else None

    def _proof(self, voter: str) -> str:
        return self._store.sign("session", f"{voter}\0{self._password}")

    def _ask(self, problem: str = "", name: str = "", status: int = 200) -> Response:
        return html(page("login.html").render(problem=problem, name=name, password=bool(self._password)), status)

    async def _login(self, request: Request) -> Response:
        if request.method == "GET":
            return self._ask()
        form = await request.form(max_files=0, max_fields=4)
        name, password = str(form.get("name", "")).strip(), str(form.get("password", ""))
        guest = request.client.host if request.client else ""
        if wait := self._failures.wait(guest):
            return self._ask(f"Too many wrong passwords. Please try again in {int(wait) + 1} s.", name, 429)
        if not hmac.compare_digest(password.encode(), self._password.encode()) and self._password:
            self._failures.count(guest)
            return self._ask("That is not the password.", name, 403)
        if not 0 < len(name) <= LONGEST_NAME:
            return self._ask(f"Please give a name of at most {LONGEST_NAME} characters.", "", 400)
        voter = self._store.who(name)
        response = RedirectResponse("/", 303)
        response.set_cookie(COOKIE, f"{voter}.{self._proof(voter)}", FOREVER, httponly=True, samesite="lax")
        return response

    async def _logout(self, request: Request) -> Response:
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE)
        return response


class Gate:
    """In front of the whole application: turns strangers away, and tells browsers what pages may load and run."""

    def __init__(self, app: ASGIApp, door: Door, hosts: Iterable[str] = ()) -> None:
        self._app, self._door, self._hosts = app, door, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), scope["path"]
        if refusal := self._refusal(headers, path):
            await refusal(scope, receive, send)
        elif path == "/":
            await self._app(_uncompressed(scope), receive, _Signed(send))
        else:
            await self._app(scope, receive, send)

    def _refusal(self, headers: Headers, path: str) -> Response | None:
        host = headers.get("host", "").rpartition(":")[0] or headers.get("host", "")
        if self._hosts and host not in self._hosts:  # another site's name that was made to lead here
            return PlainTextResponse("This page has another address.", 421)
        if path in OUTSIDE:
            return None
        if path not in PAGES and not path.startswith(INSIDE):
            return PlainTextResponse("There is nothing here.", 404)
        if self._door.voter(headers):
            return None
        return RedirectResponse("/login", 303) if path in PAGES else PlainTextResponse("Please log in again.", 401)


def _uncompressed(scope: Scope) -> Scope:
    return {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]}


class _Signed:
    """Marks the scripts of a page as its own, so that the browser runs these and no others."""

    def __init__(self, send: Send) -> None:
        self._send, self._body = send, b""
        self._start: dict[str, Any] = {}

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = dict(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        nonce = secrets.token_urlsafe(16)
        body = self._body.replace(b"<script", f'<script nonce="{nonce}"'.encode())
        kept = [pair for pair in self._start["headers"] if pair[0].lower() != b"content-length"]
        added = {"content-length": str(len(body)), "content-security-policy": SCRIPTED.format(nonce=nonce),
                 "x-content-type-options": "nosniff", "referrer-policy": "no-referrer",
                 "cache-control": "no-store"}  # fmt: skip
        self._start["headers"] = kept + [(name.encode(), value.encode()) for name, value in added.items()]
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": body})
