"""Wording that errors and notes about data share."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_MOST = 6


def enumerate_names(names: Iterable[object]) -> str:
    """Returns the first six names, and how many more there are."""
    texts = [str(name) for name in names]
    more = len(texts) - _MOST
    if more > 1:
        return f"{', '.join(texts[:_MOST])} and {more} more"
    return ", ".join(texts)


def count_of(number: int, noun: str) -> str:
    """Returns a number with its noun, which gets an "s" unless the number is 1."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def check_name(option: str, name: str, names: Iterable[object], what: str) -> None:
    """Raises ValueError if a name is unknown; suggests the closest known one.

    Args:
      option: The argument that gave the name.
      name: The name.
      names: The known names.
      what: Words for a known name, such as "a column of the data".
    """
    known = [str(each) for each in names]
    if name in known:
        return
    if not known:
        raise ValueError(f"`{option}` must name {what}, but there is none, got {name}.")
    raise ValueError(
        f"`{option}` must name {what}, one of {enumerate_names(known)}, got {name}"
        f"{ending_with_closest(name, known)}"
    )


def ending_with_closest(name: str, known: Iterable[str]) -> str:
    """Returns the end of a message about an unknown name: the closest known one, or a period."""
    close = get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else "."
