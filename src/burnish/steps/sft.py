"""Supervised fine-tuning: learn the assistant turns of conversations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from burnish import hardware
from burnish.config import Table
from burnish.data.io import read_examples
from burnish.errors import Problem
from burnish.models.adapters import Lora
from burnish.models.locate import size_of
from burnish.objectives import OBJECTIVES
from burnish.steps.base import MODEL, DatasetRef, Expectation, Inputs, ModelRef, Phase, Running, Step, View
from burnish.steps.estimate import disk, mean_tokens, training_memory, training_seconds, work_done
from burnish.steps.rendering import Kept, Overlong, check_rendering, check_training_data, render_all
from burnish.training.optim import Optimization
from burnish.types import Example

if TYPE_CHECKING:
    from burnish.models.load import LanguageModel
    from burnish.training.state import TrainResult


class Training(Step):
    """Settings of every step that trains a model."""

    kind: ClassVar[str] = "model"
    phase: ClassVar[Phase] = "training"
    unit: ClassVar[Literal["token", "pair"]]
    """What the step's objectives sum over."""

    model: ModelRef = "base"
    """The model to start from."""
    data: DatasetRef
    """The rows to learn from; they must have been checked against every suite (`decontaminate`)."""
    lora: Lora | None = None
    """Train a low-rank adapter instead of the whole model: {rank: 16}. A model that is an adapter already is trained on
    with it; without `lora` its adapter is first added into its weights."""
    train: Optimization = Optimization()
    """Learning rate, batch size, epochs and the like."""
    max_tokens: int | None = Field(default=None, ge=8)
    """Longest row in tokens; the model's context when left out."""
    overlong: Overlong = "error"
    """Rows that are longer: stop with an error, drop them, or truncate them by whole turns. All are counted."""
    objective: Annotated[Any, Table("burnish.objectives:OBJECTIVES")]
    """The loss."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the weights while training; `burnish doctor` says what auto is here, and why."""
    checkpoint_seconds: float = Field(default=60.0, ge=0)
    """Seconds between checkpoints, from which a stopped run goes on. Does not change results."""

    def content(self) -> dict[str, Any]:
        content = super().content()
        content.pop("checkpoint_seconds")
        return content

    def check(self, view: View) -> Iterator[Problem]:
        yield from check_training_data(view, self.data, "examples" if self.unit == "token" else "pairs")
        unit = getattr(OBJECTIVES.build(self.objective), "unit", None)
        if unit != self.unit:
            fitting = [row.name for row in OBJECTIVES if OBJECTIVES.resolve(row.name).unit == self.unit]
            what = f"this objective's unit is {unit!r}, and the step `{self.use}` sums over '{self.unit}'"
            yield Problem(what, "objective", "objectives that fit: " + ", ".join(fitting))

    def expect(self, view: View) -> Expectation:
        rows, size = view.expect(self.data).rows, size_of(view.root(self.model))
        seconds = None
        if rows is not None:
            speed = view.speed(self.use, size.bytes if size else None)
            tokens = mean_tokens(view.sample(self.data)) * rows * self.train.epochs
            seconds = rows * self.train.epochs / speed if speed else training_seconds(size, tokens)
        needed = training_memory(size, self.lora is not None, self.train.micro(hardware.device()[0]))
        return Expectation(rows, seconds, needed, disk(size, share=0.05 if self.lora else 1.0))

    def load(self, inputs: Inputs) -> LanguageModel:
        """The model to start from."""
        from burnish.models.adapters import fold
        from burnish.models.load import load_model

        lm = load_model(inputs.model("model"), dtype=self.dtype, train_adapter=self.lora is not None)
        return lm if self.lora else fold(lm)

    def summary(self, result: TrainResult, kept: Kept, template: str, model: str) -> dict[str, Any]:
        """The manifest's summary."""
        lost = "".join(f", {count} rows dropped: {why}" for why, count in kept.dropped.items())
        cut = f", {kept.truncated} rows truncated" if kept.truncated else ""
        speed = result.tokens / max(result.seconds, 1e-9)
        size = size_of(model)
        # 2 operations a weight and token forward, 2 for the hidden states backward, 2 for the weights that train.
        share = (4 if self.lora else 6) * size.parameters * speed / hardware.matmul_rate() if size else None
        return {
            "training": asdict(result),
            "tokens_per_second": speed,
            "utilisation": share,  # of what a bare matrix product reaches; tokens that rows share count for each row
            "unit": self.unit,
            "rows_in": len(kept.rows) + sum(kept.dropped.values()),
            "rows": len(kept.rows),
            "dropped": kept.dropped,
            "truncated": kept.truncated,
            "template": template,
            **work_done(len(kept.rows) * self.train.epochs, model),
            "headline": f"loss {result.loss_first:.3f} to {result.loss_last:.3f} in {result.steps} steps,"
            f" {speed:,.0f} tokens/s{lost}{cut}",
        }


class Sft(Training):
    """Supervised fine-tuning on conversations. Only assistant turns are learned, unless a message says otherwise."""

    unit: ClassVar[Literal["token", "pair"]] = "token"

    use: Literal["sft"]
    objective: Annotated[Any, Table("burnish.objectives:OBJECTIVES")] = "sft"
    """The loss."""

    def check(self, view: View) -> Iterator[Problem]:
        yield from super().check(view)
        rows = [row for row in view.sample(self.data) if isinstance(row, Example)]
        yield from check_rendering(view, self.model, rows, lambda template, row: template.render(row.messages))

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        from burnish.models.adapters import attach
        from burnish.training.supervised import train_supervised

        lm = self.load(inputs)
        limit = min(lm.context, self.max_tokens or lm.context)
        examples = read_examples(inputs.artifact("data").file("rows.jsonl"))
        kept = render_all(examples, lambda row: lm.chat.render(row.messages), lambda row: len(row.ids), limit,
                          self.overlong)  # fmt: skip
        if self.lora:
            lm = attach(lm, self.lora, run.seed)
        objective = OBJECTIVES.build(self.objective)
        result = train_supervised(lm, kept.rows, objective, self.train, seed=run.seed, folder=run.folder,
                                  checkpoint_every_s=self.checkpoint_seconds)  # fmt: skip
        lm.save(run.folder / MODEL)
        run.usage.trained_tokens += result.tokens
        return self.summary(result, kept, lm.chat.hash, inputs.model("model"))
