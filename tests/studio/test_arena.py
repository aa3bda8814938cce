"""The page in a real Chromium: vote, reload, two voters at once, keys, and answers that would like to run a script."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import which
from typing import Any

import pytest

pytest.importorskip("gradio")
pytest.importorskip("selenium")

import uvicorn
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait
from starlette.types import Message, Receive, Scope, Send

from burnish.errors import ConfigError
from burnish.evaluation.votes import VoteStore
from burnish.studio.arena import application, serve
from burnish.studio.battles import Arena
from burnish.studio.contestants import LiveModels, ReadyAnswers
from burnish.types import Message as Turn
from burnish.types import Sampling
from studio.attacks import ATTACKS

NAMES = ("zebra-model-7b", "quokka-model-1b")

BROWSER = [which("chromium"), which("chromedriver")]
browser = pytest.mark.skipif(not all(BROWSER), reason="needs Chromium and its driver")
pytestmark = pytest.mark.browser


HOVER = """for (const one of document.querySelectorAll('#sides *'))
             one.dispatchEvent(new MouseEvent('mouseover', {bubbles: true}))"""
ODD = """const tags = /^(script|img|svg|iframe|object|embed|style|form|input|base|link|meta|animate|details)$/i
         const odd = ({name, value}) =>
           /^on|^src/i.test(name) || (name === 'href' && !/^(https?|mailto):/.test(value))
         return [...document.querySelectorAll('#sides *, #status *')]
           .filter((one) => tags.test(one.tagName) || [...one.attributes].some(odd)).map((one) => one.outerHTML)"""
"""Elements of the two sides that no answer may make."""


class Pen:
    """An engine that writes its text word by word; `hold` stops it after the first word until it is released."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.go = threading.Event()
        self.go.set()

    def stream(self, prompt: Any, sampling: Sampling) -> Iterator[str]:
        turn = sum(message.role == "user" for message in prompt)
        words = f"{self.text} in turn {turn}".split(" ")
        for count in range(1, len(words) + 1):
            yield " ".join(words[:count])
            assert self.go.wait(20)


class Served:
    """A running arena, and every byte that it has sent."""

    def __init__(self, arena: Arena, password: str = "") -> None:
        self.arena, self.votes, self.sent = arena, arena.store, b""
        gate = application(arena, "127.0.0.1", password)

        async def recorded(scope: Scope, receive: Receive, send: Send) -> None:
            async def noted(message: Message) -> None:
                self.sent += message.get("body", b"") + repr(message.get("headers", "")).encode()
                await send(message)

            if scope["type"] == "http":  # what is sent must be readable here
                scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
            await gate(scope, receive, noted if scope["type"] == "http" else send)

        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/"
        self.server = uvicorn.Server(uvicorn.Config(recorded, log_level="warning", timeout_graceful_shutdown=1))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})

    def __enter__(self) -> Served:
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)
        return self

    def __exit__(self, *error: object) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        self.socket.close()


class Page:
    """A browser with the arena in it."""

    def __init__(self, served: Served, name: str, password: str = "", width: int = 1280) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = BROWSER[0] or ""
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     f"--window-size={width},900"):  # fmt: skip
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.url, self.driver = served.url, webdriver.Chrome(options, webdriver.ChromeService(BROWSER[1]))
        self.enter(name, password)

    def enter(self, name: str, password: str = "") -> None:
        self.driver.get(self.url)
        self.driver.find_element(By.ID, "name").send_keys(name)
        if password:
            self.driver.find_element(By.ID, "password").send_keys(password)
        self.driver.find_element(By.TAG_NAME, "button").click()

    def wait(self, true: Callable[[], object]) -> None:
        """Until it is true, for at most 20 seconds."""
        WebDriverWait(self.driver, 20, 0.05).until(lambda _: true())

    def has(self, text: str) -> bool:
        return text in self.driver.execute_script("return document.body.innerText")

    def see(self, text: str) -> None:
        self.wait(lambda: self.has(text))

    def press(self, keys: str) -> None:
        self.driver.switch_to.active_element.send_keys(keys)

    def key(self, key: str) -> None:
        """A key while nothing has the focus."""
        self.driver.execute_script("document.activeElement.blur()")
        self.press(key)

    def ask(self, text: str, answer: str = "in turn 1") -> None:
        self.wait(lambda: self.enabled("send"))
        self.driver.find_element(By.CSS_SELECTOR, "#message textarea").send_keys(text, Keys.ENTER)
        self.wait(lambda: self.enabled("vote-left") and self.has(answer))

    def enabled(self, name: str) -> bool:
        script = "const found = document.getElementById(arguments[0]); return !!found && !found.disabled"
        return bool(self.driver.execute_script(script, name))

    def markup(self) -> str:
        return str(self.driver.execute_script("return document.documentElement.outerHTML"))

    def focus(self) -> str:
        script = "const on = document.activeElement; return on.id || (on.closest('[id]')?.id ?? '') + ' ' + on.text"
        return str(self.driver.execute_script(script))

    def requests(self) -> list[str]:
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]


@contextmanager
def opened(arena: Arena, *names: str, password: str = "") -> Iterator[tuple[Served, list[Page]]]:
    """An arena with browsers of these voters in it."""
    with ExitStack() as stack:
        served = stack.enter_context(Served(arena, password))
        pages = []
        for name in names:
            pages.append(Page(served, name, password))
            stack.callback(pages[-1].driver.quit)
        yield served, pages


@pytest.fixture
def votes(tmp_path: Path) -> Iterator[VoteStore]:
    store = VoteStore(tmp_path / "votes.sqlite")
    yield store
    store.close()


def live(votes: VoteStore, **settings: Any) -> tuple[Arena, dict[str, Pen]]:
    pens = {NAMES[0]: Pen("stripes **bold**"), NAMES[1]: Pen("smiles `code`")}
    return Arena(votes, LiveModels(pens), **settings), pens


@browser
def test_a_round_by_keyboard_with_names_hidden_until_the_vote(votes: VoteStore) -> None:
    arena, pens = live(votes)
    with opened(arena, "Ann") as (served, (page,)):
        page.see("Nothing was asked yet")
        page.wait(lambda: page.focus().startswith("message"))
        for pen in pens.values():
            pen.go.clear()
        page.press("Which of you 1 2 3?" + Keys.ENTER)  # digits are text while the box has the focus
        page.wait(lambda: page.has("stripes") and page.has("smiles"))  # the first words, while both still write
        assert not page.has("in turn 1") and not page.enabled("vote-left") and page.has("Both are answering")
        page.driver.refresh()  # a reload in the middle of an answer
        page.wait(lambda: page.has("stripes") and page.has("Both are answering"))
        for pen in pens.values():
            pen.go.set()
        page.wait(lambda: page.enabled("vote-left"))
        page.ask("And more?", "in turn 2")
        page.wait(lambda: not page.focus().startswith("message"))  # sending gives the keys back to the vote
        assert page.driver.execute_script("return document.querySelector('#left .assistant strong, #left code')")
        for name in NAMES:
            assert name.encode() not in served.sent and name not in page.markup()
        battle = arena.current(votes.who("Ann"))
        assert battle is not None
        page.press("2")
        for name in NAMES:
            page.see(name)
        page.see(f"You prefer {battle.models[1]} to {battle.models[0]}")
        (stored,) = votes
        assert (stored.model_a, stored.model_b, stored.winner, stored.turn) == (*battle.models, "model_b", 2)
        assert [turn.content for turn in stored.conversation_a][::2] == ["Which of you 1 2 3?", "And more?"]
        page.press("n")
        page.see("Nothing was asked yet")
        page.wait(lambda: page.focus().startswith("message"))
        assert not any(name in page.markup() for name in NAMES)


@browser
def test_a_vote_is_written_once(votes: VoteStore) -> None:
    with opened(live(votes)[0], "Ann") as (_, (page,)):
        page.ask("Hello?")
        page.driver.execute_script("for (let n = 0; n < 5; n++) document.getElementById('vote-tie').click()")
        page.see("equally good")
        page.driver.refresh()
        page.see("equally good")  # what was voted is still there, with the names
        assert all(page.has(name) for name in NAMES)
        page.key("1")
        page.driver.find_element(By.LINK_TEXT, "Votes").click()
        page.see("Page 1 of 1")
        page.driver.back()
        page.see("equally good")
        page.key("4")
        page.key("n")
        page.ask("Again?")
        page.key("4")
        page.see("both bad")
        assert [one.winner for one in votes] == ["tie", "tie (bothbad)"]


@browser
def test_an_old_page_votes_on_what_it_shows(votes: VoteStore) -> None:
    """Two windows of one voter show one battle; the second window's vote comes after the first one's and is void."""
    with opened(live(votes)[0], "Ann") as (_, (page,)):
        page.ask("Hello?")
        first = page.driver.current_window_handle
        page.driver.switch_to.new_window("tab")
        page.driver.get(page.url)
        page.wait(lambda: page.enabled("vote-left"))
        page.key("1")
        page.see("You prefer")
        page.key("n")
        page.see("Nothing was asked yet")
        page.driver.switch_to.window(first)
        page.key("2")
        page.see("You have voted in that round before.")
        assert [one.winner for one in votes] == ["model_a"]


@browser
def test_two_voters_at_once_behind_a_password(votes: VoteStore) -> None:
    arena, pens = live(votes)
    with opened(arena, "Ann", "Bob", password="open sesame") as (served, (ann, bob)):
        for pen in pens.values():
            pen.go.clear()
        for page, text in ((ann, "Ann asks"), (bob, "Bob asks")):
            page.wait(lambda page=page: page.enabled("send"))
            page.driver.find_element(By.CSS_SELECTOR, "#message textarea").send_keys(text, Keys.ENTER)
            page.see("Both are answering")
        for pen in pens.values():
            pen.go.set()
        for page in (ann, bob):  # one model answers one voter at a time; both get their answers
            page.wait(lambda page=page: page.enabled("vote-left"))
        assert ann.has("Ann asks") and not ann.has("Bob asks") and bob.has("Bob asks") and not bob.has("Ann asks")
        ann.key("1")
        bob.key("3")
        ann.see("You prefer")
        bob.see("equally good")
        assert sorted(one.judge for one in votes) == sorted(map(votes.who, ("Ann", "Bob")))
        ann.driver.find_element(By.LINK_TEXT, "Votes").click()
        ann.see("2 so far")
        assert ann.has(votes.who("Ann")[:8]) and ann.has(votes.who("Bob")[:8]) and not ann.has("Bob")
        ann.driver.get(f"{ann.url}logout")
        ann.driver.get(ann.url)
        ann.driver.find_element(By.ID, "name").send_keys("Eve")
        ann.driver.find_element(By.ID, "password").send_keys("open sesam", Keys.ENTER)
        ann.see("That is not the password.")
        for path in ("", "config", "votes", "gradio_api/queue/data?session_hash=x"):
            answer = status(f"{served.url}{path}")
            assert answer in (303, 401), path


@browser
def test_a_quick_voter_is_asked_to_wait(votes: VoteStore) -> None:
    with opened(live(votes, per_minute=1)[0], "Ann") as (_, (page,)):
        for number in range(2):
            page.ask(f"Question {number}")
            page.key("1")
            page.see("You prefer" if not number else "That was quick: 1 votes in a minute. Please vote again in")
            page.key("n" if not number else "2")
            if not number:
                page.see("Nothing was asked yet")
        assert votes.count() == 1 and page.has("Question 1") and page.enabled("vote-left")


@browser
def test_no_answer_runs_a_script(votes: VoteStore) -> None:
    """Each attack would set `window.owned`. The last lines prove that this is seen where nothing prevents it."""
    text = "\n\n".join(ATTACKS).replace("alert(1)", "(window.owned=1)")
    prompt = (Turn("user", text),)
    arena = Arena(votes, ReadyAnswers({prompt: {text: text, f"{text} ": f"{text}\n\nbenign end"}}))
    with opened(arena, "Ann") as (_, (page,)):
        page.see("benign end")
        page.driver.execute_script("window.alert = () => { window.owned = 1 }")
        page.key("1")  # the names are attacks as well
        page.see("You prefer")
        page.driver.execute_script(HOVER)
        assert page.driver.execute_script(ODD) == []
        page.driver.get(f"{page.url}votes")
        page.see("1 so far")
        assert page.driver.execute_script("return window.owned") is None
        page.driver.get(page.url)
        page.see("You prefer")
        assert page.driver.execute_script("return window.owned") is None
        # The second wall: even markup that stands in the page as it is runs nothing here, and loads nothing.
        raw = "<img src=x onerror='owned=1'><svg onload='owned=1'></svg><a href='javascript:owned=1'>a</a>"
        page.driver.execute_script("document.querySelector('#left section').innerHTML = arguments[0]", raw)
        page.driver.execute_script("document.querySelector('#left a').click()")
        page.driver.execute_script("const one = document.createElement('script'); one.textContent = 'window.owned=1';"
                                   "document.body.append(one)")  # fmt: skip
        time.sleep(0.5)
        assert page.driver.execute_script("return window.owned") is None
        page.driver.get("about:blank")
        page.driver.execute_script("document.body.innerHTML = arguments[0]", raw)
        page.wait(lambda: page.driver.execute_script("return window.owned") == 1)


@browser
def test_the_page_asks_nobody_else(votes: VoteStore) -> None:
    with opened(live(votes)[0], "Ann") as (_, (page,)):
        page.ask("![x](http://tracker.example/pixel.png)")
        page.key("1")
        page.see("You prefer")
        asked = [url for url in page.requests() if not url.startswith(("data:", "blob:", "chrome", "about:"))]
        assert len(asked) > 20 and all(url.startswith(page.url) for url in asked)
        severe = [entry["message"] for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]
        assert severe == []


@browser
def test_focus_goes_through_the_page_in_order_and_everything_has_a_name(votes: VoteStore) -> None:
    with opened(live(votes)[0], "Ann") as (_, (page,)):
        page.ask("Hello?")
        page.driver.execute_script("document.querySelector('#head a').focus()")
        order = [page.focus()]
        for _ in range(8):
            page.press(Keys.TAB)
            order.append(page.focus())
        assert order[0].endswith("Votes") and order[1].endswith("Leave")
        assert [name.partition(" ")[0] for name in order[2:]] == [
            "vote-left", "vote-right", "vote-tie", "vote-bad", "message", "send", "next",
        ]  # fmt: skip
        tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        names = {(node["role"]["value"], node.get("name", {}).get("value")) for node in tree if "role" in node}
        for label in ("Left is better", "Right is better", "Tie", "Both bad", "Send", "Next pair"):
            assert any(role == "button" and name.startswith(label) for role, name in names)
        assert {("textbox", "Your message"), ("region", "Left answer"), ("region", "Right answer")} <= names
        keys = {name: page.driver.find_element(By.ID, name).get_attribute("aria-keyshortcuts")
                for name in ("vote-left", "vote-right", "vote-tie", "vote-bad", "next")}  # fmt: skip
        assert list(keys.values()) == ["1", "2", "3", "4", "N"]
        page.press("/")
        assert page.focus().startswith("message")
        page.press(Keys.ESCAPE)
        assert not page.focus().startswith("message")


@browser
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_is_as_wide_as_the_window(votes: VoteStore, width: int) -> None:
    with opened(live(votes)[0], "Ann") as (_, (page,)):
        page.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        page.ask("A long line: " + "x" * 300)
        assert page.driver.execute_script("return document.documentElement.scrollWidth") <= width
        box = page.driver.find_element(By.ID, "vote-bad").rect
        assert box["x"] >= 0 and box["x"] + box["width"] <= width and 0 < box["y"] < 800


@browser
def test_ready_answers_until_all_were_seen(votes: VoteStore) -> None:
    arena = Arena(votes, ReadyAnswers({(Turn("user", "Why?"),): {NAMES[0]: "So.", NAMES[1]: ""}}))
    with opened(arena, "Ann") as (served, (page,)):
        page.wait(lambda: page.has("So.") and page.has("(an empty answer)") and page.has("Why?"))
        assert not page.driver.find_elements(By.CSS_SELECTOR, "#message textarea")
        assert not any(name.encode() in served.sent for name in NAMES)
        page.key("3")
        page.see("equally good")
        page.key("n")
        page.see("You have seen every pair of answers. Thank you!")


# ---------------------------------------------------------------------------------------------------- without a browser


def status(url: str) -> int:
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *given: Any) -> None:
            return None

    try:
        return int(urllib.request.build_opener(Stay).open(url, timeout=10).status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_port_that_is_taken_is_said(votes: VoteStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="cannot open port"):
        serve(live(votes)[0], port=taken.getsockname()[1])


def test_gradio_is_told_to_stay_at_home(votes: VoteStore) -> None:
    with Served(live(votes)[0]) as served:
        assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "True"
        assert status(served.url) == 303 and status(f"{served.url}gradio_api/info") == 404
