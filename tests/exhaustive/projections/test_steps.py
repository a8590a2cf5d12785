"""Projections eagerly, as the last step of an optimizer, and beside a general optimizer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize

from jaxreg import projections, transforms
from tests.arrays import assert_same_bits, eps, float64, weights

ALL = {
    "l1_ball": partial(projections.l1_ball, radius=1.7),
    "max_norm": partial(projections.max_norm, radius=1.7),
    "min_max_norm": partial(projections.min_max_norm, low=1.5, high=2.0),
    "min_max_norm of one size": partial(projections.min_max_norm, low=0.3, high=0.3),
    "non_negative": projections.non_negative,
    "spectral_ball": partial(projections.spectral_ball, radius=1.7),
    "unit_norm": projections.unit_norm,
}
every_projection = pytest.mark.parametrize("name", ALL)
every_dtype = pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])


@every_projection
@every_dtype
def test_the_last_step_of_an_optimizer(name, dtype):
    tx = optax.chain(optax.sgd(0.1), transforms.project(ALL[name]))
    w, gradient = [jnp.asarray(weights(6, 8, seed=s), dtype) for s in range(2)]
    updates, _ = jax.jit(tx.update)(gradient, tx.init(w), w)
    v = optax.apply_updates(w, updates)
    want = ALL[name](w + jnp.asarray(-0.1, dtype) * gradient)
    assert v.dtype == dtype
    np.testing.assert_allclose(float64(v), float64(want), atol=2e-6 + 4 * eps(dtype))
    np.testing.assert_array_equal(np.asarray(v)[want == 0], 0)
    assert (want == 0).any() == (name in ("l1_ball", "non_negative"))


@pytest.mark.parametrize("name", [name for name in ALL if name != "unit_norm"])
@every_dtype
def test_the_inside_is_untouched_to_the_bit_eagerly(name, dtype):
    tiny = jnp.finfo(dtype).smallest_subnormal
    w = jnp.abs(jnp.asarray(weights(6, 8, scale=0.01), dtype))
    w = w.at[:4, 0].set(jnp.array([0.0, -0.0, tiny, tiny], dtype))
    project = partial(ALL[name], low=0.0) if "min_max" in name else ALL[name]
    assert_same_bits(project(w), w)


@every_dtype
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("radius", [0.1, 0.7, 1.0, 2.3])
def test_the_ball_is_idempotent_to_the_bit_at_any_radius(dtype, scale, radius):
    project = jax.jit(partial(projections.max_norm, radius=radius))
    once = project(weights(40, 30, scale=scale).astype(dtype))
    assert_same_bits(project(once), once)


def test_a_general_optimizer_finds_no_closer_point_of_the_l1_ball():
    w = float64(weights(5, seed=2))
    constraint = {"type": "ineq", "fun": lambda z: 1.0 - np.abs(z).sum()}
    found = minimize(lambda z: ((z - w) ** 2).sum(), 0 * w, constraints=[constraint])
    v = float64(projections.l1_ball(jnp.float32(w), radius=1.0, axis=0))
    assert ((v - w) ** 2).sum() <= found.fun + 1e-5
    assert np.abs(v).sum() <= 1
