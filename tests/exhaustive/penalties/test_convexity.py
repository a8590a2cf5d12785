"""Convex penalties lie above their tangents, also at kinks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import penalties
from tests.arrays import normal, weights

PENALTIES = {
    "l1": penalties.l1,
    "l2": penalties.l2,
    "elastic_net": partial(penalties.elastic_net, l1=0.5, l2=2.0),
    "distance": lambda w: penalties.distance(w, jnp.ones_like(w)),
    "group_lasso": penalties.group_lasso,
    "group_lasso of rows": partial(penalties.group_lasso, axis=-1),
    "total_variation": partial(penalties.total_variation, axis=(0, 1)),
    "isotropic": partial(penalties.isotropic_total_variation, axis=(0, 1)),
    "spectral": penalties.spectral,
    "nuclear": penalties.nuclear,
}
POINTS = {
    "zeros": np.zeros((3, 4)),
    "ones": np.ones((3, 4)),
    "orthonormal": -np.eye(3, 4),
    "two equal values": np.diag([2.0, 2.0, 1.0])[:, [0, 1, 2, 2]],
    "rank one": np.outer([1.0, 0, -2], [0, 3.0, 1, 0]),
    "a step": np.tile([0.0, 0, 1, 1], (3, 1)),
    "random": normal(3, 4),
}


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("point", POINTS)
def test_the_gradient_is_a_subgradient(name, point):
    at = np.float32(POINTS[point])
    steps = weights(50, *at.shape, seed=1)
    value, slope = jax.jit(jax.value_and_grad(PENALTIES[name]))(at)
    raised = jax.jit(jax.vmap(PENALTIES[name]))(at + steps)
    assert (raised >= value + np.tensordot(steps, slope) - 1e-4).all()
