"""The arena without a browser: one vote a battle, several turns, names nowhere before the vote."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from burnish.engines.base import Prompt
from burnish.engines.scripted import Scripted
from burnish.errors import ConfigError, DataError, EngineError
from burnish.evaluation.votes import VoteStore
from burnish.studio import view
from burnish.studio.battles import LEFT, Arena, Battle
from burnish.studio.contestants import LiveModels, ReadyAnswers, read_answers
from burnish.types import Message, Sampling


class Typist:
    """An engine that writes one word after another, and notes how many it serves at once."""

    def __init__(self, text: str, fails: bool = False, pause: float = 0.0) -> None:
        self.text, self.fails, self.pause = text, fails, pause
        self.asked: list[Prompt] = []
        self.serving = self.most = 0

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        self.serving += 1
        self.most = max(self.most, self.serving)
        self.asked.append(prompt)
        words = self.text.split()
        for count in range(1, len(words) + 1):
            yield " ".join(words[:count])
            time.sleep(self.pause)
        self.serving -= 1
        if self.fails:
            raise EngineError("prompt 0 does not fit secret-model")


@pytest.fixture
def votes(tmp_path: Path) -> Iterator[VoteStore]:
    store = VoteStore(tmp_path / "votes.sqlite")
    yield store
    store.close()


def arena(votes: VoteStore, **settings: object) -> Arena:
    engines = {"alpha-model": Typist("alpha says hello"), "beta-model": Typist("beta says hi")}
    return Arena(votes, LiveModels(engines), **settings)  # type: ignore[arg-type]


def answered(battle: Battle | None) -> Battle:
    assert battle is not None
    for _ in range(500):
        if not battle.writing:
            return battle
        time.sleep(0.01)
    raise AssertionError("no answer within five seconds")


def shown(battle: Battle) -> str:
    return str(view.side(battle, 0) + view.side(battle, 1) + view.status(battle))


def asked(here: Arena, voter: str, text: str = "Hello?") -> Battle:
    battle = here.current(voter)
    assert battle is not None and here.ask(voter, battle.id, text) == ""
    return answered(battle)


def test_a_round_from_question_to_names(votes: VoteStore) -> None:
    here = arena(votes)
    battle = asked(here, "ann")
    asked(here, "ann", "And again?")
    assert battle.turn == 2 and [turn.role for turn in battle.said[0]] == ["user", "assistant"] * 2
    assert "-model" not in shown(battle) and "Which answer is better?" in shown(battle)
    assert here.vote("ann", battle.id, "model_b") == ""
    assert all(name in shown(battle) for name in ("alpha-model", "beta-model"))
    (stored,) = votes
    assert (stored.model_a, stored.model_b) == battle.models and stored.winner == "model_b" and stored.judge == "ann"
    assert stored.turn == 2 and stored.conversation_a == battle.said[0] and stored.conversation_b == battle.said[1]
    assert here.current("ann") is battle  # a reload shows the result, not a new pair
    following = here.begin("ann")
    assert following is not None and following.id != battle.id and "-model" not in shown(following)


def test_both_continue_their_own_conversation(votes: VoteStore) -> None:
    engines = {"a": Typist("from a"), "b": Typist("from b")}
    here = Arena(votes, LiveModels(engines))
    asked(here, "ann", "one")
    asked(here, "ann", "two")
    for name, engine in engines.items():
        assert engine.asked[1] == (Message("user", "one"), Message("assistant", f"from {name}"), Message("user", "two"))


def test_a_vote_counts_once_however_often_it_is_sent(votes: VoteStore) -> None:
    here = arena(votes)
    battle = asked(here, "ann")
    winners = ("model_a", "tie") * 8
    threads = [threading.Thread(target=here.vote, args=("ann", battle.id, winner)) for winner in winners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert votes.count() == 1
    here.begin("ann")
    assert here.vote("ann", battle.id, "tie") == "You have voted in that round before."  # a page found with "back"
    assert votes.count() == 1


def test_what_cannot_be_voted_on(votes: VoteStore) -> None:
    here = arena(votes)
    battle = here.current("ann")
    assert battle is not None
    assert here.vote("ann", battle.id, "tie") == "Vote when both have answered."
    asked(here, "ann")
    assert here.vote("bob", battle.id, "tie") == "That round is over."  # somebody else's battle
    here.begin("ann")
    assert here.vote("ann", battle.id, "tie") == "That round is over."
    assert votes.count() == 0


def test_messages_that_are_not_put_to_the_models(votes: VoteStore) -> None:
    here = arena(votes)
    battle = here.current("ann")
    assert battle is not None
    assert here.ask("ann", battle.id, " \n") == "Write something first."
    assert "too long" in here.ask("ann", battle.id, "x" * 20_001)
    assert here.ask("ann", "another", "Hello?") == "This round is over."
    asked(here, "ann")
    here.vote("ann", battle.id, "tie")
    assert here.ask("ann", battle.id, "One more?") == "This round is over."


def test_a_battle_that_was_left_counts_for_a_while(votes: VoteStore) -> None:
    now = [1000.0]
    here = arena(votes, clock=lambda: now[0])
    here.begin("ann")
    assert here._open("ben").sum() == 2
    now[0] += LEFT + 1
    assert here._open("ben").sum() == 0


def test_a_quick_voter_is_asked_to_wait(votes: VoteStore) -> None:
    now = [1000.0]
    here = arena(votes, per_minute=2, clock=lambda: now[0])
    for _ in range(2):
        assert here.vote("ann", asked(here, "ann").id, "tie") == ""
        here.begin("ann")
    battle = asked(here, "ann")
    now[0] = 1012.5
    said = here.vote("ann", battle.id, "tie")
    assert said == "That was quick: 2 votes in a minute. Please vote again in 48 s."  # 60 - 12.5 = 47.5
    assert here.vote("bob", asked(here, "bob").id, "tie") == ""
    now[0] = 1060.0
    assert here.vote("ann", battle.id, "tie") == "" and votes.count() == 4


def test_a_failure_takes_the_message_back(votes: VoteStore, capsys: pytest.CaptureFixture[str]) -> None:
    engines = {"secret-model": Typist("half of", fails=True), "other-model": Typist("all of it")}
    here = Arena(votes, LiveModels(engines))
    battle = asked(here, "ann")
    assert battle.failed and battle.said == [(), ()] and not battle.ready
    assert view.FAILED in shown(battle) and "-model" not in shown(battle)
    assert "secret-model could not answer: prompt 0 does not fit" in capsys.readouterr().err
    engines["secret-model"].fails = False
    assert not asked(here, "ann").failed and battle.turn == 1


def test_one_engine_serves_one_voter_at_a_time(votes: VoteStore) -> None:
    engines = {"a": Typist("one two three", pause=0.02), "b": Typist("one two", pause=0.02)}
    here = Arena(votes, LiveModels(engines))
    battles = []
    for voter in ("ann", "bob", "eve"):
        battle = here.current(voter)
        assert battle is not None and here.ask(voter, battle.id, "Hello?") == ""
        battles.append(battle)
    assert here.ask("ann", battles[0].id, "More?") == "Both are still answering."
    assert here.begin("ann") is battles[0]  # nothing is left in the middle of an answer
    for battle in battles:
        assert answered(battle).ready
    assert [engine.most for engine in engines.values()] == [1, 1]


def test_sides_are_a_matter_of_chance(votes: VoteStore) -> None:
    here = arena(votes)
    seen = Counter()
    for _ in range(64):
        battle = here.begin("ann")
        assert battle is not None
        seen[battle.models[0]] += 1
    assert min(seen["alpha-model"], seen["beta-model"]) > 10  # 64 fair coins: below 11 once in 50 million


def test_a_pair_that_was_passed_over_is_not_the_next_one(votes: VoteStore) -> None:
    here = Arena(votes, LiveModels({name: Typist("x") for name in "abc"}))
    pairs = []
    for _ in range(3):
        battle = here.begin("ann")
        assert battle is not None
        pairs.append(frozenset(battle.models))
    assert len(set(pairs)) == 3


def test_two_voters_at_once_get_different_pairs(votes: VoteStore) -> None:
    here = Arena(votes, LiveModels({name: Typist("x") for name in "abcd"}))
    one, other = here.current("ann"), here.current("bob")
    assert one is not None and other is not None and not set(one.models) & set(other.models)


def test_scripted_engines_stream(votes: VoteStore) -> None:
    here = Arena(votes, LiveModels({"a": Scripted(lambda prompt, _: "yes"), "b": Scripted(lambda prompt, _: "no")}))
    battle = asked(here, "ann")
    assert {turns[-1].content for turns in battle.said} == {"yes", "no"}


# -------------------------------------------------------------------------------------------------------- ready answers


def written(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def ready(path: Path) -> ReadyAnswers:
    rows = [{"prompt": prompt, "model": model, "output": f"{model} on {prompt}"}
            for prompt in ("p1", "p2") for model in ("a", "b", "c") if (prompt, model) != ("p2", "c")]  # fmt: skip
    return ReadyAnswers(read_answers(written(path / "answers.jsonl", rows)))


def test_ready_answers_are_gone_through_once_by_each_voter(votes: VoteStore, tmp_path: Path) -> None:
    """Three pairs share p1, and one shares p2: four battles for each voter, however often the server restarts."""
    for voter in ("ann", "bob"):
        met = []
        for _ in range(4):
            here = Arena(votes, ready(tmp_path))  # a restart after every vote
            battle = answered(here.current(voter))
            assert battle.said[0][-1].content == f"{battle.models[0]} on {battle.said[0][0].content}"
            assert here.vote(voter, battle.id, "model_a") == ""
            met.append((frozenset(battle.models), battle.said[0][0].content))
        assert len(set(met)) == 4
        assert Arena(votes, ready(tmp_path)).current(voter) is None
    assert "seen every pair" in view.status(None)


def test_ready_answers_take_no_messages(votes: VoteStore, tmp_path: Path) -> None:
    here = Arena(votes, ready(tmp_path))
    battle = answered(here.current("ann"))
    assert here.ask("ann", battle.id, "Hello?") == "This round is over."


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "p", "model": "a"}, "needs prompt, model and output"),
        ({"prompt": "p", "model": " ", "output": "x"}, "needs prompt, model and output"),
        ({"prompt": 3, "model": "a", "output": "x"}, "a prompt is text"),
        ({"prompt": [{"role": "user"}], "model": "a", "output": "x"}, "a prompt is text"),
        ({"prompt": "p", "model": "b", "output": "x"}, "b answers this prompt a second time"),
    ],
)
def test_a_wrong_row_of_answers_says_where(tmp_path: Path, row: dict[str, object], why: str) -> None:
    path = written(tmp_path / "answers.jsonl", [{"prompt": "p", "model": "b", "output": ""}, row])
    with pytest.raises(DataError, match=why) as caught:
        read_answers(path)
    assert caught.value.where == f"{path}:2"


def test_an_arena_needs_two_models(tmp_path: Path) -> None:
    path = written(tmp_path / "answers.jsonl", [{"prompt": "p", "model": "b", "output": ""}])
    with pytest.raises(ConfigError, match="needs two models, got 1"):
        ReadyAnswers(read_answers(path))


def test_an_empty_answer_and_a_conversation_as_prompt(votes: VoteStore, tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    rows = [{"prompt": turns, "model": model, "output": ""} for model in ("a", "b")]
    here = Arena(votes, ReadyAnswers(read_answers(written(tmp_path / "answers.jsonl", rows))))
    battle = answered(here.current("ann"))
    assert re.findall("an empty answer", shown(battle)) == ["an empty answer"] * 2 and battle.ready
