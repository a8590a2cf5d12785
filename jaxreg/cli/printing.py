"""Prints text in color on a terminal, and results as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any

# Styles of lines by their first word.
_STYLES = {
    "conflict": "bold red",
    "note": "bold yellow",
    "avoid": "red",
    "try": "green",
    "why": "",
    "fix": "green",
    "see": "dim",
    "but": "yellow",
    "mind": "yellow",
    "strength": "dim",
    "use": "green",
    "your": "bold",
    "because": "",
    "read": "dim",
    "where": "",
}


def print_text(text: str) -> None:
    """Prints text, in color if the output is a terminal."""
    if not sys.stdout.isatty():
        print(text)
        return
    from jaxreg.study.data import extra

    console = extra("rich.console").Console()
    for line in text.splitlines():
        console.print(line, style=style_of(line), markup=False, highlight=False, soft_wrap=True)


def style_of(line: str) -> str:
    """Returns the style of a line: by its first word, else bold if it is not indented."""
    word = line.split()[0].rstrip(":") if line.strip() else ""
    is_head = bool(line) and not line.startswith(" ")
    return _STYLES.get(word, "bold" if is_head else "")


def print_json(value: Any) -> None:
    """Prints a result as indented JSON, with null for NaN and infinity."""
    print(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def _plain(value: Any) -> Any:
    """Converts to JSON types: dataclasses and named tuples to dicts, non-finite floats to None."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    return value
