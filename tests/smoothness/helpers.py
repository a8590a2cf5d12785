"""A network for penalties of smoothness, with its derivatives in float64."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np

from tests.arrays import normal

REFERENCES = pathlib.Path(__file__).parents[1] / "references"
TORCH = json.loads((REFERENCES / "smoothness_torch.json").read_text())
TORCH_X = np.float32(TORCH["x"])
TORCH_PARAMS = [np.float32(w) for w in TORCH["params"]]


def network(params, x):
    w1, w2 = params
    return jnp.tanh(x @ w1) @ w2


def small(outputs=3, batch=5):
    """Parameters and inputs of a network with four inputs."""
    params = [np.float32(normal(4, 6)), np.float32(normal(6, outputs))]
    return params, np.float32(normal(batch, 4, seed=1))


def jacobians(params, x):
    """The Jacobians of :func:`network` in float64, ``[batch, outputs, inputs]``."""
    w1, w2 = [np.float64(w) for w in params]
    x = np.float64(x)
    slopes = 1 - np.tanh(x @ w1) ** 2
    return np.einsum("ih,nh,ho->noi", w1, slopes, w2)


def squared_norm(params, x):
    """The mean squared Frobenius norm of the Jacobians."""
    return np.mean(np.sum(jacobians(params, x) ** 2, axis=(1, 2)))


def assert_equals_torch(value_and_gradients, name):
    """A penalty of the network and its gradients are the stored figures of torch."""
    value, gradients = value_and_gradients
    np.testing.assert_allclose(value, TORCH[name]["value"], rtol=1e-5)
    for got, want in zip(gradients, TORCH[name]["gradients"], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def slope_by_differences(function, w, step=1e-5):
    """The gradient of a function of NumPy in float64, element by element."""
    w = np.float64(w)
    slope = np.zeros_like(w)
    for index in np.ndindex(w.shape):
        moved = np.zeros_like(w)
        moved[index] = step
        slope[index] = (function(w + moved) - function(w - moved)) / (2 * step)
    return slope
