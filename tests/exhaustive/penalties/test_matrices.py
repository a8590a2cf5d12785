"""Penalties of matrices beside what JAX derives by itself, and beside torch in float32."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxreg import penalties
from tests.penalties.helpers import TORCH

OURS = {
    "group_lasso": penalties.group_lasso,
    "elastic_net": partial(penalties.elastic_net, l1=0.3, l2=0.7),
    "orthogonality": penalties.orthogonality,
    "spectral": penalties.spectral,
    "nuclear": penalties.nuclear,
    "decorrelation": penalties.decorrelation,
    "total_variation": partial(penalties.total_variation, axis=(0, 1)),
    "hard_concrete_l0": penalties.hard_concrete_l0,
}


@pytest.mark.parametrize("name", TORCH["penalties"])
def test_values_and_gradients_equal_torch_in_float32(name):
    expected, penalty = TORCH["penalties"][name], OURS[name]
    value, slope = jax.value_and_grad(penalty)(jnp.asarray(TORCH["w"], jnp.float32))
    np.testing.assert_allclose(value, expected["value"], rtol=1e-6)
    np.testing.assert_allclose(slope, expected["gradient"], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("shape", [(3, 3), (3, 5)], ids=str)
def test_second_derivatives_where_those_of_jax_are_missing(shape):
    with jax.enable_x64(True):
        w = jnp.eye(*shape)
        check_grads(jax.jit(penalties.nuclear), (w,), order=2, modes=("fwd", "rev"))
        naive = jax.hessian(lambda w: jnp.linalg.svd(w, compute_uv=False).sum())(w)
        assert not np.isfinite(naive).all()
