"""Batch renorm against float64 NumPy, Keras, and batch norm at the ends of its limits."""

import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxreg import normalization
from jaxreg.normalization import BatchStats
from tests.helpers import few
from tests.normalization.helpers import (
    assert_all_close,
    assert_all_finite,
    compiled,
    draw,
    refuses,
    refuses_wrong_shapes,
    same_bits,
    with_gradients,
)
from tests.references import batch_norm as reference

KERAS = pathlib.Path(__file__).parents[1] / "references" / "batch_renorm_keras.json"
STATS = BatchStats(np.array([0.5, -1.0, 3.0], "f4"), np.array([0.2, 4.0, 1.0], "f4"))
FREE = {"r_max": np.inf, "d_max": np.inf}
LIMITS = [(1.5, 0.4), (1.0, 0.0), (3.0, 5.0), (np.inf, np.inf)]


def norm(x, stats=STATS, **options):
    return compiled(normalization.batch_renorm, x, stats, **options)


def corrections(mean, var, stats, r_max, d_max, eps=reference.EPS):
    """Factor and offset of the paper's Algorithm 1, in float64."""
    running_mean, running_var = [np.asarray(a, np.float64) for a in stats]
    sigma_b = np.sqrt(var + eps)
    sigma = np.sqrt(running_var + eps)
    r = np.clip(sigma_b / sigma, 1 / r_max, r_max)
    return r, np.clip((mean - running_mean) / sigma, -d_max, d_max)


def test_results_and_gradients_are_those_of_keras():
    """Its running average is of deviations, so that variances differ."""
    keras = json.loads(KERAS.read_text())
    x = np.array(keras["x"], "f4")
    dy = np.array(keras["dy"], "f4")
    scale = np.array(keras["scale"], "f4")
    bias = np.array(keras["bias"], "f4")
    stats = BatchStats(np.array(keras["mean"], "f4"), np.array(keras["var"], "f4"))
    eps, momentum = keras["eps"], keras["momentum"]

    @jax.jit
    def run(r_max, d_max):
        def apply(x, scale, bias):
            options = {"scale": scale, "bias": bias, "momentum": momentum, "eps": eps}
            return normalization.batch_renorm(x, stats, r_max=r_max, d_max=d_max, **options)

        y, pull, new = jax.vjp(apply, x, scale, bias, has_aux=True)
        return y, pull(dy), new

    for row in keras["rows"]:
        y, gradients, new = run(row["r_max"], row["d_max"])
        np.testing.assert_allclose(y, row["y"], atol=1e-5)
        for name, ours in zip(("dx", "dscale", "dbias"), gradients, strict=True):
            np.testing.assert_allclose(ours, row[name], rtol=1e-5, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(new.mean, row["mean"], rtol=1e-5)
        old = np.sqrt(stats.var + eps)
        batch = np.sqrt(np.var(x, (0, 1)) + eps)
        deviation = momentum * old + (1 - momentum) * batch
        np.testing.assert_allclose(deviation, row["deviation"], rtol=1e-5)
        assert np.abs(np.sqrt(np.asarray(new.var) + eps) - deviation).max() > 1e-3


@few(("r_max", "d_max"), LIMITS)
@few("axis", [(1, 2), -1, 1])
@few("masked", [True, False])
def test_the_equation_and_its_gradient(r_max, d_max, axis, masked):
    """The gradient treats r and d as constants: it is batch norm's with r times the scale."""
    x = draw(6, 3, 3, mean=1)
    dy = draw(6, 3, 3, seed=1)
    features = (1, 2) if axis == (1, 2) else (axis % 3,)
    reduced = tuple(a for a in range(3) if a not in features)
    shape = tuple(x.shape[a] for a in features)
    scale = draw(*shape, seed=2)
    bias = draw(*shape, seed=3)
    stats = BatchStats(draw(*shape, seed=4), np.exp(draw(*shape, seed=5)))
    mask = np.array([1, 1, 0, 1, 0, 1], bool)[:, None, None] if masked else None
    options = {"r_max": r_max, "d_max": d_max, "axis": axis}
    options["where"] = None if mask is None else mask

    def apply(x, scale, bias):
        return normalization.batch_renorm(x, stats, scale=scale, bias=bias, **options)[0]

    y, (dx, dscale, dbias) = with_gradients(apply, dy, x, scale, bias)
    mean, var, _ = reference.moments(x, reduced, mask)
    r, d = corrections(mean, var, stats, r_max, d_max)
    if r_max == 1.5:
        assert 0 < np.mean((r == 1.5) | (r == 1 / 1.5)) <= 1
    wide = [np.expand_dims(a, reduced) for a in (mean, var, r, d, scale, bias)]
    normal = (x - wide[0]) / np.sqrt(wide[1] + reference.EPS)
    expected = (normal * wide[2] + wide[3]) * wide[4] + wide[5]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    through = reference.gradients(x, scale * r, dy, reduced, mask)
    np.testing.assert_allclose(dx, through[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dscale, through[1] * r + dy.sum(reduced) * d, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dbias, dy.sum(reduced), rtol=1e-4, atol=1e-4)


def test_defaults_are_those_of_batch_norm():
    x = 1e-3 * draw(8, 3)
    y, stats = norm(x, BatchStats(np.zeros(3, "f4"), np.full(3, 1e-5, "f4")), **FREE)
    np.testing.assert_allclose(y, x / np.sqrt(2e-5), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(stats.mean, 0.01 * x.mean(0, dtype="f8"), rtol=1e-4)


@few("masked", [True, False])
@few("dtype", [jnp.bfloat16, jnp.float32, jnp.float16])
def test_at_one_and_zero_it_is_batch_norm_to_the_bit(dtype, masked):
    x = draw(8, 2, 3, mean=2).astype(dtype)
    options = {"scale": draw(3, seed=1), "bias": draw(3, seed=2), "momentum": 0.7}
    options["where"] = np.arange(8)[:, None, None] < 5 if masked else None
    y, stats = norm(x, r_max=1.0, d_max=0.0, **options)
    expected, expected_stats = compiled(normalization.batch_norm, x, STATS, **options)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, expected)
    assert_all_close(stats, expected_stats, rtol=0)


def test_without_limits_it_is_evaluation_with_the_gradient_of_training():
    x = draw(8, 3, mean=2)
    dy = draw(8, 3, seed=1)
    y, (dx,) = with_gradients(lambda x: normalization.batch_renorm(x, STATS, **FREE)[0], dy, x)
    expected = (x - STATS.mean) / np.sqrt(STATS.var + reference.EPS)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    r, _ = corrections(x.mean(0), x.var(0), STATS, np.inf, np.inf)
    np.testing.assert_allclose(dx, reference.gradients(x, r, dy, (0,))[0], atol=1e-5)
    # The gradient of evaluation would not sum to 0 over the batch.
    np.testing.assert_allclose(np.asarray(dx).sum(0), 0, atol=1e-5)


@few("momentum", [0.25, 0.0, 1.0])
def test_the_statistics_are_those_of_batch_norm(momentum):
    x = draw(8, 3, mean=2)
    _, stats = norm(x, r_max=3.0, d_max=5.0, momentum=momentum)
    for ours, old, new in zip(stats, STATS, (x.mean(0), x.var(0)), strict=True):
        np.testing.assert_allclose(ours, momentum * old + (1 - momentum) * new, rtol=1e-5)


def test_traced_limits_beyond_the_range_are_taken_to_its_end():
    """A schedule compiles once."""
    x, traces = draw(8, 3, mean=2), []

    @jax.jit
    def run(r_max, d_max):
        traces.append(1)
        return normalization.batch_renorm(x, STATS, r_max=r_max, d_max=d_max)[0]

    mean, var, _ = reference.moments(x, (0,))
    for r_max, d_max in [*LIMITS, (0.5, -1.0)]:
        r, d = corrections(mean, var, STATS, max(r_max, 1), max(d_max, 0))
        expected = (x - mean) / np.sqrt(var + reference.EPS) * r + d
        np.testing.assert_allclose(run(r_max, d_max), expected, rtol=1e-5, atol=1e-5)
    assert len(traces) == 1


@few("limits", LIMITS)
def test_a_batch_of_one_is_the_clipped_distance_to_the_running_mean(limits):
    r_max, d_max = limits
    x = np.array([[2.0, -1.5, 1.0]], np.float32)
    y, stats = norm(x, r_max=r_max, d_max=d_max, momentum=0.5)
    _, d = corrections(x[0], 0.0, STATS, r_max, d_max)
    np.testing.assert_allclose(y[0], d, rtol=1e-4)
    np.testing.assert_allclose(stats.mean, 0.5 * (x[0] + STATS.mean))
    assert same_bits(stats.var, STATS.var)


@few("shape", [(0, 3), (0, 5, 3), (4, 0, 3)])
def test_an_empty_batch_changes_nothing(shape):
    y, stats = norm(np.zeros(shape, np.float32), **FREE)
    assert y.shape == shape
    assert_all_close(stats, STATS, rtol=0)


@few("limits", LIMITS)
def test_an_empty_mask_changes_nothing(limits):
    x = draw(8, 2)
    stats = BatchStats(np.array([0.3, -0.0], "f4"), np.array([2.0, 1e-3], "f4"))
    options = {"r_max": limits[0], "d_max": limits[1], "where": np.zeros((8, 1))}

    def function(x, scale, bias):
        y, new = normalization.batch_renorm(x, stats, scale=scale, bias=bias, **options)
        return jnp.sin(y), (y, new)

    ones = np.ones(2, "f4")
    _, gradients, (y, new) = with_gradients(
        function, np.ones_like(x), x, ones, 0 * ones, has_aux=True
    )
    assert same_bits(new.mean, stats.mean)
    assert same_bits(new.var, stats.var)
    assert_all_finite((y, gradients))
    np.testing.assert_allclose(y, (x - stats.mean) / np.sqrt(stats.var + reference.EPS), rtol=1e-5)


@few("bad", [np.nan, np.inf])
def test_padding_does_not_leak(bad):
    mask = np.array([1, 1, 0, 1, 0, 1], bool)
    zeros = np.where(mask[:, None], draw(6, 3, mean=2), 0).astype(np.float32)

    def loss(x):
        y, stats = normalization.batch_renorm(x, STATS, r_max=3.0, d_max=5.0, where=mask[:, None])
        return jnp.sum(jnp.sin(y)), (y, stats)

    run = jax.jit(jax.grad(loss, has_aux=True))
    dx, (y, stats) = run(np.where(mask[:, None], zeros, np.float32(bad)))
    dx_zeros, (y_zeros, stats_zeros) = run(zeros)
    np.testing.assert_array_equal(y, y_zeros)
    assert_all_close(stats, stats_zeros, rtol=0)
    np.testing.assert_allclose(np.asarray(dx)[mask], np.asarray(dx_zeros)[mask], rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(dx)[~mask], 0)


@few("limits", LIMITS)
def test_without_eps_constants_are_finite(limits):
    """Of the batch, of the running statistics, and of both: then it is batch norm without eps."""
    r_max, d_max = limits

    @jax.jit
    def run(x, stats, eps):
        def loss(x, stats, eps):
            y, new = normalization.batch_renorm(x, stats, r_max=r_max, d_max=d_max, eps=eps)
            return jnp.sum(y**3), (y, new)

        return jax.grad(loss, (0, 1, 2), has_aux=True)(x, stats, eps)

    constant = np.full((4, 2), 2.0, "f4")
    other = draw(4, 2)
    flat = BatchStats(np.ones(2, "f4"), np.zeros(2, "f4"))
    assert_all_finite(run(constant, flat._replace(var=np.ones(2, "f4")), 0.0))
    for x, normal in ((other, (other - other.mean(0)) / other.std(0)), (constant, 0)):
        gradients, results = run(x, flat, 0.0)
        assert_all_finite((gradients, results))
        np.testing.assert_allclose(results[0], np.broadcast_to(normal, (4, 2)), rtol=1e-5)


def test_a_large_mean_keeps_the_variance():
    x = draw(4096, 1, mean=1e4)
    stats = BatchStats(np.array([9999.0], "f4"), np.array([0.25], "f4"))
    y, new = norm(x, stats, r_max=3.0, d_max=5.0, momentum=0.0)
    np.testing.assert_allclose(new.var, x.astype(np.float64).var(0), rtol=1e-3)
    np.testing.assert_allclose(y, (x - np.float64(9999)) / 0.5, atol=5e-3)


def test_large_float16_numbers_do_not_overflow():
    x = np.array([[6e4], [-6e4], [5e4], [6.5e4]], np.float16)
    stats = BatchStats(np.array([1e4], "f4"), np.array([1e9], "f4"))
    y, _ = norm(x, stats, r_max=3.0, d_max=5.0)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y, (x.astype(np.float64) - 1e4) / np.sqrt(1e9), rtol=1e-3)


@few("masked", [True, False])
def test_uneven_shards_share_their_statistics_and_corrections(masked):
    x = draw(8, 4, 3, mean=1)
    dy = draw(8, 4, 3, seed=1)
    mask = np.arange(4) < (np.arange(8) % 5)[:, None] if masked else np.ones((8, 4), bool)
    options = {"r_max": 1.5, "d_max": 0.4, "momentum": 0.5, "axis_name": "d"}

    def local(x, mask):
        where = mask[..., None] if masked else None
        return normalization.batch_renorm(x, STATS, where=where, **options)

    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))
    specs = {"in_specs": (P("d"), P("d")), "out_specs": (P("d"), P())}
    mapped = jax.shard_map(local, mesh=mesh, **specs)
    y, (dx,), new = with_gradients(lambda x: mapped(x, mask), dy, x, has_aux=True)
    full = mask[..., None]
    mean, var, _ = reference.moments(x, (0, 1), full)
    r, d = corrections(mean, var, STATS, 1.5, 0.4)
    expected = (x - mean) / np.sqrt(var + reference.EPS) * r + d
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(new.mean, (mean + STATS.mean) / 2, rtol=1e-5)
    expected = reference.gradients(x, r, dy, (0, 1), full)[0]
    np.testing.assert_allclose(dx, expected, atol=2e-5)


def test_the_corrections_cost_no_collective():
    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))
    stats = BatchStats(np.zeros(3, "f4"), np.ones(3, "f4"))

    def count(function):
        def local(x):
            return function(x, stats, axis_name="d")[0]

        mapped = jax.shard_map(local, mesh=mesh, in_specs=P("d"), out_specs=P("d"))
        loss = jax.value_and_grad(lambda x: jnp.sum(jnp.sin(mapped(x))))
        x = jax.ShapeDtypeStruct((64, 3), jnp.float32)
        text = jax.jit(loss).lower(x).compile().as_text()
        return len(re.findall(r"= .* all-reduce(?:-start)?\(", text))

    def renorm(x, stats, axis_name):
        return normalization.batch_renorm(x, stats, r_max=3.0, d_max=5.0, axis_name=axis_name)

    # One for the sums of the moments, and one for the sums of their gradients.
    assert count(renorm) == count(normalization.batch_norm) == 2


def test_an_axis_that_was_forgotten_is_named():
    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))

    def local(x):
        return normalization.batch_renorm(x, STATS, **FREE)[0]

    mapped = jax.shard_map(local, mesh=mesh, in_specs=P("d"), out_specs=P("d"))
    refuses(ValueError, r"`axis_name` must be given .* along \['d'\]; pass", mapped, draw(8, 3))


@pytest.mark.parametrize("r_max", [0.99, 0.0, -3.0, float("nan")])
def test_a_wrong_bound_of_the_deviation_raises(r_max):
    message = rf"`r_max` must be the largest factor of .* in \[1, inf\], got {r_max}"
    refuses(
        ValueError, message, normalization.batch_renorm, draw(4, 3), STATS, r_max=r_max, d_max=0.0
    )


def test_wrong_arguments_raise():
    x, renorm = draw(4, 3), normalization.batch_renorm
    for d_max in (-0.1, float("nan")):
        message = rf"`d_max` must be zero or positive, got {d_max}"
        refuses(ValueError, message, renorm, x, STATS, r_max=1.0, d_max=d_max)
    message = r"`d_max` must be a single number, got shape \(3,\)"
    refuses(ValueError, message, renorm, x, STATS, r_max=1.0, d_max=np.ones(3))
    message = r"`momentum` must be a weight for old statistics in \[0, 1\], got 1\.1"
    refuses(ValueError, message, renorm, x, STATS, momentum=1.1, **FREE)
    refuses(ValueError, "`eps` must be zero or positive", renorm, x, STATS, eps=-1.0, **FREE)
    message = "`x` must have a real dtype, got complex64"
    refuses(TypeError, message, renorm, x.astype(np.complex64), STATS, **FREE)
    refuses_wrong_shapes(renorm, x, **FREE)


def test_ddof_is_of_the_running_variance_alone():
    x = draw(6, 3, mean=1)
    options = {"r_max": 3.0, "d_max": 5.0, "momentum": 0.0}

    @jax.jit
    def run(x):
        return [normalization.batch_renorm(x, STATS, ddof=n, **options) for n in (0, 1)]

    (y, _), (same, stats) = run(x)
    np.testing.assert_array_equal(y, same)
    np.testing.assert_allclose(stats.var, x.astype(np.float64).var(0, ddof=1), rtol=1e-5)
    message = "`ddof` must be zero or positive, got -1"
    refuses(ValueError, message, normalization.batch_renorm, x, STATS, ddof=-1, **options)
