"""Linen modules of the variants of batch norm and of the norms within an example."""

import dataclasses

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxreg import linen, normalization
from jaxreg.linen.normalization import RunningNorm
from jaxreg.normalization import BatchStats

KEY = jax.random.key(11)
STATS = BatchStats(jnp.array([0.5, -1.0, 2.0]), jnp.array([2.0, 0.5, 1.0]))
AFFINE = {"scale": jnp.array([0.5, 1.0, 2.0]), "bias": jnp.array([-1.0, 0.0, 0.25])}
LIMITS = {"r_max": 1.5, "d_max": 0.4}
MASK = np.array([1, 1, 0, 1, 0, 1, 1, 1], bool)


def draw(*shape, seed=0, mean=1.0):
    return jnp.asarray(np.random.default_rng(seed).normal(mean, 1, shape), jnp.float32)


def ghost(**fields):
    return linen.GhostBatchNorm(4, **fields)


def renorm(**fields):
    return linen.BatchRenorm(**LIMITS, **fields)


FUNCTIONS = {
    ghost: lambda *a, **k: normalization.ghost_batch_norm(*a, ghost_batch_size=4, **k),
    renorm: lambda *a, **k: normalization.batch_renorm(*a, **LIMITS, **k),
}
every_variant = pytest.mark.parametrize("build", FUNCTIONS, ids=lambda build: build.__name__)
VARIABLES = {"params": AFFINE, "batch_stats": STATS._asdict()}


@every_variant
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_training_is_the_function(build, mask):
    x = draw(8, 2, 3)
    expected, stats = FUNCTIONS[build](x, STATS, **AFFINE, momentum=0.7, eps=0.01, where=mask)
    layer = build(use_running_average=False, momentum=0.7, epsilon=0.01)
    y, updated = layer.apply(VARIABLES, x, mask=mask, mutable=["batch_stats"])
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(updated["batch_stats"]["mean"], stats.mean)
    np.testing.assert_array_equal(updated["batch_stats"]["var"], stats.var)


@every_variant
def test_evaluation_is_that_of_batch_norm(build):
    x = draw(5, 3)
    y, same = build(epsilon=0.01).apply(VARIABLES, x, True, mutable=["batch_stats"])
    expected = linen.BatchNorm(epsilon=0.01).apply(VARIABLES, x, True)
    np.testing.assert_array_equal(y, expected)
    jax.tree.map(np.testing.assert_array_equal, same["batch_stats"], VARIABLES["batch_stats"])


@every_variant
@pytest.mark.parametrize("fields", [{}, {"use_bias": False}, {"use_scale": False}], ids=repr)
def test_checkpoints_of_flax_load(build, fields):
    x = draw(8, 3)
    theirs = nn.BatchNorm(use_running_average=False, **fields)
    _, updated = theirs.apply(theirs.init(KEY, x), x, mutable=["batch_stats"])
    saved = flax.serialization.to_bytes(theirs.init(KEY, x) | updated)
    ours = build(use_running_average=True, **fields)
    loaded = flax.serialization.from_bytes(ours.init(KEY, x), saved)
    evaluated = theirs.clone(use_running_average=True).apply(loaded, x)
    np.testing.assert_allclose(ours.apply(loaded, x), evaluated, atol=1e-6)


@every_variant
def test_the_first_input_sets_shapes_alone(build):
    """It may be a single example, no multiple of the ghost batch."""
    variables = build(use_running_average=False).init(KEY, draw(1, 2, 3))
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.zeros(3))
    np.testing.assert_array_equal(variables["batch_stats"]["var"], np.ones(3))
    with pytest.raises(ValueError, match='"use_running_average" must be passed to the constructor'):
        build().init(KEY, draw(1, 3))


def test_a_batch_of_another_size_raises():
    with pytest.raises(ValueError, match="`ghost_batch_size` must divide the batch, got 4 for 6"):
        ghost(use_running_average=False).apply(VARIABLES, draw(6, 3), mutable=["batch_stats"])


@every_variant
@pytest.mark.parametrize("dtype", [None, jnp.bfloat16, jnp.float32])
def test_dtypes(build, dtype):
    """A narrow input is rounded once, behind the scale and the offset."""
    x = draw(8, 3).astype(jnp.bfloat16)
    layer = build(use_running_average=False, dtype=dtype)
    y, updated = layer.apply(VARIABLES, x, mutable=["batch_stats"])
    expected, _ = FUNCTIONS[build](x.astype(jnp.float32), STATS, **AFFINE)
    np.testing.assert_array_equal(y, expected.astype(dtype or jnp.float32))
    assert {a.dtype for a in jax.tree.leaves(updated)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("axis", [1, (1, 2)])
def test_renorm_over_other_axes_and_devices(axis):
    x, mask = draw(8, 4, 3), np.arange(4) < np.arange(8)[:, None] % 5
    mask = mask if axis == (1, 2) else None
    layer = renorm(use_running_average=False, axis=axis, axis_name="d", momentum=0.5)
    variables = layer.init(KEY, x)
    shape = (4,) if axis == 1 else (4, 3)
    expected = normalization.batch_renorm(
        x, normalization.init_stats(shape), axis=axis, momentum=0.5, where=mask, **LIMITS
    )

    def run(variables, x, mask):
        y, updated = layer.apply(variables, x, mask=mask, mutable=["batch_stats"])
        return y, BatchStats(**updated["batch_stats"])

    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))
    specs = {"in_specs": (P(), P("d"), P("d")), "out_specs": (P("d"), P())}
    actual = jax.jit(jax.shard_map(run, mesh=mesh, **specs))(variables, x, mask)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), actual, expected)


def test_limits_of_a_schedule_are_traced():
    x = draw(8, 3)

    @jax.jit
    def run(step):
        layer = linen.BatchRenorm(
            use_running_average=False, r_max=1 + step, d_max=2 * step, momentum=0.9
        )
        return layer.apply(VARIABLES, x, mutable=["batch_stats"])

    plain = linen.BatchNorm(use_running_average=False, momentum=0.9)
    expected = plain.apply(VARIABLES, x, mutable=["batch_stats"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), run(0.0), expected)
    assert np.abs(run(2.0)[0] - expected[0]).max() > 0.1


def test_batch_norm_has_the_fields_of_flax_in_their_order():
    def names(cls):
        others = {"use_fast_variance", "force_float32_reductions", "axis_index_groups"}
        others |= {"mean_init", "var_init"}
        return [f.name for f in dataclasses.fields(cls) if f.name not in others]

    assert names(linen.BatchNorm) == names(nn.BatchNorm)


def test_a_running_norm_without_a_function_raises():
    with pytest.raises(NotImplementedError):
        RunningNorm().in_training()


@pytest.mark.parametrize("mask", [None, np.arange(4) < 3], ids=["all", "masked"])
def test_adaptive_instance_norm(mask):
    x, mean, std = draw(2, 4, 3), draw(2, 3, seed=1), draw(2, 3, seed=2)
    mask = None if mask is None else mask[None]
    layer = linen.AdaptiveInstanceNorm(epsilon=0.01)
    assert not layer.init(KEY, x, mean, std)
    expected = normalization.adaptive_instance_norm(x, mean, std, eps=0.01, where=mask)
    np.testing.assert_array_equal(layer.apply({}, x, mean, std, mask=mask), expected)


def test_filter_response_norm():
    x = draw(2, 4, 3, mean=0)
    params = {**AFFINE, "threshold": jnp.array([-0.5, 0.0, 0.5])}
    layer = linen.FilterResponseNorm(epsilon=0.01)
    expected = normalization.filter_response_norm(x, **params, eps=0.01)
    np.testing.assert_array_equal(layer.apply({"params": params}, x), expected)
    expected = normalization.filter_response_norm(x, **AFFINE, eps=0.01)
    free = layer.clone(use_threshold=False)
    np.testing.assert_array_equal(free.apply({"params": AFFINE}, x), expected)
    assert set(free.init(KEY, x)["params"]) == {"scale", "bias"}


def test_filter_response_norm_starts_as_a_rectified_norm():
    x = draw(2, 4, 3, mean=0)
    layer = linen.FilterResponseNorm()
    variables = layer.init(KEY, x)
    assert {name: a.shape for name, a in variables["params"].items()} == {
        name: (3,) for name in ("scale", "bias", "threshold")
    }
    rectified = jax.nn.relu(normalization.filter_response_norm(x))
    np.testing.assert_array_equal(layer.apply(variables, x), rectified)


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
@pytest.mark.parametrize("param_dtype", [jnp.float32, jnp.bfloat16])
def test_dtypes_of_filter_response_norm(dtype, param_dtype):
    x = draw(2, 4, 3).astype(jnp.bfloat16)
    layer = linen.FilterResponseNorm(dtype=dtype, param_dtype=param_dtype)
    variables = layer.init(KEY, x)
    assert {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype(param_dtype)}
    assert layer.apply(variables, x).dtype == (dtype or param_dtype)


def test_partition_metadata_of_filter_response_norm():
    initializers = {"scale": nn.initializers.ones, "bias": nn.initializers.zeros}
    initializers |= {"threshold": nn.initializers.zeros}
    fields = {
        f"{name}_init": nn.with_partitioning(init, ("model",))
        for name, init in initializers.items()
    }
    variables = linen.FilterResponseNorm(**fields).init(KEY, draw(2, 4, 3))
    specs = jax.tree.leaves(nn.get_partition_spec(variables), is_leaf=lambda s: isinstance(s, P))
    assert specs == [P("model")] * 3


@pytest.mark.parametrize(
    "layer",
    [
        linen.FilterResponseNorm(),
        linen.GhostBatchNorm(2, use_running_average=False),
        linen.BatchRenorm(**LIMITS, use_running_average=False),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_integers_are_rejected(layer):
    with pytest.raises(TypeError, match="`x` must have a floating-point dtype, got int32"):
        layer.init(KEY, jnp.ones((2, 3), jnp.int32))
