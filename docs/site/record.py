"""The texts of a picture, kept beside its files so that an unchanged picture is not made again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple


class Record(NamedTuple):
    """Titles of the panels, the calls that made them, and a sentence about the picture."""

    titles: tuple[str, ...]
    calls: tuple[str, ...]
    about: str

    def write(self, path: Path) -> None:
        """Writes ``path.json``."""
        path.with_name(f"{path.name}.json").write_text(json.dumps(self._asdict()))


def read(path: Path) -> Record:
    """Reads ``path.json``."""
    fields = json.loads(path.with_name(f"{path.name}.json").read_text())
    return Record(tuple(fields["titles"]), tuple(fields["calls"]), fields["about"])
