"""Collectives in the text of compiled programs."""

import math
import re

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
COLLECTIVE = re.compile(rf" = (.*?) ({'|'.join(KINDS)})\(")  # the shapes, and the kind


def numbers_in(shape: str) -> int:
    """Returns how many numbers a shape of XLA's text holds, such as ``(f32[8,2], f32[])``."""
    found = re.findall(r"\[([\d,]*)\]", shape)
    return sum(math.prod(int(n) for n in sizes.split(",") if n) for sizes in found)
