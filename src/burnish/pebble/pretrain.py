"""Pretrains Pebble from scratch on the documents of its world.

    python -m burnish.pebble.pretrain --minutes 70 --out DIR

Weights are computed in bfloat16 and kept in fp32. Documents are made while training. Each row of a batch begins with
the beginning of one, is filled up with further ones (attention may look across their borders), and cuts the last; rows
grow from 128 to 512 tokens. The learning rate warms up, stays, and falls linearly to zero over the last part of the
budget. The budget is time; `--tokens` makes it tokens, and then a run that was stopped and resumed gives the same
weights as one that was not.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from burnish.log import note
from burnish.models.widened import widen_products
from burnish.pebble.optimizer import MuonAdam
from burnish.pebble.tokenizer import BOS, CHAT_ONLY, DOCUMENT_END, TURN_END, train_tokenizer
from burnish.pebble.world import documents

CONTEXT = 512
WINDOWS = ((0.0, 128), (0.4, 256), (0.9, CONTEXT))
"""(fraction of the budget, tokens per row from there on). Attention costs most on a CPU; long rows can wait."""
HELD_OUT_WINDOW = 256
MICRO_TOKENS = 2048
"""Tokens per forward pass: small enough for the caches of a CPU core."""
WARMUP_STEPS = 60
DECAY_FROM = 0.6
"""Fraction of the budget after which the learning rate falls."""
TOKENIZER_PAGES = 30_000
HELD_OUT_SEED = 1_000_003
"""Pages of this seed are only ever used to measure the loss."""


@dataclass
class Progress:
    """Where a run stands; saved with every checkpoint."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    page: int = 0
    waiting: list[list[int]] = field(default_factory=list)
    """Documents already made and not yet trained on, as tokens."""


def new_model(vocabulary: int, seed: int) -> Any:
    """The untrained model. 192 wide and 6 deep: the size that two CPU cores train and sample best in an hour."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=3,
        max_position_embeddings=CONTEXT,
        rope_theta=10_000.0,
        tie_word_embeddings=True,
        use_cache=False,
    )
    return LlamaForCausalLM(config)


class Packer:
    """Fills rows with documents; its whole state is in `progress`."""

    def __init__(self, tokenizer: Any, seed: int, progress: Progress) -> None:
        self.tokenizer, self.progress = tokenizer, progress
        self.bos, self.end = tokenizer.convert_tokens_to_ids([BOS, DOCUMENT_END])
        self.pages = documents(None, seed, start=progress.page)

    def rows(self, count: int, window: int) -> Tensor:
        """The next rows of tokens, (count, window)."""
        return torch.tensor([self._row(window) for _ in range(count)])

    def _row(self, window: int) -> list[int]:
        row: list[int] = []
        while len(row) < window:
            if not self.progress.waiting:
                texts = [next(self.pages) for _ in range(64)]
                self.progress.page += len(texts)
                encoded = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
                self.progress.waiting = [[self.bos, *ids, self.end] for ids in encoded]
            row += self.progress.waiting.pop(0)
        return row[:window]


def loss_of(model: Any, rows: Tensor) -> Tensor:
    """Mean cross-entropy of the next token, nats. `rows`: (B, T)."""
    logits = model(input_ids=rows).logits[:, :-1]  # (B, T-1, V)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), rows[:, 1:].flatten())


def learning_schedule(step: int, done: float) -> float:
    """Share of the full learning rate at `step`, with `done` of the budget spent: warm up, stay, fall to zero."""
    return min((step + 1) / WARMUP_STEPS, (1 - done) / (1 - DECAY_FROM), 1.0)


def window_at(done: float) -> int:
    """Tokens per row when `done` of the budget is spent."""
    return [window for start, window in WINDOWS if done >= start][-1]


class Run:
    """One pretraining run in one folder: weights/, checkpoint.safetensors, metrics.jsonl."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.out = arguments, Path(arguments.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.tokenizer = self._tokenizer()
        self.model = new_model(len(self.tokenizer), arguments.seed)
        self.masters = {name: value.detach().clone() for name, value in self.model.named_parameters()}
        self.model = self.model.to(torch.bfloat16)
        widen_products()
        self.model.set_attn_implementation("eager")  # measured 1.5 times as fast as sdpa, at rows of 128 on two cores
        # Measured 1.2 times as fast. Not the default: it needs a C++ compiler, and a minute for each length of rows.
        self.loss = torch.compile(loss_of, dynamic=False) if arguments.compile else loss_of
        self.optimizer = MuonAdam(self.masters, arguments.muon_rate, arguments.adam_rate, arguments.decay)
        self.progress = Progress()
        if self.checkpoint.exists():
            self._resume()
        self.packer = Packer(self.tokenizer, arguments.seed, self.progress)
        held = Packer(self.tokenizer, HELD_OUT_SEED, Progress())
        self.held_out = [held.rows(MICRO_TOKENS // HELD_OUT_WINDOW, HELD_OUT_WINDOW) for _ in range(12)]

    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoint.safetensors"

    def _tokenizer(self) -> Any:
        folder = self.out / "tokenizer"
        if not folder.exists():
            note("learning the tokenizer")
            train_tokenizer(documents(TOKENIZER_PAGES, self.arguments.seed)).save_pretrained(folder)
        return AutoTokenizer.from_pretrained(folder)

    def done(self) -> float:
        """Fraction of the budget spent, in [0, 1]."""
        spent: float = self.progress.seconds / (60 * self.arguments.minutes)
        if self.arguments.tokens:
            spent = self.progress.tokens / self.arguments.tokens
        return min(spent, 1.0)

    def train(self) -> None:
        """Train until the budget is spent, then save the weights."""
        saved = logged = time.monotonic()
        since = self.progress.tokens
        while (done := self.done()) < 1:
            began = time.monotonic()
            loss = self.step(learning_schedule(self.progress.step, done), window_at(done))
            now = time.monotonic()
            self.progress.seconds += now - began
            if self.progress.step % 25 == 0:
                self._log(loss, (self.progress.tokens - since) / (now - logged), done)
                logged, since = time.monotonic(), self.progress.tokens
            if now - saved > 60 * self.arguments.save_every:
                self.save()
                saved = time.monotonic()
        self.save()

    def step(self, schedule: float, window: int) -> float:
        """One update over `batch_tokens` tokens; returns the mean loss."""
        micros = self.arguments.batch_tokens // MICRO_TOKENS
        gradients = {name: torch.zeros_like(value) for name, value in self.masters.items()}
        total = 0.0
        for _ in range(micros):
            rows = self.packer.rows(MICRO_TOKENS // window, window)
            loss = self.loss(self.model, rows) / micros
            loss.backward()
            total += loss.item()
            self.progress.tokens += rows.numel()
            for name, value in self.model.named_parameters():
                gradients[name] += value.grad
                value.grad = None
        self.progress.step += 1
        self.optimizer.step(gradients, schedule, self.progress.step)
        self._to_model()
        return total

    def _to_model(self) -> None:
        with torch.no_grad():
            for name, value in self.model.named_parameters():
                value.copy_(self.masters[name])

    def held_out_loss(self) -> float:
        """Mean loss on pages that are never trained on, nats a token."""
        with torch.no_grad():
            losses = [float(loss_of(self.model, rows)) for rows in self.held_out]
        return sum(losses) / len(losses)

    def _log(self, loss: float, rate: float, done: float) -> None:
        row: dict[str, Any] = {"step": self.progress.step, "tokens": self.progress.tokens}
        row |= {"seconds": round(self.progress.seconds, 1), "done": round(done, 4)}
        row |= {"loss": round(loss, 4), "tokens_per_second": round(rate)}
        if self.progress.step % 200 == 0:
            row["held_out_loss"] = round(self.held_out_loss(), 4)
        note(json.dumps(row))
        with (self.out / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def save(self) -> None:
        """Write the checkpoint and the weights, each replacing the former one in a single move."""
        tensors = {f"master.{name}": value for name, value in self.masters.items()} | self.optimizer.state
        part = self.checkpoint.with_suffix(".part")
        save_file(tensors, part, {"progress": json.dumps(asdict(self.progress))})
        part.replace(self.checkpoint)
        export(self.model, self.tokenizer, self.out / "weights")
        note(f"saved at step {self.progress.step}")

    def _resume(self) -> None:
        with safe_open(self.checkpoint, "pt") as file:
            self.progress = Progress(**json.loads(file.metadata()["progress"]))
            for name, value in self.masters.items():
                value.copy_(file.get_tensor(f"master.{name}"))
            for name, value in self.optimizer.state.items():
                value.copy_(file.get_tensor(name))
        self._to_model()
        note(f"resuming at step {self.progress.step}")


def export(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the model as transformers loads it. Tokens that no document held get the mean embedding and a little noise.

    Left as they are they would be far from every trained token, and fine-tuning would first have to bring them back.
    """
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    table = weights["model.embed_tokens.weight"].float()
    unseen = tokenizer.convert_tokens_to_ids(CHAT_ONLY)
    seen = torch.ones(len(table), dtype=torch.bool).index_fill_(0, torch.tensor(unseen), False)
    noise = torch.randn(len(unseen), table.shape[1], generator=torch.Generator().manual_seed(0))
    table[unseen] = table[seen].mean(0) + 0.5 * table[seen].std(0) * noise
    weights["model.embed_tokens.weight"] = weights["lm_head.weight"] = table.to(torch.bfloat16)
    copy = LlamaForCausalLM(model.config).to(torch.bfloat16)
    copy.load_state_dict(weights)
    copy.tie_weights()
    copy.config.bos_token_id, copy.config.pad_token_id = tokenizer.bos_token_id, tokenizer.pad_token_id
    copy.config.eos_token_id, copy.config.use_cache = tokenizer.convert_tokens_to_ids(TURN_END), True
    ends = tokenizer.convert_tokens_to_ids([TURN_END, DOCUMENT_END])
    copy.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id
    )
    copy.save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    (folder / "model.safetensors").chmod(0o644)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder for the checkpoint, the metrics and weights/")
    parser.add_argument("--minutes", type=float, default=120.0, help="training time, the time of resumed runs included")
    parser.add_argument("--tokens", type=int, default=0, help="train this many tokens instead of a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="fuse the layers with torch.compile")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads of torch")
    parser.add_argument("--batch-tokens", type=int, default=4096, help="tokens per update, a multiple of 2048")
    parser.add_argument("--muon-rate", type=float, default=0.02, help="learning rate of the layers' matrices")
    parser.add_argument("--adam-rate", type=float, default=0.004, help="learning rate of embeddings and norms")
    parser.add_argument("--decay", type=float, default=0.05, help="weight decay of the matrices")
    parser.add_argument("--save-every", type=float, default=3.0, help="minutes between checkpoints")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    settings = parse(arguments)
    torch.set_num_threads(settings.threads)
    Run(settings).train()


if __name__ == "__main__":
    main()
