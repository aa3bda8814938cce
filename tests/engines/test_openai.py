"""Models behind a server: a real HTTP server on this machine that answers as a script says."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("openai")

from burnish.engines.openai import OpenAIEngine
from burnish.errors import ConfigError, EngineError
from burnish.judges.pairwise import Pairwise
from burnish.judges.pointwise import Pointwise
from burnish.models.locate import is_url
from burnish.types import Example, Message, Sampling, StopReason

Answer = Callable[[dict[str, Any]], tuple[int, Any]]


class Server:
    """Answers `/v1/chat/completions` with what `answer` makes of the request's body."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answer: Answer = lambda body: (200, reply("hello"))
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(body)
                code, payload = outer.answer(body)
                events = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
                self.send_response(code)
                kind = "text/event-stream" if isinstance(payload, bytes) else "application/json"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(events)))
                self.end_headers()
                self.wfile.write(events)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def ref(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/v1#tiny"


def reply(*texts: str, finish: str = "stop", top: dict[str, float] | None = None) -> dict[str, Any]:
    tokens = [{"token": token, "logprob": math.log(share), "bytes": None} for token, share in (top or {}).items()]
    logprobs = {"content": [{**tokens[0], "top_logprobs": tokens}]} if tokens else None
    choices = [{"index": k, "message": {"role": "assistant", "content": text}, "finish_reason": finish,
                "logprobs": logprobs} for k, text in enumerate(texts)]  # fmt: skip
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "tiny", "choices": choices,
            "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}}  # fmt: skip


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()


def test_answers_with_their_settings(server: Server) -> None:
    server.answer = lambda body: (200, reply(*[f" said {k} " for k in range(body["n"])], finish="length"))
    engine = OpenAIEngine(server.ref)
    prompt = (Message("system", "Be brief."), Message("user", "Hi"))
    ((one, two),) = engine.generate([prompt], Sampling(9, 0.5, 0.9, ("stop",), seed=3), n=2)
    assert (one.text, two.text, one.stop) == ("said 0", "said 1", StopReason.LENGTH)
    (body,) = server.asked
    assert body["model"] == "tiny" and body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["max_tokens"], body["temperature"], body["top_p"], body["stop"]) == (9, 0.5, 0.9, ["stop"])
    assert (engine.usage.prompt_tokens, engine.usage.completion_tokens, engine.usage.calls) == (7, 2, 1)


def test_answers_keep_the_order_of_the_prompts(server: Server) -> None:
    server.answer = lambda body: (200, reply(body["messages"][0]["content"].upper()))
    found = OpenAIEngine(server.ref).generate([f"q{k}" for k in range(20)], Sampling(4))
    assert [group[0].text for group in found] == [f"Q{k}" for k in range(20)]


def test_a_failed_request_is_tried_again_and_then_said(server: Server) -> None:
    tries: list[str] = []

    def flaky(body: dict[str, Any]) -> tuple[int, Any]:
        text = body["messages"][0]["content"]
        tries.append(text)
        bad = text == "bad" or (text == "once" and tries.count("once") == 1)
        return (500, {"error": {"message": "overloaded"}}) if bad else (200, reply("fine"))

    server.answer = flaky
    bad, once = OpenAIEngine(server.ref, retries=1).generate(["bad", "once"], Sampling(4))
    assert bad[0].stop is StopReason.FAILED and "overloaded" in bad[0].text
    assert once[0].text == "fine" and tries.count("bad") == 2


def test_a_server_that_answers_nothing_is_an_error(server: Server) -> None:
    server.answer = lambda body: (401, {"error": {"message": "wrong key"}})
    with pytest.raises(EngineError, match="answered none of 2 requests.*wrong key"):
        OpenAIEngine(server.ref, retries=0).generate(["a", "b"], Sampling(4))
    with pytest.raises(EngineError, match="answered none"):
        OpenAIEngine("http://127.0.0.1:9/v1#gone", retries=0).generate(["a"], Sampling(4))


def test_choices_by_the_first_token(server: Server) -> None:
    server.answer = lambda body: (200, reply("A", top={"A": 0.5, " A": 0.1, "B": 0.3, "other": 0.05}))
    engine = OpenAIEngine(server.ref)
    assert engine.gives_logprobs
    ((a, b, t),) = engine.choices(["which?"], [("A", "B", "T")])
    assert a.logprob == pytest.approx(math.log(0.6))  # with and without the space
    assert b.logprob == pytest.approx(math.log(0.3))
    assert t.logprob == pytest.approx(math.log(0.05) - 1)  # not among the likeliest: below the last of them
    with pytest.raises(EngineError, match="told apart by their first letter"):
        engine.choices(["which?"], [("1", "10")])


def test_a_server_without_probabilities(server: Server) -> None:
    engine = OpenAIEngine(server.ref)
    assert not engine.gives_logprobs
    with pytest.raises(EngineError, match="tells no probabilities"):
        engine.choices(["which?"], [("A", "B")])


def test_an_answer_is_streamed(server: Server) -> None:
    parts = [{"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], "id": "x", "created": 0,
              "model": "tiny", "object": "chat.completion.chunk"} for text in ("Hel", "lo", "")]  # fmt: skip
    lines = "".join(f"data: {json.dumps(part)}\n\n" for part in parts) + "data: [DONE]\n\n"
    server.answer = lambda body: (200, lines.encode())
    assert list(OpenAIEngine(server.ref).stream("Hi", Sampling(4))) == ["Hel", "Hello"]


def test_names() -> None:
    assert is_url("https://x/v1#m") and not is_url("./model") and not is_url("org/model")
    with pytest.raises(ConfigError, match="names a server and no model"):
        OpenAIEngine("http://localhost:8000/v1")


def test_a_server_that_answers_once_whatever_n_is_asked_again(server: Server) -> None:
    server.answer = lambda body: (200, reply(f"seed {body['seed']}"))
    (group,) = OpenAIEngine(server.ref).generate(["a"], Sampling(4, temperature=1.0, seed=5), n=3)
    assert [one.text for one in group] == ["seed 5", "seed 6", "seed 7"]


@pytest.mark.parametrize("choices", [None, []])
def test_a_reply_without_answers_is_a_failed_request(choices: Any, server: Server) -> None:
    server.answer = lambda body: (200, {**reply("x"), **({"choices": choices} if "bad" in str(body) else {})})
    found = OpenAIEngine(server.ref, retries=0).generate(["bad", "good"], Sampling(4))
    assert [group[0].stop is StopReason.FAILED for group in found] == [True, False]


def test_one_failed_request_leaves_the_other_choices(server: Server) -> None:
    server.answer = lambda body: (500, {}) if "bad" in str(body) else (200, reply("A", top={"A": 0.6, "B": 0.3}))
    engine = OpenAIEngine(server.ref, retries=0)
    bad, good = engine.choices(["bad", "good"], [("A", "B")] * 2)
    assert bad == [] and good[0].logprob == pytest.approx(math.log(0.6)) and good[0].begins
    verdicts = Pairwise().compare(engine, [Example(one, (Message("user", one),)) for one in ("bad", "good")], ["x"] * 2,
                                  ["y"] * 2)  # fmt: skip
    assert verdicts[0].preference is None and "the request failed" in str(verdicts[0].error)
    assert verdicts[1].preference is not None


def test_ratings_are_read_from_text_where_only_first_tokens_are_known(server: Server) -> None:
    server.answer = lambda body: (200, reply("Rating: [[7]]", top={"A": 0.5}))
    ((score,),) = Pointwise(by="auto").score(OpenAIEngine(server.ref), [Example("a", (Message("user", "a"),))], [["x"]])
    assert score.answer == "7"
