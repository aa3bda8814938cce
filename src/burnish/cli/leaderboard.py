"""`burnish leaderboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.options import AsJson, print_json

COLUMNS = ("model", "n", "win_rate", "win_rate_se", "lc_win_rate", "lc_win_rate_se")


def command(
    file: Annotated[Path, typer.Argument(help="Judged answers: JSONL, JSON, CSV or Parquet.")],
    lc_inputs: Annotated[
        Path | None,
        typer.Option("--lc-inputs", help="JSON with the hardness of the instructions, for AlpacaEval's prompts."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rank models by how often a judge prefers their answers to a baseline's, with and without the help of length.

    A row has instruction, model, output, baseline_output and preference: 1 when the baseline wins, 2 when the model
    does, or between. AlpacaEval's annotation files work as they are. Missing rows and other prompt sets do too.

    \b
    burnish leaderboard judged.parquet
    burnish leaderboard judged.parquet --lc-inputs lc_inputs.json --json
    """
    from burnish.evaluation.leaderboard import board, read_controls, read_judged, unknown_instructions
    from burnish.log import note

    rows = read_judged(file)
    controls = read_controls(lc_inputs) if lc_inputs else None
    if controls and (unknown := unknown_instructions(rows, controls)):
        note(f"{unknown} instructions are not in {lc_inputs}: they count as of average hardness")
    standings = board(rows, controls)
    for one in standings:
        if one.unscored:
            every = one.n + one.unscored
            note(f"{one.model}: {one.unscored} of {every} verdicts could not be read; they are in no rate")
        for alarm in one.alarms:
            note(f"ALARM: {one.model}: {alarm}")
    if as_json:
        print_json([{column: getattr(one, column) for column in COLUMNS} for one in standings])
        return
    widest = max(len(one.model) for one in standings)
    print(f"{'model':<{widest}}  {'length-controlled':>19}  {'win rate':>15}  {'n':>5}  {'characters':>10}")
    for one in standings:
        print(f"{one.model:<{widest}}  {one.lc_win_rate:10.2f} ± {1.96 * one.lc_win_rate_se:5.2f}"
              f"  {one.win_rate:8.2f} ± {1.96 * one.win_rate_se:4.2f}  {one.n:5}  {one.average_length:10,.0f}"
              f"{'  ALARM' if one.alarms else ''}")  # fmt: skip
    print("Percent of answers preferred to the baseline's, ± half of the 95% interval.")
