"""Settings: what is wrong is said with its line, all at once."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from burnish.config import Config, Ref, Table, explain, origins, override, parse_yaml, refs_of, type_name, validate
from burnish.errors import ConfigError


class Inner(Config):
    rate: float = 0.1
    """How fast."""
    steps: int = 3
    """How many."""


class Outer(Config):
    name: str
    """Its name."""
    inner: Inner = Inner()
    """The inner part."""
    method: Annotated[Any, Table("burnish.merging.methods:METHODS")] = "linear"
    """A row of a table."""


def check(text: str) -> list[str]:
    document = parse_yaml(text, "r.yaml")
    return [str(problem) for problem in validate(Outer, document.data, document)[1]]


def test_good_settings_have_no_problems() -> None:
    assert check("name: a\ninner: {rate: 2e-3}") == []


def test_scientific_notation_is_a_number() -> None:
    # YAML 1.1 reads 2e-3 (no dot) as text; a learning rate must not be lost to that.
    document = parse_yaml("name: a\ninner: {rate: 2e-3}")
    assert validate(Outer, document.data, document)[0].inner.rate == 0.002


def test_unknown_key_is_named_with_line_suggestion_and_allowed_keys() -> None:
    [problem] = check("name: a\ninner:\n  rat: 1")
    assert "r.yaml:3: inner.rat: unknown key 'rat'" in problem
    assert "did you mean 'rate'?" in problem and "rate, steps" in problem


def test_all_problems_come_at_once() -> None:
    problems = check("inner: {rate: fast, stepps: 2}\nmethod: {linaer: {}}")
    assert len(problems) == 3
    assert any("key 'name' is missing" in problem for problem in problems)
    assert any("r.yaml:1: inner.rate" in problem and "got 'fast'" in problem for problem in problems)


class Family(Config):
    """A setting like a loss and its variants: one of them, or a mix."""

    variant: Literal["sigmoid", "hinge"] | dict[Literal["sigmoid", "hinge"], Annotated[float, Field(gt=0)]] = "hinge"
    divergence: Literal["js", "reverse_kl"] = "js"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("variant: sigmod", "unknown value 'sigmod'\n  try: did you mean 'sigmoid'? allowed: sigmoid, hinge"),
        ("variant: {sigmod: 1}", "r.yaml:1: variant.sigmod: unknown value 'sigmod'\n  try: did you mean 'sigmoid'?"),
        ("variant: {hinge: -1}", "r.yaml:1: variant.hinge: input should be greater than 0, got -1"),
        ("variant: 3", "r.yaml:1: variant: input should be 'sigmoid' or 'hinge', got 3"),
        ("divergence: reverse", "r.yaml:1: divergence: unknown value 'reverse'\n  try: did you mean 'reverse_kl'?"),
    ],
)  # fmt: skip
def test_a_misspelt_value_is_one_problem_with_a_suggestion(text: str, says: str) -> None:
    document = parse_yaml(text, "r.yaml")
    [problem] = validate(Family, document.data, document)[1]
    assert says in str(problem)


def test_rows_of_tables_are_checked_inside() -> None:
    assert "there is no merge method 'linaer'" in check("name: a\nmethod: linaer")[0]
    assert "r.yaml:2: method.linear.wights: unknown key" in check("name: a\nmethod: {linear: {wights: [1]}}")[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [("a: [1", "r.yaml:"), ("a: 1\na: 2", "r.yaml:2: a"), ("- 1", "expected a mapping"), ("a: b: c", "r.yaml:1")],
)
def test_broken_yaml_is_one_clear_message(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "r.yaml")
    assert says in str(caught.value) or says in caught.value.where


def test_overrides_and_origins() -> None:
    document = parse_yaml("name: a\ninner: {rate: 0.5}", "r.yaml")
    override(document, ["inner.steps=7"])
    value, problems = validate(Outer, document.data, document)
    assert not problems
    found = origins(value, document)
    assert found["inner.rate"] == {"value": 0.5, "origin": "r.yaml:2"}
    assert found["inner.steps"] == {"value": 7, "origin": "--set"}
    assert found["method"]["origin"] == "default"


def test_an_override_that_is_wrong_names_the_option() -> None:
    document = parse_yaml("name: a")
    override(document, ["inner.stps=7"])
    [problem] = validate(Outer, document.data, document)[1]
    assert problem.where == "--set inner.stps"
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        override(document, ["inner"])
    with pytest.raises(ConfigError, match="not a mapping"):
        override(document, ["name.x.y=1"])


def test_explain_gives_the_text_under_the_field() -> None:
    assert [(row.name, row.type, row.default, row.doc) for row in explain(Inner)] == [
        ("rate", "float", "0.1", "How fast."),
        ("steps", "int", "3", "How many."),
    ]


@pytest.mark.parametrize(
    ("annotation", "says"),
    [
        (Annotated[str, "a reference"] | None, "str | null"),
        (list[Annotated[int, Field(ge=1)]], "list of int"),
        (Literal["error", "drop"], "'error' | 'drop'"),
        (Inner, "mapping (rate, steps)"),
    ],
)
def test_types_are_told_as_a_reader_of_yaml_would_say_them(annotation: Any, says: str) -> None:
    assert type_name(annotation) == says


@pytest.mark.parametrize(
    ("assignment", "what"),
    [
        ("a=[1", "not valid YAML"),
        ("list.9=x", "the list has 2 items, there is no item '9'"),
        ("list.9.0=x", "the list has 2 items, there is no item '9'"),
        ("list.name=x", "there is no item 'name'"),
        ("list.0.deep=x", "'list.0' is not a mapping"),
        ("nonsense", "expected KEY=VALUE"),
    ],
)
def test_overrides_that_lead_nowhere(assignment: str, what: str) -> None:
    document = parse_yaml("list: [1, 2]\n")
    with pytest.raises(ConfigError, match=re.escape(what)):
        override(document, [assignment])
    assert document.data == {"list": [1, 2]}


def test_overrides_name_items_by_number_and_keys_that_are_numbers() -> None:
    document = parse_yaml("list: [1, {a: 2}]\n")
    override(document, ["list.1.a=3", "new.2=x"])
    assert document.data == {"list": [1, {"a": 3}], "new": {"2": "x"}}
    assert document.where(("list", 1, "a")) == "--set list.1.a"
    assert document.where(("new", "use")) == "--set new.use"  # a key that is missing in what the option made
    assert document.where(("list", 1, "b")) == "recipe:1: list.1.b"


@pytest.mark.parametrize("text", ["a: \x07", "a: &x [*x]", "a: [", "'"])
def test_yaml_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_yaml(text)


class Numbers(Config):
    """Settings."""

    rate: float = 1.0
    """A rate."""
    count: int | None = None
    """A count."""
    flag: bool = False
    """A flag."""


@pytest.mark.parametrize("data", [{"rate": True}, {"count": False}])
def test_yes_is_no_number(data: dict[str, bool]) -> None:
    value, problems = validate(Numbers, data, parse_yaml(""))
    assert value is None and "must be a number" in problems[0].what
    assert validate(Numbers, {"flag": True, "rate": 2}, parse_yaml(""))[0].rate == 2.0


def test_a_reference_that_may_be_left_out_is_a_reference() -> None:
    class Optional(Config):
        """Settings with a reference that may be None."""

        judge: Annotated[str, Ref("model")] | None = None
        """A model."""
        other: Annotated[list[str], Ref("dataset")] = Field(default_factory=list)
        """Datasets."""

    assert {name: mark.kind for name, mark in refs_of(Optional).items()} == {"judge": "model", "other": "dataset"}
