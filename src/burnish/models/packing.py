"""Whether a model can be trained and scored on token trees, or else padded: asked of its configuration, then tried."""

from __future__ import annotations

from typing import Any

import torch

from burnish.errors import ModelError
from burnish.models.attention import windows_seen
from burnish.models.chat import Rendered
from burnish.models.layout import lay_out
from burnish.models.logprobs import backbone_of, hidden_states

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.15}
"""Largest relative difference of a hidden state that rounding explains. A layer that mixes neighbouring tokens without
asking the attention function gives differences near 1 at the first token of a branch."""
SHORT = 8
"""Tokens of the shortest row that is tried."""


def why_not(model: Any) -> str:
    """Empty when trees give what separate rows give; otherwise the reason why not.

    Layers with a state of their own (convolutions, recurrences) see the token before them in memory, whatever its row.
    What a configuration does not tell is found by trying: three short rows, shared and apart, must have the same hidden
    states.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or [])
    foreign = sorted(kind for kind in kinds if kind not in ("full_attention", "sliding_attention"))
    if foreign:
        return f"layers of type {', '.join(foreign)} cannot be packed"
    if any(value for name, value in vars(config).items() if name.startswith("att") and "drop" in name):
        return "attention dropout is on"
    try:
        with windows_seen(backbone_of(model)) as windows:
            difference = float(_differences(model, trees=True).max())
    except (TypeError, KeyError, ValueError, RuntimeError, AttributeError) as error:
        return f"its attention cannot be replaced ({error})"
    narrow = "sliding_attention" in kinds or (not kinds and getattr(config, "use_sliding_window", True)
                                              and getattr(config, "sliding_window", None))  # fmt: skip
    if narrow and not any(windows):
        return "its layers have a window that only a mask tells"
    return "" if difference <= _tolerance(model) else f"packed rows differ from separate ones by {difference:.2g}"


def refuse_other_padding(model: Any) -> None:
    """Raise ModelError for a model that reads a row otherwise when padding stands beside it.

    Most of a short row's tokens must be off: a single one may be by rounding, where a router chooses other experts.
    """
    difference = float(_differences(model, trees=False)[-SHORT + 1 :].median())
    if difference > _tolerance(model):  # weights that are broken are not told from this
        name = type(model.get_base_model() if hasattr(model, "get_base_model") else model).__name__
        raise ModelError(
            f"{name} reads a row otherwise when it is padded: its hidden states differ by {difference:.2g}",
            hint="it cannot be trained on rows of unlike lengths here; please report its family",
        )


def _tolerance(model: Any) -> float:
    return TOLERANCE.get(next(model.parameters()).dtype, 0.15)


@torch.no_grad()  # type: ignore[untyped-decorator]
def _differences(model: Any, *, trees: bool) -> torch.Tensor:
    """Relative differences between the hidden states (M,) that predict three rows' tokens, read as trees or padded, and
    those of each row alone. The last row is short."""
    vocabulary, device = int(model.config.get_text_config().vocab_size), next(backbone_of(model).parameters()).device
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(min(3, vocabulary - 1), vocabulary, (48,), generator=draw).tolist()
    rows = [
        Rendered(tuple(row), (0.0, *[1.0] * (len(row) - 1)), ())
        for row in (ids[:24] + ids[24:32], ids[:24] + ids[32:40], ids[40 : 40 + SHORT])
    ]
    training = model.training
    model.eval()
    try:
        found = _predicting(model, rows, str(device), trees=trees)
        alone = torch.cat([_predicting(model, [row], str(device), trees=False) for row in rows])
    finally:
        model.train(training)
    return (found - alone).norm(dim=-1) / alone.norm(dim=-1).clamp_min(1e-6)


def _predicting(model: Any, rows: list[Rendered], device: str, *, trees: bool) -> torch.Tensor:
    """The hidden states (M, H) that predict the rows' learned tokens."""
    batch = lay_out(rows, device, trees=trees)
    return hidden_states(model, batch).float()[batch.sources][batch.picks]
