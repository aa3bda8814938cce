"""Sources that make rows from a seed instead of reading a file.

A generator is a Config with `n` and `rows(seed, limit) -> Iterator[Example | PreferencePair]`.
"""

from burnish.registry import Entry, Registry

GENERATORS = Registry(
    "generator",
    [Entry("pebble", "burnish.pebble.source:PebbleChats", "conversations of the embedded model's world")],
)
