"""Sharded arrays of the tests of norms, and the collectives of compiled functions."""

import jax
from jax.sharding import AxisType, NamedSharding

from tests.exhaustive.counting import COLLECTIVE, numbers_in

MODES = [AxisType.Auto, AxisType.Explicit]


def place(mesh, spec, array):
    """Puts an array on a mesh; None remains None."""
    return None if array is None else jax.device_put(array, NamedSharding(mesh, spec))


def collectives(function, *arguments):
    """The shapes sent by the collectives of a compiled function, in all and unconditionally."""
    text = jax.jit(function).lower(*arguments).compile().as_text()
    found = [shape for shape, _ in COLLECTIVE.findall(text)]
    taken = [shape for shape, _ in COLLECTIVE.findall(text[text.index("\nENTRY") :])]
    return found, taken


def numbers_sent(found):
    """The number of values that the collectives send."""
    return sum(map(numbers_in, found))
