"""Low-rank adapters through peft, in peft's own format on disk."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from burnish.config import Config
from burnish.log import note

if TYPE_CHECKING:
    from burnish.models.load import LanguageModel


class Lora(Config):
    """A low-rank adapter: each chosen matrix W becomes W + (alpha / rank) B A. Source: arXiv:2106.09685."""

    rank: int = Field(default=16, ge=1)
    """Rank of the update; 8 to 64 is usual."""
    alpha: float | None = Field(default=None, gt=0)
    """Scale of the update before it is divided by the rank; twice the rank when left out."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapter's inputs that are dropped while training."""
    targets: str | list[str] = "all-linear"
    """Which matrices: `all-linear` (all but the head), or names such as [q_proj, v_proj]."""
    rslora: bool = False
    """Divide by the root of the rank, which keeps the scale at high ranks (arXiv:2312.03732)."""
    dora: bool = False
    """Learn magnitude and direction apart (arXiv:2402.09353); slower."""


def attach(lm: LanguageModel, lora: Lora, seed: int) -> LanguageModel:
    """The model with a fresh adapter that trains while all else is frozen. An adapter that is there is trained on.

    B starts at zero, so the model's answers do not change. Raises ModelError when no matrix has a target's name.
    """
    if hasattr(lm.model, "peft_config"):
        (settings,) = lm.model.peft_config.values()
        note(f"the adapter of {lm.source.ref} is trained on, with its own rank {settings.r}")
        return lm
    import torch
    from peft import LoraConfig, get_peft_model

    from burnish.errors import ModelError

    settings = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha or 2 * lora.rank,  # type: ignore[arg-type]  # peft divides it, any number will do
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that is going away
        torch.manual_seed(seed)
        try:
            # In the model's own dtype, whose products are the fast ones; the optimiser keeps fp32 masters.
            model: Any = get_peft_model(lm.model, settings, autocast_adapter_dtype=False)
        except ValueError as error:
            hint = "`targets: all-linear` fits every architecture"
            raise ModelError(f"the adapter does not fit: {error}", where="lora.targets", hint=hint) from None
    return replace(lm, model=model)


def fold(lm: LanguageModel) -> LanguageModel:
    """A copy whose adapter is added into its weights, all of which train; the sums are done in fp32 and cast once."""
    if not hasattr(lm.model, "peft_config"):
        return lm
    import torch

    model = copy.deepcopy(lm.model).to(torch.float32).merge_and_unload().requires_grad_(True)
    return replace(lm, model=model.to(getattr(torch, lm.dtype)), source=lm.source.weights)
