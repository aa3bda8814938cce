"""What every step that trains a model shares: settings, checks, and the way from an input model to a trained one."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from burnish import hardware, parallel
from burnish.code import USER
from burnish.config import Config, Table
from burnish.data.io import read_examples
from burnish.errors import BurnishError, Problem, TrainingError
from burnish.log import note, note_once
from burnish.models.adapters import Lora, unfit
from burnish.models.locate import size_of
from burnish.models.targets import is_adapter
from burnish.objectives import OBJECTIVES
from burnish.rewards import is_judged
from burnish.steps.base import (
    MODEL,
    SUITE,
    DatasetRef,
    Expectation,
    Holds,
    Inputs,
    ModelRef,
    Phase,
    Running,
    Step,
    View,
)
from burnish.steps.estimate import mean_tokens, training_disk, training_memory, training_seconds, work_done
from burnish.steps.rendering import Kept, Overlong, Refused, check_training_data
from burnish.training.optim import MOMENT_BYTES, WHOLE_ONLY, Optimization
from burnish.training.tracking import Tracker, missing_trackers
from burnish.types import Example, Sampling
from burnish.workspace import write_atomic

if TYPE_CHECKING:
    from burnish.models.load import Gives, LanguageModel
    from burnish.training.state import TrainResult
    from burnish.training.step import RunOptions
    from burnish.training.watch import Watch

SAMPLES = "samples.jsonl"
LEARNS_FROM: dict[str, tuple[Holds, ...]] = {
    "pair": ("pairs",), "comparison": ("pairs",), "answer": ("pairs", "examples"),
}  # fmt: skip
"""What an objective's rows are, by its unit; conversations where it is not here."""


class Watching(Config):
    """A suite that is measured while a model trains."""

    suite: str
    """The suite's name; not one that is held out."""
    every: int = Field(default=50, ge=1)
    """Steps between looks; the last step is always looked at."""
    items: int = Field(default=64, ge=1)
    """Items that are asked, as many of each task."""
    max_tokens: int = Field(default=256, ge=1)
    """Longest answer, in tokens."""
    patience: int | None = Field(default=None, ge=1)
    """Stop early after so many looks in a row that were no better than the best."""
    samples: int = Field(default=2, ge=0)
    """Answers that are shown at each look, and kept in samples.jsonl."""


class Training(Step):
    """Settings of every step that trains a model."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "base_model": "`model`", "model_name_or_path": "`model`", "datasets": "`data`", "dataset": "`data`",
        "max_length": "`max_tokens`", "max_seq_length": "`max_tokens`", "sequence_len": "`max_tokens`",
        "cutoff_len": "`max_tokens`", "bf16": "`dtype`", "report_to": "`track`", "adapter": "`lora: {rank: 16}`",
        "lora_r": "`lora: {rank: 16}`", "load_in_4bit": "`lora: {quantize: true}`",
        "lr": "`train: {learning_rate: ...}`", "beta": "`objective: {dpo: {beta: 0.1}}`",
        "loss_type": "`objective: {dpo: {variant: ...}}`",
        **dict.fromkeys(("ref_model", "reference", "reference_model"), "nothing: the reference is the starting model"),
    }  # fmt: skip

    kind: ClassVar[str] = "model"
    phase: ClassVar[Phase] = "training"
    in_all_processes: ClassVar[bool] = True
    sums_over: ClassVar[tuple[str, ...]]
    """What the step's objectives may sum over."""
    gives: ClassVar[Gives] = "text"
    """What the trained model gives."""

    model: ModelRef = "base"
    """The model to start from."""
    data: DatasetRef
    """The rows to learn from; they must have been checked against every suite (`decontaminate`)."""
    lora: Lora | None = None
    """Train a low-rank adapter instead of the whole model: {rank: 16}. A model that is an adapter already is trained on
    with it; without `lora` its adapter is first added into its weights."""
    train: Optimization = Optimization()
    """Learning rate, batch size, epochs and the like."""
    seed: int | None = None
    """Decides the order of the rows and how an adapter begins; left out, the step's name does. Steps of one seed differ
    by their settings alone."""
    max_tokens: int | None = Field(default=None, ge=8)
    """Longest row in tokens; the model's context when left out."""
    overlong: Overlong = "error"
    """Rows that are longer: stop with an error, drop them, or truncate them by whole turns. All are counted."""
    refused: Refused = "error"
    """Rows that the chat template cannot write or that would train no token: stop with an error that counts them by
    reason, or drop them, counted and said."""
    objective: Annotated[Any, Table("burnish.objectives:OBJECTIVES")]
    """The loss."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the weights while training; `burnish doctor` says what auto is here, and why."""
    watch: Watching | None = None
    """Measure the model on a suite while it trains: {suite: dev}. Its best weights are kept."""
    track: Tracker | list[Tracker] = Field(default_factory=list)
    """Send the metrics of every step to tensorboard, wandb, mlflow or trackio as well; each needs its own package. Does
    not change results."""
    checkpoint_seconds: float = Field(default=60.0, ge=0)
    """Seconds between checkpoints, from which a stopped run goes on; more where they would take more than a twentieth
    of the time. Does not change results."""

    def references(self, name: str) -> dict[str, list[str]]:
        found = super().references(name)
        return {**found, "watch": [SUITE + self.watch.suite]} if self.watch else found

    def content(self) -> dict[str, Any]:
        content = super().content()
        for key in ("checkpoint_seconds", "track", "seed"):  # the seed that comes of it is part of an id by itself
            content.pop(key)
        return content

    def own_seed(self, recipe_seed: int, name: str) -> int:
        return super().own_seed(recipe_seed, name if self.seed is None else f"seed {self.seed}")

    def check(self, view: View) -> Iterator[Problem]:
        unit = getattr(OBJECTIVES.build(self.objective), "unit", None)
        if unit not in self.sums_over:
            fitting = [row.name for row in OBJECTIVES if OBJECTIVES.resolve(row.name).unit in self.sums_over]
            own = " or ".join(self.sums_over)
            what = f"this objective's unit is {unit!r}, and the step `{self.use}` sums over {own}"
            yield Problem(what, "objective", "objectives that fit: " + ", ".join(fitting))
        yield from check_training_data(view, self.data, LEARNS_FROM.get(str(unit), ("examples",)))
        yield from missing_trackers(self.trackers)
        yield from self._check_settings(view)
        if self.watch:
            yield from self._check_watch(view)

    def _check_settings(self, view: View) -> Iterator[Problem]:
        """What would fail only when the steps before are done."""
        if self.lora and self.lora.quantize and find_spec("bitsandbytes") is None:
            yield Problem("QLoRA needs the package bitsandbytes", "lora.quantize", "pip install 'burnish[qlora]'")
        step = view.step(self.model)
        continues = getattr(step, "lora", None) if step else is_adapter(view.root(self.model))  # as it was made
        if self.lora and not continues:
            yield from unfit(view.root(self.model), self.lora)
        if self.train.lora_b != 1 and not self.lora:
            yield Problem("`lora_b` is of an adapter, and all weights train here", "train.lora_b",
                          "leave it out, or train an adapter: lora: {rank: 16}")  # fmt: skip
        if self.train.shard and self.train.optimizer in WHOLE_ONLY:
            yield Problem(f"{self.train.optimizer} does not work on sharded parameters", "train.shard",
                          "leave `shard` out, or take `optimizer: adamw`")  # fmt: skip

    def _check_watch(self, view: View) -> Iterator[Problem]:
        assert self.watch is not None
        suite = view.suites.get(self.watch.suite)
        if suite is not None and getattr(suite, "looks", None) is not None:
            yield Problem(f"suite '{self.watch.suite}' is held out, and choosing by it would use it up", "watch",
                          "watch a suite without `looks`")  # fmt: skip
        items = [item for item in view.sample(SUITE + self.watch.suite) if isinstance(item, Example)]
        if items and all(is_judged(item.grader) for item in items):
            yield Problem(f"suite '{self.watch.suite}' is scored by a judge, and none is asked while training", "watch",
                          "watch a suite that rules can grade")  # fmt: skip
        if self.gives == "scores":
            yield Problem("a reward model answers no suite", "watch", "leave `watch` out")
        if self.train.shard:
            yield Problem("a model whose weights are split cannot answer", "watch", "leave `watch` or `shard` out")

    @property
    def trackers(self) -> list[Tracker]:
        return [self.track] if isinstance(self.track, str) else list(self.track)

    def expect(self, view: View) -> Expectation:
        rows, size = view.expect(self.data).rows, size_of(view.root(self.model))
        seconds = None
        if rows is not None:
            speed = view.speed(self.use, size.bytes if size else None)
            tokens = mean_tokens(view.sample(self.data)) * self.train.drawn(round(rows))
            seconds = tokens / speed if speed else training_seconds(size, tokens)
        where, _ = hardware.device()
        kind = "nf4" if self.lora and self.lora.quantize else hardware.dtype(self.dtype, where)[0]
        moments = None if self.lora else MOMENT_BYTES[self.train.optimizer][kind == "float32"]
        needed = training_memory(size, kind, moments, self.train.micro(where), self.train.checkpointing)
        return Expectation(rows, seconds, needed, training_disk(size, kind, moments, best=self.watch is not None))

    # -- the work: what differs between steps, and the one way through

    def rendered(self, lm: LanguageModel, inputs: Inputs, limit: int) -> Kept:
        """The rows as tokens, none longer than `limit`."""
        raise NotImplementedError

    def reference(self, lm: LanguageModel, rows: Sequence[Any], objective: Any, run: Running) -> Any:
        """What is computed with the starting model before it changes."""
        return None

    def fit(self, lm: LanguageModel, rows: Sequence[Any], objective: Any, reference: Any, inputs: Inputs,
            options: RunOptions) -> TrainResult:  # fmt: skip
        """Train."""
        raise NotImplementedError

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        from burnish.models.adapters import attach
        from burnish.training.tracking import tracked

        lm = self.load(inputs)
        limit = min(lm.longest, self.max_tokens or lm.longest)
        if limit == lm.steady and limit < lm.context:
            note(f"beyond {limit} tokens this model turns all rows of a pass by the longest, so no more fit a row")
        kept = self.rendered(lm, inputs, limit)
        if kept.dropped and not kept.rows:
            lost = ", ".join(f"{count} {why}" for why, count in kept.dropped.items())
            raise TrainingError(f"no row of {inputs.names['data'][0]} is left to train on: {lost}",
                                hint="raise `max_tokens`, or choose another `overlong` or `refused`")  # fmt: skip
        objective = OBJECTIVES.build(self.objective)
        reference = self.reference(lm, kept.rows, objective, run)
        if self.lora:
            lm = attach(lm, self.lora, run.seed)
        settings = {**self.content(), "seed": run.seed}
        with tracked(self.trackers, f"{run.name}-{run.folder.name[-8:]}", settings, run.store.root) as after:
            options: RunOptions = {
                "seed": run.seed, "folder": run.folder, "checkpoint_every_s": self.checkpoint_seconds, "after": after,
                "watch": watch_by(self.watch, lm, inputs, run.folder) if self.watch else None,
            }  # fmt: skip
            with blamed(objective):
                result = self.fit(lm, kept.rows, objective, reference, inputs, options)
        if parallel.leads():
            lm.save(run.folder / MODEL)
        run.usage.trained_tokens += result.tokens
        known = {} if reference is None else {"reference": reference.id}
        return {**self._summary(result, kept, lm.chat.hash, inputs.model("model")), **known}

    def load(self, inputs: Inputs) -> LanguageModel:
        """The model to start from."""
        from burnish.models.adapters import fold
        from burnish.models.load import load_model

        lm = load_model(inputs.model("model"), dtype=self.dtype, train_adapter=self.lora is not None, gives=self.gives,
                        quantize=bool(self.lora and self.lora.quantize))  # fmt: skip
        if self.lora or not hasattr(lm.model, "peft_config"):
            return lm
        note_once(f"the adapter of {lm.source.ref} is added to its weights, and all of them train; `lora: {{rank: 16}}`"
                  " would train the adapter on")  # fmt: skip
        return fold(lm)

    def _summary(self, result: TrainResult, kept: Kept, template: str, model: str) -> dict[str, Any]:
        """The manifest's summary."""
        lost = "".join(f", {count} rows dropped: {why}" for why, count in kept.dropped.items())
        cut = f", {kept.truncated} rows truncated" if kept.truncated else ""
        best = f", weights of step {result.best_step} kept" if result.best_step is not None else ""
        speed = result.tokens / max(result.seconds, 1e-9)
        return {
            "training": asdict(result),
            "tokens_per_second": speed,
            "unit": OBJECTIVES.build(self.objective).unit,
            "rows_in": len(kept.rows) + sum(kept.dropped.values()),
            "rows": len(kept.rows),
            "dropped": kept.dropped,
            "truncated": kept.truncated,
            "template": template,
            **work_done(result.tokens, model),
            "headline": f"mean loss {result.loss_first:.3f} in the first tenth and {result.loss_last:.3f} in the last"
            f" of {result.steps} steps,"
            f" {speed:,.0f} tokens/s, MFU {result.utilisation:.0%}{best}{lost}{cut}",
        }


@contextmanager
def blamed(objective: Any) -> Iterator[None]:
    """Where a user's own objective fails, say so with the line in its file. Raises TrainingError."""
    try:
        yield
    except BurnishError:
        raise
    except Exception as error:
        module = type(objective).__module__
        file = getattr(sys.modules.get(module), "__file__", None)
        if not module.startswith(USER) or not file or hardware.is_out_of_memory(error):
            raise
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        raise TrainingError(f"{type(objective).__name__} failed: {type(error).__name__}: {error}",
                            where=f"{file}:{lines[-1]}" if lines else file,
                            hint="docs/extending.md says what its `loss` is given and gives") from error  # fmt: skip


# -- watching


def watch_by(settings: Watching, lm: LanguageModel, inputs: Inputs, folder: Path) -> Watch:
    """What is measured of a model while it trains."""
    from burnish.engines.local import LocalEngine
    from burnish.evaluation.runner import evaluate, report
    from burnish.training.watch import Seen, Watch

    items = spread(read_examples(inputs.artifact("watch").file("items.jsonl")), settings.items)

    def measure(step: int) -> Seen:
        outcomes = evaluate(LocalEngine(lm, name="watch"), items, Sampling(settings.max_tokens), label="watch")
        shown = [
            {"step": step, "id": item.id, "prompt": item.prompt[-1].content, "answer": outcome.text,
             "score": outcome.score.value}
            for item, outcome in zip(items[: settings.samples], outcomes, strict=False)
        ]  # fmt: skip
        keep_samples(folder / SAMPLES, step, shown)
        overall = report(outcomes)[-1]
        return Seen(overall.mean, overall.low, overall.high)

    return Watch(measure, settings.every, settings.patience, settings.suite)


def keep_samples(path: Path, step: int, shown: Sequence[dict[str, Any]]) -> None:
    """Show samples, and add them to those of earlier looks; what a killed run had looked at later is replaced."""
    before: list[dict[str, Any]] = []
    if path.exists():
        with path.open(encoding="utf-8") as stream:  # by lines of the file: a text may hold other separators
            before += map(json.loads, stream)
    rows = [*(row for row in before if row["step"] < step), *shown]
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    for row in shown:
        note(f"  {row['prompt'][-80:]!r} -> {row['answer'][:160]!r} ({row['score']})")


def spread(items: Sequence[Example], most: int) -> list[Example]:
    """At most so many items, as many of each task as can be, the first of each."""
    tasks: dict[str, list[Example]] = {}
    for item in items:
        tasks.setdefault(str(item.meta["task"]), []).append(item)
    rounds = [item for group in zip_longest(*tasks.values()) for item in group if item is not None]
    return rounds[:most]
