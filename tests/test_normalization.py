"""Batch normalization: moments, statistics and gradients against float64 NumPy and torch."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen

from jaxreg import normalization
from jaxreg.normalization import BatchStats
from tests.references import batch_norm as reference

KEY = jax.random.key(5)
TORCH = pathlib.Path(__file__).parent / "references" / "batch_norm_torch.json"


def draw(*shape, seed=0, mean=0.0, scale=1.0):
    return np.random.default_rng(seed).normal(mean, scale, shape).astype(np.float32)


def start(features=1):
    return normalization.init_stats(features)


def test_moments_without_a_mask():
    x = draw(6, 3, mean=-2)
    for axis in (0, 1):
        result = normalization.moments(x, axis=axis)
        for ours, theirs in zip(result, reference.moments(x, (axis,)), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize(("mean", "rtol"), [(1e2, 1e-5), (1e4, 1e-3), (-1e5, 2e-3)])
def test_a_large_mean_keeps_the_variance(mean, rtol):
    """The mean of squares less the square of the mean: Flax stores a variance of 0.0 at 1e4.

    Its LayerNorm returns numbers of size 713 there; Haiku's batch norm gives NaN at 3e3.
    """
    x = draw(4096, 1, mean=mean)
    y, stats = normalization.batch_norm(x, start(), momentum=0.0)
    np.testing.assert_allclose(stats.var, x.astype(np.float64).var(0), rtol=rtol)
    np.testing.assert_allclose(np.std(y), 1, rtol=rtol)
    if mean == 1e4:
        layer = flax_linen.BatchNorm(use_running_average=False, momentum=0.0)
        variables = layer.init(KEY, x)
        _, updated = layer.apply(variables, x, mutable=["batch_stats"])
        assert abs(updated["batch_stats"]["var"] - 1) > 0.5


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("mask", [None, np.array([1, 1, 0, 1, 0, 1], bool)], ids=["all", "masked"])
def test_the_gradient_is_the_published_one(axis, mask):
    """dx = gamma / sqrt(var + eps) * (dy - (dbeta + xhat * dgamma) / m)."""
    x, dy, scale = draw(6, 3, 3, mean=2), draw(6, 3, 3, seed=1), draw(3, seed=2)

    def loss(x, scale, bias):
        y, _ = normalization.batch_norm(x, start(3), scale=scale, bias=bias, axis=axis, where=mask)
        return jnp.sum(y * dy)

    gradients = jax.jit(jax.grad(loss, (0, 1, 2)))(x, scale, jnp.zeros(3))
    full = np.ones((6, 1, 1), bool) if mask is None else mask[:, None, None]
    axes = (0, 2) if axis == 1 else (0, 1)
    for ours, theirs in zip(gradients, reference.gradients(x, scale, dy, axes, full), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 2), (0, 5, 2), (3, 0, 2)])
def test_an_empty_batch_changes_nothing(shape):
    """Flax makes the running statistics NaN."""
    y, stats = normalization.batch_norm(jnp.zeros(shape), start(2))
    assert y.shape == shape
    jax.tree.map(np.testing.assert_array_equal, stats, start(2))


def test_a_batch_of_one_leaves_the_variance():
    """Flax pulls it towards 0, torch raises."""
    _, stats = normalization.batch_norm(jnp.full((1, 2), 5.0), start(2), momentum=0.9)
    np.testing.assert_allclose(stats.mean, [0.5, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(stats.var, [1, 1])


def test_large_float16_numbers_do_not_overflow():
    x = jnp.array([[6e4], [-6e4], [5e4], [6.5e4]], jnp.float16)
    y, stats = normalization.batch_norm(x, start(), momentum=0.0)
    mean, var, _ = reference.moments(np.asarray(x), (0,))
    np.testing.assert_allclose(stats, [mean, var], rtol=1e-6)
    expected = (np.asarray(x, np.float64) - mean) / np.sqrt(var)
    np.testing.assert_allclose(y, expected, rtol=1e-3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_statistics_of_a_narrow_batch_are_float32(dtype):
    x = jnp.asarray(draw(64, 2, mean=8)).astype(dtype)
    y, stats = normalization.batch_norm(x, start(2), momentum=0.0)
    assert y.dtype == dtype
    assert stats.mean.dtype == stats.var.dtype == jnp.float32
    mean, var, _ = reference.moments(np.asarray(x, np.float64), (0,))
    np.testing.assert_allclose(stats, [mean, var], rtol=1e-5)
    once = ((np.asarray(x, np.float64) - mean) / np.sqrt(var + reference.EPS)).astype(np.float32)
    np.testing.assert_allclose(*(np.asarray(a, "f4") for a in (y, once.astype(dtype))), rtol=2e-2)


def test_row_18_ten_steps_of_torch():
    """torch keeps n / (n - 1) times the variance and calls the weight of the new one momentum."""
    torch = json.loads(TORCH.read_text())
    scale, bias = jnp.array(torch["scale"]), jnp.array(torch["bias"])
    settings = {"eps": torch["made_with"]["eps"], "momentum": 1 - torch["made_with"]["momentum"]}
    stats, unbiased = start(3), None
    for step in torch["steps"]:
        arrays = {name: jnp.array(a) for name, a in step.items()}

        def apply(x, scale, bias, stats=stats):
            y, new = normalization.batch_norm(x, stats, scale=scale, bias=bias, **settings)
            return y, new

        y, pull, stats = jax.vjp(apply, arrays["x"], scale, bias, has_aux=True)
        gradients = pull(arrays["dy"])
        np.testing.assert_allclose(y, arrays["y"], atol=1e-5)
        for name, ours in zip(("dx", "dscale", "dbias"), gradients, strict=True):
            np.testing.assert_allclose(ours, arrays[name], atol=1e-5, err_msg=name)
        np.testing.assert_allclose(stats.mean, arrays["running_mean"], rtol=1e-5)
        # The first value, 1, is not multiplied: only what the batches added is.
        past = 1 - torch["made_with"]["momentum"]
        unbiased = (1.0 if unbiased is None else unbiased) * past
        n = y.shape[0] * y.shape[1]
        ours = (np.asarray(stats.var) - unbiased) * n / (n - 1) + unbiased
        np.testing.assert_allclose(ours, arrays["running_var"], rtol=1e-5)
    stats = BatchStats(stats.mean, arrays["running_var"])
    y = normalization.batch_norm_inference(
        arrays["x"], stats, scale=scale, bias=bias, eps=settings["eps"]
    )
    np.testing.assert_allclose(y, torch["evaluated"], atol=1e-5)


@pytest.mark.parametrize("momentum", [0, 0.25, 1, jnp.float32(0.25)])
def test_momentum_weights_the_past(momentum):
    x = draw(16, 2, mean=4)
    old = BatchStats(jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0]))
    _, new = normalization.batch_norm(x, old, momentum=momentum)
    m = float(momentum)
    np.testing.assert_allclose(new.mean, m * old.mean + (1 - m) * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(new.var, m * old.var + (1 - m) * x.var(0), rtol=1e-5)


@pytest.mark.parametrize("axis", [1, (1, 2), (0, -1), (-1, 1), ()])
def test_feature_axes(axis):
    x = draw(4, 3, 2, mean=1)
    axes = (axis,) if isinstance(axis, int) else axis
    features = sorted(a % 3 for a in axes)
    reduced = tuple(a for a in range(3) if a not in features)
    shape = tuple(x.shape[a] for a in features)
    scale = draw(*shape, seed=3)
    y, stats = normalization.batch_norm(x, start(shape), scale=scale, momentum=0.0, axis=axis)
    mean, var, _ = reference.moments(x, reduced)
    np.testing.assert_allclose(stats.mean, mean, rtol=1e-5)
    mean, var, scale = (np.expand_dims(a, reduced) for a in (mean, var, scale))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + reference.EPS) * scale, atol=1e-5)


def test_inference_uses_the_given_statistics():
    x = draw(5, 3, mean=1)
    stats = BatchStats(jnp.array([1.0, 0.0, -1.0]), jnp.array([4.0, 1.0, 0.25]))
    scale, bias = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.0, 1.0, -1.0])
    y = normalization.batch_norm_inference(x, stats, scale=scale, bias=bias, eps=0.0)
    expected = (x - np.array([1, 0, -1])) / np.array([2, 1, 0.5]) * scale + bias
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_inference_does_not_round_the_statistics(dtype):
    stats = BatchStats(jnp.array([1000.5], jnp.float32), jnp.array([0.01], jnp.float32))
    y = normalization.batch_norm_inference(jnp.full((1, 1), 1000, dtype), stats, eps=0.0)
    assert y.dtype == dtype
    np.testing.assert_allclose(np.asarray(y, np.float32), -5, rtol=1e-2)


@pytest.mark.parametrize("eps", [0.0, 1e-3, jnp.float32(0.5)])
def test_eps_is_added_to_the_variance(eps):
    x = jnp.array([[1.0], [3.0]])
    y, _ = normalization.batch_norm(x, start(), eps=eps)
    np.testing.assert_allclose(y, [[-1], [1]] / np.sqrt(1 + float(eps)), rtol=1e-6)


def test_a_constant_feature_is_finite():
    x = jnp.full((8, 2), 3.0)
    gradient = jax.grad(lambda x: jnp.sum(normalization.batch_norm(x, start(2))[0] ** 2))(x)
    np.testing.assert_array_equal(normalization.batch_norm(x, start(2))[0], 0)
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("shape", [3, (3,), (2, 3), ()])
def test_initial_statistics(shape):
    stats = start(shape)
    shape = (shape,) if isinstance(shape, int) else shape
    np.testing.assert_array_equal(stats.mean, np.zeros(shape))
    np.testing.assert_array_equal(stats.var, np.ones(shape))
    assert stats.mean.dtype == stats.var.dtype == jnp.float32


@pytest.mark.parametrize("momentum", [-0.1, 1.1, float("nan"), np.float32(2)])
def test_a_momentum_outside_the_range_raises(momentum):
    with pytest.raises(ValueError, match=r"`momentum` must be .* in \[0, 1\], got"):
        normalization.batch_norm(draw(4, 1), start(), momentum=momentum)


@pytest.mark.parametrize("eps", [-1e-5, float("nan")])
def test_a_negative_eps_raises(eps):
    with pytest.raises(ValueError, match=rf"`eps` must be zero or positive, got {eps}"):
        normalization.batch_norm(draw(4, 1), start(), eps=eps)
    with pytest.raises(ValueError, match=rf"`eps` must be zero or positive, got {eps}"):
        normalization.batch_norm_inference(draw(4, 1), start(), eps=eps)


@pytest.mark.parametrize("name", ["mean", "var", "scale", "bias"])
@pytest.mark.parametrize("function", [normalization.batch_norm, normalization.batch_norm_inference])
def test_a_wrong_shape_raises(function, name):
    arrays = {key: jnp.ones(3) for key in ("mean", "var", "scale", "bias")} | {name: jnp.ones(2)}
    stats = BatchStats(arrays.pop("mean"), arrays.pop("var"))
    message = rf"`{name}` must have the shape of the feature axes, \(3,\), got \(2,\)"
    with pytest.raises(ValueError, match=message):
        function(draw(4, 3), stats, **arrays)


def test_integer_input_and_wrong_axes_raise():
    with pytest.raises(TypeError, match="`x` must have a floating-point dtype, got int32"):
        normalization.batch_norm(jnp.ones((4, 2), jnp.int32), start(2))
    with pytest.raises(TypeError, match="`x` must have a floating-point dtype, got int32"):
        normalization.moments(jnp.ones((4, 2), jnp.int32), axis=0)
    with pytest.raises(ValueError, match=r"`axis` must lie in \[-2, 2\), got 2"):
        normalization.batch_norm(draw(4, 2), start(2), axis=2)


def test_without_eps_a_constant_feature_becomes_zero():
    x = jnp.array([[2.0, -1.0], [2.0, 1.0]])
    f = lambda x: normalization.batch_norm(x, start(2), eps=0.0)[0]  # noqa: E731
    np.testing.assert_allclose(f(x), [[0, -1], [0, 1]], rtol=1e-6)
    assert np.isfinite(jax.grad(lambda x: (f(x) ** 3).sum())(x)).all()
