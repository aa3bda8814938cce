"""Build the report page from the artifacts of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from burnish.config import Ref
from burnish.steps.base import Expectation, Inputs, Phase, Running, Step, View
from burnish.workspace import Artifact


class ReportStep(Step):
    """One self-contained HTML page, readable offline, and the same as Markdown."""

    kind: ClassVar[str] = "report"
    phase: ClassVar[Phase] = "report"

    use: Literal["report"]
    title: str = ""
    """Headline of the page; the recipe's name when left out."""
    of: Annotated[list[str], Ref("any")] = Field(default_factory=list)
    """The steps it is about: [$sft, $scores]. All of them when left out."""

    def expect(self, view: View) -> Expectation:
        return Expectation(seconds=2.0, disk_mib=1.0)

    def run(self, inputs: Inputs, run: Running) -> dict[str, Any]:
        named = list(zip(inputs.names["of"], inputs.artifacts("of"), strict=True))
        return write_report(self.title, named, "", run.folder)


def write_report(title: str, artifacts: list[tuple[str, Artifact]], recipe: str, folder: Path) -> dict[str, Any]:
    """Write report.html and report.md into a folder; returns the manifest's summary."""
    raise NotImplementedError
