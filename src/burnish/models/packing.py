"""Whether a model can be trained and scored on token trees: asked of its configuration, then tried."""

from __future__ import annotations

from typing import Any

import torch

from burnish.models.attention import windows_seen
from burnish.models.chat import Rendered
from burnish.models.layout import lay_out
from burnish.models.logprobs import backbone_of, hidden_states

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.15, torch.float16: 0.03}
"""Largest relative difference of a hidden state that rounding explains. A layer that mixes neighbouring tokens without
asking the attention function gives differences near 1 at the first token of a branch."""


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
            difference = _difference(model, int(config.vocab_size))
    except (TypeError, KeyError, ValueError, RuntimeError, AttributeError) as error:
        return f"its attention cannot be replaced ({error})"
    narrow = "sliding_attention" in kinds or (not kinds and getattr(config, "use_sliding_window", True)
                                              and getattr(config, "sliding_window", None))  # fmt: skip
    if narrow and not any(windows):
        return "its layers have a window that only a mask tells"
    tolerance = TOLERANCE.get(next(model.parameters()).dtype, 0.15)
    return "" if difference <= tolerance else f"packed rows differ from separate ones by {difference:.2g}"


@torch.no_grad()  # type: ignore[untyped-decorator]
def _difference(model: Any, vocabulary: int) -> float:
    """Largest relative difference between hidden states of shared and of separate rows."""
    device = next(backbone_of(model).parameters()).device
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(min(3, vocabulary - 1), vocabulary, (48,), generator=draw).tolist()
    rows = [
        Rendered(tuple(row), (0.0, *[1.0] * (len(row) - 1)), ())
        for row in (ids[:24] + ids[24:32], ids[:24] + ids[32:40], ids[40:48])
    ]
    training = model.training
    model.eval()
    try:
        shared, apart = (_predicting(model, rows, str(device), trees=trees) for trees in (True, False))
    finally:
        model.train(training)
    return float(((shared - apart).norm(dim=-1) / apart.norm(dim=-1).clamp_min(1e-6)).max())


def _predicting(model: Any, rows: list[Rendered], device: str, *, trees: bool) -> torch.Tensor:
    """The hidden states (M, H) that predict the rows' learned tokens."""
    batch = lay_out(rows, device, trees=trees)
    return hidden_states(model, batch).float()[batch.sources][batch.picks]
