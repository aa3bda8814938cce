"""Low-rank adapters through peft, in peft's own format on disk."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from burnish.config import Config
from burnish.errors import ModelError, Problem
from burnish.log import note_once
from burnish.models import targets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from burnish.models.load import LanguageModel


class Lora(Config):
    """A low-rank adapter: each chosen matrix W becomes W + (alpha / rank) B A. Source: arXiv:2106.09685."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "r": "`rank`", "lora_r": "`rank`", "lora_alpha": "`alpha`", "lora_dropout": "`dropout`",
        "target_modules": "`targets`", "lora_target_modules": "`targets`",
        "lora_target_linear": "`targets: all-linear`", "use_rslora": "`rslora`",
        "use_dora": "`dora`", "load_in_4bit": "`quantize`", "modules_to_save": "`also`",
    }  # fmt: skip

    rank: int = Field(default=16, ge=1)
    """Rank of the update; 8 to 64 is usual."""
    alpha: float | None = Field(default=None, gt=0)
    """Scale of the update before it is divided by the rank; twice the rank when left out."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapter's inputs that are dropped while training."""
    targets: str | list[str] = "all-linear"
    """Which matrices: `all-linear` (all but the head), or names such as [q_proj, v_proj]. Experts that a family holds
    as one tensor are called gate_up_proj and down_proj; a line says so where `all-linear` leaves them out."""
    rslora: bool = False
    """Divide by the root of the rank, which keeps the scale at high ranks (arXiv:2312.03732)."""
    dora: bool = False
    """Learn magnitude and direction apart (arXiv:2402.09353); slower."""
    init: Literal["zero", "pissa", "orthogonal"] = "zero"
    """How the adapter starts. zero: A random, B zero. pissa: with the largest singular values of each matrix, which are
    taken out of it (arXiv:2404.02948); saved as an ordinary adapter of twice the rank. orthogonal: A and B orthogonal
    to each other, their product zero."""
    also: list[Literal["embeddings", "head"]] = Field(default_factory=list)
    """What trains whole beside the adapter, for new tokens or another language. Where the two are one matrix, it
    trains, and stays one."""
    quantize: bool = False
    """QLoRA: hold the frozen matrices in four bits (NF4, arXiv:2305.14314). Needs the package bitsandbytes. The adapter
    is served on the model as it is on disk."""

    @model_validator(mode="after")
    def _singular_values_need_whole_weights(self) -> Lora:
        if self.init != "zero" and self.quantize:
            raise ValueError(f"{self.init} takes its start out of the weights, which four bits cannot hold: leave"
                             " `quantize` or `init` out")  # fmt: skip
        if self.init == "pissa" and self.dora:
            raise ValueError("an adapter that starts with pissa is saved as a difference, which magnitudes of their own"
                             " have none of: leave `dora` or `init` out")  # fmt: skip
        if self.init == "orthogonal" and self.rank % 2:
            raise ValueError(f"an orthogonal start needs an even rank, got {self.rank}")
        return self


def unfit(ref: str | Path, lora: Lora) -> Iterator[Problem]:
    """Why an adapter does not fit a model, as far as it is known without the weights."""
    if lora.targets == "all-linear" and not (lora.dropout or lora.dora or lora.init != "zero"):
        return
    outline = targets.outline_of_experts(ref)
    if missing := targets.unknown(ref, lora.targets, outline):
        yield Problem(f"no matrix of the model is called {', '.join(missing)}", "lora.targets",
                      "`targets: all-linear` fits most families")  # fmt: skip
    elif outline is not None:
        try:
            _tried(outline, lora)
        except ModelError as error:
            yield Problem(error.what, error.where, error.hint)


def on_experts(ref: str | Path, lora: Lora) -> bool:
    """Whether an adapter of a model is on experts that are one tensor when loaded, as far as the files tell."""
    outline = targets.outline_of_experts(ref)
    try:
        return outline is not None and any(map(targets.is_stacked, _tried(outline, lora).modules()))
    except ModelError:
        return False


def _tried(outline: Any, lora: Lora) -> Any:
    """A model without weights with an adapter. Raises ModelError when it does not fit."""
    if lora.init == "pissa":  # has no singular values without weights, and fits what an orthogonal start fits
        lora = lora.model_copy(update={"init": "orthogonal", "rank": 2})
    return _wrapped(outline, lora)[0]


def attach(lm: LanguageModel, lora: Lora, seed: int) -> LanguageModel:
    """The model with a fresh adapter that trains while all else is frozen. An adapter that is there is trained on.

    The model's answers do not change by it. Raises ModelError when no matrix has a target's name.
    """
    if hasattr(lm.model, "peft_config"):
        (settings,) = lm.model.peft_config.values()
        note_once(f"the adapter of {lm.source.ref} is trained on as it was made: rank {settings.r}, alpha"
             f" {settings.lora_alpha:g}, dropout {settings.lora_dropout:g}; what `lora` says is not used")  # fmt: skip
        return lm
    import torch

    from burnish.models.experts import follow_adapters

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, settings = _wrapped(lm.model, lora, scores=lm.gives == "scores")
    follow_adapters(model)
    if lora.targets == "all-linear":
        targets.say_unreached(model)
    found = replace(lm, model=model)
    if lora.init == "pissa":
        _check_singular_values(model, lora.rank)
        found.start = tempfile.TemporaryDirectory()
        settings.init_lora_weights = True  # what is saved now has nothing left to be started from
        model.save_pretrained(found.start.name)
        settings.init_lora_weights = "pissa"
    return found


def _wrapped(model: Any, lora: Lora, *, scores: bool = False) -> tuple[Any, Any]:
    """A model with a fresh adapter in its place, and peft's settings of it. Raises ModelError when it does not fit."""
    from peft import LoraConfig, get_peft_model

    extra = [*_module_names(model, lora.also), *(["score"] if scores else [])]
    layers, experts = targets.split(model, lora.targets)
    meant = targets.meant(model, lora.targets)
    settings = LoraConfig(
        task_type="SEQ_CLS" if scores else "CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha or 2 * lora.rank,  # type: ignore[arg-type]  # peft divides it, any number will do
        lora_dropout=lora.dropout,
        target_modules=layers,
        target_parameters=experts or None,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        init_lora_weights=True if lora.init == "zero" else lora.init,
        modules_to_save=extra or None,
        ensure_weight_tying=bool(lora.also) and _is_tied(model),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that is going away
        try:
            # In the model's own dtype, whose products are the fast ones; the optimiser keeps fp32 masters.
            wrapped = get_peft_model(model, settings, autocast_adapter_dtype=False)
        except (ValueError, TypeError, AttributeError) as error:  # peft's for parts that are no plain matrices
            hint = ("experts that are one tensor have no `dropout`, no `dora` and no `init`, and `targets: [q_proj,"
                    " k_proj, v_proj, o_proj]` leaves them out; `all-linear` fits most other families")  # fmt: skip
            raise ModelError(f"the adapter does not fit: {error}", where="lora", hint=hint) from None
    # peft takes the names of single experts for those of the tensor, and off its list of layers
    lost = [target for target, found in meant.items() if not found and target in (settings.target_modules or ())]
    if lost:
        raise ModelError(f"no matrix of the model, as it is loaded, is called {', '.join(lost)}", where="lora.targets",
                         hint="`burnish explain sft.lora.targets` tells what experts are called")  # fmt: skip
    targets.say_missed(wrapped, meant)
    return wrapped, settings


def _check_singular_values(model: Any, rank: int) -> None:
    """Raise ModelError when a matrix has fewer singular values than the adapter's rank, for they are its start."""
    for name, module in model.named_modules():
        for down in getattr(module, "lora_A", {}).values():
            if len(down.weight) != rank:
                raise ModelError(f"pissa takes {rank} singular values, and {name.rpartition('.')[2]} has"
                                 f" {len(down.weight)}", where="lora.rank",
                                 hint=f"a rank of {len(down.weight)} or less, or leave such matrices out of `targets`"
                                 )  # fmt: skip


def _module_names(model: Any, parts: list[Literal["embeddings", "head"]]) -> list[str]:
    """The modules' own names, of which peft looks for the last part. Tied ones are named by the embeddings alone."""
    wanted = {"embeddings": model.get_input_embeddings(), "head": model.get_output_embeddings() or model.score}
    chosen = ["embeddings"] if _is_tied(model) and parts else parts
    names = {id(module): name.rpartition(".")[2] for name, module in model.named_modules()}
    return [names[id(wanted[part])] for part in chosen]


def _is_tied(model: Any) -> bool:
    return bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False))


def fold(lm: LanguageModel) -> LanguageModel:
    """A copy whose adapter is added into its weights, all of which train; the sums are done in fp32 and cast once."""
    if not hasattr(lm.model, "peft_config"):
        return lm
    import torch

    model = copy.deepcopy(lm.model).to(torch.float32)
    _part_tied(model)
    model = model.merge_and_unload().requires_grad_(True)
    config = model.config.get_text_config()
    weights = [part.weight for part in (model.get_input_embeddings(), model.get_output_embeddings()) if part]
    if getattr(config, "tie_word_embeddings", False) and len(weights) == 2 and not torch.equal(*weights):
        # An adapter trained one of the two: tied again, the other would be lost.
        model.config.tie_word_embeddings = config.tie_word_embeddings = False
    return replace(lm, model=model.to(getattr(torch, lm.dtype)), source=lm.source.weights)


def _part_tied(model: Any) -> None:
    """Make embeddings and head two matrices where one of them has an adapter, which would be added to both."""
    import torch

    parts = [model.get_input_embeddings(), model.get_output_embeddings()]
    embeddings, head = (getattr(part, "base_layer", part) for part in parts)
    if head and any(hasattr(part, "base_layer") for part in parts) and head.weight is embeddings.weight:
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
