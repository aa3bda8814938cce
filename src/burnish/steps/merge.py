"""Combine the parameters of several models into one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from burnish.config import Table
from burnish.errors import Problem
from burnish.merging.methods import METHODS
from burnish.steps.base import MODEL, Expectation, Inputs, ModelRef, ModelRefs, Phase, Running, Step, View
from burnish.steps.measure import model_memory


class Merge(Step):
    """A model whose parameters are a combination of others', tensor by tensor."""

    kind: ClassVar[str] = "model"
    phase: ClassVar[Phase] = "training"

    use: Literal["merge"]
    models: ModelRefs = Field(min_length=2)
    """The models to combine, in the order that the method's weights refer to."""
    method: Annotated[Any, Table("burnish.merging.methods:METHODS")] = "linear"
    """How: linear, {linear: {weights: [0.7, 0.3]}}, {slerp: {t: 0.5}}."""
    base: ModelRef | None = None
    """The model they were all tuned from, for methods that need it."""

    def content(self) -> dict[str, Any]:
        return {"method": self.method}

    def check(self, view: View) -> Iterator[Problem]:
        problem = METHODS.build(self.method).problem(len(self.models))
        if problem:
            yield Problem(problem, "method")

    def expect(self, view: View) -> Expectation:
        memory = model_memory(view, self.models[0], copies=0.5)
        return Expectation(seconds=5.0, memory_gib=memory, disk_mib=model_disk(view, self.models[0]))

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        from burnish.merging.merge import merge_models
        from burnish.models.load import locate

        sources = [locate(path) for path in inputs.models("models")]
        base = locate(inputs.model("base")) if self.base else None
        report = merge_models(sources, base, METHODS.build(self.method), run.folder / MODEL)
        return {"merge": asdict(report), "headline": f"{report.tensors} tensors of {len(sources)} models"}


def model_disk(view: View, ref: str) -> float | None:
    """MiB of a model's weights on disk; None when they are not here."""
    from burnish.models.load import weight_bytes

    size = weight_bytes(view.root(ref))
    return None if size is None else size / 2**20
