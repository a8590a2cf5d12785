"""Penalties, proximal operators and projections where weights are zero: all that JAX derives.

The value of a peer's group lasso is right there, and its gradient NaN, which shows in the first
hypergradient.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import cases

PLACES = ("jaxreg.penalties", "jaxreg.projections", "jaxreg.proximal")
CASES = [case for case in cases.FUNCTIONS if case.function.__module__.startswith(PLACES)]


def test_every_place_has_its_functions():
    assert len({case.function for case in CASES}) > 20


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_value_and_derivatives_are_finite(case, dtype):
    position = next(i for i, a in enumerate(case.inputs) if jnp.ndim(a) > 0)
    inputs = list(case.inputs)

    def scalar(w):
        inputs[position] = w
        leaves = jax.tree.leaves(case.bound(*inputs, **case.strengths))
        return sum((leaf.astype(jnp.float32) * jnp.cos(leaf.size + 1.0)).sum() for leaf in leaves)

    @jax.jit
    def derivatives(w):
        along = jnp.ones_like(w)
        value, pushed = jax.jvp(scalar, (w,), (along,))
        gradient, curved = jax.jvp(jax.grad(scalar), (w,), (along,))
        return value, pushed, gradient, curved

    w = case.inputs[position].astype(dtype)
    for point in (jnp.zeros_like(w), w.at[..., 0].set(0), w.at[0].set(0)):
        for derivative in derivatives(point):
            assert np.isfinite(np.asarray(derivative, np.float32)).all()
