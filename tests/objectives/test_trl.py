"""Objectives give TRL's losses on the same tensors.

Golden numbers: `.peers/trl/bin/python benchmarks/peers/trl_golden.py > tests/objectives/trl.json`, TRL 1.16.0.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.models.chat import Rendered
from burnish.objectives.distill import Distill
from burnish.objectives.dpo import DPO
from burnish.objectives.kto import KTO
from burnish.objectives.parts import PairLogprobs
from burnish.objectives.reward import BradleyTerry
from burnish.training.preference import RenderedPair, discounted

GOLDEN = json.loads(Path(__file__).with_name("trl.json").read_text(encoding="utf-8"))
NAMES = {"nca_pair": "nca", "bco_pair": "bco", "sppo_hard": "sppo", "exo_pair": "exo", "sigmoid_norm": "normalized"}


def settings(case: dict[str, Any]) -> DPO:
    """TRL's settings in our words."""
    names = [NAMES.get(name, name) for name in case["loss_type"]]
    return DPO(
        beta=GOLDEN["beta"],
        variant=dict(zip(names, case.get("loss_weights", [1.0]), strict=True)),
        label_smoothing=case.get("label_smoothing", 0.0),
        divergence=case.get("f_divergence_type", "reverse_kl").removesuffix("_divergence"),
        alpha=case.get("f_alpha_divergence_coef", 0.5),
        tail=case.get("ld_alpha", 1.0),
    )


def answers(which: str, tail: float) -> PairLogprobs:
    """Sums over the answers' tokens; TRL's batch holds all chosen answers, then all rejected ones."""
    tokens = [torch.tensor(values) for values in GOLDEN[which]]
    half = len(tokens) // 2
    rows = [Rendered((0,) * len(values), (1.0,) * len(values), ()) for values in tokens]
    pairs = discounted([RenderedPair(*pair) for pair in zip(rows[:half], rows[half:], strict=True)], tail)
    weights = [torch.tensor(pair.chosen.weights) for pair in pairs] + [torch.tensor(p.rejected.weights) for p in pairs]
    sums = torch.stack([(values * weight).sum() for values, weight in zip(tokens, weights, strict=True)])
    counts = torch.tensor([float(len(values)) for values in tokens])
    return PairLogprobs(*sums.split(half), *counts.split(half))


@pytest.mark.parametrize(("case", "loss"), GOLDEN["losses"], ids=[str(case) for case, _ in GOLDEN["losses"]])
def test_the_losses_are_trls(case: dict[str, Any], loss: float) -> None:
    objective = settings(case)
    total = objective.loss(answers("policy", objective.tail), answers("reference", objective.tail)).total
    assert float(total) / 3 == pytest.approx(loss, rel=2e-5)


@pytest.mark.parametrize(("case", "loss"), GOLDEN["labelled"]["losses"])
def test_labelled_answers_lose_what_they_lose_in_trl(case: dict[str, Any], loss: float) -> None:
    policy, reference = map(torch.tensor, GOLDEN["labelled"]["answers"])
    moved = float(
        (torch.tensor(GOLDEN["labelled"]["foreign"][0]) - torch.tensor(GOLDEN["labelled"]["foreign"][1])).mean()
    )
    objective = KTO(
        variant="kto" if case["loss_type"] == "kto" else "apo_zero", beta=GOLDEN["beta"],
        undesirable=case.get("undesirable_weight", 1.0),
    )  # fmt: skip
    total = objective.loss(policy - reference, torch.tensor(GOLDEN["labelled"]["labels"]), max(0.0, moved)).total
    assert float(total) / 4 == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize(("case", "loss"), GOLDEN["rewards"]["losses"])
def test_rewards_lose_what_they_lose_in_trl(case: dict[str, Any], loss: float) -> None:
    scores = torch.tensor(GOLDEN["rewards"]["scores"])
    total = BradleyTerry(**case).loss(scores[:3], scores[3:], torch.tensor(GOLDEN["rewards"]["margins"])).total
    assert float(total) / 3 == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize(("case", "loss"), GOLDEN["distillation"]["losses"])
def test_divergences_are_trls(case: dict[str, Any], loss: float) -> None:
    student, teacher = (torch.tensor(GOLDEN["distillation"][name]) for name in ("student", "teacher"))
    hot = case.get("temperature", 1.0)
    kind = {0.0: "forward_kl", 1.0: "reverse_kl"}.get(case["beta"], "js")
    mix = case["beta"] if kind == "js" else 0.5
    objective = Distill(divergence=kind, mix=mix, temperature=hot)
    found = objective.losses(student, teacher, torch.zeros(5, dtype=torch.long)).sum()
    assert float(found) / hot**2 == pytest.approx(loss, rel=1e-5)  # TRL does not multiply by the temperature's square
