"""All projections, compiled once for the tests."""

from functools import cache, partial

import jax
import pytest

from jaxreg import projections
from tests.arrays import DTYPES
from tests.helpers import few

ALL = {
    "l1_ball": partial(projections.l1_ball, radius=1.7),
    "max_norm": partial(projections.max_norm, radius=1.7),
    "min_max_norm": partial(projections.min_max_norm, low=1.5, high=2.0),
    "min_max_norm of one size": partial(projections.min_max_norm, low=0.3, high=0.3),
    "non_negative": projections.non_negative,
    "simplex": partial(projections.simplex, axis=0),
    "spectral_ball": partial(projections.spectral_ball, radius=1.7),
    "unit_norm": projections.unit_norm,
}
BALLS = {
    "l1_ball": projections.l1_ball,
    "max_norm": projections.max_norm,
    "spectral_ball": projections.spectral_ball,
}
every_projection = pytest.mark.parametrize("name", ALL)
every_ball = pytest.mark.parametrize("name", BALLS)
every_dtype = few("dtype", DTYPES, ids=str)

max_norm = jax.jit(projections.max_norm, static_argnames="axis")
l1_ball = jax.jit(projections.l1_ball, static_argnames="axis")


@jax.jit
def min_max_norm(w, low, high, relaxation=1.0):
    return projections.min_max_norm(w, low=low, high=high, relaxation=relaxation)


@cache
def compiled(name):
    return jax.jit(ALL[name])


ball = jax.jit(lambda name, w, radius: BALLS[name](w, radius=radius), static_argnums=0)
