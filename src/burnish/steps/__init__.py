"""The step types a recipe can use, one file each: settings, checks, and the wiring of the parts below."""

from burnish.registry import Entry, Registry

STEPS = Registry(
    "step",
    [
        Entry("ingest", "burnish.steps.ingest:Ingest", "read conversations or preference pairs from files"),
        Entry("filter", "burnish.steps.filter:Filter", "drop duplicates, bad rows and copies of test items"),
        Entry("sft", "burnish.steps.sft:Sft", "supervised fine-tuning on conversations, whole model or LoRA"),
        Entry("preferences", "burnish.steps.preferences:Preferences", "let models answer, score, pair best and worst"),
        Entry(
            "preference", "burnish.steps.preference:Preference", "align a model to preferences (DPO and others, KTO)"
        ),
        Entry("reward", "burnish.steps.reward:Reward", "train a model that scores answers, or their steps"),
        Entry("distill", "burnish.steps.distill:Distillation", "bring a model's distributions to a teacher's"),
        Entry("fold", "burnish.steps.fold:Fold", "add an adapter into its model's weights, with a certificate"),
        Entry("merge", "burnish.steps.merge:Merge", "combine the parameters of several models"),
        Entry("evaluate", "burnish.steps.evaluate:Evaluate", "score models on frozen suites, paired with the baseline"),
        Entry("duel", "burnish.steps.duel:DuelStep", "let a judge compare models' answers, and say what it is worth"),
        Entry("scorecard", "burnish.steps.scorecard:Scorecard", "one verdict from benchmarks, votes and judges"),
        Entry("test_time", "burnish.steps.test_time:TestTime", "spend more tokens on an answer: voting, best of n"),
        Entry("report", "burnish.steps.report:ReportStep", "one self-contained page about everything above it"),
        Entry("suite", "burnish.steps.suite:Suite", "freeze evaluation items; written under `suites:`, not `steps:`"),
        Entry("measure", "burnish.steps.measure:Measure", "one model on one suite; `evaluate` makes these itself"),
    ],
    {
        **{name: f"`use: preference`, objective: {name}" for name in ("dpo", "kto", "orpo", "simpo", "cpo")},
        "lora": "`use: sft`, lora: {rank: 16}",
        "rm": "`use: reward`",
        "reward_model": "`use: reward`",
        "prm": "`use: reward`, objective: steps",
        "eval": "`use: evaluate`",
    },
)
