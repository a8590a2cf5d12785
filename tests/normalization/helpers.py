"""Random arrays, compiled calls and refusals, shared by the tests of norms."""

import jax
import numpy as np
import pytest

from jaxreg.normalization import BatchStats


def draw(*shape, seed=0, mean=0.0, scale=1.0):
    """Normal numbers, always the same for a seed."""
    return np.random.default_rng(seed).normal(mean, scale, shape).astype(np.float32)


def start(features=1):
    """Statistics before the first batch, in NumPy."""
    return BatchStats(np.zeros(features, np.float32), np.ones(features, np.float32))


def compiled(function, *arrays, **options):
    """Result of one program; the options are static."""
    return jax.jit(lambda *given: function(*given, **options))(*arrays)


def with_gradients(function, dy, *arrays, has_aux=False):
    """Result, gradients of ``sum(result * dy)`` and auxiliary outputs, from one program."""

    @jax.jit
    def run(dy, *arrays):
        y, pull, *aux = jax.vjp(function, *arrays, has_aux=has_aux)
        return y, pull(dy), *aux

    return run(dy, *arrays)


def refuses(error, message, function, *arguments, **options):
    """Fails unless the call raises before anything is compiled."""
    with pytest.raises(error, match=message):
        jax.eval_shape(lambda: function(*arguments, **options))


def refuses_wrong_shapes(function, x, names=("mean", "var", "scale", "bias"), **options):
    """Fails unless the error names the array whose length is not the number of features."""
    features = x.shape[-1]
    for name in names:
        arrays = {key: np.ones(features, "f4") for key in names} | {name: np.ones(9, "f4")}
        stats = [BatchStats(arrays.pop("mean"), arrays.pop("var"))] if "mean" in names else []
        message = rf"`{name}` must have the same shape as .*, \({features},\), got \(9,\)"
        refuses(ValueError, message, function, x, *stats, **options, **arrays)


def assert_all_close(ours, theirs, **tolerance):
    """Compares two sequences of arrays, pair by pair."""
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


def assert_all_finite(tree):
    """Fails if a leaf holds an infinity or a NaN."""
    for leaf in jax.tree.leaves(tree):
        assert np.isfinite(np.asarray(leaf, np.float64)).all()


def same_bits(ours, theirs):
    """Returns whether two float32 arrays are equal, including the signs of zeros."""
    return np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()


def conditionals(traced):
    """Number of choices at run time in a traced program, by platform; those by platform are not."""
    return {
        platform: traced.lower(lowering_platforms=(platform,))
        .as_text()
        .count("(tensor<i1>) -> tensor<i32>")
        for platform in ("cpu", "cuda", "tpu")
    }
