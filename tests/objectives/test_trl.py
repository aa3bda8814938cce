"""Objectives give TRL's losses on the same tensors.

Golden numbers: `.peers/trl/bin/python benchmarks/peers/trl_golden.py > tests/objectives/trl.json`, TRL 1.16.0.

Where TRL adds the chosen answers' likelihood to a preference loss (the `sft` term of DPO, CPO and SimPO), it takes the
mean over all tokens of a batch, and we take each answer's mean and then the mean over the pairs: they are the same in a
batch of one pair, which is what is compared. In ORPO TRL's likelihood is of the prompt too, so there the other term is
compared. TRL's DPO passes over `label_smoothing` where the loss is `sigmoid`; its CPO smooths alike, without a
reference.
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
from burnish.objectives.parts import PairLogprobs, PairObjective
from burnish.objectives.reference_free import CPO, ORPO, SimPO
from burnish.objectives.reward import BradleyTerry
from burnish.objectives.sft import SFT
from burnish.training.preference import RenderedPair, discounted

GOLDEN = json.loads(Path(__file__).with_name("trl.json").read_text(encoding="utf-8"))
NAMES = {"nca_pair": "nca", "bco_pair": "bco", "sppo_hard": "sppo", "exo_pair": "exo", "sigmoid_norm": "normalized"}


def settings(case: dict[str, Any]) -> DPO:
    """TRL's settings in our words; its likelihood of the chosen answers is one of its losses."""
    names = [NAMES.get(name, name) for name in case["loss_type"]]
    parts = dict(zip(names, case.get("loss_weights", [1.0]), strict=True))
    return DPO(
        beta=GOLDEN["beta"],
        sft=parts.pop("sft", 0.0),
        variant=parts,
        label_smoothing=case.get("label_smoothing", 0.0),
        divergence=case.get("f_divergence_type", "reverse_kl").removesuffix("_divergence"),
        alpha=case.get("f_alpha_divergence_coef", 0.5),
        tail=case.get("ld_alpha", 1.0),
    )


def answers(given: list[list[float]], pairs: int = 3, tail: float = 1.0) -> PairLogprobs:
    """Sums over the tokens of the first pairs' answers; TRL's batch holds all chosen ones, then all rejected ones."""
    tokens = [torch.tensor(values) for values in (*given[:pairs], *given[3 : 3 + pairs])]
    rows = [Rendered((0,) * len(values), (1.0,) * len(values), ()) for values in tokens]
    made = discounted([RenderedPair(*pair) for pair in zip(rows[:pairs], rows[pairs:], strict=True)], tail)
    weights = [torch.tensor(pair.chosen.weights) for pair in made] + [torch.tensor(p.rejected.weights) for p in made]
    sums = torch.stack([(values * weight).sum() for values, weight in zip(tokens, weights, strict=True)])
    counts = torch.tensor([float(len(values)) for values in tokens])
    return PairLogprobs(*sums.split(pairs), *counts.split(pairs))


NOTHING = PairLogprobs(*torch.zeros(4, 3))
"""What stands in for a reference that is not looked at."""


@pytest.mark.parametrize(("case", "loss"), GOLDEN["losses"], ids=[str(case) for case, _ in GOLDEN["losses"]])
def test_the_losses_are_trls(case: dict[str, Any], loss: float) -> None:
    objective, pairs = settings(case), case.get("pairs", 3)
    policy, reference = (answers(GOLDEN[which], pairs, objective.tail) for which in ("policy", "reference"))
    assert float(objective.loss(policy, reference).total) / pairs == pytest.approx(loss, rel=2e-5)


@pytest.mark.parametrize(("case", "loss"), GOLDEN["supervised"]["losses"])
def test_conversations_lose_what_they_lose_in_trl(case: dict[str, Any], loss: float) -> None:
    logprobs = torch.tensor([value for answer in GOLDEN["supervised"]["answers"] for value in answer])
    total = SFT(**case).loss(logprobs, torch.ones_like(logprobs)).total
    assert float(total) / len(logprobs) == pytest.approx(loss, rel=1e-5)


def free(name: str, case: dict[str, Any]) -> PairObjective:
    """TRL's settings in our words."""
    if name == "orpo":
        return ORPO(beta=case["beta"])
    if name == "simpo":
        return SimPO(beta=case["beta"], gamma=case["simpo_gamma"], sft=case["cpo_alpha"])
    return CPO(label_smoothing=case.get("label_smoothing", 0.0), sft=case["cpo_alpha"])


@pytest.mark.parametrize(("name", "case", "loss"), GOLDEN["free"]["losses"])
def test_pairs_without_a_reference_lose_what_they_lose_in_trl(name: str, case: dict[str, Any], loss: float) -> None:
    pairs = case.get("pairs", 3)
    policy = answers(GOLDEN["free"]["policy"], pairs)
    total = free(name, case).loss(policy, NOTHING).total
    if name == "orpo":
        total = total + (policy.chosen / policy.chosen_tokens).sum()  # without the likelihood term
    assert float(total) / pairs == pytest.approx(loss, rel=2e-5)


def test_smoothed_labels_lose_what_they_lose_in_trls_cpo() -> None:
    """With a reference that finds all answers equally likely, DPO's smoothed loss is CPO's."""
    case, loss = next((case, loss) for _, case, loss in GOLDEN["free"]["losses"] if "label_smoothing" in case)
    objective = DPO(beta=GOLDEN["beta"], label_smoothing=case["label_smoothing"])
    total = objective.loss(answers(GOLDEN["free"]["policy"]), NOTHING).total
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
