"""Batch renorm against float64 NumPy, Keras, and batch norm at the ends of its limits."""

import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxreg import normalization
from jaxreg.normalization import BatchStats
from tests.references import batch_norm as reference

KERAS = pathlib.Path(__file__).parent / "references" / "batch_renorm_keras.json"
STATS = BatchStats(jnp.array([0.5, -1.0, 3.0]), jnp.array([0.2, 4.0, 1.0]))
FREE = {"r_max": np.inf, "d_max": np.inf}
LIMITS = [(1.0, 0.0), (1.5, 0.4), (3.0, 5.0), (np.inf, np.inf)]


def draw(*shape, seed=0, mean=0.0):
    return np.random.default_rng(seed).normal(mean, 1, shape).astype(np.float32)


def corrections(mean, var, stats, r_max, d_max, eps=reference.EPS):
    """Those of the paper's Algorithm 1, in float64."""
    running_mean, running_var = (np.asarray(a, np.float64) for a in stats)
    sigma_b, sigma = np.sqrt(var + eps), np.sqrt(running_var + eps)
    r = np.clip(sigma_b / sigma, 1 / r_max, r_max)
    return r, np.clip((mean - running_mean) / sigma, -d_max, d_max)


def test_keras():
    """Also its gradients. Its running average is of deviations, so that variances differ."""
    keras = json.loads(KERAS.read_text())
    x, dy, scale, bias = (jnp.array(keras[name]) for name in ("x", "dy", "scale", "bias"))
    stats = BatchStats(jnp.array(keras["mean"]), jnp.array(keras["var"]))
    eps, momentum = keras["eps"], keras["momentum"]
    assert [(row["r_max"], row["d_max"]) for row in keras["rows"][:3]] == LIMITS[:3]
    for row in keras["rows"]:
        limits = {"r_max": row["r_max"], "d_max": row["d_max"]}

        def apply(x, scale, bias, limits=limits):
            return normalization.batch_renorm(
                x, stats, scale=scale, bias=bias, momentum=momentum, eps=eps, **limits
            )

        y, pull, new = jax.vjp(apply, x, scale, bias, has_aux=True)
        np.testing.assert_allclose(y, row["y"], atol=1e-5)
        for name, ours in zip(("dx", "dscale", "dbias"), pull(dy), strict=True):
            np.testing.assert_allclose(ours, row[name], rtol=1e-5, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(new.mean, row["mean"], rtol=1e-5)
        old, batch = (np.sqrt(np.asarray(v) + eps) for v in (stats.var, np.var(x, (0, 1))))
        deviation = momentum * old + (1 - momentum) * batch
        np.testing.assert_allclose(deviation, row["deviation"], rtol=1e-5)
        assert np.abs(np.sqrt(new.var + eps) - deviation).max() > 1e-3


@pytest.mark.parametrize(("r_max", "d_max"), LIMITS)
@pytest.mark.parametrize("axis", [-1, 1, (1, 2)])
@pytest.mark.parametrize("masked", [False, True])
def test_the_equation_and_its_gradient(r_max, d_max, axis, masked):
    """r and d are constants to the gradient, so it is that of batch norm with r times its scale."""
    x, dy = draw(6, 3, 3, mean=1), draw(6, 3, 3, seed=1)
    features = (1, 2) if axis == (1, 2) else (axis % 3,)
    reduced = tuple(a for a in range(3) if a not in features)
    shape = tuple(x.shape[a] for a in features)
    scale, bias = draw(*shape, seed=2), draw(*shape, seed=3)
    stats = BatchStats(draw(*shape, seed=4), np.exp(draw(*shape, seed=5)))
    mask = np.array([1, 1, 0, 1, 0, 1], bool)[:, None, None] if masked else None

    def apply(x, scale, bias):
        where = None if mask is None else mask.ravel()
        y, new = normalization.batch_renorm(
            x, stats, r_max=r_max, d_max=d_max, scale=scale, bias=bias, axis=axis, where=where
        )
        return jnp.sum(y * dy), (y, new)

    (dx, dscale, dbias), (y, _) = jax.jit(jax.grad(apply, (0, 1, 2), has_aux=True))(x, scale, bias)
    mean, var, _ = reference.moments(x, reduced, mask)
    r, d = corrections(mean, var, stats, r_max, d_max)
    if r_max == 1.5:
        assert 0 < np.mean((r == 1.5) | (r == 1 / 1.5)) <= 1
    wide = [np.expand_dims(a, reduced) for a in (mean, var, r, d, scale, bias)]
    mean, var, r_wide, d_wide, scale_wide, bias_wide = wide
    normal = (x - mean) / np.sqrt(var + reference.EPS)
    expected = (normal * r_wide + d_wide) * scale_wide + bias_wide
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    through = reference.gradients(x, scale * r, dy, reduced, mask)
    np.testing.assert_allclose(dx, through[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dscale, through[1] * r + dy.sum(reduced) * d, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dbias, dy.sum(reduced), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_at_one_and_zero_it_is_batch_norm(dtype, masked):
    x = jnp.asarray(draw(8, 2, 3, mean=2), dtype)
    options = {"scale": jnp.array([0.5, 1.0, 2.0]), "bias": jnp.array([-1.0, 0.0, 1.0])}
    options |= {"momentum": 0.7, "where": np.arange(8) < 5 if masked else None}
    ours = normalization.batch_renorm(x, STATS, r_max=1.0, d_max=0.0, **options)
    theirs = normalization.batch_norm(x, STATS, **options)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_without_limits_it_is_evaluation_with_the_gradient_of_training():
    x, dy = draw(8, 3, mean=2), draw(8, 3, seed=1)
    y, _ = normalization.batch_renorm(x, STATS, **FREE)
    np.testing.assert_allclose(
        y, normalization.batch_norm_inference(x, STATS), rtol=1e-5, atol=1e-5
    )
    dx = jax.grad(lambda x: jnp.sum(normalization.batch_renorm(x, STATS, **FREE)[0] * dy))(x)
    r, _ = corrections(x.mean(0), x.var(0), STATS, np.inf, np.inf)
    np.testing.assert_allclose(dx, reference.gradients(x, r, dy, (0,))[0], atol=1e-5)
    # The gradient of evaluation would not sum to 0 over the batch.
    np.testing.assert_allclose(dx.sum(0), 0, atol=1e-5)


def test_the_statistics_are_those_of_batch_norm():
    x = draw(8, 3, mean=2)
    for momentum in (0.0, 0.25, 1.0):
        _, ours = normalization.batch_renorm(x, STATS, r_max=3.0, d_max=5.0, momentum=momentum)
        _, theirs = normalization.batch_norm(x, STATS, momentum=momentum)
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_limits_are_strengths():
    """A schedule compiles once; what is traced beyond the range is taken to its end."""
    x, traces = draw(8, 3, mean=2), []

    @jax.jit
    def run(r_max, d_max):
        traces.append(1)
        return normalization.batch_renorm(x, STATS, r_max=r_max, d_max=d_max)[0]

    for r_max, d_max in LIMITS:
        expected = normalization.batch_renorm(x, STATS, r_max=r_max, d_max=d_max)[0]
        np.testing.assert_allclose(run(r_max, d_max), expected, atol=1e-6)
    np.testing.assert_allclose(run(0.5, -1.0), run(1.0, 0.0), atol=1e-6)
    assert len(traces) == 1
    many = jax.vmap(run)(jnp.array([1.0, 3.0]), jnp.array([0.0, 5.0]))
    np.testing.assert_allclose(many, [run(1.0, 0.0), run(3.0, 5.0)], atol=1e-6)


@pytest.mark.parametrize("limits", LIMITS)
def test_a_batch_of_one_is_the_clipped_distance_to_the_running_mean(limits):
    r_max, d_max = limits
    x = jnp.array([[2.0, -1.5, 1.0]])
    y, stats = normalization.batch_renorm(x, STATS, r_max=r_max, d_max=d_max, momentum=0.5)
    _, d = corrections(np.asarray(x[0]), 0.0, STATS, r_max, d_max)
    np.testing.assert_allclose(y[0], d, rtol=1e-4)
    np.testing.assert_allclose(stats.mean, 0.5 * (x[0] + STATS.mean))
    np.testing.assert_array_equal(stats.var, STATS.var)


@pytest.mark.parametrize("shape", [(0, 3), (0, 5, 3), (4, 0, 3)])
def test_an_empty_batch_changes_nothing(shape):
    y, stats = normalization.batch_renorm(jnp.zeros(shape), STATS, **FREE)
    assert y.shape == shape
    jax.tree.map(np.testing.assert_array_equal, stats, STATS)


@pytest.mark.parametrize("limits", LIMITS)
def test_an_empty_mask_changes_nothing(limits):
    x, stats = draw(8, 2), BatchStats(jnp.array([0.3, -0.0]), jnp.array([2.0, 1e-3]))

    def loss(x, scale, bias):
        y, new = normalization.batch_renorm(
            x, stats, r_max=limits[0], d_max=limits[1], scale=scale, bias=bias, where=jnp.zeros(8)
        )
        return jnp.sum(jnp.sin(y)), (y, new)

    run = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))
    (_, (y, new)), gradients = run(x, jnp.ones(2), jnp.zeros(2))
    for ours, old in zip(new, stats, strict=True):
        np.testing.assert_array_equal(np.asarray(ours).view("u4"), np.asarray(old).view("u4"))
    assert all(jnp.isfinite(a).all() for a in (y, *gradients))
    np.testing.assert_allclose(y, (x - stats.mean) / np.sqrt(stats.var + reference.EPS), rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_padding_does_not_leak(bad):
    mask = np.array([1, 1, 0, 1, 0, 1], bool)
    zeros = np.where(mask[:, None], draw(6, 3, mean=2), 0).astype(np.float32)

    def loss(x):
        y, stats = normalization.batch_renorm(x, STATS, r_max=3.0, d_max=5.0, where=mask)
        return jnp.sum(jnp.sin(y)), (y, stats)

    run = jax.jit(jax.grad(loss, has_aux=True))
    dx, (y, stats) = run(np.where(mask[:, None], zeros, np.float32(bad)))
    dx_zeros, (y_zeros, stats_zeros) = run(zeros)
    np.testing.assert_array_equal(y, y_zeros)
    jax.tree.map(np.testing.assert_array_equal, stats, stats_zeros)
    np.testing.assert_allclose(dx[mask], dx_zeros[mask], rtol=1e-6)
    np.testing.assert_array_equal(dx[~mask], 0)


@pytest.mark.parametrize("constant", ["batch", "running", "both"])
@pytest.mark.parametrize("limits", LIMITS)
def test_without_eps_constants_are_finite(constant, limits):
    x = jnp.full((4, 2), 2.0) if constant != "running" else jnp.asarray(draw(4, 2))
    stats = BatchStats(jnp.ones(2), jnp.ones(2) if constant == "batch" else jnp.zeros(2))

    def loss(x, stats, eps):
        y, new = normalization.batch_renorm(x, stats, r_max=limits[0], d_max=limits[1], eps=eps)
        return jnp.sum(y**3), (y, new)

    gradients, results = jax.grad(loss, (0, 1, 2), has_aux=True)(x, stats, 0.0)
    assert all(jnp.isfinite(a).all() for a in jax.tree.leaves((gradients, results)))
    if constant != "batch":
        np.testing.assert_allclose(results[0], normalization.batch_norm(x, stats, eps=0.0)[0])


def test_a_large_mean_keeps_the_variance():
    x = draw(4096, 1, mean=1e4)
    stats = BatchStats(jnp.array([9999.0]), jnp.array([0.25]))
    y, new = normalization.batch_renorm(x, stats, r_max=3.0, d_max=5.0, momentum=0.0)
    np.testing.assert_allclose(new.var, x.astype(np.float64).var(0), rtol=1e-3)
    np.testing.assert_allclose(y, (x - np.float64(9999)) / 0.5, atol=5e-3)


def test_large_float16_numbers_do_not_overflow():
    x = jnp.array([[6e4], [-6e4], [5e4], [6.5e4]], jnp.float16)
    stats = BatchStats(jnp.array([1e4]), jnp.array([1e9]))
    y, _ = normalization.batch_renorm(x, stats, r_max=3.0, d_max=5.0)
    assert y.dtype == jnp.float16
    np.testing.assert_allclose(y, (np.asarray(x, np.float64) - 1e4) / np.sqrt(1e9), rtol=1e-3)


@pytest.mark.parametrize("masked", [False, True])
def test_uneven_shards_share_their_statistics_and_corrections(masked):
    x, dy = draw(8, 4, 3, mean=1), draw(8, 4, 3, seed=1)
    mask = np.arange(4) < (np.arange(8) % 5)[:, None] if masked else np.ones((8, 4), bool)
    options = {"r_max": 1.5, "d_max": 0.4, "momentum": 0.5}

    def loss(x, dy, mask, axis_name=None):
        where = mask if masked else None
        y, new = normalization.batch_renorm(x, STATS, where=where, axis_name=axis_name, **options)
        total = jnp.sum(y * dy)
        return (total if axis_name is None else jax.lax.psum(total, axis_name)), (y, new)

    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))
    specs = {"in_specs": P("d"), "out_specs": (P(), (P("d"), P()))}
    mapped = jax.shard_map(lambda *a: loss(*a, axis_name="d"), mesh=mesh, **specs)
    actual = jax.jit(jax.grad(mapped, has_aux=True))(x, dy, mask)
    expected = jax.jit(jax.grad(loss, has_aux=True))(x, dy, mask)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), actual, expected)


@pytest.mark.parametrize("spec", [P("d"), P(None, "d")])
def test_an_explicit_mesh_within_the_limits(spec):
    """The rows of the contract are at the limits."""
    x, stats = jnp.asarray(draw(16, 8, mean=1)), BatchStats(jnp.full(8, 0.5), jnp.full(8, 2.0))
    options = {"r_max": 3.0, "d_max": 5.0, "scale": jnp.full(8, 2.0), "bias": jnp.ones(8)}

    @jax.jit
    def run(x):
        dx = jax.grad(
            lambda x: jnp.sum(jnp.sin(normalization.batch_renorm(x, stats, **options)[0]))
        )
        return *normalization.batch_renorm(x, stats, **options), dx(x)

    expected = run(x)
    mesh = jax.make_mesh((8,), ("d",), (AxisType.Explicit,))
    with jax.set_mesh(mesh):
        actual = run(jax.device_put(x, NamedSharding(mesh, spec)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), actual, expected)


@pytest.mark.parametrize("differentiate", [False, True])
def test_the_corrections_cost_no_collective(differentiate):
    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))

    def count(function):
        def loss(x):
            y, stats = function(x, STATS, axis_name="d")
            return jax.lax.psum(jnp.sum(jnp.sin(y)), "d"), stats

        mapped = jax.shard_map(loss, mesh=mesh, in_specs=P("d"), out_specs=P())
        run = jax.grad(mapped, has_aux=True) if differentiate else mapped
        text = jax.jit(run).lower(jnp.ones((64, 3))).compile().as_text()
        return len(re.findall(r"= .* all-reduce(?:-start)?\(", text))

    def renorm(x, stats, axis_name):
        return normalization.batch_renorm(x, stats, r_max=3.0, d_max=5.0, axis_name=axis_name)

    assert count(renorm) == count(normalization.batch_norm) > 0


@pytest.mark.parametrize("r_max", [0.99, 0.0, -3.0, float("nan")])
def test_a_wrong_bound_of_the_deviation_raises(r_max):
    message = rf"`r_max` must be the largest change of the deviation in \[1, inf\], got {r_max}"
    with pytest.raises(ValueError, match=message):
        normalization.batch_renorm(draw(4, 3), STATS, r_max=r_max, d_max=0.0)


@pytest.mark.parametrize("d_max", [-0.1, float("nan")])
def test_a_wrong_bound_of_the_mean_raises(d_max):
    with pytest.raises(ValueError, match=rf"`d_max` must be zero or positive, got {d_max}"):
        normalization.batch_renorm(draw(4, 3), STATS, r_max=1.0, d_max=d_max)


@pytest.mark.parametrize("name", ["mean", "var", "scale", "bias"])
def test_a_wrong_shape_raises(name):
    arrays = {key: jnp.ones(3) for key in ("mean", "var", "scale", "bias")} | {name: jnp.ones(2)}
    stats = BatchStats(arrays.pop("mean"), arrays.pop("var"))
    message = rf"`{name}` must have the shape of the feature axes, \(3,\), got \(2,\)"
    with pytest.raises(ValueError, match=message):
        normalization.batch_renorm(draw(4, 3), stats, **FREE, **arrays)


def test_complex_input_raises():
    with pytest.raises(TypeError, match="`x` must have a real dtype, got complex64"):
        normalization.batch_renorm(jnp.ones((4, 3), jnp.complex64), STATS, **FREE)
