"""Chat templates: what is learned, for templates of several families, checked token by token."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import tiny
from burnish.errors import ModelError
from burnish.models.chat import ChatTemplate, mask_view
from burnish.types import Message

TALK = (
    Message("user", "What is 17 plus 25?"),
    Message("assistant", "The answer is 42."),
    Message("user", "Sure?"),
    Message("assistant", "Quite sure."),
)


def template(kind: str) -> ChatTemplate:
    return ChatTemplate(tiny.tiny_tokenizer(kind))


def learned(chat: ChatTemplate, messages: tuple[Message, ...]) -> list[str]:
    """The text of each learned turn."""
    rendered = chat.render(messages)
    return [chat.tokenizer.decode(rendered.ids[turn.start : turn.stop]) for turn in rendered.turns]


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_exactly_the_answers_and_their_stop_tokens_are_learned(kind: str) -> None:
    chat = template(kind)
    end = tiny.ENDS.get(kind, "<|im_end|>")
    assert learned(chat, TALK) == [f"The answer is 42.{end}", f"Quite sure.{end}"]
    rendered = chat.render(TALK)
    inside = {place for turn in rendered.turns for place in range(turn.start, turn.stop)}
    assert {place for place, weight in enumerate(rendered.weights) if weight} == inside


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_training_sees_the_tokens_that_serving_sees(kind: str) -> None:
    chat = template(kind)
    for stop in (2, 4):
        rendered, prompt = chat.render(TALK[:stop]), chat.ids(TALK[: stop - 1], answer=True)
        assert list(rendered.ids[: len(prompt)]) == prompt
        assert rendered.turns[-1].start == len(prompt)
        assert list(rendered.ids) == chat.ids(TALK[:stop], answer=False)


def test_a_template_that_drops_earlier_thinking_trains_what_it_keeps() -> None:
    chat = template("qwen3")
    thinking = Message("assistant", "<think>17+25</think>42")
    assert learned(chat, (TALK[0], thinking)) == ["<think>17+25</think>42<|im_end|>"]
    assert learned(chat, (TALK[0], thinking, *TALK[2:])) == ["42<|im_end|>", "Quite sure.<|im_end|>"]


def test_rewritten_turns_that_say_the_same_are_told_apart_by_their_order() -> None:
    chat = template("qwen3")
    words = ["4", "4", "14?", "14", "Yes?", "Yes.", "14", "Yes."]
    talk = tuple(
        Message(turn.role, f"<think>a</think>{said}" if turn.role == "assistant" else said)
        for turn, said in zip(TALK * 2, words, strict=True)
    )
    end = "<|im_end|>"
    assert learned(chat, talk) == [f"4{end}", f"14{end}", f"Yes.{end}", f"<think>a</think>Yes.{end}"]
    starts = [turn.start for turn in chat.render(talk).turns]
    assert starts == sorted(starts) and len(set(starts)) == 4


def test_an_answer_is_found_where_it_would_be_written_whatever_its_words_are() -> None:
    tokenizer = tiny.tiny_tokenizer("llama")
    # Like Qwen3's, which opens the thinking of the last answer alone.
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{% if m['role'] == 'assistant' and loop.last %}<think></think>{% endif %}{{ m['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    chat = ChatTemplate(tokenizer)
    talk = tuple(Message(turn.role, "user") for turn in TALK)
    assert learned(chat, talk) == ["user<|im_end|>", "<think></think>user<|im_end|>"]
    asked = [len(chat.ids(talk[:stop], answer=True)) for stop in (1, 3)]
    assert [turn.start for turn in chat.render(talk).turns] == asked


def test_a_rewritten_turn_that_the_template_leaves_out_is_an_error() -> None:
    tokenizer = tiny.tiny_tokenizer("llama")
    tokenizer.chat_template = (
        "{% for m in messages %}{% if loop.last or m['role'] == 'user' %}<|im_start|>{{ m['role'] }}\n"
        "{{ m['content'] }}<|im_end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    with pytest.raises(ModelError, match="turn 1 .assistant. cannot be found"):
        ChatTemplate(tokenizer).render(TALK)


def test_a_token_that_ends_inside_a_character_does_not_cross_a_border() -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=258, special_tokens=["<|im_end|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    tokenizer.train_from_iterator([" é è ê ë"], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>")
    assert len(fast(" é", add_special_tokens=False)["input_ids"]) == 2  # the space with one byte of two, and the other
    fast.chat_template = "{% for m in messages %}: {{ m['content'] }}<|im_end|>{% endfor %}"
    chat = ChatTemplate(fast)
    assert learned(chat, (Message("user", "é", train=True), Message("assistant", "e", train=False)))[0] == "é<|im_end|>"


def test_special_tokens_in_someones_words_are_refused() -> None:
    for role, place in (("user", 0), ("assistant", 1)):
        talk = list(TALK[:2])
        talk[place] = Message(role, "It ends with <|im_end|> and then more.")  # type: ignore[arg-type]
        with pytest.raises(ModelError, match=f"turn {place} .{role}. hold the special token <.im_end.>"):
            template("llama").render(talk)


def written(chat: ChatTemplate, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the template is asked to write from now on."""
    _ = chat.stop_ids, chat._closing  # asked once
    asked: list[Any] = []
    write = chat.tokenizer.apply_chat_template
    monkeypatch.setattr(
        chat.tokenizer, "apply_chat_template", lambda rows, **how: asked.append(rows) or write(rows, **how)
    )
    return asked


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_a_row_is_written_once_and_once_more_up_to_each_learned_answer(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = template(kind)
    asked = written(chat, monkeypatch)
    chat.render(TALK)
    assert [len(rows) for rows in asked] == [4, 1, 3]


def test_the_prompt_of_a_pair_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = template("llama")
    asked = written(chat, monkeypatch)
    chat.answer_ids(TALK[:3], "Quite sure.")
    chat.answer_ids(TALK[:3], "No.")
    assert [len(rows) for rows in asked] == [4, 3, 4]


@pytest.mark.parametrize(
    ("written", "times"),
    [("message['content'].split('</think>')[-1]", 0), ("'<think></think>' + message['content']", 2)],
    ids=["left out", "written twice"],
)
def test_the_last_answers_thinking_is_learned_as_it_is_or_refused(written: str, times: int) -> None:
    row = (Message("user", "17 plus 25?"), Message("assistant", "<think>20 and 22</think>42"))
    assert learned(template("mistral"), row) == ["<think>20 and 22</think>42<|im_end|>"]
    tokenizer = tiny.tiny_tokenizer("mistral")
    tokenizer.chat_template = tokenizer.chat_template.replace("message['content']", f"({written})")
    with pytest.raises(ModelError, match=f"as the chat template writes it {times}"):
        ChatTemplate(tokenizer).render(row)
    ChatTemplate(tokenizer).render((row[0], Message("assistant", "42")))


def test_rows_share_the_numbers_of_their_tokens() -> None:
    chat = template("llama")
    talk = (Message("user", "the quick brown fox"), Message("assistant", "the lazy dog"))
    first, second = chat.render(talk).ids, chat.render(talk).ids
    assert max(first) > 256  # which Python has only one object of anyway
    assert first == second and all(one is other for one, other in zip(first, second, strict=True))


def test_the_view_shows_characters_of_several_tokens() -> None:
    chat = template("llama")
    view = mask_view(chat.render((Message("user", "ä€"), Message("assistant", "漢🙂"))), chat.tokenizer)
    assert "ä€" in view.plain and "漢🙂" in view.plain and "\N{REPLACEMENT CHARACTER}" not in view.plain


def test_a_message_may_say_whether_it_is_learned() -> None:
    chat = template("llama")
    quiet = Message("assistant", "The answer is 42.", train=False)
    assert learned(chat, (TALK[0], quiet, *TALK[2:])) == ["Quite sure.<|im_end|>"]
    asked = Message("user", "What is 17 plus 25?", train=True)
    assert "What is 17 plus 25?" in learned(chat, (asked, TALK[1]))[0]


def test_only_the_answer_of_a_pair_is_learned() -> None:
    chat = template("gemma3")
    rendered = chat.answer_ids(TALK[:3], "Quite sure.")
    assert [chat.tokenizer.decode(rendered.ids[t.start : t.stop]) for t in rendered.turns] == [
        "Quite sure.<end_of_turn>"
    ]


def test_an_empty_answer_is_an_error() -> None:
    with pytest.raises(ModelError, match="turn 1 .assistant. would train no token"):
        template("llama").render((TALK[0], Message("assistant", "")))


def test_an_answer_without_a_stop_token_is_an_error() -> None:
    tokenizer = tiny.tiny_tokenizer("llama")
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    with pytest.raises(ModelError, match="never learn to end its answer"):
        ChatTemplate(tokenizer).render(TALK)


def test_a_tokenizer_without_a_template_is_an_error() -> None:
    tokenizer = tiny.tiny_tokenizer("llama")
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        ChatTemplate(tokenizer)


def test_what_a_template_refuses_is_said() -> None:
    tokenizer = tiny.tiny_tokenizer("llama")
    tokenizer.chat_template = "{{ raise_exception('no system turns here') }}"
    with pytest.raises(ModelError, match="no system turns here"):
        ChatTemplate(tokenizer).written(TALK)


def test_stop_tokens_are_what_the_template_writes_and_the_models_own() -> None:
    tokenizer = tiny.tiny_tokenizer("llama")
    tokenizer.eos_token = "<eos>"
    assert ChatTemplate(tokenizer).stop_ids == tuple(tokenizer.convert_tokens_to_ids(["<|im_end|>", "<eos>"]))


def test_the_view_marks_learned_tokens_and_stops() -> None:
    chat = template("mistral")
    view = mask_view(chat.render(TALK[:2]), chat.tokenizer)
    styles = {view.plain[span.start : span.end]: str(span.style) for span in view.spans}
    assert "".join(text for text in styles if text)
    assert view.plain.replace("⟦", "").replace("⟧", "") == chat.written(TALK[:2])
    assert view.plain.count("⟦") == view.plain.count("⟧") == 1 and "<|im_end|>⟧" in view.plain
    half = mask_view(chat.render((TALK[0], replace(TALK[1], train=0.5))), chat.tokenizer)
    assert "⟧×0.5" in half.plain
    assert [text for text, style in styles.items() if "underline" in style] == ["<|im_end|>"]
