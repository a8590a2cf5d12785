"""An array in two precisions: one to read, one for derivatives."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxreg._numerics import widen


class TwoPrecisions(NamedTuple):
    """An array as it was given, and in float32 or wider.

    Norms read a narrow array and hold it for the backward pass, which is half the bytes. Their
    derivatives are by the wide one, so that they are summed in float32 and rounded once.

    Attributes:
      wide: The array in float32 or wider. Only its derivatives are used, not its values.
      given: The array as it was given. Only its values are used.
    """

    wide: jax.Array
    given: jax.Array


def two_precisions(x: jax.Array) -> TwoPrecisions:
    """Returns an array in both precisions."""
    return TwoPrecisions(widen(x), jnp.asarray(x))
