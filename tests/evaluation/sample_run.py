"""A made-up run for the tests of the report. Its numbers are drawn from a seed and stand for no model."""

from __future__ import annotations

from random import Random

from burnish.evaluation.judge_card import JudgeCard, Pair, judge_card
from burnish.evaluation.report import Answer, Curve, Flow, Loss, ModelScores, Origin, RunReport, Sample
from burnish.evaluation.runner import Outcome, compare, report
from burnish.evaluation.scorecard import Decision, Evidence, decide
from burnish.ledger import LedgerRow
from burnish.test_time.curve import Sampled, curve
from burnish.test_time.strategies.best_of_n import BestOfN
from burnish.test_time.strategies.majority import Majority
from burnish.types import Completion, Message, Score, Verdict

TASKS = {  # task: chance of a right answer for base, sft, dpo, merged
    "pebble-arithmetic": (0.00, 0.70, 0.76, 0.74),
    "pebble-word-problems": (0.00, 0.46, 0.52, 0.50),
    "pebble-units": (0.02, 0.58, 0.64, 0.60),
    "pebble-sorting": (0.04, 0.62, 0.70, 0.66),
    "pebble-facts": (0.24, 0.80, 0.82, 0.82),
    "pebble-reading": (0.10, 0.84, 0.88, 0.86),
    "pebble-summary": (0.00, 0.74, 0.86, 0.80),
    "pebble-formats": (0.00, 0.90, 0.94, 0.92),
    "pebble-dialogue": (0.02, 0.52, 0.56, 0.54),
}
MODELS = ("base", "sft", "dpo", "merged")
RECIPE = """name: quickstart
seed: 0
base: pebble
suites:
  dev: {tasks: [pebble-arithmetic, pebble-word-problems]}
steps:
  chats: {use: ingest, from: {pebble: {n: 6000}}}
  clean: {use: filter, data: $chats, with: [exact, {minhash: {threshold: 0.9}}, {decontaminate: {against: [dev]}}]}
  sft:   {use: sft, data: $clean}
"""


def outcomes(model: str, tasks: dict[str, tuple[float, ...]], n: int, seed: int = 0) -> list[Outcome]:
    """Answers that are right with each task's chance; a hard item is hard for all models."""
    found = []
    for task, chances in tasks.items():
        for item in range(n):
            shared, own = Random(f"{seed} {task} {item}").random(), Random(f"{seed} {task} {item} {model}").random()
            value = float(0.7 * shared + 0.3 * own < chances[MODELS.index(model)])
            unscored = model == "base" and task == "pebble-formats" and item == 3
            score = Score(None, error="no grade") if unscored else Score(value, str(value))
            found.append(Outcome(f"{task}/{item}", task, score, "", 30))
    return found


def scores(suite: str, tasks: dict[str, tuple[float, ...]], n: int, seed: int = 0) -> list[ModelScores]:
    base = outcomes("base", tasks, n, seed)
    rows = [ModelScores("base", suite, report(base))]
    for model in MODELS[1:]:
        mine = outcomes(model, tasks, n, seed)
        rows.append(ModelScores(model, suite, report(mine), compare(base, mine)))
    return rows


def curves() -> list[Curve]:
    rng = Random(7)
    samples = []
    for item in range(300):
        skill = rng.betavariate(1.6, 1.0)
        completions, grades = [], []
        for _ in range(8):
            right = rng.random() < skill
            length = rng.randint(18, 60)
            likely = -0.12 - 0.25 * rng.random() - (0.0 if right else 0.13 * rng.random())
            completions.append(Completion("text", tuple(range(length)), (likely,) * length, prompt_tokens=42))
            answer = "right" if right else f"wrong {rng.randint(0, 4)}"
            grades.append(Score(float(right), answer))
        samples.append(Sampled(f"item {item}", completions, grades))
    ns = [1, 2, 4, 8]
    return [
        Curve("dpo", "dev", "majority", curve(samples, ns, Majority())),
        Curve("dpo", "dev", "best_of_n", curve(samples, ns, BestOfN())),
    ]


def losses() -> list[Loss]:
    rng = Random(3)
    sft = [(step, 0.21 + 2.6 * 0.985**step + rng.gauss(0, 0.05 * (0.3 + 0.99**step))) for step in range(1, 371)]
    dpo = [(step, 0.28 + 0.41 * 0.97**step + rng.gauss(0, 0.03)) for step in range(1, 120)]
    return [Loss("sft", sft), Loss("dpo", dpo, "nats a pair")]


SAMPLES = [
    Sample(
        "pebble-word-problems",
        (Message("user", "Gina has 33 watches. Gina buys 4 bags of 3. Gina buys 2 bags of 5. How many watches "
                         "does Gina have now?"),),
        "55",
        (
            Answer("base", "Gina has 33 watches and goes to the market. The market opens.\nQ. Gina has", 0.0,
                   "read '33', expected '55'"),
            Answer("sft", "4*3=12\n33+12=45\n2*5=10\n45+10=56\nAnswer: 56", 0.0, "read '56', expected '55'"),
            Answer("dpo", "4*3=12\n33+12=45\n2*5=10\n45+10=55\nAnswer: 55", 1.0),
            Answer("merged", "4*3=12\n33+12=45\n2*5=10\n45+10=55\nAnswer: 55", 1.0),
        ),
    ),
    Sample(
        "pebble-dialogue",
        (
            Message("user", "Let us keep a total. Start with 46."), Message("assistant", "Answer: 46"),
            Message("user", "Add 14."), Message("assistant", "46+14=60\nAnswer: 60"), Message("user", "Take away 3."),
        ),
        "57",
        (
            Answer("base", "", 0.0, "no number in the answer"),
            Answer("sft", "60-3=57\nAnswer: 57", 1.0),
            Answer("dpo", "60-3=57\nAnswer: 57", 1.0),
            Answer("merged", "60-3=57\nAnswer: 57", 1.0),
        ),
    ),
    Sample(
        "pebble-formats",
        (Message("user", "Please give this as a JSON object: Lena is 60 years old and a carpenter in Bonn."),),
        '{"name": "Lena", "age": 60, "job": "carpenter", "town": "Bonn"}',
        (
            Answer("base", "Lena is a carpenter. Lena likes Bonn.", None, "no grade"),
            Answer("sft", '{"name": "Lena", "age": 60, "job": "carpenter"}', 0.5, "town is missing"),
            Answer("dpo", '{"name": "Lena", "age": 60, "job": "carpenter", "town": "Bonn"}', 1.0),
            Answer("merged", '{"name": "Lena", "age": 60, "job": "carpenter", "town": "Bonn"}', 1.0),
        ),
    ),
    Sample("pebble-reading", (Message("user", "Kai lives in Ghent and works as a tailor.\nWhat is the job of Kai?"),),
           "tailor", (Answer("base", "Kai lives in Ghent.", 0.0), Answer("dpo", "Answer: tailor", 1.0))),
]  # fmt: skip

LEDGER = [
    LedgerRow("chats", "data", 3.1, 0, 0, 0, 0),
    LedgerRow("clean", "data", 6.4, 0, 0, 0, 0),
    LedgerRow("sft", "training", 141.0, 0, 0, 962_000, 0),
    LedgerRow("pairs", "data", 64.8, 51_300, 212_400, 0, 1200),
    LedgerRow("dpo", "training", 58.2, 0, 0, 301_000, 0),
    LedgerRow("merged", "training", 0.8, 0, 0, 0, 0),
    LedgerRow("scores/base@dev", "evaluation", 14.9, 19_100, 48_900, 0, 450),
    LedgerRow("scores/sft@dev", "evaluation", 9.2, 19_100, 15_800, 0, 450),
    LedgerRow("scores/dpo@dev", "evaluation", 9.0, 19_100, 15_100, 0, 450),
    LedgerRow("voting", "evaluation", 52.6, 19_100, 126_800, 0, 450),
]
PEDIGREE = [
    Origin("dev", "suite", "5f1c0a77e1b94a0cb1de", (), 0, 0.4, "2026-01-05T10:00:01", "0f31aa90c2"),
    Origin("chats", "ingest", "a1b2c3d4e5f60718", (), 712349871, 3.1, "2026-01-05T10:00:05", "77b1c0de12"),
    Origin("clean", "filter", "b7e1f2a3c4d5e6f7", ("chats", "dev"), 81237123, 6.4, "2026-01-05T10:00:12", "19aa0b2c3d"),
    Origin("sft", "sft", "c0ffee00c0ffee00", ("pebble", "clean"), 99128371, 141.0, "2026-01-05T10:02:33", "5511fe00aa"),
    Origin("pairs", "preferences", "d00dfeedd00dfeed", ("sft", "clean"), 5123, 64.8, "2026-01-05T10:03:38", "aa"),
    Origin("dpo", "preference", "e5e5e5e5f6f6f6f6", ("sft", "pairs"), 7123, 58.2, "2026-01-05T10:04:36", "bb11cc22dd"),
]  # fmt: skip


def duelled() -> tuple[list[Decision], list[JudgeCard]]:
    """A decision and a judge card, with a piece of evidence of every kind."""
    rng, pairs = Random(5), []
    for k in range(160):
        human = float(rng.random() < 0.62)
        orders = [float(human if rng.random() < 0.8 else 1 - human) for _ in range(2)]
        long = "- word\n" * (12 if rng.random() < 0.5 + 0.2 * (orders[0] - 0.5) else 6)
        verdict = Verdict(sum(orders) / 2, (orders[0], orders[1]))
        pairs.append(Pair(f"p{k}", long, "word " * 9, verdict, human, verdict, "dpo", "base"))
    null = {"empty": [Verdict(0.0, (0.0, 0.0))] * 20, "commanding": [Verdict(1.0, (1.0, 1.0))] * 9}
    card = judge_card("reward", pairs, null, own_model="dpo")
    evidence = [
        Evidence("benchmark", "dev", 0.62, 0.57, 0.67, 450, 2), Evidence("votes", "votes.sqlite", 0.31, 0.12, 0.47, 96),
        Evidence("judge", "reward", 0.44, 0.31, 0.55, 160, 0, card.alarms),
        Evidence("corrected", "reward", 0.02, -0.14, 0.18, 50),
    ]  # fmt: skip
    return [decide("dpo", "base", evidence)], [card]


def sample_report() -> RunReport:
    """Every section of the page, filled."""
    return RunReport(
        title="quickstart",
        scores=[*scores("dev", TASKS, 50), *scores("held_out", TASKS, 30, seed=1)],
        suites={"dev": "450 items of 9 tasks, frozen before training", "held_out": "270 items, look 1 of 3"},
        decisions=duelled()[0],
        judges=duelled()[1],
        curves=curves(),
        losses=losses(),
        flows=[
            Flow("chats", 6060, 6060),
            Flow("clean", 6060, 5561, {"exact": 212, "minhash": 227, "decontaminate": 60}),
            Flow("pairs", 1200, 884, {"all answers scored alike": 316}, "chosen is longer in 48%"),
        ],
        samples=SAMPLES,
        ledger=LEDGER,
        pedigree=PEDIGREE,
        environment={"burnish": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0",
                     "platform": "Linux x86_64", "cores": "2"},
        recipe=RECIPE,
        made_at="2026-01-05 10:06",
    )  # fmt: skip
