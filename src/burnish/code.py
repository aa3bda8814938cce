"""Which source files a part depends on: its code version, and the proof that imports only point down."""

from __future__ import annotations

import ast
import hashlib
import sys
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
USER = "burnish_user_"
"""Prefix under which modules from users' own files are loaded."""
NOT_RESULTS = {"burnish", "burnish.errors", "burnish.log", "burnish.registry", "burnish.workspace", "burnish.code",
               "burnish.steps.estimate"}  # fmt: skip
"""Modules that carry messages and files about; a change in them changes no result."""


@cache
def imports(module: str) -> frozenset[str]:
    """The burnish modules that a burnish module depends on.

    Registry rows count: their "burnish.x:Class" text is what will be loaded.
    """
    return frozenset(name for name in statements(module) | _rows(module) if source(name))


@cache
def statements(module: str) -> frozenset[str]:
    """The names that a burnish module imports anywhere in its text, functions included."""
    found: set[str] = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def _rows(module: str) -> set[str]:
    texts = (node.value for node in ast.walk(_tree(module)) if isinstance(node, ast.Constant))
    return {text.partition(":")[0] for text in texts if isinstance(text, str) and text.startswith("burnish.")}


def _tree(module: str) -> ast.AST:
    path = source(module)
    return ast.parse(path.read_bytes() if path else b"")


def source(module: str) -> Path | None:
    """The file of a burnish module or of a user's own, or None when there is no such module."""
    if module.startswith(USER):
        return Path(str(sys.modules[module].__file__))
    parts = module.split(".")
    if parts[0] != "burnish":
        return None
    base = PACKAGE.joinpath(*parts[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def closure(module: str) -> frozenset[str]:
    """A module and all burnish modules it reaches."""
    seen: set[str] = set()
    queue = [module]
    while queue:
        name = queue.pop()
        if name not in seen:
            seen.add(name)
            queue.extend(imports(name))
    return frozenset(seen)


@cache
def version(module: str) -> str:
    """Hash of the sources that a module reaches, so a change in them, and only in them, makes its results anew."""
    hasher = hashlib.blake2b(digest_size=8)
    for name in sorted(closure(module) - NOT_RESULTS):
        path = source(name)
        assert path is not None
        label = USER if name.startswith(USER) else name  # where a user keeps a file is no part of what it does
        hasher.update(f"{label}\0".encode() + path.read_bytes())
        for other in _compiled_with(path):
            hasher.update(f"{name}/{other.name}\0".encode() + other.read_bytes())
    return hasher.hexdigest()


def _compiled_with(path: Path) -> list[Path]:
    """The sources in another language that a package compiles."""
    return sorted([*path.parent.glob("*.cpp"), *path.parent.glob("*.h")]) if path.name == "__init__.py" else []
