"""Pebble's world as a source of rows, for the `ingest` step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from burnish.config import Config
from burnish.pebble.world import chats, plant_copies
from burnish.types import Example


class PebbleChats(Config):
    """Conversations of Pebble's world, made anew from the run's seed."""

    n: int = Field(default=1000, ge=1)
    """How many conversations."""
    skill: str | None = None
    """One skill, for a specialist; without it all skills take turns."""
    split: Literal["train", "dev", "held_out"] = "train"
    """Which problems: `train`, `dev` and `held_out` share none, whatever the seed."""
    copies: int = Field(default=0, ge=0)
    """How many near-copies of `dev` items to add at the end, on purpose, to see decontamination find them."""
    copies_seed: int = 0
    """Seed of the `dev` items that are copied; give it the seed of the suite."""

    def rows(self, seed: int, limit: int | None = None) -> Iterator[Example]:
        """The conversations in a fixed order, at most `limit` of them."""
        items = chats(self.skill, self.split, min(self.n, limit or self.n), seed)
        if self.copies:
            items += plant_copies(chats(self.skill, "dev", self.copies, self.copies_seed), self.copies, seed)
        yield from items[:limit]
