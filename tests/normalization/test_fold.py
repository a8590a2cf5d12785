"""Kernels and biases that do what a layer and a batch norm do, against float64 NumPy."""

import jax.numpy as jnp
import numpy as np

from jaxreg import normalization
from jaxreg.normalization import BatchStats
from tests.helpers import few
from tests.normalization.helpers import compiled, refuses, start

KEYS = ("layer_bias", "scale", "bias")


def uniform(*shape, seed=0, low=-1.0):
    return np.random.default_rng(seed).uniform(low, 1, shape).astype(np.float32)


@few("missing", [(), KEYS, ("scale",), ("layer_bias",), ("bias",)], ids=str)
@few("axis", [-1, -2, (0, 2)])
def test_a_folded_layer_does_what_the_layer_and_the_norm_do(axis, missing):
    w = uniform(4, 3, 5)
    x = uniform(7, seed=6)
    outputs = (axis,) if isinstance(axis, int) else axis
    outputs = tuple(a % 3 for a in outputs)
    others = tuple(a for a in range(3) if a not in outputs)
    shape = tuple(w.shape[a] for a in outputs)
    arrays = {key: uniform(*shape, seed=i + 1) for i, key in enumerate(KEYS)}
    mean = uniform(*shape, seed=4)
    var = uniform(*shape, seed=5, low=0.1)
    options = {"axis": axis, "eps": 1e-3} | {k: a for k, a in arrays.items() if k not in missing}
    stats = normalization.BatchStats(mean, var)
    kernel, bias = compiled(normalization.fold_batch_norm, w, stats, **options)
    given = {k: 0.0 if k in missing else a.astype(np.float64) for k, a in arrays.items()}
    gamma = 1.0 if "scale" in missing else given["scale"]
    # What a linear layer makes of one input for each weight.
    before = np.sum(x[0] * w.astype(np.float64), others) + given["layer_bias"]
    expected = gamma * (before - mean) / np.sqrt(var + 1e-3) + given["bias"]
    after = np.sum(x[0] * np.asarray(kernel, np.float64), others) + np.asarray(bias)
    np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-5)


def test_eps_is_that_of_batch_norm_by_default():
    kernel, _ = compiled(
        normalization.fold_batch_norm,
        np.ones((1, 1), "f4"),
        start(1)._replace(var=np.array([3e-5], "f4")),
    )
    np.testing.assert_allclose(kernel, [[4e-5**-0.5]], rtol=1e-5)


def test_a_constant_feature_without_eps_becomes_the_offset():
    stats = normalization.BatchStats(np.array([2.0], "f4"), np.array([0.0], "f4"))
    options = {"bias": np.array([0.5], "f4"), "eps": 0.0}
    kernel, bias = compiled(normalization.fold_batch_norm, np.ones((3, 1), "f4"), stats, **options)
    np.testing.assert_array_equal(kernel, 0)
    np.testing.assert_array_equal(bias, 0.5)


@few("dtype", [jnp.bfloat16, jnp.float16])
def test_a_narrow_kernel_is_rounded_once(dtype):
    stats = normalization.BatchStats(uniform(64), uniform(64, low=0.1))
    w = uniform(64, 64).astype(dtype)
    layer_bias = uniform(64, seed=7).astype(dtype)
    ours = compiled(normalization.fold_batch_norm, w, stats, layer_bias=layer_bias)
    gain = 1 / np.sqrt(stats.var.astype(np.float64) + 1e-5)
    exact = w.astype(np.float64) * gain, (layer_bias.astype(np.float64) - stats.mean) * gain
    half = float(jnp.finfo(dtype).eps) / 2
    for a, b in zip(ours, exact, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(np.asarray(a, "f8"), b, rtol=1.001 * half, atol=1e-6)


def test_wrong_arguments_raise():
    fold = normalization.fold_batch_norm
    w = uniform(2, 3)
    stats = start(3)
    refuses(TypeError, "`kernel` must have a floating-point", fold, np.ones((2, 3), int), stats)
    refuses(ValueError, "`eps` must be zero or positive, got -1", fold, w, stats, eps=-1)
    refuses(ValueError, r"`axis` must lie in \[-2, 2\), got 2", fold, w, stats, axis=2)
    for key in KEYS:
        message = rf"`{key}` must have the same shape as the feature axes, \(3,\), got \(2,\)"
        refuses(ValueError, message, fold, w, stats, **{key: np.ones(2, "f4")})
    for key in ("mean", "var"):
        message = rf"`{key}` must have the same shape as the feature axes, \(3,\), got \(2,\)"
        refuses(ValueError, message, fold, w, stats._replace(**{key: np.ones(2, "f4")}))


def test_a_complex_kernel_keeps_both_parts():
    w = (uniform(2, 3) + 1j * uniform(2, 3)) + 0
    mean = (uniform(3) + 1j * uniform(3)) + 0
    stats = BatchStats(mean.astype(np.complex64), np.full(3, 4, np.float32))
    kernel, bias = compiled(normalization.fold_batch_norm, w.astype(np.complex64), stats, eps=0.0)
    np.testing.assert_allclose(kernel, w / 2, rtol=1e-6)
    np.testing.assert_allclose(bias, -mean / 2, rtol=1e-6)
    message = "`scale` must be real because `kernel` is, got complex64"
    refuses(
        TypeError, message, normalization.fold_batch_norm, w.real, start(3), scale=np.ones(3, "c8")
    )
