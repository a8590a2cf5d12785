"""Sharded arrays of the tests of norms, and the collectives of compiled functions."""

import re

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding

MODES = [AxisType.Auto, AxisType.Explicit]
COLLECTIVE = r" = (.*?) (?:all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all)\("


def place(mesh, spec, array):
    """Puts an array on a mesh; None remains None."""
    return None if array is None else jax.device_put(array, NamedSharding(mesh, spec))


def collectives(function, *arguments):
    """The shapes sent by the collectives of a compiled function, in all and unconditionally."""
    text = jax.jit(function).lower(*arguments).compile().as_text()
    found = re.findall(COLLECTIVE, text)
    taken = re.findall(COLLECTIVE, text[text.index("\nENTRY") :])
    return found, taken


def numbers_sent(found):
    """The number of values that the collectives send."""
    shapes = re.findall(r"\[([\d,]*)\]", "".join(found))
    return sum(int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes)
