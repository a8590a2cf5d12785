"""The arms of a study: one row per technique, in the file of the place where it acts.

==============  ==================================================================
``terms``       a term of the loss, its criterion, or a change of the whole loss
``links``       a transformation before or after Adam
``wrappers``    a wrapper of the optimizer
``batches``     a change of the batch
``layers``      a layer of the model, and early stopping
==============  ==================================================================

To add an arm, write its function and its row in one of these files. The runner, ``recipe.py``, the
report and ``jaxreg list`` read everything from the row.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from jaxreg.study.arms import batches, layers, links, terms, wrappers
from jaxreg.study.arms.row import KINDS, NUMBERS, PLACES, TASKS, A, Arm

__all__ = [
    "ALIASES",
    "ARMS",
    "ARM_NAMES",
    "DEFAULT_ARMS",
    "KINDS",
    "NUMBERS",
    "PLACES",
    "TASKS",
    "Arm",
    "acting",
    "find",
]

_ROWS: tuple[Arm[Any], ...] = (
    *links.ARMS,
    *layers.ARMS,
    *terms.ARMS,
    *wrappers.ARMS,
    *batches.ARMS,
)
# The default arms come first. Arms of one place keep the order of their file.
ARMS: Mapping[str, Arm[Any]] = {
    arm.name: arm for arm in sorted(_ROWS, key=lambda arm: not arm.default)
}
ARM_NAMES = ("baseline", *ARMS, "combined")
# Enough for a first look at a data set; other arms have to be named.
DEFAULT_ARMS = ("baseline", *(arm.name for arm in ARMS.values() if arm.default), "combined")
ALIASES: Mapping[str, str] = {alias: arm.name for arm in _ROWS for alias in arm.aliases}


def find(name: str) -> Arm[Any]:
    """Returns the row of an arm, given its name or an alias.

    Raises:
      ValueError: There is no such arm; the message suggests similar names.
    """
    arm = ARMS.get(ALIASES.get(name, name))
    if arm is None:
        close = difflib.get_close_matches(name, [*ARMS, *ALIASES], n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(close)}?" if close else "; `jaxreg list` prints them."
        raise ValueError(f"`name` must be an arm of a study, got {name!r}{hint}")
    return arm


def acting(*kinds: type[A]) -> tuple[Arm[A], ...]:
    """Returns the arms that act in one of the given ways, in the order in which they apply.

    Example:
      >>> from jaxreg.study import arms
      >>> from jaxreg.study.arms.row import GradientLink
      >>> [arm.name for arm in arms.acting(GradientLink)]
      ['gradient_clipping', 'centralize']
    """
    return tuple(arm for arm in _ROWS if isinstance(arm.acts, kinds))
