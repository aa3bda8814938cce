"""Losses by hand."""

from __future__ import annotations

from math import exp, log

import pytest
import torch

from burnish.objectives.distill import Distill
from burnish.objectives.dpo import DPO, LOSSES
from burnish.objectives.kto import KTO
from burnish.objectives.parts import PairLogprobs
from burnish.objectives.reference_free import CPO, ORPO, SimPO
from burnish.objectives.reward import BradleyTerry, Steps
from burnish.objectives.sft import SFT


def pairs(
    chosen: list[float], rejected: list[float], chosen_tokens: float = 1.0, rejected_tokens: float = 1.0
) -> PairLogprobs:
    return PairLogprobs(
        torch.tensor(chosen, requires_grad=True),
        torch.tensor(rejected, requires_grad=True),
        torch.full((len(chosen),), chosen_tokens),
        torch.full((len(chosen),), rejected_tokens),
    )


def test_sft_sums_weighted_negative_logprobs() -> None:
    # -(-1 * 1 + -2 * 1 + -3 * 0.5) = 4.5
    assert float(SFT().loss(torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([1.0, 1.0, 0.5])).total) == 4.5


def test_dpo_is_log_two_where_policy_is_reference() -> None:
    values = pairs([-5.0, -7.0], [-6.0, -3.0])
    out = DPO(beta=0.3).loss(values, values)
    assert float(out.total.detach()) == pytest.approx(2 * log(2), abs=1e-6)
    assert out.metrics == {"margin": 0.0, "accuracy": 0.0, "chosen_gain": 0.0, "rejected_gain": 0.0}


def test_dpo_by_hand() -> None:
    # margin = (-4 - -5) - (-8 - -6) = 1 - -2 = 3, so the loss is -log sigmoid(0.1 * 3) = log(1 + e^-0.3)
    policy, reference = pairs([-4.0], [-8.0]), pairs([-5.0], [-6.0])
    out = DPO(beta=0.1).loss(policy, reference)
    assert float(out.total.detach()) == pytest.approx(log(1 + exp(-0.3)), abs=1e-6)
    assert out.metrics == {"margin": 3.0, "accuracy": 1.0, "chosen_gain": 1.0, "rejected_gain": -2.0}
    out.total.backward()
    # d/d chosen = -beta * (1 - sigmoid(0.3)); d/d rejected is its opposite.
    slope = -0.1 * (1 - 1 / (1 + exp(-0.3)))
    assert policy.chosen.grad is not None and policy.rejected.grad is not None
    assert policy.chosen.grad.item() == pytest.approx(slope, abs=1e-6)
    assert policy.rejected.grad.item() == pytest.approx(-slope, abs=1e-6)


def test_the_sft_term_is_a_mean_over_tokens() -> None:
    # margin 0 gives log 2; the chosen answer has -6 nats over 3 tokens: 0.5 * 6 / 3 = 1
    policy = pairs([-6.0], [-4.0], chosen_tokens=3.0)
    reference = pairs([-6.0], [-4.0])
    assert float(DPO(sft=0.5).loss(policy, reference).total.detach()) == pytest.approx(log(2) + 1.0, abs=1e-6)


def test_label_smoothing_mixes_both_labels() -> None:
    # 0.9 * log(1 + e^-0.3) + 0.1 * log(1 + e^0.3)
    policy, reference = pairs([-4.0], [-8.0]), pairs([-5.0], [-6.0])
    expected = 0.9 * log(1 + exp(-0.3)) + 0.1 * log(1 + exp(0.3))
    found = DPO(beta=0.1, label_smoothing=0.1).loss(policy, reference).total
    assert float(found.detach()) == pytest.approx(expected, abs=1e-6)


def test_dynamic_fine_tuning_weighs_by_probability_without_gradient() -> None:
    logprobs = torch.tensor([log(0.5), log(0.25)], requires_grad=True)
    out = SFT(dynamic=True).loss(logprobs, torch.tensor([1.0, 2.0]))
    # -(0.5 log 0.5 + 2 * 0.25 log 0.25); the slope at each token is -weight * p
    assert float(out.total.detach()) == pytest.approx(-(0.5 * log(0.5) + 0.5 * log(0.25)), abs=1e-6)
    out.total.backward()
    assert logprobs.grad is not None and logprobs.grad.tolist() == pytest.approx([-0.5, -0.5])


# chosen -4 nats over 2 tokens, rejected -9 over 3: -2 and -3 a token, 5 nats apart
FREE = {"chosen": [-4.0], "rejected": [-9.0], "chosen_tokens": 2.0, "rejected_tokens": 3.0}


def test_simpo_by_hand() -> None:
    policy = pairs(**FREE)
    # log(1 + e^-(2 * (-2 - -3) - 0.5))
    out = SimPO(beta=2.0, gamma=0.5).loss(policy, policy)
    assert float(out.total.detach()) == pytest.approx(log(1 + exp(-1.5)), abs=1e-6)
    assert out.metrics["margin"] == 1.0 and out.metrics["accuracy"] == 1.0


def test_cpo_by_hand() -> None:
    policy = pairs(**FREE)
    # log(1 + e^-(0.1 * 5)) + 4 / 2
    assert float(CPO().loss(policy, policy).total.detach()) == pytest.approx(log(1 + exp(-0.5)) + 2.0, abs=1e-6)


def test_orpo_by_hand() -> None:
    policy = pairs(**FREE)
    # odds of p are p / (1 - p), with p = e^-2 and e^-3
    ratio = (exp(-2) / (1 - exp(-2))) / (exp(-3) / (1 - exp(-3)))
    expected = 2.0 + 0.1 * log(1 + 1 / ratio)
    assert float(ORPO(beta=0.1).loss(policy, policy).total.detach()) == pytest.approx(expected, abs=1e-5)


def test_a_mix_is_a_weighted_sum() -> None:
    policy, reference = pairs([-4.0], [-8.0]), pairs([-5.0], [-6.0])
    # ratios 1 and -2: sigmoid log(1 + e^-0.3), bco log(1 + e^-0.1) + log(1 + e^-0.2)
    expected = 0.8 * log(1 + exp(-0.3)) + 0.2 * (log(1 + exp(-0.1)) + log(1 + exp(-0.2)))
    found = DPO(variant={"sigmoid": 0.8, "bco": 0.2}).loss(policy, reference).total
    assert float(found.detach()) == pytest.approx(expected, abs=1e-6)


def test_every_variant_is_a_row() -> None:
    policy, reference = pairs([-4.0, -3.0], [-8.0, -1.0]), pairs([-5.0, -4.0], [-6.0, -2.0])
    for variant in LOSSES:
        objective = DPO(variant=variant)
        total = objective.loss(policy, reference).total
        grads = torch.autograd.grad(total, (policy.chosen, policy.rejected))
        assert all(bool(torch.isfinite(grad).all()) for grad in grads), variant
        assert objective.whole_step is variant.startswith("aot")


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def test_kto_by_hand() -> None:
    # ratios 3 (good) and -1 (bad), moved 0.5, beta 0.2:
    # good: 1 - sigmoid(0.2 * (3 - 0.5)) = 1 - sigmoid(0.5)
    # bad: 2 * (1 - sigmoid(0.2 * (0.5 - -1))) = 2 * (1 - sigmoid(0.3))
    ratios = torch.tensor([3.0, -1.0], requires_grad=True)
    out = KTO(beta=0.2, undesirable=2.0).loss(ratios, torch.tensor([True, False]), 0.5)
    assert float(out.total.detach()) == pytest.approx(1 - sigmoid(0.5) + 2 * (1 - sigmoid(0.3)), abs=1e-6)
    assert out.metrics == {"good_gain": 3.0, "bad_gain": -1.0, "good_share": 1.0}
    out.total.backward()
    # falling for the good answer, rising for the bad one
    assert ratios.grad is not None and ratios.grad[0] < 0 < ratios.grad[1]


def test_apo_zero_looks_at_no_divergence() -> None:
    ratios, good = torch.tensor([3.0, -1.0]), torch.tensor([True, False])
    objective = KTO(variant="apo_zero", beta=0.2)
    assert not objective.needs_kl
    expected = 1 - sigmoid(0.6) + 1 - sigmoid(0.2)
    assert float(objective.loss(ratios, good, 99.0).total) == pytest.approx(expected, abs=1e-6)


def test_bradley_terry_by_hand() -> None:
    # log(1 + e^-(2 - 0.5 - 3 * 0.1)) + 0.01 * (2 + 0.5)^2
    objective = BradleyTerry(margins=True, margin_scale=3.0, centre=0.01)
    out = objective.loss(torch.tensor([2.0]), torch.tensor([0.5]), torch.tensor([0.1]))
    assert float(out.total) == pytest.approx(log(1 + exp(-1.2)) + 0.01 * 2.5**2, abs=1e-6)
    assert out.metrics == {"accuracy": 1.0, "difference": 1.5, "score": 1.25}


def test_margins_are_off_unless_asked_for() -> None:
    out = BradleyTerry().loss(torch.tensor([2.0]), torch.tensor([0.5]), torch.tensor([0.1]))
    assert float(out.total) == pytest.approx(log(1 + exp(-1.5)), abs=1e-6)


def test_steps_by_hand() -> None:
    # a right step at log-odds 1: -log sigmoid(1); a half right one at log-odds -2: -(0.5 log s + 0.5 log(1 - s))
    out = Steps().loss(torch.tensor([1.0, -2.0]), torch.tensor([1.0, 0.5]))
    expected = -log(sigmoid(1)) - 0.5 * log(sigmoid(-2)) - 0.5 * log(sigmoid(2))
    assert float(out.total) == pytest.approx(expected, abs=1e-6)
    assert out.metrics == {"accuracy": 2.0}  # 0.5 counts as wrong, and the score says wrong


def test_divergences_by_hand() -> None:
    # two tokens: the teacher says 3/4, 1/4 and the student 1/2, 1/2
    teacher, student = torch.tensor([[3.0, 1.0]]).log(), torch.tensor([[1.0, 1.0]]).log()
    token = torch.tensor([0])
    forward = 0.75 * log(1.5) + 0.25 * log(0.5)
    reverse = 0.5 * log(1 / 1.5) + 0.5 * log(1 / 0.5)
    assert float(Distill().losses(student, teacher, token)) == pytest.approx(forward, abs=1e-6)
    assert float(Distill(divergence="reverse_kl").losses(student, teacher, token)) == pytest.approx(reverse, abs=1e-6)
    # their middle is 5/8, 3/8
    middle = 0.5 * (0.75 * log(6 / 5) + 0.25 * log(2 / 3)) + 0.5 * (0.5 * log(4 / 5) + 0.5 * log(4 / 3))
    assert float(Distill(divergence="js").losses(student, teacher, token)) == pytest.approx(middle, abs=1e-6)
    # a quarter of the loss is the data's: -log 1/2
    mixed = Distill(sft=0.25).losses(student, teacher, token)
    assert float(mixed) == pytest.approx(0.75 * forward + 0.25 * log(2), abs=1e-6)


def test_a_hot_distillation_is_flat_and_keeps_its_size() -> None:
    # at temperature 2 the teacher's odds 3 become sqrt 3; the loss is multiplied by 4
    teacher, student = torch.tensor([[3.0, 1.0]]).log(), torch.tensor([[1.0, 1.0]]).log()
    p = 3**0.5 / (1 + 3**0.5)
    expected = 4 * (p * log(2 * p) + (1 - p) * log(2 * (1 - p)))
    found = Distill(temperature=2.0).losses(student, teacher, torch.tensor([0]))
    assert float(found) == pytest.approx(expected, abs=1e-6)
