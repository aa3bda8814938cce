"""Any server that speaks OpenAI's chat protocol: vLLM, llama.cpp, Ollama, a company's own.

A model is named by the server's address and its own name there: `http://localhost:8000/v1#qwen3-8b`. The key is read
from OPENAI_API_KEY. Requests run side by side and are tried again by the client; what still fails is an answer with
`StopReason.FAILED`, which graders and judges leave unscored and count, so that one bad request does not end a run.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from burnish.engines.base import Prompt, Scored, Usage
from burnish.errors import ConfigError, EngineError
from burnish.log import note, ticker
from burnish.types import Completion, Message, Sampling, StopReason

T = TypeVar("T")
KEY = "OPENAI_API_KEY"
TOP = 20
"""Most likely first tokens that servers list."""
STOPS = {"stop": StopReason.STOP_TOKEN, "length": StopReason.LENGTH}


class OpenAIEngine:
    """A model behind an OpenAI-compatible server.

    Args:
        ref: `URL#MODEL`. parallel: requests at one time. retries: of a request that fails. timeout: seconds of one.
    """

    template_hash = ""  # the server applies its own

    def __init__(self, ref: str, *, parallel: int = 8, retries: int = 3, timeout: float = 120.0) -> None:
        address, mark, self._model = ref.partition("#")
        if not mark or not self._model:
            raise ConfigError(f"'{ref}' names a server and no model", hint=f"{address}#model-name")
        try:
            import openai
        except ImportError:
            raise ConfigError("servers need the openai client", hint="pip install 'burnish[api]'") from None
        self.name, self.usage, self._parallel = ref, Usage(), parallel
        self._client = openai.OpenAI(base_url=address, api_key=os.environ.get(KEY, "none"), max_retries=retries,
                                     timeout=timeout)  # fmt: skip
        self._error: type[Exception] = openai.OpenAIError
        self._logprobs: bool | None = None

    first_token_only = True

    @property
    def gives_logprobs(self) -> bool:
        """Whether the server tells probabilities; asked once."""
        if self._logprobs is None:
            try:
                reply = self._ask("Say A or B.", max_tokens=1, logprobs=True, top_logprobs=2)
                self._logprobs = bool(reply.choices[0].logprobs and reply.choices[0].logprobs.content)
            except self._error:
                self._logprobs = False
        return self._logprobs

    def too_long(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]] | None = None) -> dict[int, str]:
        """What fits, only the server knows."""
        return {}

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, n: int = 1) -> list[list[Completion]]:
        """`n` completions for each prompt. Raises EngineError when the server answers none of them."""

        def one(prompt: Prompt) -> list[Completion]:
            given = _settings(sampling)
            answers: list[Completion] = []
            try:
                while len(answers) < n:  # some servers give one at a time, whatever `n`
                    reply = self._ask(prompt, n=n - len(answers), **given | {"seed": given["seed"] + len(answers)})
                    self._count(reply)
                    if not reply.choices:
                        raise self._error("the reply holds no answer")
                    answers += [_completion(choice) for choice in reply.choices]
            except self._error as error:
                failed = Completion(f"{type(error).__name__}: {error}", stop=StopReason.FAILED)
                return answers + [failed] * (n - len(answers))
            return answers[:n]

        found = self._each(prompts, one, "answers")
        failed = [group[0] for group in found if group and group[0].stop is StopReason.FAILED]
        if failed and len(failed) == len(found):
            raise EngineError(f"{self.name} answered none of {len(found)} requests; {failed[0].text[:200]}",
                              hint=f"check the address, the model's name and ${KEY}")  # fmt: skip
        if failed:
            note(f"{self.name}: {len(failed)} of {len(found)} requests failed; the first: {failed[0].text[:200]}")
        return found

    def choices(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[Scored]]:
        """The log-probability of each option by the first token of the reply; an option that is not among the likeliest
        counts as less likely than the last of them. A request that fails has no options scored. Raises EngineError when
        the server tells no probabilities or answers nothing, or when two options begin alike."""
        for group in options:
            if len({option.strip()[:1] for option in group}) < len(group):
                raise EngineError(f"options of a server are told apart by their first letter: {list(group)}",
                                  hint="show the options and compare letters (`letters: true` in a task file); let a"
                                       " judge write its verdict (`by: text`); or score a local copy")  # fmt: skip
        pairs = list(zip(prompts, options, strict=True))

        def one(pair: tuple[Prompt, Sequence[str]]) -> list[Scored]:
            try:
                reply = self._ask(pair[0], max_tokens=1, temperature=1.0, logprobs=True, top_logprobs=TOP)
            except self._error as error:
                failed.append(f"{type(error).__name__}: {error}"[:200])
                return []
            self._count(reply)
            return _scored(reply.choices[0].logprobs.content[0].top_logprobs, pair[1])

        failed: list[str] = []
        try:
            found = self._each(pairs, one, "choices")
        except (AttributeError, IndexError, TypeError) as error:
            raise EngineError(f"{self.name} tells no probabilities: {error}", hint="by: text") from None
        if failed and len(failed) == len(found):
            raise EngineError(f"{self.name} tells no probabilities: {failed[0]}", hint="by: text")
        if failed:
            note(f"{self.name}: {len(failed)} of {len(found)} requests failed; the first: {failed[0]}")
        return found

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        """The answer as it grows."""
        text = ""
        try:
            for event in self._ask(prompt, stream=True, **_settings(sampling)):
                if event.choices and event.choices[0].delta.content:
                    text += event.choices[0].delta.content
                    yield text
        except self._error as error:
            raise EngineError(f"{self.name} broke off: {error}", hint="try again") from None

    def _ask(self, prompt: Prompt, **settings: Any) -> Any:
        turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
        messages: Any = [{"role": turn.role, "content": turn.content} for turn in turns]
        return self._client.chat.completions.create(model=self._model, messages=messages, **settings)

    def _each(self, rows: Sequence[Any], one: Callable[[Any], T], what: str) -> list[T]:
        with ThreadPoolExecutor(self._parallel) as pool, ticker(f"{self.name}: {what}", len(rows), "requests") as tick:
            found = []
            for result in pool.map(one, rows):
                found.append(result)
                tick.advance()
        return found

    def _count(self, reply: Any) -> None:
        self.usage.calls += 1
        if reply.usage:
            self.usage.prompt_tokens += reply.usage.prompt_tokens
            self.usage.completion_tokens += reply.usage.completion_tokens


def _settings(sampling: Sampling) -> dict[str, Any]:
    given = {"max_tokens": sampling.max_tokens, "temperature": sampling.temperature, "top_p": sampling.top_p,
             "seed": sampling.seed % 2**31}  # fmt: skip
    return {**given, "stop": list(sampling.stop)} if sampling.stop else given


def _completion(choice: Any) -> Completion:
    return Completion(
        (choice.message.content or "").strip(), stop=STOPS.get(choice.finish_reason, StopReason.STOP_TOKEN)
    )


def _scored(top: Sequence[Any], options: Sequence[str]) -> list[Scored]:
    """Tokens are compared with the options' beginning without the space that may stand before them."""
    least = min(one.logprob for one in top)
    found = []
    for option in options:
        same = [one.logprob for one in top if one.token.strip() and option.strip().startswith(one.token.strip())]
        found.append(Scored(math.log(sum(map(math.exp, same))) if same else least - 1.0, 1, begins=True))
    return found
