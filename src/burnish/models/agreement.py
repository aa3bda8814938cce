"""Whether what is computed here around a model's layers is what the model itself computes: tried on one short row.

Training and scoring apply the head on their own, and only where a learned token is predicted. Families put more between
hidden states and logits than a matrix: those that are known are in `logprobs.head_of`, and no list is ever whole.
"""

from __future__ import annotations

from typing import Any

import torch

from burnish import hardware
from burnish.errors import ModelError
from burnish.models.chat import Rendered
from burnish.models.layout import lay_out
from burnish.models.locate import short
from burnish.models.logprobs import head_of, hidden_states, logits_of

TOLERANCE = {torch.float32: 1e-2, torch.bfloat16: 0.25}
"""Largest difference of a log-probability (nats) that rounding explains."""
TOKENS = 16


def refuse_other_logits(model: Any) -> None:
    """Raise ModelError for a causal language model whose own forward pass gives other log-probabilities than its hidden
    states and head do here, or that has no such parts."""
    name = type(model.get_base_model() if hasattr(model, "get_base_model") else model).__name__
    hint = "its family puts something there that is not known here; please report it"
    try:
        difference = _difference(model)
    except (TypeError, KeyError, ValueError, IndexError, RuntimeError, AttributeError) as error:
        if hardware.is_out_of_memory(error):
            raise
        raise ModelError(f"hidden states and head of {name} cannot be used apart ({short(error)})", hint=hint) from None
    tolerance = TOLERANCE.get(next(model.parameters()).dtype, 0.25)
    if not difference <= tolerance:
        raise ModelError(f"{name} has more between its hidden states and its logits than a head: log-probabilities are"
                         f" {difference:.2g} nats apart from its own", hint=hint)  # fmt: skip


@torch.no_grad()  # type: ignore[untyped-decorator]
def _difference(model: Any) -> float:
    """Largest difference of log-probabilities (nats) over all places of a row and all tokens."""
    vocabulary, device = int(model.config.get_text_config().vocab_size), next(model.parameters()).device
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(min(3, vocabulary - 1), vocabulary, (TOKENS,), generator=draw)
    training = model.training
    model.eval()
    try:
        theirs = model(input_ids=ids[None].to(device), use_cache=False).logits[0].float()
        batch = lay_out([Rendered(tuple(ids.tolist()), (0.0, *[1.0] * (TOKENS - 1)), ())], str(device), trees=False)
        ours = logits_of(hidden_states(model, batch), head_of(model))
    finally:
        model.train(training)
    if not theirs.isfinite().all():  # whatever is broken is not what stands between
        return 0.0
    if ours.shape != theirs.shape:
        raise ValueError(f"logits of {tuple(theirs.shape)} where {tuple(ours.shape)} are expected")
    return float((ours.log_softmax(-1) - theirs.log_softmax(-1)).abs().max())
