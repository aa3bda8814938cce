"""The arena without its page: who meets whom, what both say, and the one vote of each battle."""

from __future__ import annotations

import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from burnish.errors import BurnishError
from burnish.evaluation.votes import Vote, VoteStore, Winner
from burnish.log import note
from burnish.rng import seed_for
from burnish.studio.contestants import Contestants, Shown, Turns
from burnish.studio.pairs import Counts, Tally, choose_pair
from burnish.studio.rates import Rate
from burnish.types import Message, Sampling

FAILED = "One of the two could not answer, so nothing was asked. Ask something else, or go on to the next pair."
LEFT = 1800.0
"""Seconds after which a battle without a vote no longer counts as being looked at."""
LONGEST = 20_000
"""Characters of a message."""


@dataclass
class Battle:
    """Two models, a voter, and what was said. Sides are left and right; who stands where is decided by chance."""

    id: str
    voter: str
    models: tuple[str, str]
    said: list[Turns]
    """The conversation of each side, complete turns only."""
    drafts: list[str] = field(default_factory=lambda: ["", ""])
    """What each side is writing."""
    writing: int = 0
    """Sides that are still writing."""
    failed: bool = False
    """Whether the latest message could not be answered, and was taken back."""
    vote: Vote | None = None
    begun: float = 0.0
    """Seconds since 1970."""
    changes: int = 0
    """Counts up when something can be seen that could not be seen before."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while drafts become turns: who reads both needs it."""

    @property
    def turn(self) -> int:
        """How often the voter has spoken and was answered."""
        return sum(message.role == "user" for message in self.said[0])

    @property
    def ready(self) -> bool:
        """Whether there is something to vote on."""
        return not self.writing and not self.vote and bool(self.said[0]) and self.said[0][-1].role == "assistant"


class Arena:
    """Battles of all voters. Every method may be called from several threads."""

    def __init__(self, store: VoteStore, contestants: Contestants, *, sampling: Sampling | None = None,
                 per_minute: int = 20, seed: int = 0, clock: Callable[[], float] = time.time) -> None:  # fmt: skip
        self.store, self.contestants, self.seed = store, contestants, seed
        self.rate = Rate(per_minute, 60.0, clock)
        self._sampling, self._clock = sampling or Sampling(max_tokens=512, temperature=0.7), clock
        self._tally = Tally(store)
        self._lock = threading.RLock()
        self._battles: dict[str, Battle] = {}  # voter -> the battle on the voter's page
        self._shown: dict[str, Shown] = {}
        self._passed: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)

    # -- rounds

    def current(self, voter: str) -> Battle | None:
        """The voter's battle, a new one when there is none. None when the voter has seen everything."""
        with self._lock:
            return self._battles.get(voter) or self.begin(voter)

    def begin(self, voter: str) -> Battle | None:
        """The voter's next battle. One that was left without a vote counts for nothing."""
        with self._lock:
            before = self._battles.get(voter)
            if before and before.writing:
                return before  # both sides first finish what they are saying
            if before and not before.vote:
                self._passed[voter].append(before.models)
            self._battles.pop(voter, None)
            shown = self._shown_to(voter)
            models = self.contestants.models
            self._tally.update()
            pair = choose_pair(self._tally.votes(models), self._tally.gains(models), self._open(voter),
                               self.contestants.open(shown), self.seed)  # fmt: skip
            if pair is None:
                return None
            names = (models[pair[0]], models[pair[1]])
            prompt = self.contestants.prompt(names, shown, voter)
            shown.add((frozenset(names), prompt))
            sides = names if secrets.randbelow(2) else names[::-1]
            battle = Battle(secrets.token_hex(16), voter, sides, [prompt, prompt], begun=self._clock())
            self._battles[voter] = battle
            if prompt:
                self._answer(battle, ((), ()))
            return battle

    def _shown_to(self, voter: str) -> Shown:
        """What a voter has seen: on the first look what the store knows, afterwards also what was passed over."""
        if voter not in self._shown:
            votes = () if self.contestants.asked else self.store.by(voter)
            self._shown[voter] = {(frozenset((one.model_a, one.model_b)), one.conversation_a[:-1]) for one in votes}
        return self._shown[voter]

    def _open(self, voter: str) -> Counts:
        """(M, M) battles that others are looking at, and those that this voter passed over."""
        number = {name: k for k, name in enumerate(self.contestants.models)}
        found = np.zeros((len(number), len(number)), dtype=np.int64)
        recent = self._clock() - LEFT
        looked_at = [one.models for one in self._battles.values() if not one.vote and one.begun > recent]
        for pair in [*looked_at, *self._passed[voter]]:
            one, other = (number[name] for name in pair)
            found[one, other] += 1
            found[other, one] += 1
        return found

    # -- talking

    def ask(self, voter: str, battle_id: str, text: str) -> str:
        """Put a message to both sides; they answer in the background. Returns what is wrong with it, if anything."""
        with self._lock:
            battle = self._battles.get(voter)
            if battle is None or battle.id != battle_id or battle.vote or not self.contestants.asked:
                return "This round is over."
            if battle.writing:
                return "Both are still answering."
            if not text.strip():
                return "Write something first."
            if len(text) > LONGEST:
                return f"That is too long: {len(text):,} characters, and {LONGEST:,} are allowed."
            before = battle.said[0], battle.said[1]
            with battle.lock:
                battle.said = [(*turns, Message("user", text)) for turns in before]
            self._answer(battle, before)
        return ""

    def _answer(self, battle: Battle, before: tuple[Turns, Turns]) -> None:
        """Let both sides answer what was said last, each in a thread of its own."""
        with battle.lock:
            battle.drafts, battle.failed, battle.writing = ["", ""], False, 2
            battle.changes += 1
        for side in (0, 1):
            threading.Thread(target=self._write, args=(battle, side, before), daemon=True).start()

    def _write(self, battle: Battle, side: int, before: tuple[Turns, Turns]) -> None:
        sampling = self._sampling
        seed = seed_for(self.seed, battle.id, battle.turn)
        failed = True
        try:
            drawn = Sampling(sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.stop, seed)
            for text in self.contestants.stream(battle.models[side], battle.said[side], drawn):
                battle.drafts[side] = text
                battle.changes += 1
            failed = False
        except BurnishError as error:  # the reason names the model, so only the terminal gets it
            note(f"{battle.models[side]} could not answer: {error.what}")
        finally:
            with battle.lock:
                _conclude(battle, before, failed)

    # -- voting

    def vote(self, voter: str, battle_id: str, winner: Winner) -> str:
        """Store a vote. Returns what hinders it, if anything. A battle that has a vote keeps it."""
        with self._lock:
            battle = self._battles.get(voter)
            if battle is None or battle.id != battle_id:
                return "You have voted in that round before." if self.store.of(battle_id) else "That round is over."
            if battle.vote:
                return ""
            if not battle.ready:
                return "Vote when both have answered."
            if wait := self.rate.wait(voter):
                return f"That was quick: {self.rate.limit} votes in a minute. Please vote again in {int(wait) + 1} s."
            battle.vote = self.store.add(Vote(
                battle.id, *battle.models, winner, voter, battle.turn, tstamp=round(self._clock(), 3),
                conversation_a=battle.said[0], conversation_b=battle.said[1],
            ))  # fmt: skip
            self.rate.count(voter)
            battle.changes += 1
        return ""


def _conclude(battle: Battle, before: tuple[Turns, Turns], failed: bool) -> None:
    """One side is done; the last one turns the drafts into turns, or takes the message back when a side failed."""
    battle.failed |= failed
    battle.writing -= 1
    if not battle.writing:
        said = [(*turns, Message("assistant", draft)) for turns, draft in zip(battle.said, battle.drafts, strict=True)]
        battle.said = list(before) if battle.failed else said
        battle.drafts = ["", ""]
    battle.changes += 1
