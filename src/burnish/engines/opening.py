"""Any model by its name: a server's, a reward model, or local weights that answer."""

from __future__ import annotations

from burnish.engines.base import Engine
from burnish.engines.openai import OpenAIEngine, is_url
from burnish.engines.reward import RewardEngine


def open_model(ref: str, *, batch_tokens: int = 16384) -> Engine:
    """What answers under a name: `URL#MODEL`, or anything `load_model` takes. Raises ModelError for a reward model."""
    if is_url(ref):
        return OpenAIEngine(ref)
    from burnish.engines.local import open_engine

    return open_engine(ref, batch_tokens=batch_tokens)


def open_judge(ref: str, *, batch_tokens: int = 16384) -> Engine | RewardEngine:
    """The same for judges, which may be reward models."""
    if not is_url(ref):
        from burnish.engines.reward import open_reward
        from burnish.models.load import gives_scores
        from burnish.models.locate import locate

        if gives_scores(locate(ref)):
            return open_reward(ref)
    return open_model(ref, batch_tokens=batch_tokens)
