"""Divergences and losses, with their gradients, against stored figures of torch."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import information, targets

TORCH = json.loads((pathlib.Path(__file__).parent / "references" / "losses_torch.json").read_text())
Z, OTHER, MEAN, LOG_VAR, LOSS = (
    np.array(TORCH[k]) for k in ("z", "other", "mean", "log_var", "loss")
)
A, B = (np.array(labels) for labels in TORCH["labels"].values())
LAM, ALPHA, BETA, LEVEL = TORCH["strengths"].values()


def mixed(z):
    return targets.mixed_cross_entropy(z, jnp.array(A), jnp.array(B), lam=LAM, alpha=ALPHA)


def bottleneck(z, mean, log_var):
    return information.bottleneck_loss(z, jnp.array(A), mean, log_var, beta=BETA)


def smoothed(alpha):
    return lambda z: targets.smoothed_cross_entropy(z, jnp.array(A), alpha=alpha)


FUNCTIONS = {
    "gaussian_kl": (information.gaussian_kl, {"mean": MEAN, "log_var": LOG_VAR}),
    "categorical_kl": (information.categorical_kl, {"p": Z, "q": OTHER}),
    "symmetric_kl": (information.symmetric_kl, {"p": Z, "q": OTHER}),
    "confidence_penalty": (information.confidence_penalty, {"z": Z}),
    "cross_entropy": (smoothed(0.0), {"z": Z}),
    "smoothed_cross_entropy": (smoothed(ALPHA), {"z": Z}),
    "mixed_cross_entropy": (mixed, {"z": Z}),
    "bottleneck_loss": (bottleneck, {"z": Z, "mean": MEAN, "log_var": LOG_VAR}),
    "flood": (lambda loss: targets.flood(loss, level=LEVEL), {"loss": LOSS}),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_gradients_equal_those_of_torch(name, dtype):
    function, inputs = FUNCTIONS[name]
    with jax.enable_x64(dtype == np.float64):
        arrays = [jnp.asarray(a, dtype) for a in inputs.values()]
        value, pullback = jax.vjp(function, *arrays)
        assert value.dtype == dtype
        gradients = pullback(jnp.ones_like(value))
        tolerance = 1e-12 if dtype == np.float64 else 2e-6
        np.testing.assert_allclose(value, TORCH[name]["value"], rtol=tolerance, atol=tolerance)
        for key, gradient in zip(inputs, gradients, strict=True):
            want = TORCH[name][f"d{key}"]
            np.testing.assert_allclose(gradient, want, rtol=tolerance, atol=tolerance)


def test_torch_is_nan_where_all_labels_are_ignored():
    """Row 51: here the loss and its gradient are 0, see ``test_targets.py``."""
    assert TORCH["all_ignored"]
