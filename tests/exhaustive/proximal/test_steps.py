"""Proximal operators eagerly, and as the last step of an optimizer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import proximal, transforms
from tests.arrays import assert_same_bits, eps, float64, weights

OPERATORS = {
    "l1": proximal.l1,
    "l2": proximal.l2,
    "elastic_net": partial(proximal.elastic_net, l1=0.6, l2=0.8),
    "l0": proximal.l0,
    "box": partial(proximal.box, low=0.0, high=1.0),
    "group_lasso": proximal.group_lasso,
    "sparse_group_lasso": partial(proximal.sparse_group_lasso, l1_share=0.4),
    "nuclear": proximal.nuclear,
}
every_operator = pytest.mark.parametrize("name", OPERATORS)
every_dtype = pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])


@every_operator
@every_dtype
@pytest.mark.parametrize("wrap", [float, jnp.float32], ids=["number", "array"])
def test_a_threshold_of_zero_is_the_identity_to_the_bit_eagerly(name, dtype, wrap):
    tiny = jnp.finfo(dtype).smallest_subnormal
    w = jnp.array([[0.0, -0.0, 1.0, -1.0, 1e-30, tiny], [jnp.inf, -jnp.inf, jnp.nan, 3, 0, -tiny]])
    w = w.astype(dtype).T
    assert_same_bits(OPERATORS[name](w, step=wrap(0)), w)


@every_operator
@every_dtype
def test_the_step_of_an_optimizer_lands_on_exact_zeros(name, dtype):
    prox, weight = OPERATORS[name], {"l0": 2.0, "nuclear": 200.0}.get(name, 4.0)
    tx = optax.chain(optax.sgd(0.1), transforms.proximal(prox, weight, 0.1))
    w = jnp.asarray(weights(6, 5) * np.array([0.1, 0.2, 1, 2, 3], np.float32), dtype)
    gradient = jnp.asarray(weights(6, 5, seed=1), dtype)
    updates, _ = jax.jit(tx.update)(gradient, tx.init(w), w)
    v = optax.apply_updates(w, updates)
    assert v.dtype == dtype
    moved = w.astype(jnp.float32) - 0.1 * gradient.astype(jnp.float32)
    want = prox(moved, step=jnp.float32(0.1) * weight)
    np.testing.assert_array_equal(np.asarray(v)[want == 0], 0)
    assert (want == 0).any() or name == "l2"
    np.testing.assert_allclose(float64(v), want, atol=4 * eps(dtype) * 8)
