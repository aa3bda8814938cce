"""Which matrices an adapter is put on: linear layers by their names, and experts that a family holds as one tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from burnish.errors import BurnishError
from burnish.log import note_once
from burnish.models.locate import locate, tensor_header, weight_files

if TYPE_CHECKING:
    from pathlib import Path

    from burnish.models.locate import ModelSource

WORTH_SAYING = 0.05
"""Share of the weights that a setting leaves out, from which on it is said."""
EXPERTS = ".experts."
"""What stands in the names of experts' weights."""
Targets = str | list[str]


def split(model: Any, targets: Targets) -> tuple[Targets, list[str]]:
    """Targets that are layers, and those that are tensors of experts; a name may be both, or neither: then a layer's.

    Args:
        model: whole, or its outline without weights.
    """
    if isinstance(targets, str):
        return targets, []
    layers = _last_parts(name for name, _ in model.named_modules())
    tensors = _last_parts(name for name, weight in model.named_parameters() if weight.ndim == 3)
    experts = [target for target in targets if target.rpartition(".")[2] in tensors - {"weight"}]
    return [one for one in targets if one not in experts or one.rpartition(".")[2] in layers], experts


def is_adapter(ref: str | Path) -> bool:
    """Whether a model is an adapter that is here."""
    try:
        return locate(ref).adapter
    except BurnishError:
        return False


def meant(model: Any, targets: Targets) -> dict[str, list[str]]:
    """The matrices that each of an adapter's targets is the name of; nothing for a pattern."""
    if isinstance(targets, str):
        return {}
    named = model.named_parameters(remove_duplicate=False)  # a tied head is there too
    names = [name.removesuffix(".weight") for name, weight in named if weight.ndim in (2, 3)]
    return {target: [name for name in names if f".{name}".endswith(f".{target}")] for target in targets}


def say_missed(wrapped: Any, meant: dict[str, list[str]]) -> None:
    """Say which matrices have no adapter though a target is their name: where peft puts one on experts alone."""
    reached = set()
    for name, module in wrapped.named_modules():
        if hasattr(module, "lora_A"):
            inner = name.replace("base_model.model.", "", 1).replace(".base_layer", "")
            reached.add(f"{inner}.{module.parameter_name}" if is_stacked(module) else inner)
    missed = sorted({name for names in meant.values() for name in names} - reached)
    if missed:
        note_once(f"{len(missed)} matrices have no adapter though `targets` has their name, such as {missed[0]}: peft"
                  " puts it on this family's experts alone")  # fmt: skip


def is_stacked(module: Any) -> bool:
    """Whether peft put a module around another one for an adapter on one of its tensors. There is one for each tensor,
    around each other."""
    return hasattr(module, "parameter_name")


def _last_parts(names: Any) -> set[str]:
    return {name.rpartition(".")[2] for name in names}


def unknown(ref: str | Path, targets: Targets, outline: Any = None) -> list[str]:
    """Those of an adapter's targets that no matrix of a model has, in its files or in its outline; none for a pattern,
    or a model that is not here."""
    source = _here(ref)
    if source is None or isinstance(targets, str):
        return []
    names = {"lm_head", *(name for name, _ in _shapes(source))}  # tied, it is not in the files
    if outline is not None:
        names |= {name for name, _ in outline.named_parameters()}
    known = [f".{name.removesuffix('.weight')}" for name in names]
    return [target for target in targets if not any(name.endswith(f".{target}") for name in known)]


def outline_of_experts(ref: str | Path) -> Any:
    """A model without weights where it is here and has experts, whose names in its files and when it is loaded differ;
    None for others, and where it cannot be made."""
    source = _here(ref)
    stacked = [name for name, shape in _shapes(source) if EXPERTS in name or len(shape) == 3] if source else []
    if source is None or not stacked:
        return None
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(source.path, trust_remote_code=source.trusted)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=source.trusted)
    except Exception:  # loading it says what is wrong, better than this could
        return None


def _here(ref: str | Path) -> ModelSource | None:
    """A model (of an adapter its base) whose files are on this machine."""
    try:
        source = locate(ref).weights
    except BurnishError:
        return None
    return None if source.path is None else source


def _shapes(source: ModelSource) -> list[tuple[str, list[int]]]:
    """The names in a model's files, each with its shape."""
    assert source.path is not None
    files = weight_files(source.path)
    return [(name, entry["shape"]) for file in files for name, entry in tensor_header(file).items()]


def say_unreached(model: Any) -> None:
    """Say how much of the layers has no adapter: experts that some families hold as one tensor, above all."""
    from burnish.models.logprobs import backbone_of

    backbone = backbone_of(model)
    embedding = backbone.get_input_embeddings()
    matrices = {
        name: weight
        for name, weight in backbone.named_parameters()
        if weight.ndim > 1 and "lora_" not in name and weight is not getattr(embedding, "weight", None)
    }
    left = {name: weight.numel() for name, weight in matrices.items() if ".base_layer." not in name}
    share = sum(left.values()) / max(1, sum(weight.numel() for weight in matrices.values()))
    if share > WORTH_SAYING:
        largest = max(left, key=left.__getitem__)
        experts = sorted(_last_parts(name for name in left if matrices[name].ndim == 3) - {"weight"})
        how = f": name {', '.join(experts)} in `targets`, beside the layers, and experts have one" if experts else ""
        note_once(f"{share:.0%} of the layers' weights have no adapter, such as {largest}{how}")
