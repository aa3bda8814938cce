"""The local engine against plain forward passes: same answers whatever the batch, shared prefixes, exact scores."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from burnish.engines.local import LocalEngine, _draw, _nucleus, open_engine
from burnish.errors import EngineError
from burnish.models.load import LanguageModel, load_model
from burnish.types import Message, Sampling, StopReason

QUESTIONS = ["What is 17 plus 25?", "the lazy dog", "A b c d", "quick", "jumps over the quick brown fox"]
PROMPTS = [(Message("user", text),) for text in QUESTIONS]


@pytest.fixture(scope="module", params=tiny.MORE)
def lm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_model(tiny.tiny_model(request.param, tmp_path_factory.mktemp(request.param)), dtype="float32")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_model(tiny.tiny_model("llama", tmp_path_factory.mktemp("llama")), dtype="float32")


def greedy(lm: LanguageModel, ids: list[int], room: int) -> tuple[list[int], list[float]]:
    """Greedy decoding without cache, batch or padding: what the engine must agree with."""
    written: list[int] = []
    logprobs = []
    for _ in range(room):
        with torch.no_grad():
            logits = lm.model(input_ids=torch.tensor([ids + written])).logits[0, -1].float()
        token = int(logits.argmax())
        written.append(token)
        logprobs.append(float(logits.log_softmax(-1)[token]))
        if token in lm.chat.stop_ids:
            break
    return written, logprobs


def test_greedy_answers_equal_plain_decoding(lm: LanguageModel) -> None:
    answers = LocalEngine(lm, batch_tokens=120).generate(PROMPTS, Sampling(max_tokens=12))
    for prompt, (answer,) in zip(PROMPTS, answers, strict=True):
        ids, logprobs = greedy(lm, lm.chat.ids(prompt, answer=True), 12)
        assert list(answer.ids) == ids
        assert answer.logprobs == pytest.approx(logprobs, abs=1e-3)


def test_samples_do_not_depend_on_the_batch(lm: LanguageModel) -> None:
    sampling = Sampling(max_tokens=10, temperature=1.0, seed=5)
    together = LocalEngine(lm).generate(PROMPTS, sampling, n=3)
    apart = [LocalEngine(lm, batch_tokens=1).generate([prompt], sampling, n=3)[0] for prompt in PROMPTS]
    assert [[one.ids for one in group] for group in together] == [[one.ids for one in group] for group in apart]
    assert len({one.ids for one in together[0]}) > 1


def test_more_samples_begin_with_the_same_ones(llama: LanguageModel) -> None:
    sampling = Sampling(max_tokens=8, temperature=1.0)
    few, many = (LocalEngine(llama).generate(PROMPTS[:2], sampling, n=n) for n in (2, 5))
    assert [[one.ids for one in group[:2]] for group in many] == [[one.ids for one in group] for group in few]


def test_choices_equal_plain_scores(lm: LanguageModel) -> None:
    options = [["42.", "fox", "the lazy dog"], ["a"], ["b c", "d"], ["brown", "dog over"], ["x", "yz"]]
    for prompts in (PROMPTS, QUESTIONS):  # through the template, and as plain text
        found = LocalEngine(lm, batch_tokens=100).choices(prompts, options)
        for prompt, group, scored in zip(prompts, options, found, strict=True):
            for option, one in zip(group, scored, strict=True):
                if isinstance(prompt, str):
                    head, whole = (lm.tokenizer(text)["input_ids"] for text in (prompt, prompt + option))
                    start = next((i for i, (a, b) in enumerate(zip(head, whole, strict=False)) if a != b), len(head))
                else:
                    head = lm.chat.ids(prompt, answer=True)
                    whole = head + lm.tokenizer(option, add_special_tokens=False)["input_ids"]
                    start = len(head)
                with torch.no_grad():
                    values = lm.model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
                plain = sum(float(values[at - 1, whole[at]]) for at in range(start, len(whole)))
                assert one.logprob == pytest.approx(plain, abs=2e-3)


def test_text_stops_at_a_stop_string(llama: LanguageModel) -> None:
    engine = LocalEngine(llama)
    whole = engine.generate(PROMPTS[:1], Sampling(max_tokens=20))[0][0]
    mark = whole.text[4:6]
    cut = engine.generate(PROMPTS[:1], Sampling(max_tokens=20, stop=(mark,)))[0][0]
    assert cut.stop is StopReason.STOP_STRING
    assert cut.text == whole.text[: whole.text.find(mark)].strip()


def test_an_answer_ends_at_the_context(tmp_path: Path) -> None:
    engine = open_engine(str(tiny.tiny_model("llama", tmp_path, max_position_embeddings=48)), dtype="float32")
    prompt = (Message("user", "A b c d e f g"),)
    size = len(engine.lm.chat.ids(prompt, answer=True))
    reasons = {}
    for seed in range(30):  # until one answer does not stop by itself
        (answer,) = engine.generate([prompt], Sampling(max_tokens=60, temperature=1.0, seed=seed))[0]
        reasons[answer.stop] = answer
    full = reasons[StopReason.CONTEXT]
    assert size + len(full.ids) == 48


def test_a_prompt_that_fills_the_context_is_refused(tmp_path: Path) -> None:
    engine = open_engine(str(tiny.tiny_model("llama", tmp_path, max_position_embeddings=48)), dtype="float32")
    long = (Message("user", "the quick brown fox " * 20),)
    assert list(engine.too_long([PROMPTS[3], long])) == [1]
    with pytest.raises(EngineError, match="prompt 1 does not fit"):
        engine.generate([PROMPTS[3], long], Sampling())
    with pytest.raises(EngineError, match="prompt 0 does not fit"):
        engine.choices([long], [["a"]])


def test_a_stop_string_may_lie_across_tokens_and_ends_where_it_begins(llama: LanguageModel) -> None:
    engine = LocalEngine(llama)
    (whole,) = engine.generate(QUESTIONS[:1], Sampling(max_tokens=20, temperature=1.0, seed=4))[0]
    pieces = [llama.tokenizer.decode([token]) for token in whole.ids]
    mark = pieces[5][-1] + pieces[6][:1]  # the end of one token and the beginning of the next
    sampling = Sampling(max_tokens=20, temperature=1.0, seed=4, stop=("never said", mark))
    (cut,) = engine.generate(QUESTIONS[:1], sampling)[0]
    assert cut.text == whole.text[: whole.text.find(mark)]
    assert cut.stop is StopReason.STOP_STRING and len(cut.ids) <= 7


def test_white_space_belongs_to_a_text_and_not_to_an_answer(llama: LanguageModel) -> None:
    for seed in range(60):  # until an answer begins with white space
        sampling = Sampling(max_tokens=4, temperature=1.5, seed=seed)
        (text,) = LocalEngine(llama).generate(["the quick"], sampling)[0]
        if text.text != text.text.strip():
            break
    assert text.text == llama.tokenizer.decode(text.ids, skip_special_tokens=True)
    answers = LocalEngine(llama).generate(PROMPTS, Sampling(max_tokens=4, temperature=1.5, seed=1), n=8)
    assert all(one.text == one.text.strip() for group in answers for one in group)


@pytest.mark.parametrize("budget", [90, 200, 1 << 14])
def test_rows_that_join_late_say_the_same(lm: LanguageModel, budget: int) -> None:
    """Continuous batching: with room for few, prompts take the places of rows that have ended."""
    prompts = [f"{question} {'the lazy dog ' * (number % 3)}" for number in range(4) for question in QUESTIONS]
    sampling = Sampling(max_tokens=10, temperature=1.0, seed=2, stop=("o",))
    alone = [LocalEngine(lm, batch_tokens=1).generate([prompt], sampling, n=2)[0] for prompt in prompts]
    assert len({len(one.ids) for group in alone for one in group}) > 3  # they do end at different times
    together = LocalEngine(lm, batch_tokens=budget).generate(prompts, sampling, n=2)
    assert [[(one.ids, one.stop) for one in group] for group in together] == [
        [(one.ids, one.stop) for one in group] for group in alone
    ]
    for mine, plain in zip(together, alone, strict=True):
        assert mine[0].logprobs == pytest.approx(plain[0].logprobs, abs=1e-3)


def test_places_are_taken_while_others_are_still_written(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    original = LocalEngine._open

    def counted(self: LocalEngine, prompts: list[list[int]], n: int, lines: list[int]) -> object:
        opened.append(len(prompts))
        return original(self, prompts, n, lines)

    monkeypatch.setattr(LocalEngine, "_open", counted)
    steps: list[int] = []
    forward = LocalEngine._advance
    monkeypatch.setattr(LocalEngine, "_advance", lambda *given: steps.append(len(given[1].rows)) or forward(*given))
    prompts = QUESTIONS * 8
    sampling = Sampling(max_tokens=60, temperature=1.0, seed=2, stop=("o", "e"))
    LocalEngine(llama, batch_tokens=1200).generate(prompts, sampling)
    joined = len(steps)
    assert len(opened) > 2 and sum(opened) == len(prompts)
    steps.clear()
    monkeypatch.setattr("burnish.engines.local._plain", lambda cache: False)  # groups that are written one by one
    LocalEngine(llama, batch_tokens=1200).generate(prompts, sampling)
    assert joined < len(steps)  # fewer forward passes for the same answers


def test_a_shared_beginning_is_encoded_once(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    start = "the quick brown fox jumps over the lazy dog. " * 3
    prompts = [start + question for question in QUESTIONS]
    alone = [LocalEngine(lm).generate([prompt], Sampling(max_tokens=8))[0][0] for prompt in prompts]
    engine = LocalEngine(lm)
    widths: list[int] = []
    backbone = engine._backbone
    engine._backbone = lambda **given: widths.append(given["input_ids"].numel()) or backbone(**given)
    together = engine.generate(prompts, Sampling(max_tokens=8))
    assert [group[0].ids for group in together] == [one.ids for one in alone]
    if lm.source.ref.endswith(("llama0", "qwen30")):  # full attention in all layers
        assert widths[0] > 64 and widths[1] < 5 * 40


def test_an_answer_is_streamed_as_it_grows(lm: LanguageModel) -> None:
    engine = LocalEngine(lm)
    for prompt in (PROMPTS[0], QUESTIONS[0]):
        parts = list(engine.stream(prompt, Sampling(max_tokens=9, temperature=1.0, seed=3)))
        (whole,) = engine.generate([prompt], Sampling(max_tokens=9, temperature=1.0, seed=3))[0]
        assert parts[-1] == whole.text
        assert len(parts) == len(whole.ids) and len(set(parts)) > 3
    with pytest.raises(EngineError, match="does not fit"):
        next(iter(engine.stream("the quick brown fox " * 100, Sampling())))


def test_usage_counts_a_shared_prompt_once(llama: LanguageModel) -> None:
    engine = LocalEngine(llama)
    answers = engine.generate(PROMPTS[:2], Sampling(max_tokens=5, temperature=1.0), n=4)
    assert engine.usage.prompt_tokens == sum(len(llama.chat.ids(prompt, answer=True)) for prompt in PROMPTS[:2])
    assert engine.usage.completion_tokens == sum(len(one.ids) for group in answers for one in group)
    assert engine.usage.calls == 2


def test_draws_invert_the_distribution() -> None:
    # Shares 0.1, 0.2, 0.7 cumulate to 0.1, 0.3, 1.0: numbers 0.05, 0.1, 0.29 and 0.31 fall on 0, 1, 1 and 2.
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.7]])).repeat(4, 1)
    chosen, logprobs = _draw(logits, Sampling(temperature=1.0), torch.tensor([0.05, 0.1001, 0.29, 0.31]))
    assert chosen.tolist() == [0, 1, 1, 2]
    assert torch.allclose(logprobs.exp(), torch.tensor([0.1, 0.2, 0.2, 0.7]))


def test_temperature_sharpens_and_logprobs_stay_at_one() -> None:
    # At temperature 0.5 shares go as squares: 0.01, 0.04, 0.49 of 0.54, so 0.09 is past the first two (0.0926) barely.
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.7]])).repeat(2, 1)
    chosen, logprobs = _draw(logits, Sampling(temperature=0.5), torch.tensor([0.09, 0.1]))
    assert chosen.tolist() == [1, 2]
    assert torch.allclose(logprobs.exp(), torch.tensor([0.2, 0.7]))


def test_the_nucleus_is_the_smallest_set_that_holds_the_mass() -> None:
    shares = torch.tensor([[0.1, 0.5, 0.15, 0.25]])
    assert _nucleus(shares, 0.7).nonzero()[:, 1].tolist() == [1, 3]  # 0.5 is not enough, 0.5 + 0.25 is
    assert _nucleus(shares, 0.5).nonzero()[:, 1].tolist() == [1]


def test_sampled_tokens_have_the_models_frequencies(llama: LanguageModel) -> None:
    """1,000 first tokens against the model's own distribution: chi-square below its 99.9 % point."""
    from scipy.stats import chi2

    prompt, n = PROMPTS[0], 1000
    ids = llama.chat.ids(prompt, answer=True)
    with torch.no_grad():
        shares = llama.model(input_ids=torch.tensor([ids])).logits[0, -1].softmax(-1)
    answers = LocalEngine(llama, batch_tokens=1 << 20).generate([prompt], Sampling(1, 1.0), n=n)[0]
    seen = torch.bincount(torch.tensor([one.ids[0] for one in answers]), minlength=len(shares))
    common = shares * n >= 5
    expected = torch.cat([shares[common] * n, shares[~common].sum()[None] * n])
    observed = torch.cat([seen[common], seen[~common].sum()[None]])
    assert float(((observed - expected) ** 2 / expected).sum()) < chi2.ppf(0.999, len(expected) - 1)
