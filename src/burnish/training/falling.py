"""Says while it happens that the answers which should become likelier become less likely."""

from __future__ import annotations

from collections import deque

from burnish.log import note

WINDOW = 8
"""Steps whose mean is looked at: those of one step are few."""


class Falling:
    """Looks at how likely answers are at every step; each time that they have fallen twice as far, it says so."""

    def __init__(self, label: str, answers: str, unit: str, least: float, start: float | None) -> None:
        """What to say, and when.

        Args:
            answers: what they are called. unit: of what is looked at. least: the first fall that is said.
            start: what it was before training; None: what it is in the first steps.
        """
        self._label, self._answers, self._unit = label, answers, unit
        self._next, self._start = least, start
        self._recent: deque[float] = deque(maxlen=WINDOW)

    def see(self, step: int, value: float) -> None:
        """Take in a step's mean log-ratio or log-probability of the answers."""
        self._recent.append(value)
        mean = sum(self._recent) / len(self._recent)
        if self._start is None:
            self._start = mean if len(self._recent) == WINDOW else None
            return
        fall = self._start - mean
        if fall < self._next:
            return
        while self._next <= fall:
            self._next *= 2
        note(f"{self._label}: at step {step} {self._answers} are {fall:.2g} {self._unit} less likely than at the start;"
             " where the loss falls all the same, it is because the others fall faster")  # fmt: skip
