"""Seeds as a function of names, so that adding a part never changes the random numbers of another."""

from __future__ import annotations

import hashlib


def seed_for(seed: int, *names: object) -> int:
    """A 63-bit seed from the run's seed and any names, the same on every machine."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
