"""Prompts and options as token ids, made once for all models that share a tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeVar

from burnish.engines.base import Prompt
from burnish.models.layout import common
from burnish.models.load import LanguageModel

T = TypeVar("T")
Asked = tuple[list[int], list[list[int]]]
"""Ids of a prompt, at least one, and of each option behind it, at least one each."""
PART = 256
"""Prompts that are encoded at once with their options."""
_KEPT: dict[str, tuple[str, Any, Any]] = {}
"""Of each kind of request the last one: hash of the tokenizer, what was encoded, and what it became. A suite is asked
of several models one after the other, and each asks it several times: does it fit, then what is the answer."""


class Encoder:
    """A model's tokenizer and chat template."""

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm

    @cached_property
    def hash(self) -> str:
        """Two encoders with one hash give the same ids."""
        backend = getattr(self._lm.tokenizer, "backend_tokenizer", None)
        if backend is None:  # written in Python: nothing tells two of them apart
            return f"{id(self)}"
        text = backend.to_str() + str(self._lm.tokenizer.chat_template) + repr(self._lm.tokenizer.special_tokens_map)
        return hashlib.sha256(text.encode()).hexdigest()

    def prompts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Ids of each prompt: a conversation through the template up to the answer, a text as it stands."""
        return self._once("prompts", list(prompts), lambda: self._encode(prompts))

    def asked(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[Asked]:
        """Ids of each prompt and of each option behind it.

        After plain text an option is encoded together with it, as it would stand in a document; after a conversation
        it is the beginning of the assistant's turn.
        """
        given = (list(prompts), [tuple(group) for group in options])
        parts = range(0, len(prompts), PART)  # what a tokenizer returns is far larger than the ids
        return self._once("options", given, lambda: [
            one for low in parts for one in self._split(prompts[low : low + PART], options[low : low + PART])
        ])  # fmt: skip

    def _once(self, kind: str, given: Any, make: Callable[[], T]) -> T:
        kept = _KEPT.get(kind)
        if kept is None or kept[0] != self.hash or kept[1] != given:
            kept = _KEPT[kind] = (self.hash, given, make())
        found: T = kept[2]
        return found

    def _encode(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        texts = iter(self._texts([prompt for prompt in prompts if isinstance(prompt, str)]))
        return [next(texts) if isinstance(prompt, str) else self._lm.chat.ids(prompt, answer=True)
                for prompt in prompts]  # fmt: skip

    def _texts(self, texts: Sequence[str], special: bool = True) -> list[list[int]]:
        if not texts:
            return []
        found = self._lm.tokenizer(list(texts), add_special_tokens=special)["input_ids"]
        return [list(ids) or self._start for ids in found] if special else [list(ids) for ids in found]

    @cached_property
    def _start(self) -> list[int]:
        """What stands before a text that begins with nothing."""
        start = self._lm.tokenizer.bos_token_id
        return [self._lm.tokenizer.eos_token_id if start is None else start]

    def _split(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[Asked]:
        heads = self._encode(prompts)
        after_text = [isinstance(prompt, str) for prompt in prompts]
        wholes = iter(self._texts([prompt + option for prompt, group in zip(prompts, options, strict=True)
                                   if isinstance(prompt, str) for option in group]))  # fmt: skip
        turns = iter(self._texts([option for text, group in zip(after_text, options, strict=True) if not text
                                  for option in group], special=False))  # fmt: skip
        found = []
        for text, ids, group in zip(after_text, heads, options, strict=True):
            if text:
                found.append(self._apart(ids, [next(wholes) for _ in group]))
            else:
                found.append((ids, [next(turns) for _ in group]))
        return found

    def _apart(self, ids: list[int], wholes: list[list[int]]) -> Asked:
        """A token may reach across the border: the shared part is then shorter, and the rest is scored."""
        shared = min(len(ids), *(common(ids, whole) for whole in wholes))
        if shared == 0:
            return self._start, wholes
        return ids[:shared], [whole[shared:] for whole in wholes]
