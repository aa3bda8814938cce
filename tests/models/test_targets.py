"""Which matrices an adapter is put on: names are looked up before training, experts are found, what is left is said."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny
from burnish.models.adapters import Lora, attach, unfit
from burnish.models.load import load_model
from burnish.models.targets import outline_of_experts, split, unknown


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.tiny_model("llama", tmp_path / "model")


def test_names_that_no_matrix_has_are_known_from_the_files(folder: Path) -> None:
    assert unknown(str(folder), ["q_proj", "mlp.gate_proj", "lm_head"]) == []
    assert unknown(str(folder), ["q_proj", "v_porj", "proj"]) == ["v_porj", "proj"]
    assert unknown(str(folder), "all-linear") == unknown("someone/tiny", ["q_porj"]) == []


def test_experts_may_be_called_as_in_their_files_or_as_they_are_loaded(tmp_path: Path) -> None:
    """The files have a matrix for each: experts.0.gate_proj.weight."""
    folder = tiny.tiny_model("qwen3_moe", tmp_path)
    asked = ["q_proj", "lm_head", "experts.gate_up_proj", "down_proj", "gate_proj"]
    assert unknown(folder, [*asked, "gate_down_proj"], outline_of_experts(folder)) == ["gate_down_proj"]
    (folder / "config.json").write_text('{"model_type": "nothing we know"}')
    assert outline_of_experts(folder) is None and unknown(folder, asked) == ["experts.gate_up_proj"]


def test_a_name_may_be_of_layers_and_of_experts(tmp_path: Path) -> None:
    model = load_model(tiny.tiny_model("nemotron_h", tmp_path), dtype="float32").model
    assert split(model, ["q_proj", "down_proj"]) == (["q_proj", "down_proj"], ["down_proj"])  # shared ones are layers
    assert split(model, ["weight", "nowhere"]) == (["weight", "nowhere"], [])
    assert split(model, "all-linear") == ("all-linear", [])


@pytest.mark.parametrize("kind", ["gpt_oss", "qwen3_moe", "llama"])
def test_what_all_linear_does_not_reach_is_said(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """peft knows the experts of some families."""
    attach(load_model(tiny.tiny_model(kind, tmp_path), dtype="float32"), Lora(rank=4), seed=0)
    found = capsys.readouterr().err
    assert ("no adapter, such as layers.0.mlp.experts.gate_up_proj" in found) == (kind == "gpt_oss")
    assert ("name down_proj, gate_up_proj in `targets`" in found) == (kind == "gpt_oss")


def test_nothing_is_said_where_experts_have_adapters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lm = load_model(tiny.tiny_model("gpt_oss", tmp_path), dtype="float32")
    attach(lm, Lora(rank=4, targets=["q_proj", "gate_up_proj", "down_proj"]), seed=0)
    assert "no adapter" not in capsys.readouterr().err


def test_experts_that_files_hold_as_one_tensor_under_other_names(tmp_path: Path) -> None:
    folder = tiny.tiny_model("granitemoe", tmp_path)
    assert not list(unfit(folder, Lora(targets=["q_proj", "gate_up_proj", "down_proj"])))
    (problem,) = unfit(folder, Lora(targets=["q_proj", "input_linear"]))  # as it is in the file, and nowhere else
    assert problem.what == "no matrix of the model, as it is loaded, is called input_linear"


def test_layers_that_peft_leaves_out_for_experts_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lm = load_model(tiny.tiny_model("glm4_moe", tmp_path), dtype="float32")
    attach(lm, Lora(rank=2, targets=["q_proj", "down_proj"]), seed=0)
    said = "2 matrices have no adapter though `targets` has their name, such as model.layers.0.mlp.down_proj"
    assert said in capsys.readouterr().err  # the dense layer's, and the shared expert's of the other one
