"""Trees of arrays that modules take, hold and return."""

import jax
import jax.numpy as jnp
import numpy as np


def draw(*shape, seed=0, mean=0.0):
    """Normal numbers with a deviation of 1."""
    return np.random.default_rng(seed).normal(mean, 1, shape).astype(np.float32)


def assert_equal(ours, theirs):
    """The trees are equal, bit for bit."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def assert_close(ours, theirs, tolerance=1e-5):
    """The trees and dtypes are equal, narrow dtypes to their own precision."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        tol = tolerance if a.dtype == np.float32 else max(tolerance, 2e-2)
        wide = [np.asarray(v, np.float32) for v in (a, b)]
        np.testing.assert_allclose(*wide, rtol=tol, atol=tol)


def shapes(tree):
    return jax.tree.map(jnp.shape, tree)


def shapes_of(function, *inputs):
    """Shapes of a function's results, without running it."""
    return shapes(jax.eval_shape(function, *inputs))


def different(arrays):
    """Number of different arrays."""
    return len({np.asarray(a).tobytes() for a in arrays})
