"""Sharded arrays of the tests of norms, and the collectives that a compiled function takes."""

import re

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding

MODES = [AxisType.Auto, AxisType.Explicit]
COLLECTIVE = r" = (.*?) (?:all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all)\("


def place(mesh, spec, array):
    """Puts an array on a mesh, and nothing where there is none."""
    return None if array is None else jax.device_put(array, NamedSharding(mesh, spec))


def collectives(function, *arguments):
    """The shapes that each collective of a compiled function sends, and whether all are taken."""
    text = jax.jit(function).lower(*arguments).compile().as_text()
    found = re.findall(COLLECTIVE, text)
    taken = re.findall(COLLECTIVE, text[text.index("\nENTRY") :])
    return found, taken


def numbers_sent(found):
    """How many numbers the collectives send."""
    shapes = re.findall(r"\[([\d,]*)\]", "".join(found))
    return sum(int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes)
