"""Recall of real facts, asked as multiple choice.

A fact must be known from pretraining, so facts are not divided: the documents tell all of them. What is divided are
the questions: a fact together with its set of options belongs to one split.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from burnish.pebble.world.base import Chat, Skill, Turn
from burnish.pebble.world.fact_table import RELATIONS, Relation

LETTERS = "ABCD"


@dataclass(frozen=True, slots=True)
class Quiz:
    """A fact (row `pair` of relation `relation`) and four options in the order shown."""

    relation: int
    pair: int
    options: tuple[str, ...]

    @property
    def identity(self) -> object:
        """The order of the options makes no new question."""
        return self.relation, self.pair, tuple(sorted(self.options))

    @property
    def about(self) -> Relation:
        return RELATIONS[self.relation]

    @property
    def subject(self) -> str:
        return self.about.pairs[self.pair][0]

    @property
    def gold(self) -> str:
        return self.about.pairs[self.pair][1]

    @property
    def letter(self) -> str:
        return LETTERS[self.options.index(self.gold)]

    @property
    def statement(self) -> str:
        return self.about.statement.format(s=self.subject, o=self.gold)

    @property
    def question(self) -> str:
        return self.about.question.format(s=self.subject)


FACTS = [(row, pair) for row, relation in enumerate(RELATIONS) for pair in range(len(relation.pairs))]
OBJECTS = [sorted({thing for _, thing in relation.pairs}) for relation in RELATIONS]


def draw(rng: Random) -> Quiz:
    row, pair = rng.choice(FACTS)
    gold = RELATIONS[row].pairs[pair][1]
    others = [thing for thing in OBJECTS[row] if thing != gold]
    options = [gold, *rng.sample(others, min(3, len(others)))]
    rng.shuffle(options)
    return Quiz(row, pair, tuple(options))


def lettered(quiz: Quiz) -> str:
    return "\n".join(f"{letter}) {option}" for letter, option in zip(LETTERS, quiz.options, strict=False))


ASKS = ("{question}\n{options}", "Choose one letter. {question}\n{options}", "{question} Please pick:\n{options}")


def chat(quiz: Quiz, rng: Random) -> Chat:
    ask = rng.choice(ASKS).format(question=quiz.question, options=lettered(quiz))
    answer = f"{quiz.statement}.\nAnswer: {quiz.letter}"
    return Chat((Turn(ask, answer),), quiz.letter, {"choice": {}})


def document(quizzes: list[Quiz], rng: Random) -> str:
    kind = rng.random()
    if kind < 0.45:
        return "\n".join(_almanac(quiz, rng) for quiz in quizzes)
    if kind < 0.7:
        return "\n".join(f"Question: {quiz.question}\nAnswer: {quiz.gold}" for quiz in quizzes)
    return "\n".join(_key(quiz, rng) for quiz in quizzes[: max(2, len(quizzes) // 2)])


def _almanac(quiz: Quiz, rng: Random) -> str:
    text = rng.choice((quiz.about.statement, quiz.about.statement, quiz.about.reverse))
    return text.format(s=quiz.subject, o=quiz.gold) + "."


def _key(quiz: Quiz, rng: Random) -> str:
    """An answer key: the options of a quiz with letters, the fact, and the letter it makes right."""
    title = rng.choice(("Quiz card on {s}", "Card: {s}")).format(s=quiz.subject)
    return f"{title}\n{lettered(quiz)}\n{quiz.statement}. Key {quiz.letter}."


SKILL = Skill("facts", "recall real facts, multiple choice", 1.6, draw, chat, document, (4, 9))
