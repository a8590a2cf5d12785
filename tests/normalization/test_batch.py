"""Batch normalization: outputs, statistics and gradients against float64 NumPy and torch."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxreg import normalization
from jaxreg.normalization import BatchStats
from tests.helpers import few
from tests.normalization.helpers import (
    assert_all_close,
    assert_all_finite,
    compiled,
    conditionals,
    draw,
    refuses,
    refuses_wrong_shapes,
    same_bits,
    start,
    with_gradients,
)
from tests.references import batch_norm as reference

TORCH = pathlib.Path(__file__).parents[1] / "references" / "batch_norm_torch.json"
UNEVEN = np.array([[1, 1, 1, 1], [1, 0, 0, 0]], bool)


def norm(x, stats=None, **options):
    """Batch norm as one program, from the first statistics unless others are given."""
    stats = start(x.shape[-1]) if stats is None else stats
    return compiled(normalization.batch_norm, x, stats, **options)


def normal(x, mean, var, eps=reference.EPS):
    return (x.astype(np.float64) - mean) / np.sqrt(var + eps)


@few(("mean", "rtol"), [(1e4, 1e-3), (1e2, 1e-5), (-1e5, 2e-3)])
def test_a_large_mean_keeps_the_variance(mean, rtol):
    """The mean of squares less the square of the mean is 0 at 1e4; Haiku gives NaN at 3e3."""
    x = draw(4096, 1, mean=mean)
    y, stats = norm(x, momentum=0.0)
    np.testing.assert_allclose(stats.var, x.astype(np.float64).var(0), rtol=rtol)
    np.testing.assert_allclose(np.std(y), 1, rtol=rtol)


@few("axis", [1, -1])
@few("mask", [np.array([1, 1, 0, 1, 0, 1], bool)[:, None, None], None], ids=["masked", "all"])
def test_the_gradient_is_the_published_one(axis, mask):
    """dx = gamma / sqrt(var + eps) * (dy - (dbeta + xhat * dgamma) / m)."""
    x = draw(6, 3, 3, mean=2)
    dy = draw(6, 3, 3, seed=1)
    scale = draw(3, seed=2)

    def function(x, scale, bias):
        options = {"scale": scale, "bias": bias, "axis": axis, "where": mask}
        return normalization.batch_norm(x, start(3), **options)[0]

    _, gradients = with_gradients(function, dy, x, scale, np.zeros(3, np.float32))
    full = np.ones((6, 1, 1), bool) if mask is None else mask
    axes = (0, 2) if axis == 1 else (0, 1)
    assert_all_close(gradients, reference.gradients(x, scale, dy, axes, full), atol=1e-5)


@few("shape", [(0, 2), (0, 5, 2), (3, 0, 2)])
def test_an_empty_batch_changes_nothing(shape):
    """Flax makes the running statistics NaN."""
    y, stats = norm(np.zeros(shape, np.float32))
    assert y.shape == shape
    assert_all_close(stats, start(2), rtol=0)


def test_a_batch_of_one_leaves_the_variance():
    """Flax pulls it towards 0, torch raises."""
    _, stats = norm(np.full((1, 2), 5.0, np.float32), momentum=0.9)
    np.testing.assert_allclose(stats.mean, [0.5, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(stats.var, [1, 1])


def test_a_batch_of_two_moves_the_variance():
    _, stats = norm(np.array([[1.0], [3.0]], np.float32), momentum=0.5)
    np.testing.assert_allclose(stats, [[1], [1]], rtol=1e-6)
    _, stats = norm(np.array([[1.0], [5.0]], np.float32), momentum=0.5)
    np.testing.assert_allclose(stats, [[1.5], [2.5]], rtol=1e-6)


def test_large_float16_numbers_do_not_overflow():
    x = np.array([[6e4], [-6e4], [5e4], [6.5e4]], np.float16)
    y, stats = norm(x, momentum=0.0)
    mean, var, _ = reference.moments(x, (0,))
    np.testing.assert_allclose(stats, [mean, var], rtol=1e-6)
    np.testing.assert_allclose(y, normal(x, mean, var, 0), rtol=1e-3)


@few("dtype", [jnp.bfloat16, jnp.float16])
def test_statistics_of_a_narrow_batch_are_float32(dtype):
    x = draw(64, 2, mean=8).astype(dtype)
    y, stats = norm(x, momentum=0.0)
    assert y.dtype == dtype
    assert stats.mean.dtype == stats.var.dtype == jnp.float32
    mean, var, _ = reference.moments(x.astype(np.float64), (0,))
    np.testing.assert_allclose(stats, [mean, var], rtol=1e-5)
    once = normal(x, mean, var).astype(np.float32).astype(dtype)
    np.testing.assert_allclose(np.asarray(y, "f4"), once.astype("f4"), rtol=2e-2)


def test_ten_steps_are_those_of_torch():
    """torch keeps n / (n - 1) times the variance and calls the weight of the new one momentum."""
    torch = json.loads(TORCH.read_text())
    scale = np.array(torch["scale"], np.float32)
    bias = np.array(torch["bias"], np.float32)
    past, eps = 1 - torch["made_with"]["momentum"], torch["made_with"]["eps"]
    stats, unbiased = start(3), 1 / past

    @jax.jit
    def step(x, dy, stats):
        def apply(x, scale, bias):
            options = {"scale": scale, "bias": bias, "eps": eps, "momentum": past}
            return normalization.batch_norm(x, stats, **options)

        y, pull, stats = jax.vjp(apply, x, scale, bias, has_aux=True)
        return y, pull(dy), stats

    for row in torch["steps"]:
        arrays = {name: np.array(a, np.float32) for name, a in row.items()}
        y, gradients, stats = step(arrays["x"], arrays["dy"], stats)
        np.testing.assert_allclose(y, arrays["y"], atol=1e-5)
        for name, ours in zip(("dx", "dscale", "dbias"), gradients, strict=True):
            np.testing.assert_allclose(ours, arrays[name], atol=1e-5, err_msg=name)
        np.testing.assert_allclose(stats.mean, arrays["running_mean"], rtol=1e-5)
        # The first value, 1, is not multiplied: only what the batches added is.
        unbiased = unbiased * past if row is not torch["steps"][0] else past
        n = y.shape[0] * y.shape[1]
        ours = (np.asarray(stats.var) - unbiased) * n / (n - 1) + unbiased
        np.testing.assert_allclose(ours, arrays["running_var"], rtol=1e-5)
    stats = BatchStats(stats.mean, arrays["running_var"])
    options = {"scale": scale, "bias": bias, "eps": eps}
    y = compiled(normalization.batch_norm_inference, arrays["x"], stats, **options)
    np.testing.assert_allclose(y, torch["evaluated"], atol=1e-5)


@few("momentum", [0.25, 0, 1, np.float32(0.25)])
def test_momentum_weights_the_past(momentum):
    x = draw(16, 2, mean=4)
    old = BatchStats(np.array([1.0, 2.0], "f4"), np.array([3.0, 4.0], "f4"))
    _, new = norm(x, old, momentum=momentum)
    m = float(momentum)
    np.testing.assert_allclose(new.mean, m * old.mean + (1 - m) * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(new.var, m * old.var + (1 - m) * x.var(0), rtol=1e-5)


@few("axis", [(0, -1), 1, (1, 2), (-1, 1), ()])
def test_feature_axes(axis):
    x = draw(4, 3, 2, mean=1)
    axes = (axis,) if isinstance(axis, int) else axis
    features = sorted(a % 3 for a in axes)
    reduced = tuple(a for a in range(3) if a not in features)
    shape = tuple(x.shape[a] for a in features)
    scale = draw(*shape, seed=3)
    bias = draw(*shape, seed=4)
    y, stats = norm(x, start(shape), scale=scale, bias=bias, momentum=0.0, axis=axis)
    mean, var, _ = reference.moments(x, reduced)
    np.testing.assert_allclose(stats.mean, mean, rtol=1e-5)
    wide = [np.expand_dims(a, reduced) for a in (mean, var, scale, bias)]
    np.testing.assert_allclose(y, normal(x, *wide[:2]) * wide[2] + wide[3], atol=1e-5)


def test_inference_uses_the_given_statistics():
    x = draw(5, 3, mean=1)
    stats = BatchStats(np.array([1.0, 0.0, -1.0], "f4"), np.array([4.0, 1.0, 0.25], "f4"))
    scale = np.array([1.0, 2.0, 3.0], "f4")
    bias = np.array([0.0, 1.0, -1.0], "f4")
    options = {"scale": scale, "bias": bias, "eps": 0.0}
    y = compiled(normalization.batch_norm_inference, x, stats, **options)
    expected = (x - np.array([1, 0, -1])) / np.array([2, 1, 0.5]) * scale + bias
    np.testing.assert_allclose(y, expected, atol=1e-5)
    turned = compiled(normalization.batch_norm_inference, x.T, stats, axis=0, **options)
    np.testing.assert_allclose(turned, expected.T, atol=1e-5)


@few("dtype", [jnp.bfloat16, jnp.float16])
def test_inference_does_not_round_the_statistics(dtype):
    stats = BatchStats(np.array([1000.5], np.float32), np.array([0.01], np.float32))
    y = compiled(normalization.batch_norm_inference, np.full((1, 1), 1000, dtype), stats, eps=0.0)
    assert y.dtype == dtype
    np.testing.assert_allclose(np.asarray(y, np.float32), -5, rtol=1e-2)


@few("eps", [0.0, 1e-3, np.float32(0.5)])
def test_eps_is_added_to_the_variance(eps):
    y, _ = norm(np.array([[1.0], [3.0]], np.float32), eps=eps)
    np.testing.assert_allclose(y, [[-1], [1]] / np.sqrt(1 + float(eps)), rtol=1e-6)


def test_eps_is_1e_minus_5_and_momentum_0_99_by_default():
    y, stats = norm(np.array([[1.0], [1.002]], np.float32))
    np.testing.assert_allclose(y, np.array([[-1e-3], [1e-3]]) / np.sqrt(1.1e-5), rtol=1e-3)
    np.testing.assert_allclose(stats.mean, [0.01 * 1.001], rtol=1e-5)
    x = np.array([[1.0]], np.float32)
    y = compiled(normalization.batch_norm_inference, x, BatchStats(*np.zeros((2, 1), "f4")))
    np.testing.assert_allclose(y, [[1e-5**-0.5]], rtol=1e-5)


@few("eps", [0.0, 1e-5])
def test_a_constant_feature_becomes_zero_with_a_finite_gradient(eps):
    x = np.array([[2.0, -1.0], [2.0, 1.0]], np.float32)

    def function(x):
        y = normalization.batch_norm(x, start(2), eps=eps)[0]
        return y**3, y

    _, (dx,), y = with_gradients(function, np.ones((2, 2), "f4"), x, has_aux=True)
    np.testing.assert_allclose(y, [[0, -1], [0, 1]], rtol=1e-5)
    np.testing.assert_array_equal(dx[:, 0], 0)
    assert_all_finite(dx)


@pytest.mark.parametrize("shape", [3, (3,), (2, 3), ()])
def test_initial_statistics(shape):
    stats = normalization.init_stats(shape)
    shape = (shape,) if isinstance(shape, int) else shape
    np.testing.assert_array_equal(stats.mean, np.zeros(shape))
    np.testing.assert_array_equal(stats.var, np.ones(shape))
    assert stats.mean.dtype == stats.var.dtype == jnp.float32


def test_initial_statistics_of_complex_numbers():
    stats = jax.eval_shape(lambda: normalization.init_stats(3, dtype=jnp.complex64))
    assert (stats.mean.dtype, stats.var.dtype) == (np.complex64, np.float32)


# Masks.


def test_an_empty_mask_changes_nothing():
    """Flax returns NaN and makes the running statistics NaN for ever."""
    x = draw(8, 2)
    mask = np.zeros((8, 1), bool)
    stats = BatchStats(np.array([0.3, -0.0], "f4"), np.array([2.0, 1e-3], "f4"))

    def function(x, scale, bias):
        y, new = normalization.batch_norm(x, stats, scale=scale, bias=bias, where=mask)
        return jnp.sin(y), (y, new)

    ones = np.ones(2, "f4")
    _, gradients, (y, new) = with_gradients(
        function, np.ones_like(x), x, ones, 0 * ones, has_aux=True
    )
    assert same_bits(new.mean, stats.mean)
    assert same_bits(new.var, stats.var)
    assert_all_finite((y, gradients))
    np.testing.assert_allclose(y, normal(x, *stats), rtol=1e-5)


def test_a_feature_without_elements_leaves_the_others_alone():
    x = draw(8, 2, mean=3)
    mask = np.array([[1, 0]], bool)
    _, stats = norm(x, momentum=0.0, where=mask)
    np.testing.assert_allclose(stats.mean, [x[:, 0].mean(), 0], rtol=1e-5)
    np.testing.assert_allclose(stats.var, [x[:, 0].var(), 1], rtol=1e-5)


def test_one_selected_element_leaves_the_variance():
    x = draw(4, 1)
    mask = np.array([[0], [0], [1], [0]])
    _, stats = norm(x, momentum=0.0, where=mask)
    np.testing.assert_array_equal(stats.mean, x[2])
    np.testing.assert_array_equal(stats.var, [1])


@few(
    ("bad", "used"),
    [(np.nan, "all"), (np.inf, "all"), (np.nan, "valid"), (-np.inf, "valid"), (-3e38, "valid")],
)
def test_padding_does_not_leak(bad, used):
    """``jnp.mean(where=...)`` has a NaN gradient where a NaN is masked out."""
    mask = np.array([[1], [1], [0], [1], [0], [1]], bool)
    zeros = np.where(mask, draw(6, 2, mean=2), 0).astype(np.float32)
    dy = draw(6, 2, seed=3) * (mask if used == "valid" else 1)

    @jax.jit
    def run(x, scale, bias):
        def function(x, scale, bias):
            return normalization.batch_norm(x, start(2), scale=scale, bias=bias, where=mask)

        y, pull, stats = jax.vjp(function, x, scale, bias, has_aux=True)
        return y, pull(dy.astype(np.float32)), stats

    affine = np.array([0.2, 0.1], np.float32), np.ones(2, np.float32)
    y, (dx, *daffine), stats = run(np.where(mask, zeros, np.float32(bad)), *affine)
    y_zeros, (dx_zeros, *daffine_zeros), stats_zeros = run(zeros, *affine)
    valid = mask.ravel()
    np.testing.assert_array_equal(np.asarray(y)[valid], np.asarray(y_zeros)[valid])
    assert_all_close(stats, stats_zeros, rtol=0)
    assert_all_finite(y)
    np.testing.assert_allclose(np.asarray(dx)[valid], np.asarray(dx_zeros)[valid], rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(dx)[~valid], 0)
    assert_all_close(daffine, daffine_zeros, rtol=1e-6)


def test_padding_does_not_leak_in_evaluation():
    x = np.array([[1.0], [np.nan]], np.float32)
    mask = np.array([[True], [False]])
    y = compiled(normalization.batch_norm_inference, x, start(1), where=mask)
    np.testing.assert_allclose(y, [[1.0], [0.0]], rtol=1e-4)


def test_masked_outputs_are_normalized_with_the_statistics_of_the_others():
    x = draw(6, 2, mean=2)
    mask = np.array([1, 1, 0, 1, 0, 1], bool)
    y, _ = norm(x, where=mask[:, None])
    mean, var, _ = reference.moments(x[mask], (0,))
    np.testing.assert_allclose(y, normal(x, mean, var), atol=1e-5)


# What is kept: degrees of freedom, narrow statistics.


@few("ddof", [1, 0, 2, np.float32(0.5)])
def test_the_running_variance_is_that_of_numpy_with_ddof(ddof):
    """torch's has 1. The batch itself is normalized with the biased one, as in torch."""
    x = draw(6, 2, mean=2)
    mask = np.array([1, 1, 0, 1, 0, 1], bool)
    y, stats = norm(x, momentum=0.0, ddof=ddof, where=mask[:, None])
    valid = x[mask].astype(np.float64)
    np.testing.assert_allclose(stats.var, valid.var(0, ddof=float(ddof)), rtol=1e-5)
    np.testing.assert_allclose(stats.mean, valid.mean(0), rtol=1e-5)
    np.testing.assert_allclose(y, normal(x, valid.mean(0), valid.var(0)), atol=1e-5)


def test_too_few_elements_for_ddof_leave_the_variance():
    x = draw(3, 3, mean=2)
    mask = np.tri(3, dtype=bool)  # features of 3, 2 and 1 elements

    def function(x):
        y, stats = normalization.batch_norm(x, start(3), momentum=0.0, ddof=2, where=mask)
        return stats.var, y

    var, (dx,), y = with_gradients(function, np.ones(3, "f4"), x, has_aux=True)
    np.testing.assert_allclose(var, [3 * x[:, 0].var(), 1, 1], rtol=1e-5)
    assert_all_finite((y, dx))


def test_narrow_statistics_come_back_in_float32():
    """In bfloat16 the mean would stop at 3 on its way to 10: steps of a hundredth are too small."""
    x = np.array([[9.0], [11.0]], jnp.bfloat16)

    @jax.jit
    def run(stats):
        _, stats = normalization.batch_norm(x, stats)
        body = lambda stats, _: (normalization.batch_norm(x, stats)[1], None)  # noqa: E731
        return jax.lax.scan(body, stats, length=1000)[0]

    stats = run(BatchStats(np.zeros(1, jnp.bfloat16), np.full(1, 5, np.float16)))
    assert stats.mean.dtype == stats.var.dtype == jnp.float32
    np.testing.assert_allclose(stats, [[10], [1]], rtol=1e-3)


# Complex numbers.


def imaginary(*shape, seed=0):
    """Complex numbers around 2 + 3i, whose parts have different deviations."""
    return (draw(*shape, seed=seed, mean=2) + 1j * draw(*shape, seed=seed + 1, mean=3, scale=2)) + 0


@few("masked", [True, False])
def test_complex_numbers_have_a_complex_mean_and_a_real_variance(masked):
    x = imaginary(6, 2)
    scale = draw(2, seed=3)
    bias = imaginary(2, seed=4)
    mask = np.array([1, 1, 0, 1, 0, 1], bool) if masked else np.ones(6, bool)
    options = {"scale": scale, "bias": bias, "momentum": 0.0, "where": mask[:, None]}
    y, stats = norm(x, BatchStats(np.zeros(2, "c8"), np.ones(2, "f4")), **options)
    assert (y.dtype, stats.mean.dtype, stats.var.dtype) == ("complex64", "complex64", "float32")
    valid = x[mask].astype(np.complex128)
    np.testing.assert_allclose(stats.mean, valid.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats.var, valid.var(0), rtol=1e-5)
    normed = (x - valid.mean(0)) / np.sqrt(valid.var(0) + reference.EPS)
    np.testing.assert_allclose(y, normed * scale + bias, rtol=1e-4, atol=1e-5)


def test_a_real_running_mean_of_complex_numbers_becomes_complex():
    """So does Flax's, which starts with zeros in float32."""
    x = imaginary(6, 2)
    _, stats = norm(x, momentum=0.5)
    np.testing.assert_allclose(stats.mean, x.mean(0) / 2, rtol=1e-5)
    evaluated = compiled(normalization.batch_norm_inference, x, stats)
    expected = (x - np.asarray(stats.mean)) / np.sqrt(np.asarray(stats.var) + reference.EPS)
    np.testing.assert_allclose(evaluated, expected, rtol=1e-5)


def test_gradients_of_complex_numbers_are_those_of_flax():
    x = imaginary(6, 2)
    dy = imaginary(6, 2, seed=5)
    theirs = flax_linen.BatchNorm(use_running_average=False, use_fast_variance=False)
    params = {"params": {"scale": draw(2, seed=3), "bias": draw(2, seed=4)}}
    variables = {**params, "batch_stats": start(2)._asdict()}

    def ours(x, params):
        return normalization.batch_norm(x, start(2), **params["params"])[0]

    def flax(x, params):
        return theirs.apply({**variables, **params}, x, mutable=["batch_stats"])[0]

    @jax.jit
    def gradients(x, params):
        losses = [lambda *a, f=f: jnp.sum((f(*a) * dy).real) for f in (ours, flax)]
        return [jax.grad(loss, (0, 1))(x, params) for loss in losses]

    found, expected = gradients(x, params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, expected)


@few("name", ["bias", "scale", "mean"])
def test_complex_parameters_of_real_numbers_are_named(name):
    stats = start(2)._replace(**({"mean": np.ones(2, "c8")} if name == "mean" else {}))
    given = {} if name == "mean" else {name: np.ones(2, "c8")}
    for function in (normalization.batch_norm, normalization.batch_norm_inference):
        message = f"`{name}` must be real because `x` is, got complex64"
        refuses(TypeError, message, function, draw(4, 2), stats, **given)


# Devices.


def test_ddof_counts_the_elements_of_all_devices():
    x = draw(8, 4, 2, mean=1)
    mask = np.arange(4) < (np.arange(8) % 5)[:, None]

    def local(x, mask):
        options = {"momentum": 0.0, "ddof": 1, "where": mask[..., None], "axis_name": "d"}
        return normalization.batch_norm(x, start(2), **options)[1].var

    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))
    mapped = jax.shard_map(local, mesh=mesh, in_specs=(P("d"), P("d")), out_specs=P())
    var = compiled(mapped, x, mask)
    np.testing.assert_allclose(var, x[mask].astype(np.float64).var(0, ddof=1), rtol=1e-5)


def assert_uneven_figures(y, stats, x, mask=UNEVEN):
    mean, var, _ = reference.moments(x, (0, 1), mask[..., None])
    np.testing.assert_allclose(stats.mean, np.broadcast_to(mean, stats.mean.shape), rtol=1e-5)
    np.testing.assert_allclose(stats.var, np.broadcast_to(var, stats.var.shape), rtol=1e-5)
    np.testing.assert_allclose(y, normal(x, mean, var), rtol=1e-4, atol=1e-5)


def test_shards_with_unequal_counts_under_vmap():
    """4 valid examples on one device and 1 on the other; Flax weights both means alike."""
    x = draw(2, 4, 1, mean=1, scale=3)

    def local(x, mask):
        options = {"momentum": 0.0, "where": mask[..., None], "axis_name": "d"}
        return normalization.batch_norm(x, start(), **options)

    y, stats = compiled(jax.vmap(local, axis_name="d"), x, UNEVEN)
    assert_uneven_figures(y, stats, x)


@few("devices", [8, 2])
def test_shards_with_unequal_counts_under_shard_map(devices):
    """Also shards without any valid example, which give NaN everywhere in Flax."""
    x = draw(devices, 4, 2, mean=1, scale=3)
    mask = np.arange(4) < (4 - 2 * np.arange(devices))[:, None]
    assert devices == 2 or not mask[-1].any()

    def local(x, mask):
        options = {"momentum": 0.0, "where": mask[..., None], "axis_name": "d"}
        return normalization.batch_norm(x, start(2), **options)

    mesh = jax.make_mesh((devices,), ("d",), (AxisType.Auto,), devices=jax.devices()[:devices])
    specs = {"in_specs": (P("d"), P("d")), "out_specs": (P("d"), P())}
    assert_uneven_figures(*compiled(jax.shard_map(local, mesh=mesh, **specs), x, mask), x, mask)


@few("masked", [True, False])
def test_synchronized_gradients_are_those_of_the_global_batch(masked):
    """Every device sees a shard, with 0 to 4 valid examples; the reference is one float64 batch."""
    x = draw(8, 4, 2, mean=1, seed=1)
    dy = draw(8, 4, 2, seed=2)
    mask = np.arange(4) < (np.arange(8) % 5)[:, None] if masked else np.ones((8, 4), bool)
    scale = np.array([0.5, 2], np.float32)
    bias = np.array([1, -1], np.float32)

    def local(x, scale, bias, mask):
        where = mask[..., None] if masked else None
        options = {"scale": scale, "bias": bias, "where": where, "axis_name": "d"}
        return normalization.batch_norm(x, start(2), **options)[0]

    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))
    specs = {"in_specs": (P("d"), P(), P(), P("d")), "out_specs": P("d")}
    mapped = jax.shard_map(local, mesh=mesh, **specs)
    _, gradients = with_gradients(lambda *a: mapped(*a, mask), dy, x, scale, bias)
    expected = reference.gradients(x, scale, dy, (0, 1), mask[..., None])
    assert_all_close(gradients, expected, atol=2e-5)


def test_an_axis_that_was_forgotten_is_named():
    """Flax 0.12.8, here too, normalizes each device's examples by themselves and says nothing."""
    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))
    x = draw(64, 16, mean=1)

    def local(**options):
        def one(x):
            return normalization.batch_norm(x, start(16), **options)[0]

        return jax.shard_map(one, mesh=mesh, in_specs=P("d"), out_specs=P("d"))

    refuses(ValueError, r"`axis_name` must be given .* along \['d'\]; pass", local(), x)
    own = compiled(local(axis_name=()), x)
    parts = x.reshape(8, 8, 16)
    mean, var, _ = reference.moments(parts, (1,))
    expected = normal(parts, mean[:, None], var[:, None]).reshape(64, 16)
    np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-5)


def test_flax_normalizes_otherwise():
    """The control of three tests above: a large mean, unequal counts and an empty mask."""
    x = np.stack([draw(4096, mean=1e4), draw(4096, seed=1)], -1)

    @jax.jit
    def run(x, shards, mask):
        variables = {"params": {"scale": jnp.ones(2), "bias": jnp.zeros(2)}}
        variables["batch_stats"] = {"mean": jnp.zeros(2), "var": jnp.ones(2)}

        def new(x, mask=None, axis_name=None):
            layer = flax_linen.BatchNorm(False, momentum=0.0, axis_name=axis_name)
            _, updated = layer.apply(variables, x, mask=mask, mutable=["batch_stats"])
            return updated["batch_stats"]

        synchronized = jax.vmap(lambda x, m: new(x, m, "d"), axis_name="d")(shards, mask)
        return new(x)["var"], synchronized["mean"], new(x, jnp.zeros_like(x, bool))["mean"]

    shards = draw(2, 4, 2, mean=1, scale=3)
    var, mean, empty = run(x, shards, UNEVEN[..., None])
    assert abs(var[0] - 1) > 0.5
    right, _, _ = reference.moments(shards, (0, 1), UNEVEN[..., None])
    assert np.abs(mean - right).max() > 0.1
    assert np.isnan(empty).all()


# Wrong arguments.


@pytest.mark.parametrize("momentum", [-0.1, 1.1, float("nan"), np.float32(2)])
def test_a_momentum_outside_the_range_raises(momentum):
    message = r"`momentum` must be .* in \[0, 1\], got"
    refuses(ValueError, message, normalization.batch_norm, draw(4, 1), start(), momentum=momentum)


def test_a_negative_ddof_raises():
    message = r"`ddof` must be zero or positive, got -1"
    refuses(ValueError, message, normalization.batch_norm, draw(4, 1), start(), ddof=-1)


@pytest.mark.parametrize("function", [normalization.batch_norm, normalization.batch_norm_inference])
def test_wrong_arguments_raise(function):
    refuses_wrong_shapes(function, draw(4, 3))
    for eps in (-1e-5, float("nan")):
        message = rf"`eps` must be zero or positive, got {eps}"
        refuses(ValueError, message, function, draw(4, 1), start(), eps=eps)
    message = r"`eps` must be a single number, got shape \(2,\)"
    refuses(ValueError, message, function, draw(4, 1), start(), eps=np.ones(2))
    message = "`x` must have a floating-point dtype, got int32"
    refuses(TypeError, message, function, np.ones((4, 2), np.int32), start(2))
    message = r"`axis` must lie in \[-2, 2\), got 2"
    refuses(ValueError, message, function, draw(4, 2), start(2), axis=2)


@pytest.mark.parametrize("mean", [0.0, 3.0, 1e4])
@few("running", [1e4, 0.0, -1e8, np.nan, np.inf, 3.0])
def test_the_running_mean_does_not_limit_the_accuracy(mean, running):
    """It is where sums begin; where it is far from the batch, a second pass repairs them."""
    x = draw(4096, 3)
    x[:, 1] += mean
    stats = BatchStats(jnp.full(3, running, jnp.float32), jnp.ones(3))
    _, after = norm(x, stats, momentum=0.0)
    wide = x.astype(np.float64)
    if np.isfinite(running):
        np.testing.assert_allclose(after.mean, wide.mean(0), rtol=1e-6, atol=2e-7)
    np.testing.assert_allclose(after.var, wide.var(0), rtol=5e-6)


def test_a_tpu_sums_about_the_running_mean():
    """One sum then serves mean and variance, where two passes would wait for each other."""
    run = jax.jit(lambda x: normalization.batch_norm(x, start(3)))
    traced = run.trace(jax.ShapeDtypeStruct((8, 3), jnp.float32))
    assert conditionals(traced) == {"cpu": 1, "cuda": 0, "tpu": 1}
