"""Generation and scoring with local weights.

A prompt is encoded once however many samples or options follow it: the cache of its keys and values is copied to
them. Rows that have ended leave the batch. Each sample draws from its own stream of numbers, keyed by (seed, prompt,
sample), so what it says does not depend on which other prompts are in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from burnish.engines.base import Prompt, Scored, Usage
from burnish.errors import EngineError
from burnish.log import Ticker, ticker
from burnish.models.layout import common
from burnish.models.load import LanguageModel, load_model
from burnish.models.logprobs import backbone_of, head_logprobs, head_of, logits_of
from burnish.rng import seed_for
from burnish.types import Completion, Sampling, StopReason

COMPACT_BELOW = 0.75
"""Rows that have ended are dropped from the batch when less than this share of it is still being written."""


def open_engine(ref: str, *, batch_tokens: int = 16384, dtype: str = "auto", device: str = "auto") -> LocalEngine:
    """Load a model and answer with it."""
    return LocalEngine(load_model(ref, dtype=dtype, device=device), batch_tokens=batch_tokens, name=ref)


@dataclass
class _Batch:
    """Rows being written. R rows; all tensors on the model's device."""

    cache: Any
    mask: Tensor  # (R, T) 1 where a cached token is real
    positions: Tensor  # (R,) position of the newest token
    rows: Tensor  # (R,) line of the sheet
    hidden: Tensor  # (R, H) hidden state that predicts the next token


class LocalEngine:
    """An engine over a loaded model."""

    def __init__(self, lm: LanguageModel, *, batch_tokens: int = 16384, name: str | None = None) -> None:
        self.lm, self.batch_tokens = lm, batch_tokens
        self.name, self.usage = name or lm.source.ref, Usage()
        self._backbone, self._head = backbone_of(lm.model), head_of(lm.model)

    @property
    def template_hash(self) -> str:
        return self.lm.chat.hash

    def too_long(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]] | None = None) -> dict[int, str]:
        """The prompts that leave no room for an answer (or for their options), by number, with the reason."""
        found = {}
        for number, prompt in enumerate(prompts):
            if options is None:
                size = len(self._ids(prompt)) + 1
            else:
                ids, tails = self._split(prompt, options[number])
                size = len(ids) + max(map(len, tails))
            if size > self.lm.context:
                found[number] = f"{size} tokens are needed, and the context is {self.lm.context}"
        return found

    def _refuse(self, too_long: dict[int, str]) -> None:
        for number, why in too_long.items():
            raise EngineError(f"prompt {number} does not fit {self.name}: {why}",
                              hint="shorten it, use fewer shots, or drop earlier turns")  # fmt: skip

    # -- generation

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, n: int = 1) -> list[list[Completion]]:
        """`n` completions for each prompt, in the order of the prompts.

        Raises EngineError for a prompt that fills the context. An answer is cut at `max_tokens` or at the end of the
        context; its `stop` says which.
        """
        encoded = [self._ids(prompt) for prompt in prompts]
        self._refuse(self.too_long(prompts))
        results: list[list[Completion]] = [[] for _ in prompts]
        self.lm.model.eval()
        with torch.inference_mode(), ticker(f"{self.name}: answers", len(prompts), "prompts") as tick:
            for group in self._groups(encoded, sampling.max_tokens, n):
                written = self._write([encoded[index] for index in group], sampling, n, tick)
                for index, completions in zip(group, written, strict=True):
                    results[index] = completions
        self._count(encoded, results)
        return results

    def _count(self, encoded: list[list[int]], results: list[list[Completion]]) -> None:
        self.usage.prompt_tokens += sum(map(len, encoded))
        self.usage.completion_tokens += sum(len(one.ids) for group in results for one in group)
        self.usage.calls += len(encoded)

    def _ids(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, str):
            ids = list(self.lm.tokenizer(prompt)["input_ids"])
            if not ids:
                start = self.lm.tokenizer.bos_token_id
                ids = [self.lm.tokenizer.eos_token_id if start is None else start]
            return ids
        return self.lm.chat.ids(prompt, answer=True)

    def _groups(self, encoded: list[list[int]], extra: int, n: int) -> Iterator[list[int]]:
        """Indices of prompts that share a batch: alike in length, longest first, within the token budget."""
        order = sorted(range(len(encoded)), key=lambda index: (-len(encoded[index]), index))
        at = 0
        while at < len(order):
            widest = len(encoded[order[at]]) + extra
            count = max(1, self.batch_tokens // (widest * n))
            yield order[at : at + count]
            at += count

    def _write(self, prompts: list[list[int]], sampling: Sampling, n: int, tick: Ticker) -> list[list[Completion]]:
        batch = self._open(prompts, n)
        sheet = _Sheet(prompts, n, sampling, self.lm)
        for step in range(int(sheet.room.max())):
            chosen, values = _draw(logits_of(batch.hidden, self._head), sampling, sheet.uniform[batch.rows, step])
            sheet.put(step, batch.rows, chosen, values)
            tick.advance(sheet.close(step, batch.rows, chosen) / n)
            alive = ~sheet.done[batch.rows]
            if not bool(alive.any()):
                break
            batch = self._advance(batch, chosen, alive)
        return sheet.read()

    def _open(self, prompts: list[list[int]], n: int) -> _Batch:
        """Encode the prompts, left-padded, and copy their caches to `n` rows each."""
        ids, mask = self._pad_left(prompts)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        out = self._backbone(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True)
        rows = torch.arange(len(prompts) * n, device=ids.device)
        cache = out.past_key_values
        if n > 1:
            cache.reorder_cache(rows // n)
        source = rows // n
        return _Batch(cache, mask[source], positions[source, -1], rows, out.last_hidden_state[source, -1])

    def _pad_left(self, prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
        width = max(map(len, prompts))
        ids = torch.zeros(len(prompts), width, dtype=torch.long)
        mask = torch.zeros(len(prompts), width, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        return ids.to(self.lm.device), mask.to(self.lm.device)

    def _advance(self, batch: _Batch, chosen: Tensor, alive: Tensor) -> _Batch:
        """Feed the chosen tokens; rows that have ended leave once they are many enough to be worth a copy."""
        rows, mask, positions = batch.rows, batch.mask, batch.positions
        if int(alive.sum()) < COMPACT_BELOW * len(rows):
            keep = alive.nonzero()[:, 0]
            batch.cache.reorder_cache(keep)
            rows, mask, positions, chosen = rows[keep], mask[keep], positions[keep], chosen[keep]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        positions = positions + 1
        out = self._backbone(input_ids=chosen[:, None], attention_mask=mask, position_ids=positions[:, None],
                             past_key_values=batch.cache, use_cache=True)  # fmt: skip
        return _Batch(out.past_key_values, mask, positions, rows, out.last_hidden_state[:, -1])

    # -- scoring

    def choices(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[Scored]]:
        """The log-probability of each option after its prompt, the prompt encoded once for all its options.

        After plain text an option is encoded together with it, as it would stand in a document; after a conversation
        it is the beginning of the assistant's turn. Raises EngineError when a prompt and option exceed the context.
        """
        pairs = [self._split(prompt, group) for prompt, group in zip(prompts, options, strict=True)]
        self._refuse(self.too_long(prompts, options))
        results: list[list[Scored]] = [[] for _ in prompts]
        widest = max((len(tail) for _, tails in pairs for tail in tails), default=0)
        most = max((len(tails) for _, tails in pairs), default=1)
        self.lm.model.eval()
        with torch.inference_mode(), ticker(f"{self.name}: choices", len(prompts), "items") as tick:
            for group in self._groups([ids for ids, _ in pairs], widest, most):
                for index, scored in zip(group, self._score([pairs[index] for index in group]), strict=True):
                    results[index] = scored
                tick.advance(len(group))
        self.usage.prompt_tokens += sum(len(ids) for ids, _ in pairs)
        self.usage.calls += len(pairs)
        return results

    def _split(self, prompt: Prompt, options: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """Ids of the prompt and of each option behind it."""
        ids = self._ids(prompt)
        if not isinstance(prompt, str):
            return ids, [self.lm.tokenizer(option, add_special_tokens=False)["input_ids"] for option in options]
        wholes = [self._ids(prompt + option) for option in options]
        # A token may reach across the border: the shared part is then shorter than the prompt, and the rest is scored.
        shared = min(len(ids), *(common(ids, whole) for whole in wholes))
        return ids[:shared], [whole[shared:] for whole in wholes]

    def _score(self, pairs: list[tuple[list[int], list[list[int]]]]) -> list[list[Scored]]:
        counts = torch.tensor([len(tails) for _, tails in pairs], device=self.lm.device)
        owner = torch.arange(len(pairs), device=self.lm.device).repeat_interleave(counts)
        batch = self._open([ids for ids, _ in pairs], 1)
        batch.cache.reorder_cache(owner)
        tails = [tail for _, group in pairs for tail in group]
        width = max(map(len, tails))
        ids = torch.zeros(len(tails), width, dtype=torch.long, device=self.lm.device)
        real = torch.zeros_like(ids, dtype=torch.bool)
        for row, tail in enumerate(tails):
            ids[row, : len(tail)] = torch.tensor(tail)
            real[row, : len(tail)] = True
        hidden = batch.hidden[owner][:, None]  # (O, 1, H) predicts each option's first token
        if width > 1:
            positions = batch.positions[owner][:, None] + 1 + torch.arange(width - 1, device=self.lm.device)
            mask = torch.cat([batch.mask[owner], real[:, :-1].long()], dim=1)
            out = self._backbone(input_ids=ids[:, :-1], attention_mask=mask, position_ids=positions,
                                 past_key_values=batch.cache, use_cache=True)  # fmt: skip
            hidden = torch.cat([hidden, out.last_hidden_state], dim=1)
        values = torch.zeros(real.shape, device=self.lm.device)
        values[real] = head_logprobs(hidden[real], ids[real], self._head)
        sums = values.sum(1).tolist()
        scored = iter(Scored(total, len(tail)) for total, tail in zip(sums, tails, strict=True))
        return [[next(scored) for _ in group] for _, group in pairs]


class _Sheet:
    """What a batch has written so far, one line a sample."""

    def __init__(self, prompts: list[list[int]], n: int, sampling: Sampling, lm: LanguageModel) -> None:
        self._prompts, self._n, self._sampling, self._lm = prompts, n, sampling, lm
        total = len(prompts) * n
        self.room = np.array([min(sampling.max_tokens, lm.context - len(ids)) for ids in prompts for _ in range(n)])
        self.uniform = torch.from_numpy(_streams(prompts, n, sampling)).to(lm.device)  # (R, max_tokens)
        self.done = torch.zeros(total, dtype=torch.bool, device=lm.device)
        self._limit = torch.from_numpy(self.room).to(lm.device)
        self._ends = torch.tensor(lm.chat.stop_ids, device=lm.device)
        self._ids = torch.zeros(total, sampling.max_tokens, dtype=torch.long)
        self._logprobs = torch.zeros(total, sampling.max_tokens)
        self._lengths = self.room.copy()
        self._stops: list[StopReason | None] = [None] * total

    def put(self, step: int, rows: Tensor, chosen: Tensor, values: Tensor) -> None:
        """Write one token on each of the lines."""
        places = rows.cpu()
        self._ids[places, step], self._logprobs[places, step] = chosen.cpu(), values.cpu()

    def close(self, step: int, rows: Tensor, chosen: Tensor) -> int:
        """Mark the lines that end with this token, and return how many do."""
        open_before = ~self.done[rows]
        ended = torch.isin(chosen, self._ends) & open_before
        full = (self._limit[rows] <= step + 1) & open_before & ~ended
        self._end(rows[ended].tolist(), step, StopReason.STOP_TOKEN)
        if self._sampling.stop:
            going = rows[open_before & ~ended].tolist()
            texts = self._lm.tokenizer.batch_decode(self._ids[going, : step + 1])
            said = [row for row, text in zip(going, texts, strict=True) if any(x in text for x in self._sampling.stop)]
            self._end(said, step, StopReason.STOP_STRING)
        self.done[rows[full]] = True
        return int((open_before & self.done[rows]).sum())

    def _end(self, lines: list[int], step: int, reason: StopReason) -> None:
        for line in lines:
            self._lengths[line], self._stops[line] = step + 1, reason
        self.done[lines] = True

    def read(self) -> list[list[Completion]]:
        """The completions of each prompt."""
        lines = iter(range(len(self._prompts) * self._n))
        return [[self._completion(next(lines), len(prompt)) for _ in range(self._n)] for prompt in self._prompts]

    def _completion(self, line: int, prompt_tokens: int) -> Completion:
        size = int(self._lengths[line])
        tokens = tuple(self._ids[line, :size].tolist())
        limit = StopReason.LENGTH if size == self._sampling.max_tokens else StopReason.CONTEXT
        text = self._lm.tokenizer.decode(tokens, skip_special_tokens=True)
        if self._stops[line] is StopReason.STOP_STRING:
            text = text[: min(text.find(ending) for ending in self._sampling.stop if ending in text)]
        logprobs = tuple(self._logprobs[line, :size].tolist())
        return Completion(text.strip(), tokens, logprobs, self._stops[line] or limit, prompt_tokens)


def _streams(prompts: list[list[int]], n: int, sampling: Sampling) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Uniform numbers in [0, 1), (P x n, max_tokens): one Philox stream per (seed, prompt, sample)."""
    if sampling.temperature == 0:
        return np.zeros((len(prompts) * n, sampling.max_tokens), dtype=np.float32)
    keys = [seed_for(sampling.seed, ids, sample) for ids in prompts for sample in range(n)]
    rows = [np.random.Generator(np.random.Philox(key)).random(sampling.max_tokens, dtype=np.float32) for key in keys]
    return np.stack(rows)


def _draw(logits: Tensor, sampling: Sampling, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """One token per row (R,) and its log-probability at temperature 1 (R,), from logits (R, V).

    Sampling inverts the cumulative distribution at one uniform number per row.
    """
    if sampling.temperature == 0:
        chosen = logits.argmax(-1)
    else:
        probabilities = torch.softmax(logits / sampling.temperature, dim=-1)
        if sampling.top_p < 1:
            probabilities = _nucleus(probabilities, sampling.top_p)
        total = probabilities.cumsum(-1)
        chosen = torch.searchsorted(total, uniform[:, None] * total[:, -1:], right=True)[:, 0]
        chosen = chosen.clamp(max=logits.shape[-1] - 1)
    logprobs = logits.gather(1, chosen[:, None])[:, 0] - torch.logsumexp(logits, dim=-1)
    return chosen, logprobs


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Zero all but the smallest set of tokens that holds `top_p` of the mass (arXiv:1904.09751)."""
    ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ranked.cumsum(-1) - ranked
    return torch.zeros_like(probabilities).scatter(1, order, ranked * (before < top_p))
