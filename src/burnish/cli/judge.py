"""`burnish judge`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.options import AsJson, StorePath, judge_setting, model_path, open_store, print_json
from burnish.workspace import write_atomic


def command(
    model: Annotated[str, typer.Argument(help="The judge: a model, a reward model, or a server's URL#MODEL.")],
    pairs: Annotated[Path, typer.Option(help="Pairs that people have labelled: prompt, chosen, rejected.")],
    how: Annotated[str, typer.Option("--with", help="How it judges: pairwise, pointwise, reward, or YAML.")] = "",
    n: Annotated[int | None, typer.Option("-n", min=2, help="So many pairs, drawn by a seed; all without it.")] = None,
    retest: Annotated[int, typer.Option(min=0, help="So many pairs are asked a second time.")] = 50,
    null: Annotated[int, typer.Option(min=0, help="So many requests are answered with each answer to nothing.")] = 50,
    save: Annotated[Path | None, typer.Option(help="Write the verdicts to this JSONL file.")] = None,
    store: StorePath = None,
    as_json: AsJson = False,
) -> None:
    """Test a judge before you believe it: agreement with people, habits, and whether nonsense can fool it.

    \b
    burnish judge ./my-judge --pairs labelled.jsonl -n 200
    burnish judge http://localhost:8000/v1#qwen3-8b --pairs hh.jsonl.gz --with pairwise
    burnish judge quickstart:reward --pairs labelled.jsonl          # a trained reward model
    """
    from burnish.engines.opening import open_judge
    from burnish.engines.reward import RewardEngine
    from burnish.evaluation.judging import card_lines, examine, read_labelled
    from burnish.judges import JUDGES

    asked = judge_setting("--with", how) if how else None
    labelled = read_labelled(pairs, n)
    engine = open_judge(model_path(open_store(store), model, ("model", "reward_model")))
    choice = asked or ("reward" if isinstance(engine, RewardEngine) else "pairwise")
    card, compared = examine(JUDGES.build(choice), engine, labelled, retest=retest, null=null)
    if save:
        write_atomic(save, "".join(json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in compared))
    if as_json:
        print_json(asdict(card))
        return
    for line in card_lines(card):
        print(line)
