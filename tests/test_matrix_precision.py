"""Products of matrices where a TPU, left alone, would multiply in bfloat16.

Row 49 of the failure modes: a Gram matrix from bfloat16 products puts an orthonormal matrix at
7e-4 from the identity, in place of 3e-11, and moves a spectral norm by 4e-5.
"""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from jaxreg import penalties, projections, proximal, reparam

KERNEL = jnp.sin(jnp.arange(1.0, 6 * 4 + 1) ** 2).reshape(6, 4)
FUNCTIONS = {
    "orthogonality": penalties.orthogonality,
    "spectral": penalties.spectral,
    "nuclear": penalties.nuclear,
    "proximal.nuclear": partial(proximal.nuclear, threshold=0.3),
    "spectral_ball": partial(projections.spectral_ball, radius=0.7),
    "spectral_norm_vector": lambda w: reparam.spectral_norm_vector(jax.random.key(0), w, steps=3),
    "decorrelation": penalties.decorrelation,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_products_and_their_derivatives_are_exact(name):
    function = FUNCTIONS[name]

    def total(w):
        return jnp.sum(function(w) ** 2)

    text = jax.jit(jax.value_and_grad(total)).lower(KERNEL).as_text()
    lines = [line for line in text.splitlines() if "dot_general" in line]
    assert lines
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in lines), lines
