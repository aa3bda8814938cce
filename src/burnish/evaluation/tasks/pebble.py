"""Problems of Pebble's world: seeded, unlimited, and disjoint from the training problems by construction."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, create_model

from burnish.errors import ConfigError
from burnish.evaluation.tasks.base import Task
from burnish.registry import suggest
from burnish.types import Example

Evaluated = Literal["dev", "held_out"]


class Pebble(Task):
    """Chats of one or more skills, each skill a task of its own in the results."""

    skills: list[str] = Field(default_factory=list)
    """Skills: [arithmetic, word_problems]. All when left out."""
    split: Evaluated = "dev"
    """`dev` for decisions, `held_out` for the final claim; they share no problem."""
    n: int = Field(default=50, ge=2)
    """Items of each skill."""

    def check(self) -> None:
        from burnish.pebble.world import SKILLS

        for skill in self.skills:
            if skill not in SKILLS:
                raise ConfigError(f"there is no skill '{skill}'", where="skills", hint=suggest(skill, list(SKILLS)))

    def items(self, seed: int) -> list[Example]:
        from burnish.pebble.world import SKILLS, chats

        self.check()
        return [
            Example(item.id.rpartition("-")[2], item.messages, item.target, item.grader, item.choices, item.source,
                    {**item.meta, "task": f"pebble-{skill.replace('_', '-')}"})
            for skill in self.skills or SKILLS
            for item in chats(skill, self.split, self.n, seed)
        ]  # fmt: skip


class PebbleChoices(Task):
    """Facts, the right option being the most probable continuation: no chat, so a base model can do it."""

    split: Evaluated = "dev"
    """`dev` for decisions, `held_out` for the final claim; they share no problem."""
    n: int = Field(default=50, ge=2)
    """How many facts."""

    def items(self, seed: int) -> list[Example]:
        from burnish.pebble.world import choices

        return choices(self.split, self.n, seed)


def _skill(name: str) -> type[Pebble]:
    """`Pebble` with one skill as its setting."""
    doc = f"Problems of the skill '{name}'."
    held = (list[str], Field(default=[name], description="The skill."))
    return create_model(
        f"Pebble{name.title().replace('_', '')}", __base__=Pebble, __doc__=doc, __module__=__name__, skills=held
    )


PebbleArithmetic = _skill("arithmetic")
PebbleWordProblems = _skill("word_problems")
PebbleUnits = _skill("units")
PebbleSorting = _skill("sorting")
PebbleFacts = _skill("facts")
PebbleReading = _skill("reading")
PebbleSummary = _skill("summary")
PebbleFormats = _skill("formats")
PebbleDialogue = _skill("dialogue")
