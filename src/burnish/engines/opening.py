"""Any model by its name: a server's, a reward model, or local weights that answer."""

from __future__ import annotations

from pathlib import Path

from burnish import code
from burnish.engines.base import Engine
from burnish.engines.local import open_engine
from burnish.engines.openai import OpenAIEngine
from burnish.engines.responses import CachedEngine, Responses
from burnish.engines.reward import RewardEngine, open_reward
from burnish.models.load import gives_scores
from burnish.models.locate import fingerprint, is_url, locate


def open_model(ref: str, *, batch_tokens: int = 16384, kept: Path | None = None) -> Engine:
    """What answers under a name: `URL#MODEL`, or anything `load_model` takes. Raises ModelError for a reward model.

    `kept` is a file of answers that were computed before, and are not computed again.
    """
    engine: Engine
    if is_url(ref):
        engine, identity = OpenAIEngine(ref), ref
    else:
        engine = open_engine(ref, batch_tokens=batch_tokens)
        version = code.version("burnish.engines.local")
        identity = f"{fingerprint(ref)} {engine.lm.dtype} {engine.lm.device.partition(':')[0]} {version}"
    return engine if kept is None else CachedEngine(engine, Responses(kept), identity)


def open_judge(ref: str, *, batch_tokens: int = 16384, kept: Path | None = None) -> Engine | RewardEngine:
    """The same for judges, which may be reward models."""
    if not is_url(ref) and gives_scores(locate(ref)):
        return open_reward(ref)
    return open_model(ref, batch_tokens=batch_tokens, kept=kept)
