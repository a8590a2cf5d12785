"""Links from the site to documents of the project that are outside of its folder."""

from __future__ import annotations

import posixpath
import re

from docs.site.measured import ROOT

# Documents outside, and their pages.
OUTSIDE = {
    "benchmarks/RESULTS.md": "benchmarks/results",
    "benchmarks/RANDOMNESS.md": "benchmarks/randomness",
    "CHANGELOG.md": "project/changelog",
    "CONTRIBUTING.md": "project/contributing",
}
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
HOMES = {page: posixpath.dirname(path) for path, page in OUTSIDE.items()}


def copies() -> dict[str, str]:
    """Returns the texts of the pages that are documents outside."""
    return {page: (ROOT / path).read_text() for path, page in OUTSIDE.items()}


def rewrite(text: str, page: str) -> str:
    """Returns the text of a page with links that the site can follow.

    Links to documents outside lead to their pages, and other links to folders and documents outside
    become text.
    """
    home = HOMES.get(page, posixpath.join("docs", posixpath.dirname(page)))

    def follow(match: re.Match[str]) -> str:
        label, target = match.groups()
        name, mark, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(home, name))
        is_link = "/" in name or name.endswith(".md") or (ROOT / path).is_dir()
        if not name or not is_link or ":" in name or name.startswith("/"):
            return match[0]
        if path in OUTSIDE:
            return f"[{label}](/{OUTSIDE[path]}.md{mark}{anchor})"
        if path == "README.md":
            return f"[{label}](/index.md)"
        if path.startswith("docs/") and path.endswith(".md"):
            return f"[{label}](/{path.removeprefix('docs/')}{mark}{anchor})"
        return match[0] if (ROOT / path).is_file() and page not in HOMES else label

    parts = FENCE.split(text)
    return "".join(
        part if number % 2 else LINK.sub(follow, part) for number, part in enumerate(parts)
    )
