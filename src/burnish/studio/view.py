"""The HTML of a battle: two sides, and a line that says what comes next. Names appear with the vote, not before."""

from __future__ import annotations

from markupsafe import Markup

from burnish.evaluation.votes import Vote
from burnish.studio.battles import FAILED, Battle
from burnish.studio.text import markdown, plain

SIDES = ("Left", "Right")
WORDS = {"model_a": "left is better", "model_b": "right is better", "tie": "a tie", "tie (bothbad)": "both are bad"}
SEEN_ALL = "You have seen every pair of answers. Thank you!"
EMPTY = Markup('<p class="quiet">(an empty answer)</p>')


def side(battle: Battle, number: int) -> Markup:
    """The conversation with the left (0) or right (1) model."""
    turns = [Markup('<div class="{}">{}</div>').format(
        turn.role, markdown(turn.content) or EMPTY if turn.role == "assistant" else plain(turn.content),
    ) for turn in battle.said[number]]  # fmt: skip
    if battle.writing:
        draft = battle.drafts[number]
        waiting = Markup('<p class="quiet waiting">is thinking</p>')
        turns.append(Markup('<div class="assistant writing">{}</div>').format(markdown(draft) if draft else waiting))
    if not turns:
        turns.append(Markup('<p class="quiet">Nothing was asked yet.</p>'))
    won = battle.vote is not None and battle.vote.winner == ("model_a", "model_b")[number]
    name = Markup(' <span class="name">{}</span>').format(battle.models[number]) if battle.vote else ""
    return Markup('<section aria-label="{} answer" aria-busy="{}" class="{}"><h2>{}{}</h2>{}</section>').format(
        SIDES[number], "true" if battle.writing else "false", "won" if won else "", SIDES[number], name,
        Markup("").join(turns),
    )  # fmt: skip


def status(battle: Battle | None, problem: str = "") -> Markup:
    """The line above the buttons, which is also read out."""
    if problem:
        return _line(problem, "problem")
    if battle is None:
        return _line(SEEN_ALL)
    if battle.vote:
        return _line(said(battle.vote))
    if battle.writing:
        return _line("Both are answering …")
    if battle.failed:
        return _line(FAILED, "problem")
    return _line("Which answer is better?" if battle.ready else "Ask both of them something.")


def said(vote: Vote) -> str:
    """A vote in words."""
    if vote.winner in ("model_a", "model_b"):
        names = (vote.model_a, vote.model_b) if vote.winner == "model_a" else (vote.model_b, vote.model_a)
        return f"You prefer {names[0]} to {names[1]}. Thank you!"
    both = f"{vote.model_a} and {vote.model_b}"
    return f"You call {both} {'equally good' if vote.winner == 'tie' else 'both bad'}. Thank you!"


def _line(text: str, kind: str = "") -> Markup:
    return Markup('<p role="status" class="{}">{}</p>').format(kind, text)
