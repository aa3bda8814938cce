"""Combine the parameters of several models into one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from burnish.config import Table
from burnish.errors import MergeError, Problem
from burnish.merging.methods import METHODS
from burnish.models.adapters import on_experts
from burnish.models.locate import size_of
from burnish.steps.base import MODEL, Expectation, Inputs, ModelRef, ModelRefs, Phase, Running, Step, View
from burnish.steps.estimate import disk, memory
from burnish.steps.measure import check_models


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
        for place, ref in enumerate(self.models):
            lora = getattr(view.step(ref), "lora", None)
            if lora is None:
                continue
            fold_first = (f"models.{place}", f"fold it first: `whole: {{use: fold, model: {ref}}}`")
            if lora.dora:
                what = "an adapter with magnitudes of its own (dora), which merging cannot add up"
                yield Problem(f"{ref} is {what}", *fold_first)
            elif on_experts(view.root(ref), lora):
                yield Problem(f"{ref} is an adapter on experts that its base's files hold one by one", *fold_first)
        found = list(check_models(view, self.models, "models"))
        yield from found
        if not found:
            yield from _shapes_differ([view.root(ref) for ref in self.models])

    def expect(self, view: View) -> Expectation:
        size = size_of(view.root(self.models[0]))
        # One pass over every model's file; half a gigabyte a second of reading, adding up and writing.
        seconds = 1 + size.bytes * (len(self.models) + 1) / 5e8 if size else None
        return Expectation(None, seconds, memory(size, copies=0.5), disk(size))

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        from burnish.merging.merge import merge_models
        from burnish.models.locate import locate

        sources = [locate(path) for path in inputs.models("models")]
        base = locate(inputs.model("base")) if self.base else None
        report = merge_models(sources, base, METHODS.build(self.method), run.folder / MODEL)
        return {"merge": asdict(report), "headline": f"{report.tensors} tensors of {len(sources)} models"}


def _shapes_differ(refs: Sequence[str]) -> Iterator[Problem]:
    """A problem when the models' tensors differ in name or shape, as far as their files are on this machine."""
    from burnish.merging.merge import common_names
    from burnish.merging.tensors import StoredTensors
    from burnish.models.locate import locate

    sources = [locate(ref) for ref in dict.fromkeys(refs)]
    try:
        common_names([StoredTensors(source) for source in sources if source.path is not None])
    except MergeError as error:
        yield Problem(error.what, "models", error.hint)
