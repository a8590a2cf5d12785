"""Arrays of tests: random numbers, their bits, and derivatives beside difference quotients.

Data are NumPy arrays and go into one compiled function: each array that JAX makes, and each
operation on it, would be another program.
"""

import jax
import jax.numpy as jnp
import numpy as np

DTYPES = [np.dtype(name) for name in (jnp.bfloat16, jnp.float32, jnp.float16)]
NARROW = [np.dtype(name) for name in (jnp.bfloat16, jnp.float16)]


def normal(*shape, seed=0):
    """Normal numbers in float64."""
    return np.random.default_rng(seed).normal(size=shape)


def weights(*shape, seed=0, scale=1.0):
    """Normal numbers in float32."""
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def float64(x):
    return np.asarray(x, np.float64)


def eps(dtype):
    """The distance from 1 to the next larger number."""
    return float(jnp.finfo(dtype).eps)


def bits(x):
    """Integers that differ for every bit pattern, including the sign of zero and NaN."""
    x = np.asarray(x)
    return x.view(f"uint{8 * x.dtype.itemsize}")


def assert_same_bits(x, y):
    np.testing.assert_array_equal(bits(x), bits(y))


def assert_finite(tree):
    for leaf in jax.tree.leaves(tree):
        assert np.isfinite(np.asarray(leaf).astype(np.complex128)).all()


def assert_derivatives(function, *point, order=1, rtol=1e-6, atol=1e-7):
    """Compares forward and reverse derivatives with a difference quotient, in float64.

    They are derivatives of one number, a sum of all outputs with different factors, along one
    random direction. Order 2 compares derivatives of the gradient.
    """
    rng = np.random.default_rng(0)
    directions = [_direction(rng, np.asarray(x)) for x in point]
    number = _number(function)
    for _ in range(order - 1):
        number = _number(jax.grad(number, tuple(range(len(point)))))

    def move(step):
        return number(*[x + step * d for x, d in zip(point, directions, strict=True)])

    @jax.jit
    def measure():
        primals = [jnp.asarray(x) for x in point]
        tangents = [jnp.asarray(d) for d in directions]
        _, forward = jax.jvp(number, primals, tangents)
        slopes = jax.grad(number, tuple(range(len(point))))(*primals)
        reverse = sum((s * d).sum().real for s, d in zip(slopes, tangents, strict=True))
        return forward, reverse, jax.lax.map(move, 1e-4 * jnp.array([1.0, -1.0, 2.0, -2.0]))

    with jax.enable_x64(True):
        forward, reverse, (up, down, far_up, far_down) = jax.device_get(measure())
    quotient = (8 * (up - down) - (far_up - far_down)) / 12e-4
    np.testing.assert_allclose(forward, quotient, rtol=rtol, atol=atol)
    np.testing.assert_allclose(reverse, forward, rtol=1e-9, atol=1e-11)


def _direction(rng, x):
    direction = rng.normal(size=x.shape)
    return direction + 1j * rng.normal(size=x.shape) if np.iscomplexobj(x) else direction


def _number(function):
    """The sum of all outputs with different factors."""

    def number(*inputs):
        leaves = jax.tree.leaves(function(*inputs))
        return sum(
            (leaf.ravel() * jnp.cos(jnp.arange(leaf.size) + 1.0)).sum().real for leaf in leaves
        )

    return number
