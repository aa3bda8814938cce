"""An answer that a judge model scores.

No rule can grade it, so this grader only marks the item. Who has a judge at hand asks it (`evaluate(..., judge=...)`);
everywhere else the answer is unscored, with the reason.
"""

from __future__ import annotations

from burnish.config import Config
from burnish.rewards.parts import broken
from burnish.types import Example, Score

NO_JUDGE = "a judge model scores this item, and none was named"


class Judge(Config):
    """Marks items for a judge model; the target, where there is one, is the reference answer it is shown."""

    def grade(self, example: Example, text: str) -> Score:
        return broken(NO_JUDGE)
