"""Batch normalization of masked and of distributed batches against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx
from jax.sharding import PartitionSpec as P

from jaxreg import linen, nnx, normalization
from jaxreg.normalization import BatchStats
from tests.references import batch_norm as reference

KEY = jax.random.key(5)


def draw(*shape, seed=0, mean=0.0, scale=1.0):
    return np.random.default_rng(seed).normal(mean, scale, shape).astype(np.float32)


def start(features=1):
    return normalization.init_stats(features)


def assert_moments(result, x, axes, mask, rtol=1e-5):
    for ours, theirs in zip(result, reference.moments(x, axes, mask), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-6)


def shard_map(function, in_specs, out_specs, devices=8):
    mesh = jax.make_mesh(
        (devices,), ("d",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:devices]
    )
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs))


MASKS = {
    "bool": np.array([[1, 1, 0, 1], [0, 0, 1, 0]], bool),
    "float": np.array([[0.5, 1, 0, 2], [0, 0, -1, 0]], np.float32),
    "int": np.array([[1, 2, 0, 1], [0, 0, 1, 0]], np.int8),
    "small_float": np.array([[1e-3, 1, 0, 1], [0, 0, 0.2, 0]], np.float16),
    "lower_rank": np.array([1, 0], bool),
    "size_one": np.array([[1, 0, 1, 1]], bool),
    "full_rank": np.array([[[1], [0], [1], [1]], [[0], [1], [0], [0]]], bool),
    "per_feature": np.arange(24).reshape(2, 4, 3) % 5 != 0,
    "only_features": np.array([[[1, 0, 1]]], bool),
    "scalar": np.ones((), bool),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("axes", [(0, 1), (1,), (0, 1, 2)])
def test_masked_moments(name, axes):
    x, mask = draw(2, 4, 3, mean=3), MASKS[name]
    full = (mask != 0).reshape(mask.shape + (1,) * (3 - mask.ndim))
    result = normalization.moments(x, axis=axes, where=mask)
    assert_moments(result, x, axes, full)
    assert {a.dtype for a in result} == {jnp.dtype("float32")}


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 4, 3, 1), (4, 2), (2, 4, 2)])
def test_a_mask_that_does_not_broadcast_raises(shape):
    with pytest.raises(ValueError, match=r"`where` must broadcast to `x` from its first axes, got"):
        normalization.moments(draw(2, 4, 3), axis=0, where=jnp.ones(shape))


UNEVEN = np.array([[1, 1, 1, 1], [1, 0, 0, 0]], bool)


def assert_uneven_figures(y, stats, x, mask=UNEVEN):
    mean, var, _ = reference.moments(x, (0, 1), mask[..., None])
    np.testing.assert_allclose(stats.mean, np.broadcast_to(mean, stats.mean.shape), rtol=1e-5)
    np.testing.assert_allclose(stats.var, np.broadcast_to(var, stats.var.shape), rtol=1e-5)
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + reference.EPS), rtol=1e-4, atol=1e-5)


def test_shards_with_unequal_counts_under_vmap():
    """4 valid examples on one device and 1 on the other.

    Flax averages the means of the devices without weights: 2.44 with variance 5.86 where 2.987 with
    8.579 is right.
    """
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, 4, 1)) * 3 + 1)

    def ours(x, mask):
        return normalization.batch_norm(x, start(), momentum=0.0, where=mask, axis_name="d")

    y, stats = jax.vmap(ours, axis_name="d")(x, UNEVEN)
    assert_uneven_figures(y, stats, x)
    np.testing.assert_allclose(stats.mean, 2.98707, atol=1e-4)
    np.testing.assert_allclose(stats.var, 8.57929, atol=1e-4)

    layer = flax_linen.BatchNorm(use_running_average=False, momentum=0.0, axis_name="d")
    variables = layer.clone(axis_name=None).init(KEY, x[0])

    def theirs(x, mask):
        return layer.apply(variables, x, mask=mask[:, None], mutable=["batch_stats"])[1]

    flax_stats = jax.vmap(theirs, axis_name="d")(x, UNEVEN)["batch_stats"]
    assert abs(flax_stats["mean"] - 2.98707).min() > 0.4


@pytest.mark.parametrize("devices", [2, 8])
def test_shards_with_unequal_counts_under_shard_map(devices):
    """Also shards without any valid example, which give NaN everywhere in Flax."""
    x = draw(devices, 4, 2, mean=1, scale=3)
    mask = np.arange(4) < (4 - 2 * np.arange(devices))[:, None]
    assert devices == 2 or not mask[-1].any()

    def normalize(x, mask):
        return normalization.batch_norm(x, start(2), momentum=0.0, where=mask, axis_name="d")

    run = shard_map(normalize, (P("d"), P("d")), (P("d"), P()), devices)
    assert_uneven_figures(*run(x, mask), x, mask)


@pytest.mark.parametrize("masked", [False, True])
def test_synchronized_gradients_are_those_of_the_global_batch(masked):
    """Every device sees a shard, with 0 to 4 valid examples; the reference is one float64 batch."""
    x, dy = draw(8, 4, 2, mean=1, seed=1), draw(8, 4, 2, seed=2)
    mask = np.arange(4) < (np.arange(8) % 5)[:, None] if masked else np.ones((8, 4), bool)
    scale, bias = np.array([0.5, 2], np.float32), np.array([1, -1], np.float32)

    def loss(x, scale, bias, dy, mask):
        where = mask if masked else None
        y, _ = normalization.batch_norm(
            x, start(2), scale=scale, bias=bias, where=where, axis_name="d"
        )
        return jax.lax.psum(jnp.sum(y * dy), "d")

    run = shard_map(loss, (P("d"), P(), P(), P("d"), P("d")), P())
    gradients = jax.grad(run, (0, 1, 2))(x, scale, bias, dy, mask)
    expected = reference.gradients(x, scale, dy, (0, 1), mask[..., None])
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_an_empty_mask_changes_nothing():
    """Flax returns NaN and makes the running statistics NaN for ever."""
    x, stats = draw(8, 2), BatchStats(jnp.array([0.3, -0.0]), jnp.array([2.0, 1e-3]))
    mask = jnp.zeros((8,), bool)

    def loss(x, scale, bias, mask):
        y, new = normalization.batch_norm(x, stats, scale=scale, bias=bias, where=mask)
        return jnp.sum(jnp.sin(y)), (y, new)

    run = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))
    (_, (y, new)), gradients = run(x, jnp.ones(2), jnp.zeros(2), mask)
    for ours, old in zip(new, stats, strict=True):
        np.testing.assert_array_equal(np.asarray(ours).view("u4"), np.asarray(old).view("u4"))
    assert all(jnp.isfinite(a).all() for a in (y, *gradients))
    np.testing.assert_allclose(y, (x - stats.mean) / np.sqrt(stats.var + reference.EPS), rtol=1e-5)

    layer = flax_linen.BatchNorm(use_running_average=False)
    variables = layer.init(KEY, x)
    _, updated = layer.apply(variables, x, mask=mask[:, None], mutable=["batch_stats"])
    assert jnp.isnan(updated["batch_stats"]["mean"]).all()


def test_a_feature_without_elements_leaves_the_others_alone():
    x, mask = draw(8, 2, mean=3), np.array([[1, 0]], bool)
    _, stats = normalization.batch_norm(x, start(2), momentum=0.0, where=mask)
    np.testing.assert_allclose(stats.mean, [x[:, 0].mean(), 0], rtol=1e-5)
    np.testing.assert_allclose(stats.var, [x[:, 0].var(), 1], rtol=1e-5)


@pytest.mark.parametrize(
    ("bad", "used"),
    [(np.nan, "all"), (np.inf, "all"), (np.nan, "valid"), (-np.inf, "valid"), (-3e38, "valid")],
)
def test_padding_does_not_leak(bad, used):
    """``jnp.mean(where=...)`` has a NaN gradient where a NaN is masked out."""
    mask = np.array([[1], [1], [0], [1], [0], [1]], bool)
    zeros = np.where(mask, draw(6, 2, mean=2), 0).astype(np.float32)
    affine, dy = (jnp.array([0.2, 0.1]), jnp.ones(2)), draw(6, 2, seed=3)

    def loss(x, scale, bias):
        y, stats = normalization.batch_norm(x, start(2), scale=scale, bias=bias, where=mask)
        terms = y * dy if used == "all" else jnp.where(mask, y, 0) * dy
        return jnp.sum(terms), (y, stats)

    run = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))
    (dx, *daffine), (y, stats) = run(np.where(mask, zeros, np.float32(bad)), *affine)
    (dx_zeros, *daffine_zeros), (y_zeros, stats_zeros) = run(zeros, *affine)
    valid = mask.ravel()
    np.testing.assert_array_equal(y[valid], y_zeros[valid])
    jax.tree.map(np.testing.assert_array_equal, stats, stats_zeros)
    assert jnp.isfinite(y).all()
    np.testing.assert_allclose(dx[valid], dx_zeros[valid], rtol=1e-6)
    np.testing.assert_array_equal(dx[~valid], 0)
    np.testing.assert_allclose(daffine, daffine_zeros, rtol=1e-6)


def test_moments_of_padding_with_nan_are_differentiable():
    x, mask = jnp.array([1.0, jnp.nan, 3.0, jnp.inf]), np.array([1, 0, 1, 0])
    _, pull = jax.vjp(lambda x: normalization.moments(x, axis=0, where=mask)[:2], x)
    for cotangent, expected in [((1.0, 0.0), [0.5, 0, 0.5, 0]), ((0.0, 1.0), [-1, 0, 1, 0])]:
        (gradient,) = pull(tuple(jnp.float32(c) for c in cotangent))
        np.testing.assert_array_equal(gradient, expected)


def test_masked_outputs_are_normalized_with_the_statistics_of_the_others():
    x, mask = draw(6, 2, mean=2), np.array([1, 1, 0, 1, 0, 1], bool)
    y, _ = normalization.batch_norm(x, start(2), where=mask)
    mean, var, _ = reference.moments(x[mask], (0,))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + reference.EPS), atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_counts_of_many_elements_are_exact(dtype):
    """A bfloat16 sum of ones stops at 256, a float16 one at 2048."""
    x, mask = jnp.ones((5001, 1), dtype), jnp.ones((5001,), dtype)
    result = normalization.moments(x, axis=0, where=mask)
    assert (result.mean[0], result.var[0], result.count[0]) == (1, 0, 5001)


@pytest.mark.parametrize("shape", [(2, 4, 3), (4, 3), (1, 3)])
@pytest.mark.parametrize("masked", [True, False])
def test_counts(shape, masked):
    mask = np.ones((1,) * len(shape)) if masked else None
    axes = tuple(range(len(shape) - 1))
    count = normalization.moments(jnp.ones(shape), axis=axes, where=mask).count
    np.testing.assert_array_equal(count, np.full(3, np.prod(shape[:-1])))


def test_a_count_across_devices():
    x, mask = draw(8, 2, 3), np.ones((8, 1), bool)

    def count(x, mask):
        return normalization.moments(x, axis=(0, 1), where=mask, axis_name="d").count

    run = shard_map(count, (P("d"), P("d")), P())
    np.testing.assert_array_equal(run(x, mask), [16, 16, 16])
    run = shard_map(lambda x: count(x, None), P("d"), P())
    np.testing.assert_array_equal(run(x), [16, 16, 16])


def test_one_selected_element_leaves_the_variance():
    x, mask = draw(4, 1), np.array([0, 0, 1, 0])
    _, stats = normalization.batch_norm(x, start(), momentum=0.0, where=mask)
    np.testing.assert_array_equal(stats.mean, x[2])
    np.testing.assert_array_equal(stats.var, [1])


def test_padding_does_not_leak_in_evaluation():
    x = jnp.array([[1.0], [jnp.nan]])
    mask = jnp.array([True, False])
    variables = linen.BatchNorm().init(jax.random.key(0), x, True)
    y = linen.BatchNorm().apply(variables, x, True, mask=mask)
    np.testing.assert_allclose(y, [[1.0], [0.0]], rtol=1e-4)
    layer = nnx.BatchNorm(1, use_running_average=True, rngs=flax_nnx.Rngs(0))
    np.testing.assert_array_equal(layer(x, mask=mask), y)
