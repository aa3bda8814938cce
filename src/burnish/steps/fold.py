"""Fold an adapter into its model's weights, reload what was written, and certify that it is the same model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from burnish.config import Ref
from burnish.data.io import read_examples
from burnish.errors import BurnishError, DataError, ModelError, Problem
from burnish.models.locate import locate, size_of
from burnish.steps.base import MODEL, DatasetRef, Expectation, Inputs, Phase, Running, Step, View
from burnish.steps.estimate import disk, memory, work_done
from burnish.steps.rendering import named
from burnish.types import Example, Message, Sampling
from burnish.workspace import write_atomic

if TYPE_CHECKING:
    from burnish.models.chat import Rendered
    from burnish.models.load import LanguageModel


class Fold(Step):
    """A whole model from an adapter and its base. The sums are done in fp32 and rounded once; certificate.json says how
    far the files on disk are from the model with the adapter beside it."""

    kind: ClassVar[str] = "model"
    phase: ClassVar[Phase] = "training"

    use: Literal["fold"]
    model: Annotated[str, Ref("any")]
    """The adapter, of a reward model too: $lora, or a folder."""
    data: DatasetRef | None = None
    """Conversations on whose learned tokens the two are compared; left out, answers that the adapter itself writes, or,
    of a reward model, a few fixed ones."""
    rows: int = Field(default=64, ge=1)
    """How many of them."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the folded weights; `burnish doctor` says what auto is here."""

    def check(self, view: View) -> Iterator[Problem]:
        if self.data and view.holds(self.data) == "pairs":
            yield Problem(f"{self.data} holds pairs, and conversations are compared here", "data")
        step = view.step(self.model)
        if step is not None and step.kind not in ("model", "reward_model"):
            yield Problem(f"{self.model} makes a {step.kind}, and an adapter is folded here", "model")
        elif step is not None and getattr(step, "lora", None) is None:
            yield Problem(f"{self.model} makes a whole model, and an adapter is folded here", "model",
                          "leave `fold` out, or train an adapter: lora: {rank: 16}")  # fmt: skip

    def expect(self, view: View) -> Expectation:
        size = size_of(view.root(self.model))
        return Expectation(seconds=60.0, memory_gib=memory(size, 4.0), disk_mib=disk(size))

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        from burnish.models.adapters import fold
        from burnish.models.certificate import certify
        from burnish.models.load import Gives, gives_scores, load_model

        gives: Gives = "scores" if gives_scores(locate(inputs.model("model"))) else "text"
        lm = load_model(inputs.model("model"), dtype=self.dtype, gives=gives)
        if not hasattr(lm.model, "peft_config"):
            raise ModelError(f"{inputs.names['model'][0]} is whole already", hint="`fold` takes an adapter")
        rows = self._rows(lm, inputs)
        fold(lm).save(run.folder / MODEL)
        found = certify(lm, load_model(run.folder / MODEL, dtype=self.dtype, gives=gives), rows)
        if not found.holds:
            raise ModelError(f"the folded model is not the adapter's: {found}", where=inputs.names["model"][0],
                             hint="fold in float32 (`dtype: float32`), and report this if it stays")  # fmt: skip
        write_atomic(run.folder / "certificate.json", json.dumps(asdict(found), indent=2) + "\n")
        return {
            "certificate": asdict(found),
            "template": lm.chat.hash,
            **work_done(len(rows), inputs.model("model")),
            "headline": str(found),
        }

    def _rows(self, lm: LanguageModel, inputs: Inputs) -> Sequence[Rendered]:
        """What the two are compared on."""
        from burnish.engines.local import LocalEngine
        from burnish.models.certificate import QUESTIONS

        if self.data:
            examples = read_examples(inputs.artifact("data").file("rows.jsonl"))
            rendered = (_rendered(lm, row) for row in examples)
            found = list(islice((row for row in rendered if len(row.ids) <= lm.context), self.rows))
            if not found:
                raise DataError(f"none of the {len(examples)} rows of {self.data} fits {lm.context} tokens",
                                hint="leave `data` out to compare answers that need no data")  # fmt: skip
            return found
        asked = [(Message("user", question),) for question in QUESTIONS]
        if lm.gives == "scores":  # which writes no answers: each question answers the one before it
            return [lm.chat.answer_ids(prompt, text) for prompt, text in zip(asked, QUESTIONS[1:], strict=False)]
        answers = LocalEngine(lm, name="unfolded").generate(asked, Sampling(min(64, lm.context // 4), temperature=1.0))
        return [
            lm.chat.answer_ids(prompt, _plain(answer.text)) for prompt, (answer,) in zip(asked, answers, strict=True)
        ]


def _rendered(lm: LanguageModel, row: Example) -> Rendered:
    try:
        return lm.chat.render(row.messages)
    except BurnishError as error:
        raise named(row, error) from None


def _plain(text: str) -> str:
    """Text without what looks like a special token, which nobody but the template may write."""
    return text.replace("<", "(").replace(">", ")")
