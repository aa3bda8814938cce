"""lm-evaluation-harness through our engine, beside its own backend on the same models and requests."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import tiny
from burnish.engines.local import LocalEngine, open_engine
from burnish.errors import EvaluationError

pytest.importorskip("lm_eval")
import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from burnish.evaluation import harness
from burnish.evaluation.harness import Harness, evaluate_tasks, outcomes_of

SHOTS = "the quick brown fox jumps over the lazy dog. What is 17 plus 25? The answer is 42. "


def requests(kind: str, arguments: list[tuple[Any, ...]]) -> list[Instance]:
    return [Instance(kind, {}, given, number) for number, given in enumerate(arguments)]


@pytest.fixture(scope="module", params=["llama", "gemma3", "lfm2"])
def sides(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Harness, HFLM]:
    folder = str(tiny.tiny_model(request.param, tmp_path_factory.mktemp(request.param)))
    return Harness(open_engine(folder, dtype="float32")), HFLM(folder, dtype="float32", batch_size=3, device="cpu")


PAIRS = [
    (SHOTS + "A b c", " d"), (SHOTS + "A b c", " e f"), (SHOTS + "A b c ", "d"), (SHOTS + "fox", " fox jumps"),
    ("the", " quick"), ("", "the quick"), ("What", " is 17"), (SHOTS * 6, " lazy"), ("ends in spaces   ", "x"),
    ("<bos>the quick", " brown"),
]  # fmt: skip


def test_log_probabilities_are_those_of_its_own_backend(sides: tuple[Harness, HFLM]) -> None:
    ours, theirs = (side.loglikelihood(requests("loglikelihood", PAIRS), disable_tqdm=True) for side in sides)
    assert [one for one, _ in ours] == pytest.approx([one for one, _ in theirs], abs=1e-4)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]


def test_whole_texts_in_windows(sides: tuple[Harness, HFLM]) -> None:
    texts = [(SHOTS * 8,), ("the lazy dog",), ("",)]  # the first is longer than the context of 256
    ours = sides[0].loglikelihood_rolling(requests("loglikelihood_rolling", texts[:2]))
    theirs = sides[1].loglikelihood_rolling(requests("loglikelihood_rolling", texts[:2]), disable_tqdm=True)
    assert ours == pytest.approx(theirs, abs=2e-3)
    assert sides[0].loglikelihood_rolling(requests("loglikelihood_rolling", texts[2:])) == [0.0]


def test_answers_end_at_the_same_stop_strings(sides: tuple[Harness, HFLM]) -> None:
    settings = [{"until": ["o", "\n\n"], "max_gen_toks": 12, "do_sample": False}, {"until": [], "max_gen_toks": 5}]
    asked = [(SHOTS + text, given) for given in settings for text in ("A b", "fox jumps", "What is 17")]
    ours, theirs = (side.generate_until(requests("generate_until", asked), disable_tqdm=True) for side in sides)
    assert ours == theirs


def test_what_it_cannot_do_is_said(sides: tuple[Harness, HFLM]) -> None:
    asked = requests("generate_until", [("the", {"until": [], "num_beams": 4})])
    with pytest.raises(EvaluationError, match="not known here: num_beams"):
        sides[0].generate_until(asked)
    with pytest.raises(EvaluationError, match="takes 1 to 256"):
        sides[0].loglikelihood(requests("loglikelihood", [("the", " lazy dog" * 300)]))


# ---------------------------------------------------------------------------------------------------------- whole tasks

TASK = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(harness, "TaskManager", partial(TaskManager, include_defaults=False))  # thousands of others
    rows = [
        {"question": f"{SHOTS}Item {k}:", "choices": ["fox", "the lazy dog", "A b"], "answer": k % 3} for k in range(9)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "animals.yaml").write_text(TASK.format(name="burnish_animals", file=file), encoding="utf-8")
    return folder


def test_a_task_has_the_same_result_and_local_data_need_no_hub(tasks: Path, tmp_path: Path) -> None:
    folder = str(tiny.tiny_model("llama", tmp_path / "model"))
    engine = LocalEngine(open_engine(folder, dtype="float32").lm)
    ours = evaluate_tasks(engine, ["burnish_animals"], own=tasks)["results"]["burnish_animals"]
    manager = harness.TaskManager(include_path=str(tasks))
    theirs = lm_eval.simple_evaluate(
        HFLM(folder, dtype="float32", device="cpu"), tasks=["burnish_animals"], task_manager=manager
    )["results"]["burnish_animals"]
    assert {key: ours[key] for key in ("acc,none", "acc_norm,none", "acc_stderr,none")} == {
        key: theirs[key] for key in ("acc,none", "acc_norm,none", "acc_stderr,none")
    }
    # The same task on other data: a folder that `datasets` reads, named after the task's name.
    data = tmp_path / "data"
    data.mkdir()
    lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()[:4]
    (data / "test.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tasks / "plain.yaml").write_text(
        TASK.format(name="burnish_plain", file="x").replace("dataset_path: json", "dataset_path: hub/none")
        .replace("dataset_kwargs: {data_files: {test: x}}\n", ""), encoding="utf-8")  # fmt: skip
    found = evaluate_tasks(engine, [f"burnish_plain={data}"], own=tasks)
    assert found["n-samples"]["burnish_plain"]["effective"] == 4


def test_errors_of_tasks_speak(tasks: Path, tmp_path: Path) -> None:
    engine = LocalEngine(open_engine(str(tiny.tiny_model("llama", tmp_path / "model")), dtype="float32").lm)
    with pytest.raises(EvaluationError, match="has no task 'burnish_animal'") as caught:
        evaluate_tasks(engine, ["burnish_animal"], own=tasks)
    assert "burnish_animals" in caught.value.hint
    with pytest.raises(EvaluationError, match="no such folder"):
        evaluate_tasks(engine, ["burnish_animals=./nowhere"], own=tasks)
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(EvaluationError, match="the tasks cannot be run"):
        evaluate_tasks(engine, ["burnish_animals"], own=tasks)


def test_a_document_counts_once_however_it_is_read() -> None:
    def sample(number: int, how: str, value: float) -> dict[str, Any]:
        return {"doc_id": number, "filter": how, "metrics": ["loss", "exact_match"], "exact_match": value, "loss": 3.0}

    found = outcomes_of({
        "samples": {"gsm8k": [sample(n, how, value) for n in range(2)
                              for how, value in (("strict-match", 0.0), ("flexible-extract", 1.0))],
                    "lambada": [sample(0, "none", 1.0) | {"metrics": ["loss"]}]},
        "higher_is_better": {"gsm8k": {"loss": False, "exact_match": True}, "lambada": {"loss": False}},
    })  # fmt: skip
    assert [(one.id, one.score.value) for one in found[:2]] == [("gsm8k/0", 0.0), ("gsm8k/1", 0.0)]
    assert len(found) == 3 and found[2].score.error == "of its metrics less is better"
