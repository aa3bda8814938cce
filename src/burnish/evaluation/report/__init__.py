"""The report of a run: one HTML page that needs nothing else, and the same as Markdown."""

from burnish.evaluation.report.data import Answer, Curve, Flow, Loss, ModelScores, Origin, RunReport, Sample
from burnish.evaluation.report.page import PAGE_FILES, build_report
from burnish.evaluation.report.samples import DRAWN, side_by_side

__all__ = [
    "DRAWN",
    "PAGE_FILES",
    "Answer",
    "Curve",
    "Flow",
    "Loss",
    "ModelScores",
    "Origin",
    "RunReport",
    "Sample",
    "build_report",
    "side_by_side",
]
