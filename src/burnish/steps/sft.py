"""Supervised fine-tuning: learn the assistant turns of conversations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from burnish.config import Table
from burnish.data.io import read_examples
from burnish.errors import Problem
from burnish.models.adapters import Lora
from burnish.objectives import OBJECTIVES
from burnish.steps.base import MODEL, DatasetRef, Expectation, Inputs, ModelRef, Phase, Running, Step, View
from burnish.steps.measure import model_memory
from burnish.steps.merge import model_disk
from burnish.steps.rendering import Overlong, check_rendering, check_training_data, render_all
from burnish.training.optim import Optimization


class Training(Step):
    """Settings of every step that trains a model."""

    kind: ClassVar[str] = "model"
    phase: ClassVar[Phase] = "training"

    model: ModelRef = "base"
    """The model to start from."""
    data: DatasetRef
    """The rows to learn from; they must have been checked against every suite (`decontaminate`)."""
    lora: Lora | None = None
    """Train a low-rank adapter instead of the whole model: {rank: 16}."""
    train: Optimization = Optimization()
    """Learning rate, batch size, epochs and the like."""
    max_tokens: int | None = Field(default=None, ge=8)
    """Longest row in tokens; the model's context when left out."""
    overlong: Overlong = "error"
    """Rows that are longer: stop with an error, drop them, or truncate them by whole turns. All are counted."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the weights while training; `burnish doctor` says what auto is here, and why."""

    def expect(self, view: View) -> Expectation:
        rows = view.expect(self.data).rows
        seen = rows * self.train.epochs if rows is not None else None
        speed = view.speed(self.use)
        # Weights, gradients, two moments and a master copy: about 16 bytes a parameter that trains (2 on disk).
        memory = model_memory(view, self.model, copies=2.0 if self.lora else 8.0)
        disk = model_disk(view, self.model)
        if self.lora and disk:
            disk *= 0.05
        return Expectation(rows, seen / speed if seen and speed else None, memory, disk)


class Sft(Training):
    """Supervised fine-tuning on conversations. Only assistant turns are learned, unless a message says otherwise."""

    use: Literal["sft"]
    objective: Annotated[Any, Table("burnish.objectives:OBJECTIVES")] = "sft"
    """The loss."""

    def check(self, view: View) -> Iterator[Problem]:
        yield from check_training_data(view, self.data, "examples")
        rows = view.sample(self.data)
        yield from check_rendering(view, self.model, rows, lambda template, row: template.render(row.messages))

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        from burnish.models.adapters import attach
        from burnish.models.load import load_model
        from burnish.training.supervised import train_supervised

        lm = load_model(inputs.model("model"), dtype=self.dtype, train_adapter=self.lora is not None)
        limit = min(lm.context, self.max_tokens or lm.context)
        examples = read_examples(inputs.artifact("data").file("rows.jsonl"))
        kept = render_all(examples, lambda row: lm.chat.render(row.messages), lambda row: len(row.ids), limit,
                          self.overlong)  # fmt: skip
        if self.lora:
            lm = attach(lm, self.lora, run.seed)
        objective = OBJECTIVES.build(self.objective)
        result = train_supervised(lm, kept.rows, objective, self.train, seed=run.seed, folder=run.folder)
        lm.save(run.folder / MODEL)
        run.usage.trained_tokens += result.tokens
        return summary(asdict(result), kept.dropped, kept.truncated, len(examples), lm.chat.hash, self.train.epochs)


def summary(result: dict[str, Any], dropped: dict[str, int], truncated: int, rows_in: int, template: str,
            epochs: float) -> dict[str, Any]:  # fmt: skip
    """The manifest's summary of a training step."""
    rows = rows_in - sum(dropped.values())
    first, last = result["loss_first"], result["loss_last"]
    lost = f", {rows_in - rows} rows dropped" if rows < rows_in else ""
    cut = f", {truncated} rows truncated" if truncated else ""
    return {
        "training": result,
        "rows_in": rows_in,
        "rows": rows,
        "dropped": dropped,
        "truncated": truncated,
        "template": template,
        "work": rows * epochs,
        "headline": f"loss {first:.3f} to {last:.3f} in {result['steps']} steps{lost}{cut}",
    }
