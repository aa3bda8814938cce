"""Whatever a model writes, the page gets tags of our own making and no others."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from burnish.studio.text import markdown, plain
from studio.attacks import ATTACKS

SAFE = {"p", "a", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li", "h1", "h2", "h3", "h4", "h5",
        "h6", "hr", "br", "table", "thead", "tbody", "tr", "th", "td"}  # fmt: skip


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_attack_becomes_more_than_text(attack: str) -> None:
    for html in (markdown(attack), markdown(f"> * {attack}"), plain(attack)):
        tags = Tags()
        tags.feed(html)
        for name, attributes in tags.found:
            assert name in SAFE
            assert set(attributes) <= {"href", "title", "target", "rel", "class", "style", "start"}
            assert re.fullmatch(r"(text-align:(left|right|center))?", attributes.get("style") or "")
            assert re.match(r"https?://|mailto:", attributes.get("href") or "https://")


def test_markdown_is_rendered() -> None:
    assert markdown("**a** and `b`\n\n1. c") == (
        "<p><strong>a</strong> and <code>b</code></p>\n<ol>\n<li>c</li>\n</ol>\n"
    )
    link = markdown("[x](https://a.example)")
    assert 'href="https://a.example"' in link and 'rel="noopener noreferrer nofollow"' in link
    assert "<table>" in markdown("| a |\n|---|\n| b |") and "<br" in markdown("a\nb")
    assert markdown("2 < 3 & 4 > 1") == "<p>2 &lt; 3 &amp; 4 &gt; 1</p>\n"


def test_a_voters_text_is_left_as_it_is() -> None:
    assert plain("**a** <b>\n") == "<p>**a** &lt;b&gt;\n</p>"
