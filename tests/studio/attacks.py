"""Answers that would like to run a script; each calls `alert(1)` where it can."""

from __future__ import annotations

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><animate onbegin=alert(1) attributeName=x></svg>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1)) [x](&#106;avascript:alert(1)) [x](java\tscript:alert(1)) [x](\x01javascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=) [x](vbscript:x) [x](file:///etc/passwd) [x](/logout)",
    "<javascript:alert(1)> <a href='javascript:alert(1)'>x</a>",
    "[x]: javascript:alert(1)\n\n[x]",
    "![x](https://tracker.example/pixel.png) ![x](javascript:alert(1)) ![x](data:image/svg+xml,<svg/onload=alert(1)>)",
    '[x](https://a.example "\\" onmouseover=alert(1) x=\\"")',
    "[x](https://a.example/\"onmouseover=alert(1)//)",
    "```\"><script>alert(1)</script>\n</code></pre><script>alert(1)</script>\n```",
    "`</code><script>alert(1)</script>`",
    "<style>*{display:none}</style><iframe srcdoc='<script>alert(1)</script>'></iframe><base href=//evil.example>",
    "<details open ontoggle=alert(1)><form action=//evil.example><button>x</button></form>",
    "| <img src=x onerror=alert(1)> |\n|---|\n| <script>alert(1)</script> |",
    "${alert(1)} {{constructor.constructor('alert(1)')()}} {{{alert(1)}}}",
    "<!--><script>alert(1)</script>-->",
    "\x00<scr\x00ipt>alert(1)</scr\x00ipt>",
]  # fmt: skip
