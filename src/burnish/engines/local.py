"""Generation and scoring with local weights.

A prompt is encoded once however many samples or options follow it: the cache of its keys and values is copied to
them. Rows that have ended leave the batch. Each sample draws from its own stream of numbers, keyed by (seed, prompt,
sample), so what it says does not depend on which other prompts are in the batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from burnish.engines import scoring
from burnish.engines.base import Prompt, Scored, Usage
from burnish.engines.encoding import Asked, Encoder
from burnish.errors import EngineError
from burnish.log import ticker
from burnish.models.layout import common
from burnish.models.load import LanguageModel, load_model
from burnish.models.logprobs import backbone_of, head_of, logits_of
from burnish.rng import seed_for
from burnish.types import Completion, Sampling, StopReason

COMPACT_BELOW = 0.75
"""Rows that have ended are dropped from the batch when less than this share of it is still being written."""
PART = 1024
"""Prompts whose answers are held open at once."""
WORTH_SHARING = 64
"""Tokens that all prompts of a batch must begin with to be encoded apart."""


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
    steps: Tensor  # (R,) tokens written
    hidden: Tensor  # (R, H) hidden state that predicts the next token

    def kept(self, rows: Tensor) -> _Batch:
        """The batch without its other rows, and without the columns that were only theirs."""
        self.cache.reorder_cache(rows)
        mask = self.mask[rows]
        first = int(mask.any(0).int().argmax())
        if first and _plain(self.cache):
            mask = mask[:, first:]
            for layer in self.cache.layers:
                layer.keys, layer.values = layer.keys[..., first:, :], layer.values[..., first:, :]
        return _Batch(self.cache, mask, self.positions[rows], self.rows[rows], self.steps[rows], self.hidden[rows])

    def joined(self, other: _Batch) -> _Batch:
        """Both batches as one, the narrower padded on the left."""
        width = max(self.mask.shape[1], other.mask.shape[1])

        def both(one: Tensor, two: Tensor) -> Tensor:
            return torch.cat([_widened(one, width, -2), _widened(two, width, -2)])

        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            mine.keys, mine.values = both(mine.keys, theirs.keys), both(mine.values, theirs.values)
        mask = torch.cat([_widened(self.mask, width, -1), _widened(other.mask, width, -1)])
        rest = [torch.cat([getattr(self, name), getattr(other, name)])
                for name in ("positions", "rows", "steps", "hidden")]  # fmt: skip
        return _Batch(self.cache, mask, *rest)


def _plain(cache: Any) -> bool:
    """Whether a cache is keys and values of every token alone, so that padding may stand anywhere in it. Windows are
    counted in places and states of recurrent layers are sums, so both bear padding at the left end only."""
    return all(type(layer).__name__ == "DynamicLayer" for layer in getattr(cache, "layers", [None]))


def _widened(values: Tensor, width: int, dim: int) -> Tensor:
    """Zeros put before what is there, up to `width` in dimension `dim` (-1 or -2)."""
    missing = width - values.shape[dim]
    return torch.nn.functional.pad(values, (missing, 0) if dim == -1 else (0, 0, missing, 0)) if missing else values


class LocalEngine:
    """An engine over a loaded model."""

    gives_logprobs = True
    first_token_only = False

    def __init__(self, lm: LanguageModel, *, batch_tokens: int = 16384, name: str | None = None) -> None:
        self.lm, self.batch_tokens = lm, batch_tokens
        self.name, self.usage = name or lm.source.ref, Usage()
        self._backbone, self._head, self._encoder = backbone_of(lm.model), head_of(lm.model), Encoder(lm)
        self._whole_prompts = False  # whether the cache has been seen to bear no padding behind a shared beginning

    @property
    def template_hash(self) -> str:
        return self.lm.chat.hash if self.lm.tokenizer.chat_template else ""

    def encode(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """The ids that the model sees of each prompt."""
        return self._encoder.prompts(prompts)

    def too_long(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]] | None = None) -> dict[int, str]:
        """The prompts that leave no room for an answer (or for their options), by number, with the reason."""
        if options is None:
            sizes = [len(ids) + 1 for ids in self._encoder.prompts(prompts)]
        else:
            sizes = [len(ids) + max(map(len, tails)) for ids, tails in self._encoder.asked(prompts, options)]
        return {number: f"{size} tokens are needed, and the context is {self.lm.context}"
                for number, size in enumerate(sizes) if size > self.lm.context}  # fmt: skip

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
        self._refuse(self.too_long(prompts))
        answers = self.write(self._encoder.prompts(prompts), sampling, n)
        # What stands around an answer in a conversation is layout; in a text that goes on it is a part of the text.
        return [group if isinstance(prompt, str) else [replace(one, text=one.text.strip()) for one in group]
                for prompt, group in zip(prompts, answers, strict=True)]  # fmt: skip

    def write(self, encoded: Sequence[list[int]], sampling: Sampling, n: int = 1) -> list[list[Completion]]:
        """The same from token ids, with the white space around the answers. All must leave room in the context."""
        results: list[list[Completion]] = [[] for _ in encoded]
        order = sorted(range(len(encoded)), key=lambda index: (-len(encoded[index]), index))
        self.lm.model.eval()
        with torch.inference_mode(), ticker(f"{self.name}: answers", len(encoded), "prompts") as tick:
            for low in range(0, len(order), PART):
                part = order[low : low + PART]
                sheet = _Sheet([encoded[index] for index in part], n, sampling, self.lm)
                for ended in self._decode(sheet):
                    tick.advance(ended / n)
                for index, completions in zip(part, sheet.read(), strict=True):
                    results[index] = completions
        self._count(encoded, results)
        return results

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        """The answer to one prompt as it grows: the text so far, after every token.

        Raises EngineError for a prompt that fills the context.
        """
        self._refuse(self.too_long([prompt]))
        ids = self._encoder.prompts([prompt])
        self.lm.model.eval()
        sheet = _Sheet(ids, 1, sampling, self.lm)
        steps = self._decode(sheet)
        while True:
            with torch.inference_mode():  # not around the yield: it would hold for whoever listens
                if next(steps, None) is None:
                    break
            text = sheet.text(0)
            yield text if isinstance(prompt, str) else text.strip()
        self._count(ids, sheet.read())

    def _count(self, encoded: Sequence[list[int]], results: list[list[Completion]]) -> None:
        self.usage.prompt_tokens += sum(map(len, encoded))
        self.usage.completion_tokens += sum(len(one.ids) for group in results for one in group)
        self.usage.calls += len(encoded)

    def _groups(self, encoded: Sequence[list[int]], extra: int, n: int) -> Iterator[list[int]]:
        """Indices of prompts that share a batch: alike in length, longest first, within the token budget."""
        order = sorted(range(len(encoded)), key=lambda index: (-len(encoded[index]), index))
        at = 0
        while at < len(order):
            widest = len(encoded[order[at]]) + extra
            count = max(1, self.batch_tokens // (widest * n))
            yield order[at : at + count]
            at += count

    def _decode(self, sheet: _Sheet) -> Iterator[int]:
        """Write a sheet, one token on every open line at a time; gives how many lines each step ended.

        Where the cache allows, prompts that wait take the places of rows that have ended (continuous batching).
        """
        waiting = deque(range(len(sheet.prompts)))
        batch: _Batch | None = None
        while waiting or batch is not None:
            batch = self._admit(batch, waiting, sheet)
            chosen, values = _draw(logits_of(batch.hidden, self._head), sheet.sampling, sheet.numbers(batch))
            sheet.put(batch, chosen, values)
            yield sheet.close(batch, chosen)
            alive = ~sheet.done[batch.rows]
            batch = self._advance(batch, chosen, alive) if bool(alive.any()) else None

    def _admit(self, batch: _Batch | None, waiting: deque[int], sheet: _Sheet) -> _Batch:
        """The batch with as many waiting prompts as have room; few are not worth a forward pass of their own."""
        if batch is not None and (not waiting or not _plain(batch.cache)):
            return batch
        now = 0 if batch is None else len(batch.rows)
        wide = max(len(sheet.prompts[waiting[0]]), 0 if batch is None else batch.mask.shape[1])
        capacity = max(1, self.batch_tokens // (wide + sheet.sampling.max_tokens))
        free = (capacity - now) // sheet.n
        if batch is None:
            free = max(1, free)
        elif now > COMPACT_BELOW * capacity or free < 1:
            return batch
        lines = [waiting.popleft() for _ in range(min(free, len(waiting)))]
        opened = self._open([sheet.prompts[line] for line in lines], sheet.n, lines)
        return opened if batch is None else batch.joined(opened)

    def _open(self, prompts: list[list[int]], n: int, lines: Sequence[int]) -> _Batch:
        """Encode prompts, what all of them begin with once, and copy their caches to `n` rows each."""
        cache, shared = self._beginning(prompts)
        ids, mask = self._pad_left([prompt[shared:] for prompt in prompts])
        positions = (mask.cumsum(1) - 1).clamp(min=0) + shared
        mask = torch.cat([mask.new_ones(len(prompts), shared), mask], dim=1)
        out = self._backbone(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache,
                             use_cache=True)  # fmt: skip
        source = torch.arange(len(prompts) * n, device=ids.device) // n
        cache = out.past_key_values
        if n > 1:
            cache.reorder_cache(source)
        rows = torch.tensor([line * n + sample for line in lines for sample in range(n)], device=ids.device)
        return _Batch(cache, mask[source], positions[source, -1], rows, torch.zeros_like(rows),
                      out.last_hidden_state[source, -1])  # fmt: skip

    def _beginning(self, prompts: list[list[int]]) -> tuple[Any, int]:
        """A cache of what all prompts begin with, a row for each, and its length; (None, 0) when it is not worth it."""
        shared = min(common(prompts[0], prompt) for prompt in prompts)
        shared = min(shared, min(map(len, prompts)) - 1)
        if len(prompts) == 1 or shared < WORTH_SHARING or self._whole_prompts:
            return None, 0
        ids = torch.tensor([prompts[0][:shared]], device=self.lm.device)
        cache = self._backbone(input_ids=ids, use_cache=True).past_key_values
        self._whole_prompts = not _plain(cache)
        if self._whole_prompts:
            return None, 0
        cache.reorder_cache(torch.zeros(len(prompts), dtype=torch.long, device=self.lm.device))
        return cache, shared

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
        if int(alive.sum()) < COMPACT_BELOW * len(batch.rows):
            keep = alive.nonzero()[:, 0]
            batch, chosen = batch.kept(keep), chosen[keep]
        mask = torch.cat([batch.mask, batch.mask.new_ones(len(batch.rows), 1)], dim=1)
        positions = batch.positions + 1
        out = self._backbone(input_ids=chosen[:, None], attention_mask=mask, position_ids=positions[:, None],
                             past_key_values=batch.cache, use_cache=True)  # fmt: skip
        return _Batch(out.past_key_values, mask, positions, batch.rows, batch.steps + 1, out.last_hidden_state[:, -1])

    # -- scoring

    def choices(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[Scored]]:
        """The log-probability of each option after its prompt; what prompts and options share is computed once.

        After plain text an option is encoded together with it, as it would stand in a document; after a conversation
        it is the beginning of the assistant's turn. Raises EngineError when a prompt and option exceed the context.
        """
        self._refuse(self.too_long(prompts, options))
        asked = self._encoder.asked(prompts, options)
        self.usage.prompt_tokens += sum(len(ids) for ids, _ in asked)
        self.usage.calls += len(asked)
        return self.score(asked)

    def score(self, asked: Sequence[Asked]) -> list[list[Scored]]:
        """The same from token ids: of each prompt, and of each option behind it. All must fit the context."""
        results: list[list[Scored]] = [[] for _ in asked]
        self.lm.model.eval()
        least = scoring.PASS if self.lm.device == "cpu" else self.batch_tokens
        packs = scoring.packs(asked, self.batch_tokens, least) if self.lm.trees else self._unshared(asked)
        with torch.inference_mode(), ticker(f"{self.name}: choices", len(asked), "items") as tick:
            for pack in packs:
                part = [asked[number] for number in pack]
                scored = scoring.score_pack(self.lm.model, part) if self.lm.trees else self._score_cached(part)
                for number, found in zip(pack, scored, strict=True):
                    results[number] = found
                tick.advance(len(pack))
        return results

    def _unshared(self, asked: Sequence[Asked]) -> Iterator[list[int]]:
        widest = max((len(tail) for _, tails in asked for tail in tails), default=0)
        most = max((len(tails) for _, tails in asked), default=1)
        return self._groups([ids for ids, _ in asked], widest, most)

    def _score_cached(self, asked: list[Asked]) -> list[list[Scored]]:
        """For models whose layers have a state of their own: each prompt's cache is copied to its options."""
        counts = torch.tensor([len(tails) for _, tails in asked], device=self.lm.device)
        owner = torch.arange(len(asked), device=self.lm.device).repeat_interleave(counts)
        batch = self._open([ids for ids, _ in asked], 1, range(len(asked)))
        batch.cache.reorder_cache(owner)
        tails = [tail for _, group in asked for tail in group]
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
        states = hidden[real]
        which = torch.arange(len(states), device=states.device)
        found = scoring.chosen_logprobs(states, which, ids[real], self._head)
        return scoring.gathered(found, [group for _, group in asked])


class _Sheet:
    """What the prompts of a job have been answered so far: one line a sample, `n` lines a prompt."""

    def __init__(self, prompts: list[list[int]], n: int, sampling: Sampling, lm: LanguageModel) -> None:
        self.prompts, self.n, self.sampling, self._lm = prompts, n, sampling, lm
        total = len(prompts) * n
        room = np.array([min(sampling.max_tokens, lm.context - len(ids)) for ids in prompts for _ in range(n)])
        drawn = sampling.temperature > 0
        self._uniform = torch.from_numpy(_streams(prompts, n, sampling)).to(lm.device) if drawn else None
        self.done = torch.zeros(total, dtype=torch.bool, device=lm.device)
        self._limit = torch.from_numpy(room).to(lm.device)
        self._ends = torch.tensor(lm.stop_ids, device=lm.device)
        self._ids = torch.zeros(total, sampling.max_tokens, dtype=torch.long)
        self._logprobs = torch.zeros(total, sampling.max_tokens)
        self._lengths = np.zeros(total, dtype=int)
        self._stops: list[StopReason | None] = [None] * total
        # A stop string of c bytes ends within the last c tokens; a few more, as the first ones may decode otherwise.
        self._tail = max((len(text.encode()) for text in sampling.stop), default=0) + 4

    def numbers(self, batch: _Batch) -> Tensor | None:
        """A uniform number for each row's next token; None when nothing is drawn."""
        if self._uniform is None:
            return None
        last = self.sampling.max_tokens - 1  # rows that have ended may go along for some steps
        return self._uniform[batch.rows, batch.steps.clamp(max=last)]

    def put(self, batch: _Batch, chosen: Tensor, values: Tensor) -> None:
        """Write one token on each of the batch's lines that are open."""
        going = ~self.done[batch.rows]
        lines, steps = batch.rows[going].cpu(), batch.steps[going].cpu()
        self._ids[lines, steps], self._logprobs[lines, steps] = chosen[going].cpu(), values[going].cpu()
        self._lengths[lines.numpy()] = steps.numpy() + 1

    def close(self, batch: _Batch, chosen: Tensor) -> int:
        """Mark the lines that end with this token, and return how many do."""
        going = ~self.done[batch.rows]
        ended = torch.isin(chosen, self._ends) & going
        full = (self._limit[batch.rows] <= batch.steps + 1) & going & ~ended
        self._end(batch.rows[ended].tolist(), StopReason.STOP_TOKEN)
        lines = batch.rows[going & ~ended].tolist() if self.sampling.stop else []
        if lines:
            tails = [self._ids[line, max(0, self._lengths[line] - self._tail) : self._lengths[line]] for line in lines]
            texts = self._lm.tokenizer.batch_decode(tails)
            said = [line for line, text in zip(lines, texts, strict=True) if any(x in text for x in self.sampling.stop)]
            self._end(said, StopReason.STOP_STRING)
        self.done[batch.rows[full]] = True
        return int((going & self.done[batch.rows]).sum())

    def _end(self, lines: list[int], reason: StopReason) -> None:
        for line in lines:
            self._stops[line] = reason
        self.done[lines] = True

    def text(self, line: int) -> str:
        """What a line says, without its stop string and what is behind it."""
        said: str = self._lm.tokenizer.decode(self._ids[line, : self._lengths[line]], skip_special_tokens=True)
        ends = [said.find(ending) for ending in self.sampling.stop if ending in said]
        return said[: min(ends)] if ends and self._stops[line] is StopReason.STOP_STRING else said

    def read(self) -> list[list[Completion]]:
        """The completions of each prompt."""
        return [
            [self._completion(number * self.n + sample, len(prompt)) for sample in range(self.n)]
            for number, prompt in enumerate(self.prompts)
        ]

    def _completion(self, line: int, prompt_tokens: int) -> Completion:
        size = int(self._lengths[line])
        limit = StopReason.LENGTH if size == self.sampling.max_tokens else StopReason.CONTEXT
        tokens, logprobs = tuple(self._ids[line, :size].tolist()), tuple(self._logprobs[line, :size].tolist())
        return Completion(self.text(line), tokens, logprobs, self._stops[line] or limit, prompt_tokens)


def _streams(prompts: list[list[int]], n: int, sampling: Sampling) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Uniform numbers in [0, 1), (P x n, max_tokens): one Philox stream per (seed, prompt, sample)."""
    keys = [seed_for(sampling.seed, ids, sample) for ids in prompts for sample in range(n)]
    rows = [np.random.Generator(np.random.Philox(key)).random(sampling.max_tokens, dtype=np.float32) for key in keys]
    return np.stack(rows)


def _draw(logits: Tensor, sampling: Sampling, uniform: Tensor | None) -> tuple[Tensor, Tensor]:
    """One token per row (R,) and its log-probability at temperature 1 (R,), from logits (R, V).

    Sampling inverts the cumulative distribution at one uniform number per row; without numbers it is greedy.
    """
    if uniform is None:
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
