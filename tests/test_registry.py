"""Tables of names."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.errors import ConfigError
from burnish.registry import Entry, Registry, split_choice

TABLE = Registry("fruit", [Entry("apple", "collections:Counter", "a fruit"), Entry("pear", "collections:deque", "too")])


def test_rows_resolve_and_build() -> None:
    assert TABLE.build({"apple": {"a": 2}})["a"] == 2
    assert TABLE.names() == ["apple", "pear"]


def test_a_typo_is_a_question() -> None:
    with pytest.raises(ConfigError) as caught:
        TABLE.resolve("appel")
    assert "did you mean 'apple'?" in caught.value.hint and "pear" in caught.value.hint


def test_what_others_call_a_row_is_translated() -> None:
    table = Registry("fruit", [Entry("apple", "collections:Counter", "a fruit")], {"pomme": "`apple`"})
    with pytest.raises(ConfigError) as caught:
        table.resolve("pomme")
    assert caught.value.hint == "here it is `apple`"


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="twice"):
        Registry("fruit", [Entry("a", "x:y", "1"), Entry("a", "x:z", "2")])


def test_a_class_from_a_users_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from burnish.config import Config\n\n\nclass Loss(Config):\n    beta: int = 1\n\n\nclass Bare: ...\n"
    )
    assert TABLE.build({"use": f"{file}:Loss", "beta": 3}).beta == 3
    with pytest.raises(ConfigError) as caught:
        TABLE.resolve(f"{file}:Los")
    assert "did you mean 'Loss'? allowed: Loss, Bare" in caught.value.hint
    with pytest.raises(ConfigError, match="Bare in .* has no settings"):
        TABLE.resolve(f"{file}:Bare")
    with pytest.raises(ConfigError, match="no such file"):
        TABLE.resolve(f"{tmp_path}/none.py:Loss")


@pytest.mark.parametrize("choice", [{"a": {}, "b": {}}, {"a": [1]}, {}])
def test_choices_of_another_shape_are_refused(choice: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        split_choice(choice, "fruit")


def test_both_forms_of_a_choice() -> None:
    assert split_choice("a", "fruit") == ("a", {})
    assert split_choice({"a": None}, "fruit") == ("a", {})
    assert split_choice({"use": "./f.py:A", "x": 1}, "fruit") == ("./f.py:A", {"x": 1})
