"""State of a command, for the line that an interrupt prints."""

from __future__ import annotations

from dataclasses import dataclass

NOTHING_WRITTEN = "; nothing was written"
CAN_RESUME = "; add `--resume` to go on"


@dataclass
class Ending:
    """Stores what an interrupt prints, and whether the results are being written.

    Attributes:
      remark: Remark after "interrupted".
      writing: Whether the report is complete or being written.
    """

    remark: str = NOTHING_WRITTEN
    writing: bool = False
