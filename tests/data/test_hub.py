"""Data sets of the Hub, from a cache made on the fly."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest

from burnish.data.hub import hub_files, on_hub
from burnish.errors import DataError


@pytest.mark.parametrize(
    ("name", "there"),
    [("openai/gsm8k", True), ("./gsm8k/train", False), ("gsm8k/train.jsonl", False), ("/a/b", False), ("gsm8k", False)],
)
def test_names(name: str, there: bool) -> None:
    assert on_hub(name) is there


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the Hub answers with."""
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *names, **settings: str(tmp_path))
    return tmp_path


def made(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()


def test_one_configuration_and_one_kind_of_file(hub: Path) -> None:
    made(hub, "main/train-0.parquet", "main/train-1.parquet", "main/test-0.parquet", "a/train-0.parquet",
         "main/train.jsonl")  # fmt: skip
    assert hub_files("openai/gsm8k", "train") == [hub / "main" / "train-0.parquet", hub / "main" / "train-1.parquet"]
    assert hub_files("openai/gsm8k", "test") == [hub / "main" / "test-0.parquet"]
    with pytest.raises(DataError, match="no files of the split 'dev'"):
        hub_files("openai/gsm8k", "dev")


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*names: str, **settings: object) -> str:
        raise ConnectionError("no network\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(DataError, match="cannot get openai/gsm8k from the Hub: no network\n"):
        hub_files("openai/gsm8k", "train")
