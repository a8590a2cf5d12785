"""Properties of every penalty at kinks, at the ends of the range and in narrow dtypes."""

import json
import pathlib
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.arrays import assert_finite, weights

REFERENCES = pathlib.Path(__file__).parents[1] / "references"
TORCH = json.loads((REFERENCES / "penalties_torch.json").read_text())
W = weights(4, 3)


@cache
def derivatives(penalty):
    """Value, gradient, forward derivative and Hessian, as one compiled function."""

    def all_of(w, direction):
        forward = jax.jvp(penalty, (w,), (direction,))[1]
        return penalty(w), jax.grad(penalty)(w), forward, jax.hessian(penalty)(w)

    return jax.jit(all_of)


@cache
def value_and_slope(penalty):
    return jax.jit(jax.value_and_grad(penalty))


def assert_slope_at(penalty, at, expected):
    """The gradient at a point is the expected one, and all other derivatives are finite."""
    at = np.asarray(at, np.float32)
    direction = np.cos(np.arange(at.size, dtype=np.float32)).reshape(at.shape)
    value, slope, forward, curvature = derivatives(penalty)(at, direction)
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(forward, np.sum(slope * direction), atol=1e-5)
    assert_finite((value, curvature))


def assert_exact_at_any_size(penalty):
    """A penalty that is linear along rays is linear at sizes of 1e30 and 1e-30 in float32 too."""
    value, slope, forward, curvature = derivatives(penalty)(W, W)
    np.testing.assert_allclose(forward, value, rtol=1e-6)
    for factor in (np.float32(2.0**100), np.float32(2.0**-100)):
        scaled = derivatives(penalty)(W * factor, W)
        np.testing.assert_allclose(scaled[0] / factor, value, rtol=1e-6)
        np.testing.assert_allclose(scaled[1], slope, atol=1e-5)
        np.testing.assert_allclose(scaled[3] * factor, curvature, atol=2e-5)


def assert_wide_in_float16(penalty):
    """Sums are in float32, so squares and sums beyond the range of float16 are exact."""
    w = (W * 2e4).astype(np.float16)
    expected = value_and_slope(penalty)(w.astype(np.float32))[0]
    value, slope = value_and_slope(penalty)(w)
    assert np.isfinite(expected)
    assert (value.dtype, slope.dtype) == (np.float32, np.float16)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    at_zero = value_and_slope(penalty)(np.zeros_like(w))
    assert_finite(at_zero)


def assert_diverged_weights_show(penalty):
    for value in (np.nan, np.inf, -np.inf):
        w = W.copy()
        w[1, 1] = value
        assert not np.isfinite(value_and_slope(penalty)(w)[0])


def assert_empty_arrays_have_penalty_zero(penalty):
    shapes = [(0, 3), (3, 0), (0, 0)]
    measured = jax.jit(
        lambda: [jax.value_and_grad(penalty)(jnp.zeros(shape)) for shape in shapes]
    )()
    for shape, (value, slope) in zip(shapes, measured, strict=True):
        assert (value, slope.shape) == (0, shape)


def assert_integers_and_booleans_raise(penalty):
    for dtype in (np.int32, np.bool):
        with pytest.raises(TypeError, match=r"must have a floating-point dtype, got (int32|bool)"):
            penalty(np.ones((3, 2), dtype))


def assert_complex_weights_raise(penalty):
    with pytest.raises(TypeError, match=r"must have a real dtype, got complex64"):
        penalty(W + 1j * W[::-1])


def assert_complex_weights_count_by_their_size(penalty):
    """Turning all phases at once changes nothing, and neither does conjugation."""
    w = W + 1j * W[::-1]
    value, slope = value_and_slope(penalty)(w)
    assert (value.dtype, slope.dtype) == (np.float32, np.complex64)
    for other in ((w * np.exp(0.7j)).astype(np.complex64), w.conj()):
        np.testing.assert_allclose(value_and_slope(penalty)(other)[0], value, rtol=1e-5)
    real = value_and_slope(penalty)(W)[0]
    np.testing.assert_allclose(value_and_slope(penalty)(W + 0j)[0], real, rtol=1e-5)
    assert_finite(value_and_slope(penalty)(np.zeros_like(w))[1])


def matrix(w, outputs):
    """The matrix ``[everything else, outputs]``."""
    others = [a for a in range(w.ndim) if a not in outputs]
    rows = np.prod([w.shape[a] for a in others], dtype=int)
    return w.transpose(*others, *outputs).reshape(rows, -1)
