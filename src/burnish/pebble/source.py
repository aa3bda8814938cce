"""Conversations of Pebble's world as a source of rows for `ingest`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from pydantic import Field, field_validator

from burnish.config import Config
from burnish.pebble.world import SKILLS, chats, plant_copies
from burnish.registry import suggest
from burnish.rng import seed_for
from burnish.types import Example

DEV_SEED = 0
"""Seed of the dev items that are copied: the one suites have unless they say otherwise."""


class PebbleChats(Config):
    """Seeded training conversations; none of them is an evaluation item, unless copies are planted on purpose."""

    n: int = Field(default=1000, ge=1)
    """How many conversations."""
    skills: list[str] | None = Field(default=None, min_length=1)
    """Which skills, in equal parts; all of them when left out."""
    planted: int = Field(default=0, ge=0)
    """Near-copies of dev items to add at the end, on purpose, to see decontamination find them."""

    @field_validator("skills")
    @classmethod
    def _known(cls, value: list[str] | None) -> list[str] | None:
        for name in value or ():
            if name not in SKILLS:
                raise ValueError(f"there is no skill '{name}', {suggest(name, list(SKILLS))}")
        return value

    def rows(self, seed: int, limit: int | None = None) -> Iterator[Example]:
        """The conversations, skill by skill in turn, planted copies last; at most `limit` of them."""
        n = min(self.n, limit or self.n)
        skills = self.skills or list(SKILLS)
        groups = [chats(skill, "train", -(-n // len(skills)), seed_for(seed, skill)) for skill in skills]
        rows = [row for rank in zip(*groups, strict=True) for row in rank][:n]
        if self.planted:
            each = -(-self.planted // len(skills))
            items = [item for skill in skills for item in chats(skill, "dev", each, DEV_SEED)]
            rows += plant_copies(items, self.planted, seed_for(seed, "planted"))
        yield from islice(rows, limit)
