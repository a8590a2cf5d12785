"""Rows of the contract for the namespace ``augment.text``."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.augment import text
from tests.cases.base import KEY, WRONG_BITS, Case, array

EMBEDDED = array(np.sin(np.arange(1.0, 16 * 4 * 8 + 1)).reshape(16, 4, 8))
REAL = array((np.arange(64) % 3 != 0).reshape(16, 4))
WRONG_WHERE = (ValueError, r"`where` must have the same .* `x\[\.\.\., 0\]`", {"where": REAL[0]})


def _noise(key: jax.Array, x: jax.Array, where: jax.Array, *, alpha: float) -> jax.Array:
    return text.embedding_noise(key, x, alpha=alpha, where=where)


def _interpolation(x: jax.Array, *, share: float) -> jax.Array:
    return text.embedding_interpolation(x, jnp.flip(x, 0), share=share)


def _random_interpolation(key: jax.Array, x: jax.Array, *, amount: float) -> jax.Array:
    return text.random_embedding_interpolation(key, x, jnp.flip(x, 1), amount=amount)


OTHER = {"other": EMBEDDED[::-1]}
FUNCTIONS = (
    Case(
        function=text.embedding_noise,
        inputs=(KEY, EMBEDDED),
        strengths={"alpha": 2.0},
        off={"alpha": 0.0},
        errors=(
            (ValueError, r"`alpha` must be zero or positive, got -1\.0", {"alpha": -1.0}),
            (ValueError, r"`alpha` must be a single number.*\(4,\)", {"alpha": REAL[0]}),
            WRONG_BITS,
            WRONG_WHERE,
        ),
    ),
    Case(
        function=text.embedding_noise,
        inputs=(KEY, EMBEDDED, REAL),
        strengths={"alpha": 2.0},
        off={"alpha": 0.0},
        call=_noise,
    ),
    Case(
        function=text.embedding_interpolation,
        inputs=(EMBEDDED,),
        options=OTHER,
        call=_interpolation,
        strengths={"share": 0.7},
        off={"share": 1.0},
        errors=(
            (ValueError, r"`share` must be a probability in \[0, 1\], got 1\.5", {"share": 1.5}),
            (
                ValueError,
                r"`share` must broadcast to shape \(16, 4\)",
                {"share": np.ones(3)},
            ),
            WRONG_WHERE,
        ),
    ),
    Case(
        function=text.random_embedding_interpolation,
        inputs=(KEY, EMBEDDED),
        options=OTHER,
        call=_random_interpolation,
        strengths={"amount": 0.7},
        off={"amount": 0.0},
        errors=(
            (ValueError, r"`amount` must be a number in \[0, 1\], got -0\.5", {"amount": -0.5}),
            WRONG_BITS,
        ),
    ),
)
