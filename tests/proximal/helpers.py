"""Properties of every proximal operator at zero, at extreme sizes and between two points."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import penalties
from tests.arrays import assert_finite, assert_same_bits, eps, float64, weights


@cache
def step(operator):
    """The operator as a compiled function of weights and step."""
    return jax.jit(lambda w, t: operator(w, step=t))


def assert_identity_at_zero(operator, dtype):
    """A step of 0, as a number and as an array, changes no bit."""
    info = jnp.finfo(dtype)
    tiny = np.asarray(info.smallest_subnormal, dtype)
    w = np.array([[0.0, -0.0, 1.0, -1.0, 1e-30, 0], [np.inf, -np.inf, np.nan, 3, 0, 0]], dtype)
    w[:, -1] = [tiny, -tiny]
    fixed = jax.jit(lambda w: operator(w, step=0.0))
    for same in (fixed(w.T), step(operator)(w.T, np.float32(0)), step(operator)(w.T, -1.0)):
        assert same.dtype == dtype
        assert_same_bits(same, w.T)


def assert_finite_at_zeros(operator, dtype, slack=0.0):
    """Zeros remain, and all first and some second derivatives there are finite."""

    def value(w, t):
        return (operator(w, step=t).astype(np.float32) ** 2).sum()

    @jax.jit
    def derivatives(w, t):
        slope = jax.grad(value, (0, 1))
        curved = jax.jvp(slope, (w, t), (jnp.ones_like(w), jnp.ones_like(t)))[1]
        return operator(w, step=t), value(w, t), slope(w, t), curved

    w = weights(6, 5).astype(dtype)
    w[:, 1] = 0
    for point in (w, np.zeros_like(w)):
        for size in (0.0, 1e-30, 0.5, np.inf):
            stepped, *rest = derivatives(point, np.float32(size))
            zeros = float64(stepped)[point == 0]
            np.testing.assert_allclose(zeros, 0, atol=slack * point.any())
            assert stepped.dtype == dtype
            assert_finite(rest)


def assert_firmly_nonexpansive(operator):
    """The bound |p(x) - p(y)|^2 <= <p(x) - p(y), x - y>, which bounds the slope by 1 too."""
    for size in (0.0, 0.3, 1.5):
        for seed in range(8):
            x = weights(6, 5, seed=2 * seed, scale=1.0 + seed)
            y = weights(6, 5, seed=2 * seed + 1)
            moved = float64(step(operator)(x, size)) - float64(step(operator)(y, size))
            apart = float64(x) - float64(y)
            assert (moved**2).sum() <= (moved * apart).sum() + 1e-5 * (apart**2).sum()


def assert_envelope(operator, penalty):
    """The envelope has the residual as its gradient, if operator and penalty weigh alike."""
    w = weights(6, 5)

    @jax.jit
    def envelope(w):
        v = operator(w, step=0.4)
        return penalties.l2(v - w) + 0.4 * penalty(v)

    residual = w - np.asarray(step(operator)(w, 0.4))
    np.testing.assert_allclose(jax.jit(jax.grad(envelope))(w), residual, atol=1e-5)


def assert_same_at_any_size(operator, steps):
    """Weights and steps of 1e30 and 1e-30 behave like weights and steps of 1."""
    w = weights(6, 5)
    directions = weights(6, 5, seed=5)

    @jax.jit
    def measure(w, t):
        def value(w, t):
            return (operator(w, step=t) * directions).sum()

        return operator(w, step=t), jax.grad(value, (0, 1))(w, t)

    expected, slopes = measure(w, steps)
    for factor in (np.float32(1e30), np.float32(1e-30)):
        v, moved = measure(w * factor, steps * factor)
        np.testing.assert_allclose(v / factor, expected, rtol=1e-4, atol=2e-6)
        for ours, want in zip(moved, slopes, strict=True):
            np.testing.assert_allclose(ours, want, rtol=1e-4, atol=1e-5)


def assert_empty_weights_stay(operator):
    shapes = [(0, 3), (3, 0), (1, 1)]
    steps = jax.jit(lambda: [operator(jnp.ones(shape), step=1.0) for shape in shapes])()
    assert [v.shape for v in steps] == shapes


def rounding(w, dtype, t=0.0):
    """Twice the distance between neighboring numbers as large as weights and step."""
    return 2 * eps(dtype) * (np.abs(float64(w)) + t)
