"""The embedded default: a tiny base model that ships with the package, and the world it was pretrained on."""

from pathlib import Path

from burnish.models.locate import EMBEDDED_PATH


def load_path() -> Path:
    """The folder of Pebble's weights, tokenizer and model card; every loader of transformers accepts it."""
    return EMBEDDED_PATH
