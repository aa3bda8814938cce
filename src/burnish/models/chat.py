"""Chat templates: token ids for a conversation, and which of them are learned.

Loss spans are derived from the tokenizer's own template, whatever it looks like: the conversation is written whole, and
up to each assistant turn with the generation prompt; what the whole text goes on with, to the ending of an answer, is
the turn. Both are verified: every prefix must be a prefix of the whole text, and the span must hold the turn's words.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from burnish.errors import ModelError
from burnish.types import Message

if TYPE_CHECKING:
    from rich.text import Text


BROKEN = "\N{REPLACEMENT CHARACTER}"
THOUGHT = "</think>"
"""What ends an answer's thinking."""
RECENT = 64
"""Written texts that are kept: the two sides of a pair begin with the same one, and so do the cuts of a long row."""
PROBE = (Message("user", "A question."), Message("assistant", "An answer."))
"""A conversation that shows how a template ends an answer."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The tokens of one learned turn: ids[start:stop] of message number `message`, its stop token included."""

    message: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as tokens. `weights[i]` says how much the prediction of `ids[i]` counts in the loss."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    turns: tuple[Turn, ...]


class ChatTemplate:
    """A tokenizer's own chat template. Raises ModelError when the tokenizer has none."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        if not tokenizer.is_fast:
            raise ModelError("the tokenizer, written in Python, cannot tell which characters a token has",
                             where=str(tokenizer.name_or_path), hint="save its fast form: tokenizer.json")  # fmt: skip
        template = tokenizer.chat_template
        if not template:
            raise ModelError(
                "the tokenizer has no chat template",
                where=str(tokenizer.name_or_path),
                hint="a base model may lack one: copy chat_template.jinja from its instruct sibling into the folder",
            )
        self.text = template if isinstance(template, str) else str(template.get("default", template))
        self._write = lru_cache(RECENT)(self._by_template)
        self._numbers: dict[int, int] = {}

    @cached_property
    def hash(self) -> str:
        """Hash of the template's text; two models with the same hash see conversations alike."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    # -- text

    def written(self, messages: Sequence[Message], answer: bool = False) -> str:
        """The conversation as the template writes it; `answer` adds the opening of the assistant's next turn."""
        return self._write(tuple((message.role, message.content) for message in messages), answer)

    def _by_template(self, turns: tuple[tuple[str, str], ...], answer: bool) -> str:
        rows = [{"role": role, "content": content} for role, content in turns]
        try:
            return str(self.tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=answer))
        except Exception as error:  # a template is a program and may fail in any way
            raise ModelError(
                f"the chat template refuses this conversation: {error}",
                where=f"{self.tokenizer.name_or_path}, roles {[role for role, _ in turns]}",
                hint="some templates take no system turn, or want user and assistant in turn",
            ) from None

    def ids(self, messages: Sequence[Message], answer: bool) -> list[int]:
        """Token ids of the conversation. The template writes special tokens itself, so none are added twice."""
        return list(self.tokenizer(self.written(messages, answer), add_special_tokens=False)["input_ids"])

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """The tokens that end an assistant turn: what the template writes after an answer, and the model's own."""
        opened, closed = self.written(PROBE[:1], answer=True), self.written(PROBE)
        found = []
        if closed.startswith(opened):
            tail = self.tokenizer(closed[len(opened) :], add_special_tokens=False)["input_ids"]
            # `all_special_ids` knows only tokens with a role (eos, pad); a turn may end with another special one.
            found += [token for token in tail if token in self._special.values()][:1]
        eos = self.tokenizer.eos_token_id
        if eos is not None and eos not in found:
            found.append(eos)
        return tuple(found)

    # -- loss spans

    def render(self, messages: Sequence[Message], *, empty: bool = False) -> Rendered:
        """The conversation as tokens, learned turns marked.

        `empty` allows answers that are nothing but their stop token. Raises ModelError when a turn cannot be found in
        the text, would train no token of its own, or has no stop token.
        """
        self._refuse_special(messages)
        text = self.written(messages)
        spans = self._spans(messages, text)
        ids, turns = self._tokenize(text, spans)
        weights = [0.0] * len(ids)
        kept = []
        for turn in turns:
            turn = self._to_stop(turn, ids, messages[turn.message], empty)
            weights[turn.start : turn.stop] = [messages[turn.message].weight] * (turn.stop - turn.start)
            kept.append(turn)
        if not kept:
            raise ModelError("no turn of this conversation is learned", hint="it needs an assistant turn")
        # Rows name few different tokens, so all of them share the numbers: 8 bytes a token instead of 40.
        return Rendered(tuple(map(self._numbers.setdefault, ids, ids)), tuple(weights), tuple(kept))

    def answer_ids(self, prompt: Sequence[Message], answer: str) -> Rendered:
        """A prompt and one answer as tokens; only the answer is learned. An empty one is an answer too: it ends."""
        quiet = [Message(message.role, message.content, train=False) for message in prompt]
        return self.render([*quiet, Message("assistant", answer, train=True)], empty=True)

    @cached_property
    def _special(self) -> dict[str, int]:
        """The special tokens, which only the template may write."""
        return {added.content: token for token, added in self.tokenizer.added_tokens_decoder.items() if added.special}

    @cached_property
    def _any_special(self) -> re.Pattern[str]:
        words = sorted(self._special, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, words)) or r"(?!)")

    def _refuse_special(self, messages: Sequence[Message]) -> None:
        """A special token in someone's words would end a turn or open another one, unseen."""
        for index, message in enumerate(messages):
            if found := self._any_special.search(message.content):
                raise ModelError(
                    f"the words of turn {index} ({message.role}) hold the special token {found[0]}",
                    hint="take it out of the row: tokens that open and end turns are the template's to write",
                )

    def _spans(self, messages: Sequence[Message], text: str) -> list[tuple[int, int, int]]:
        """(message, start, stop) of each learned turn in the whole text, found one behind the other."""
        found: list[tuple[int, int, int]] = []
        place = 0
        for index, message in enumerate(messages):
            if message.trains:
                found.append((index, *self._span(messages, index, text, place)))
                _, start, place = found[-1]
                if index == len(messages) - 1:
                    self._refuse_other_thinking(message, text[start:place])
            elif (at := text.find(_kept_words(message), place)) >= 0:
                place = at + len(_kept_words(message))
        return found

    def _refuse_other_thinking(self, message: Message, written: str) -> None:
        """Templates may leave out the thinking of the last answer too, or write an empty one before it: then something
        else would be learned than what the row says."""
        said, found = message.content.count(THOUGHT), written.count(THOUGHT)
        if said and said != found:
            raise ModelError(
                f"the last answer ends its thinking {said} times, and as the chat template writes it {found}",
                where=str(self.tokenizer.name_or_path),
                hint="train with a template that writes the content as it is, or take the thinking out of the rows",
            )

    def _span(self, messages: Sequence[Message], index: int, text: str, after: int) -> tuple[int, int]:
        """Characters of a turn behind `after`: of an answer, from where generation would start to its end."""
        message = messages[index]
        answer = message.role == "assistant"
        before = self.written(messages[:index], answer=True) if answer and index else ""
        last = index == len(messages) - 1
        if answer and not last and text.startswith(before) and (stop := self._stop(message, text, len(before))):
            return len(before), stop
        through = text if last else self.written(messages[: index + 1])
        if answer and through.startswith(before) and text.startswith(through):
            return len(before), len(through)
        # The template writes earlier turns otherwise once later ones follow (it drops their thinking, say): find what
        # it kept of this turn, which is followed by the same ending.
        words = _kept_words(message)
        start = max(through.rfind(words + self._closing), -1) if self._closing else -1
        start = start if start >= 0 else through.rfind(words)
        ending = through[start + len(words) :]
        at = text.find(words + ending, after) if words and start >= 0 else -1
        if at < 0:
            raise ModelError(
                f"turn {index} ({message.role}) cannot be found in what the chat template writes",
                where=str(self.tokenizer.name_or_path),
                hint="the template rewrites earlier turns; train on single-turn rows, or mark the turn `train: false`",
            )
        return at, at + len(words) + len(ending)

    @cached_property
    def _closing(self) -> str:
        """What the template writes after an answer."""
        return self.written(PROBE).partition(PROBE[1].content)[2]

    def _stop(self, message: Message, text: str, start: int) -> int | None:
        """Where the answer that starts here ends; None when the text does not go on with its words and their ending."""
        words = message.content.strip()
        found = words and self._closing and text.startswith(words + self._closing, start)
        return start + len(words) + len(self._closing) if found else None

    def _tokenize(self, text: str, spans: list[tuple[int, int, int]]) -> tuple[list[int], list[Turn]]:
        """Tokens of the text and of each span.

        Where a token would cross a border, the pieces are encoded apart: at serving time the prompt ends there too.
        """
        encoded = self.tokenizer(text, add_special_tokens=False)
        ids: list[int] = encoded["input_ids"]
        borders = sorted({0, len(text), *(border for _, *both in spans for border in both)})
        at = {border: _starting(encoded, border) for border in borders} | {0: 0, len(text): len(ids)}
        if -1 in at.values():
            ids = []
            for start, stop in itertools.pairwise(borders):
                at[start] = len(ids)
                ids += self.tokenizer(text[start:stop], add_special_tokens=False)["input_ids"]
            at[len(text)] = len(ids)
        return ids, [Turn(index, at[a], at[b]) for index, a, b in spans]

    def _to_stop(self, turn: Turn, ids: Sequence[int], message: Message, empty: bool) -> Turn:
        """The turn up to its stop token; what the template writes after it is not the model's to say."""
        if message.role != "assistant":
            if turn.stop <= turn.start:
                raise ModelError(f"turn {turn.message} ({message.role}) would train no token")
            return turn
        stops = [place for place in range(turn.start, turn.stop) if ids[place] in self.stop_ids]
        if not stops:
            raise ModelError(
                f"turn {turn.message} is not closed by a stop token, so the model would never learn to end its answer",
                where=str(self.tokenizer.name_or_path),
                hint="the chat template must write the end-of-turn token after each assistant turn",
            )
        if stops[0] == turn.start and not empty:
            raise ModelError(f"turn {turn.message} (assistant) would train no token of its text", hint="it is empty")
        return Turn(turn.message, turn.start, stops[0] + 1)


def _starting(encoded: Any, place: int) -> int:
    """Number of the token that starts with the character at `place`; -1 where none does."""
    token = encoded.char_to_token(0, place)
    return token if token is not None and encoded.token_to_chars(0, token).start == place else -1


def _kept_words(message: Message) -> str:
    """What templates keep of a turn when later ones follow: all but its thinking."""
    return message.content.split(THOUGHT)[-1].strip()


def mask_view(rendered: Rendered, tokenizer: Any) -> Text:
    """The tokens in colour, learned ones in ⟦ ⟧ with their weight where it is not 1: green, their stop tokens
    underlined, the rest dim."""
    from rich.text import Text

    text = Text()
    stops = {turn.stop - 1 for turn in rendered.turns}
    waiting: list[int] = []
    before = 0.0
    for place, (token, weight) in enumerate(zip(rendered.ids, rendered.weights, strict=True)):
        if weight != before:
            text.append(_border(before, weight), style="green")
            before = weight
        style = "dim" if weight == 0 else "bold green underline" if place in stops else "green"
        waiting.append(token)
        piece = tokenizer.decode(waiting)
        if not piece.endswith(BROKEN):  # else a character goes on in the next token
            text.append(piece, style=style)
            waiting = []
    text.append(tokenizer.decode(waiting) if waiting else "")
    return text.append(_border(before, 0.0), style="green")


def _border(before: float, after: float) -> str:
    """What stands between tokens of two weights."""
    closed = f"⟧×{before:g}" if before not in (0, 1) else "⟧" if before else ""
    return closed + ("⟦" if after else "")
