"""Strangers stay outside, voters come in by name and password, and a browser may run nothing that is not Gradio's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("gradio")  # with it comes what serves the pages

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from burnish.evaluation.votes import Vote, VoteStore
from burnish.studio import log
from burnish.studio.door import COOKIE, Door, Gate


@pytest.fixture
def votes(tmp_path: Path) -> Iterator[VoteStore]:
    store = VoteStore(tmp_path / "votes.sqlite")
    yield store
    store.close()


def client(votes: VoteStore, password: str = "", hosts: tuple[str, ...] = ()) -> TestClient:
    """A small application behind the gate, which says who came in."""
    door = Door(votes, password)

    def inside(request: Request) -> Response:
        return HTMLResponse(f"<script>1</script><script type='module'>2</script>{door.voter(request.headers)}")

    routes = [*door.routes(), log.route(votes, door), Route("/", inside), Route("/assets/x", inside)]
    gate = Gate(Starlette(routes=routes), door, hosts)
    return TestClient(gate, base_url="http://127.0.0.1:7860", follow_redirects=False)


def test_without_a_password_a_name_is_enough(votes: VoteStore) -> None:
    web = client(votes)
    assert web.get("/").headers["location"] == "/login" and web.get("/assets/x").status_code == 401
    assert 'type="password"' not in web.get("/login").text
    entered = web.post("/login", data={"name": " Ann "})
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Ann" not in cookie
    assert votes.who("Ann") in web.get("/").text and web.get("/assets/x").status_code == 200
    web.get("/logout")
    assert web.get("/").status_code == 303


@pytest.mark.parametrize("name", ["", "   ", "x" * 65])
def test_a_name_is_needed(votes: VoteStore, name: str) -> None:
    said = client(votes).post("/login", data={"name": name})
    assert said.status_code == 400 and "Please give a name" in said.text and "set-cookie" not in said.headers


@pytest.mark.parametrize("wrong", ["", "secre", "secret ", "Secret", "sécret", "secret\0"])
def test_a_wrong_password_stays_outside(votes: VoteStore, wrong: str) -> None:
    web = client(votes, "secret")
    said = web.post("/login", data={"name": "<b>Ann", "password": wrong})
    assert said.status_code == 403 and "not the password" in said.text and "set-cookie" not in said.headers
    assert "&lt;b&gt;Ann" in said.text and "<b>" not in said.text and "secre" not in said.text
    assert web.post("/login", data={"name": "Ann", "password": "secret"}).status_code == 303


def test_guessing_is_slow(votes: VoteStore) -> None:
    web = client(votes, "secret")
    codes = [web.post("/login", data={"name": "Ann", "password": str(number)}).status_code for number in range(7)]
    assert codes == [403] * 5 + [429] * 2
    said = web.post("/login", data={"name": "Ann", "password": "secret"})
    assert said.status_code == 429 and re.search(r"try again in \d+ s", said.text)


def test_a_cookie_of_ones_own_making_opens_nothing(votes: VoteStore) -> None:
    web = client(votes, "secret")
    voter = votes.who("Ann")
    for value in ("", voter, f"{voter}.", f"{voter}.{'0' * 64}", f".{votes.sign('session', '')}", "é.é", "a.b.c"):
        assert web.get("/", headers={"cookie": f"{COOKIE}={value}".encode()}).status_code == 303
    entered = client(votes, "old").post("/login", data={"name": "Ann", "password": "old"})
    old = entered.headers["set-cookie"].partition(";")[0]
    assert client(votes, "old").get("/", headers={"cookie": old}).status_code == 200
    assert client(votes, "new").get("/", headers={"cookie": old}).status_code == 303


def test_only_scripts_of_the_page_run(votes: VoteStore) -> None:
    web = client(votes)
    web.post("/login", data={"name": "Ann"})
    pages = [web.get("/") for _ in range(2)]
    nonces = [set(re.findall(r'<script nonce="([^"]+)"', page.text)) for page in pages]
    assert [len(found) for found in nonces] == [1, 1] and nonces[0] != nonces[1]
    for page, nonce in zip(pages, nonces, strict=True):
        policy = page.headers["content-security-policy"]
        assert f"script-src 'self' 'nonce-{nonce.pop()}' 'unsafe-eval';" in policy
        assert "default-src 'none'" in policy and "http" not in policy
        assert int(page.headers["content-length"]) == len(page.content) and page.text.count("<script nonce=") == 2
    for page in (web.get("/login"), web.get("/votes")):
        assert "script-src" not in page.headers["content-security-policy"] and "<script" not in page.text


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/upload", "/gradio_api/file=/etc/passwd", "/gradio_api/proxy=http://a.example", "/gradio_api/run/x",
     "/gradio_api/info", "/gradio_api/call/x", "/gradio_api/component_server", "/monitoring", "/docs"],
)  # fmt: skip
def test_parts_of_gradio_that_are_not_used_are_not_there(votes: VoteStore, path: str) -> None:
    web = client(votes)
    web.post("/login", data={"name": "Ann"})
    assert web.get(path).status_code == 404 and web.post(path).status_code == 404


def test_another_sites_name_for_this_machine_is_refused(votes: VoteStore) -> None:
    web = client(votes, hosts=("127.0.0.1", "localhost"))
    assert web.get("/login").status_code == 200
    assert web.get("/login", headers={"host": "localhost"}).status_code == 200
    assert web.get("/login", headers={"host": "evil.example:7860"}).status_code == 421


def test_the_log_pages_through_the_votes(votes: VoteStore) -> None:
    web = client(votes)
    assert web.get("/votes").headers["location"] == "/login"
    web.post("/login", data={"name": "Ann"})
    assert "No votes here yet" in web.get("/votes").text
    judge = votes.who("Ann")
    votes.add_all(Vote(f"{number}", "a", "<i>b", "model_b", judge, tstamp=86400.0 + number) for number in range(119))
    votes.add(Vote("tie", "a", "b", "tie (bothbad)", judge, turn=7))
    first = web.get("/votes").text
    assert "120 so far" in first and "Page 1 of 3" in first and "a and b are both bad" in first and "unknown" in first
    assert first.count("<tr>") == 51 and judge[:8] in first and judge not in first
    assert "&lt;i&gt;b is better than a" in first and "1970-01-02 00:01:58" in first
    last = web.get("/votes?page=3").text
    assert last.count("<tr>") == 21 and 'href="/votes?page=2"' in last and 'rel="next"' not in last
    for odd in ("0", "99999999999", "x", "-1", "3.5", "²"):
        assert web.get("/votes", params={"page": odd}).status_code == 200
