"""Weights and gradients of torch's parametrizations, in Flax's layout."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import reparam

TORCH = json.loads(
    (pathlib.Path(__file__).parent / "references" / "reparam_torch.json").read_text()
)


@pytest.mark.parametrize("row", TORCH["rows"], ids=lambda row: row["layer"])
def test_weight_norm_equals_torch(row):
    given = {k: jnp.asarray(a, jnp.float32) for k, a in row["weight_norm"].items()}
    lengths = reparam.weight_norm_scale(given["v"])
    np.testing.assert_allclose(lengths, given["lengths"], rtol=1e-6)

    def loss(v, scale):
        return jnp.sum(given["weights"] * reparam.weight_norm(v, scale=scale))

    w = reparam.weight_norm(given["v"], scale=given["scale"])
    np.testing.assert_allclose(w, given["w"], rtol=2e-6)
    of_v, of_scale = jax.grad(loss, (0, 1))(given["v"], given["scale"])
    np.testing.assert_allclose(of_v, given["gradient_of_v"], rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(of_scale, given["gradient_of_scale"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("row", TORCH["rows"], ids=lambda row: row["layer"])
def test_spectral_norm_equals_torch(row):
    """In training, in the gradient, and in evaluation, step by step."""
    row = row["spectral_norm"]
    w, u, weights = (jnp.asarray(row[k], jnp.float32) for k in ("w", "u", "weights"))
    for expected in row["steps"]:

        def loss(w, u=u):
            normalized, new = reparam.spectral_norm(w, u)
            return jnp.sum(weights * normalized), new

        slope, u = jax.grad(loss, has_aux=True)(w)
        np.testing.assert_allclose(u, expected["u"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(slope, expected["gradient"], rtol=1e-4, atol=2e-6)
        normalized, _ = reparam.spectral_norm(w, u, steps=0)
        np.testing.assert_allclose(normalized, expected["normalized"], rtol=5e-6)


def test_torch_does_not_recover_from_a_weight_of_zeros():
    """Row 5 of ``test_reparam.py``: not finite then, nor with a good weight again."""
    assert TORCH["finite_after_zeros"] == [False, False]
