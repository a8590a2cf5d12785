"""Mends the HTML of Sphinx where assistive technology would stumble."""

from __future__ import annotations

import re

# Sphinx puts the arguments of a long signature into a list of definitions without terms.
LONG = re.compile(r'(<span class="sig-paren">\(</span>)\s*<dl>(.*?)</dl>', re.DOTALL)
# What scrolls sideways on a phone has to be reachable by keyboard.
SCROLLS = (
    ('<div class="highlight"><pre>', '<div class="highlight"><pre tabindex="0">'),
    ('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper'),
    ('<div class="math', '<div tabindex="0" class="math'),
)


def mend_body(body: str) -> str:
    """Returns the content of a page with plain lines in signatures and focusable regions."""
    body = LONG.sub(_with_lines, body)
    for before, after in SCROLLS:
        body = body.replace(before, after)
    return body


def _with_lines(match: re.Match[str]) -> str:
    lines = match[2].replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")
    return f'{match[1]}<span class="sig-lines">{lines}</span>'


def mend_navigation(tree: str) -> str:
    """Returns the navigation with levels for its headings."""
    return tree.replace('role="heading"', 'role="heading" aria-level="2"')
