"""Any task of lm-evaluation-harness, answered by our engine.

`Harness` is an `LM` of that library: it gives each request's log-probability from token trees and writes answers in
batches that rows leave as they end, so all of its tasks run unchanged and no few-shot prefix is computed twice. Borders
between context and continuation, truncation and rolling windows follow `lm_eval` 0.4.13, so the numbers are the same.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from burnish.engines.local import LocalEngine
from burnish.errors import EvaluationError
from burnish.evaluation.runner import Outcome
from burnish.log import note
from burnish.registry import suggest
from burnish.types import Message, Sampling, Score

PART = 512
"""Requests whose text is encoded at once."""
ROUNDS = 1000
"""Bootstrap rounds for the standard errors of metrics that have no formula."""


class Harness(TemplateLM):  # type: ignore[misc]
    """A local engine as a model of lm-evaluation-harness.

    Args:
        engine: answers and scores. longest: most tokens of a context with its continuation; the model's own when left
            out. max_gen_toks: longest answer where a task does not say.
    """

    backend = "causal"

    def __init__(self, engine: LocalEngine, *, longest: int | None = None, max_gen_toks: int = 256) -> None:
        super().__init__()
        self.engine, self.tokenizer = engine, engine.lm.tokenizer
        self.max_length, self.max_gen_toks = longest or engine.lm.context, max_gen_toks
        self._device = engine.lm.device

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that begins with nothing."""
        start = self.tokenizer.bos_token_id
        return self.eot_token_id if start is None else int(start)

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def get_model_info(self) -> dict[str, Any]:
        return {"model": self.engine.name, "model_dtype": self.engine.lm.dtype, "parameters": self.engine.lm.parameters}

    # -- text to ids

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        return self._encode([string], add_special_tokens)[0]

    def _encode(self, texts: Sequence[str], special: bool | None = None) -> list[list[int]]:
        """Ids of many texts at once; a text that already begins with the start token gets no second one."""
        start = self.tokenizer.decode(self.prefix_token_id)
        adds = [special if special is not None else not text.startswith(start) for text in texts]
        found: list[list[int]] = [[] for _ in texts]
        for wanted in (True, False):
            places = [place for place, add in enumerate(adds) if add is wanted]
            for low in range(0, len(places), PART):
                part = places[low : low + PART]
                ids = self.tokenizer([texts[place] for place in part], add_special_tokens=wanted)["input_ids"]
                for place, one in zip(part, ids, strict=True):
                    found[place] = list(one)
        return found

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        turns = [Message(turn["role"], turn["content"]) for turn in chat_history]  # type: ignore[arg-type]
        if add_generation_prompt:
            return self.engine.lm.chat.written(turns, answer=True)
        written: str = self.tokenizer.apply_chat_template(chat_history, tokenize=False, continue_final_message=True)
        return written

    # -- log-probabilities

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Of each (context, continuation): log-probability in nats, and whether greedy decoding would say it.

        Each distinct text is encoded once, however many requests it stands in.
        """
        pairs = [request.args for request in requests]
        moved = [_spaces_moved(*pair) for pair in pairs]
        texts = list(dict.fromkeys(text for context, tail in moved if context for text in (context, context + tail)))
        ids = dict(zip(texts, self._encode(texts), strict=True))
        bare = list(dict.fromkeys(tail for context, tail in moved if not context))
        alone = dict(zip(bare, self._encode(bare, special=False), strict=True))
        encoded = []
        for pair, (context, tail) in zip(pairs, moved, strict=True):
            if context:
                size = len(ids[context])
                whole = ids[context + tail]
                encoded.append((pair, whole[:size], whole[size:]))
            elif alone[tail][0] == self.prefix_token_id:
                encoded.append((pair, alone[tail][:1], alone[tail][1:]))
            else:
                encoded.append((pair, [self.prefix_token_id], alone[tail]))
        return self._loglikelihood_tokens(encoded)

    def _loglikelihood_tokens(self, requests: list[Any], **_: Any) -> list[tuple[float, bool]]:
        groups: dict[tuple[int, ...], list[tuple[int, list[int]]]] = {}
        cut = 0
        for number, (_, context, tail) in enumerate(requests):
            if not tail or len(tail) > self.max_length:
                raise EvaluationError(f"a continuation has {len(tail)} tokens, and the model takes 1 to "
                                      f"{self.max_length}", hint="use a model with a longer context")  # fmt: skip
            whole = [*context, *tail]
            cut += len(whole) > self.max_length + 1  # the last token predicts nothing and is not fed
            kept = whole[-(self.max_length + 1) :]
            groups.setdefault(tuple(kept[: len(kept) - len(tail)]), []).append((number, list(tail)))
        if cut:
            note(f"{self.engine.name}: {cut} of {len(requests)} contexts do not fit {self.max_length} tokens and lost"
                 " their beginning")  # fmt: skip
        asked = [(list(context), [tail for _, tail in group]) for context, group in groups.items()]
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        for group, scored in zip(groups.values(), self.engine.score(asked), strict=True):
            for (number, _tail), one in zip(group, scored, strict=True):
                answers[number] = (one.logprob, one.greedy)
        for (pair, *_), answer in zip(requests, answers, strict=True):
            if pair is not None:
                self.cache_hook.add_partial("loglikelihood", pair, answer)
        return answers

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-probability of whole texts, in windows of the model's context."""
        windows, owners = [], []
        for number, ids in enumerate(self._encode([request.args[0] for request in requests])):
            for pair in get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, 1):
                windows.append((None, *make_disjoint_window(pair)))
                owners.append(number)
        sums = [0.0] * len(requests)
        for number, (value, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            sums[number] += value
        for request, total in zip(requests, sums, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return sums

    # -- writing

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Answers to each (context, settings), cut before the first of its stop strings."""
        alike: dict[Sampling, list[int]] = {}
        for number, request in enumerate(requests):
            alike.setdefault(self._sampling(request.args[1]), []).append(number)
        answers = [""] * len(requests)
        for sampling, numbers in alike.items():
            room = self.max_length - sampling.max_tokens
            if room < 1:
                raise EvaluationError(f"answers of {sampling.max_tokens} tokens fill the context of {self.max_length}",
                                      hint="--gen-kwargs max_gen_toks=...")  # fmt: skip
            encoded = [ids[-room:] for ids in self._encode([requests[number].args[0] for number in numbers])]
            for number, (one,) in zip(numbers, self.engine.write(encoded, sampling), strict=True):
                answers[number] = one.text
                self.cache_hook.add_partial("generate_until", requests[number].args, one.text)
        return answers

    def _sampling(self, settings: dict[str, Any]) -> Sampling:
        kwargs = normalize_gen_kwargs(settings, self.max_gen_toks)
        known = ("until", "max_gen_toks", "temperature", "do_sample", "top_p")
        if ignored := sorted(set(kwargs) - set(known)):
            raise EvaluationError(f"settings of generation that are not known here: {', '.join(ignored)}",
                                  hint="--gen-kwargs takes " + ", ".join(known))  # fmt: skip
        temperature = float(kwargs.get("temperature", 0.0)) if kwargs.get("do_sample") else 0.0
        stops = tuple(text for text in kwargs.get("until", []) if text)
        return Sampling(int(kwargs["max_gen_toks"]), temperature, float(kwargs.get("top_p", 1.0)), stops)


def _spaces_moved(context: str, tail: str) -> tuple[str, str]:
    """Spaces that end a context belong to what follows: tokens take them along."""
    bare = context.rstrip()
    return (bare, context[len(bare) :] + tail) if bare else (context, tail)


# -- tasks on local data


def evaluate_tasks(engine: LocalEngine, tasks: Sequence[str], *, shots: int | None = None, limit: int | None = None,
                   chat: bool = False, own: Path | None = None) -> dict[str, Any]:  # fmt: skip
    """Results of lm-evaluation-harness for tasks by name, or `NAME=FOLDER` for one whose data lies in a folder.

    Args:
        shots: solved examples before each question; the task's own number when left out. limit: so many documents of
            each task. chat: ask through the chat template. own: a folder with YAML tasks of the user's.
    Returns:
        What `lm_eval.simple_evaluate` returns: `results`, `groups`, `n-samples`, `samples`, `versions` and more.
    Raises:
        EvaluationError: for a task that does not exist, or one whose data cannot be read.
    """
    import lm_eval

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    manager = TaskManager(include_path=None if own is None else str(own))
    specs = [_spec(task, manager) for task in tasks]
    try:
        found = lm_eval.simple_evaluate(
            Harness(engine), tasks=specs, num_fewshot=shots, limit=limit, apply_chat_template=chat,
            task_manager=manager, bootstrap_iters=ROUNDS,
        )  # fmt: skip
    except EvaluationError:
        raise
    except Exception as error:  # tasks are programs of others, most of which fetch their data
        what = f"the tasks cannot be run: {type(error).__name__}: {str(error)[:300]}"
        raise EvaluationError(what, hint="without a network, name the data's folder: mmlu=./data/mmlu") from error
    assert found is not None  # it is None in all but the first of several processes
    return dict(found)


def _spec(task: str, manager: TaskManager) -> str | dict[str, Any]:
    """A task's name; for `NAME=FOLDER`, a group around the same task that reads the data in that folder."""
    name, mark, data = task.partition("=")
    if name not in manager.all_tasks:
        close = suggest(name, list(manager.all_tasks))
        raise EvaluationError(f"lm-evaluation-harness has no task '{name}'", hint=close.partition("allowed:")[0].strip()
                              or "`lm-eval ls tasks` lists them")  # fmt: skip
    if not mark:
        return name
    if not Path(data).is_dir():
        raise EvaluationError(f"no such folder: {data}", where=task, hint="the data of the task: NAME=FOLDER")
    kind = "group" if name in manager.all_groups else "task"
    return {"group": f"{name} on {data}", "task": [{kind: name, "dataset_path": str(Path(data).resolve())}]}


def outcomes_of(found: dict[str, Any]) -> list[Outcome]:
    """Results of `evaluate_tasks` document by document, so that models can be compared pair by pair.

    A document's grade is its task's first metric of which more is better, behind the task's first filter (GSM8K's
    `strict-match`); a metric that is no number for single documents leaves it unscored.
    """
    outcomes = []
    for task, samples in found["samples"].items():
        more_is_better = found.get("higher_is_better", {}).get(task, {})
        first = samples[0].get("filter") if samples else None
        for sample in samples:
            if sample.get("filter") != first:  # the same document, read otherwise
                continue
            metric = next((name for name in sample["metrics"] if more_is_better.get(name) is not False), "")
            value = sample.get(metric)
            known = isinstance(value, int | float)
            why = f"{metric} is of all documents" if metric else "of its metrics less is better"
            score = Score(float(value), why=metric) if known else Score(None, error=why)
            text = str(sample.get("filtered_resps", ""))
            outcomes.append(Outcome(f"{task}/{sample['doc_id']}", task, score, text, 0))
    return outcomes
