"""What models and voters write, as HTML that can do nothing.

Markdown is rendered without raw HTML, so every tag on the page is one that this module wrote; images are left as links,
because loading one would tell its server who reads here, and links lead to web pages and mail only.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping, Sequence
from functools import cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup

LINK = re.compile(r"https?://|mailto:", re.IGNORECASE)


def markdown(text: str) -> Markup:
    """A model's Markdown as HTML."""
    return Markup(_markdown().render(text))


def plain(text: str) -> Markup:
    """A voter's text, as it was written."""
    return Markup("<p>{}</p>").format(text)


@cache
def _markdown() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    parser.disable("image")
    parser.validateLink = lambda url: bool(LINK.match(url))  # type: ignore[method-assign]
    parser.add_render_rule("link_open", _link)
    return parser


def _link(self: RendererHTML, tokens: Sequence[Token], place: int, options: OptionsDict,
          env: MutableMapping[str, Any]) -> str:  # fmt: skip
    """Links open apart from the battle, and tell the other side nothing of where they were found."""
    tokens[place].attrSet("target", "_blank")
    tokens[place].attrSet("rel", "noopener noreferrer nofollow")
    return self.renderToken(tokens, place, options, env)
