"""Writes the tour as a notebook: ``python -m docs.site.notebook``."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

START = Path(__file__).parents[1] / "start"
PAGE, NOTEBOOK = START / "tour.md", START / "tour.ipynb"
BLOCK = re.compile(r"^```python\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def cells(markdown: str) -> list[dict[str, Any]]:
    """Returns the text and the blocks of Python of a page as cells of a notebook."""
    found = []
    for number, text in enumerate(BLOCK.split(markdown)):
        if text.strip():
            kind = "code" if number % 2 else "markdown"
            found.append(cell(kind, text.strip(), number))
    return found


def cell(kind: str, text: str, number: int) -> dict[str, Any]:
    """Returns one cell, whose identity follows from its place and its text."""
    name = hashlib.sha256(f"{number} {text}".encode()).hexdigest()[:8]
    made: dict[str, Any] = {"cell_type": kind, "id": name, "metadata": {}}
    made["source"] = text.splitlines(keepends=True)
    if kind == "code":
        made |= {"execution_count": None, "outputs": []}
    return made


def notebook(markdown: str) -> str:
    """Returns the JSON of a notebook with the content of a page."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {
        "cells": cells(markdown),
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook(PAGE.read_text()))
