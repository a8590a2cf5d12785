"""Ghost batch norm and batch renormalization as Linen modules."""

from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxreg import linen, normalization
from jaxreg.normalization import BatchStats
from tests.helpers import few
from tests.trees import assert_close, draw

KEY = jax.random.key(11)
STATS = {"mean": np.float32([0.5, -1, 2]), "var": np.float32([2, 0.5, 1])}
AFFINE = {"scale": np.float32([0.5, 1, 2]), "bias": np.float32([-1, 0, 0.25])}
VARIABLES = {"params": AFFINE, "batch_stats": STATS}
LIMITS = {"r_max": 1.5, "d_max": 0.4}


def ghost(**fields):
    return linen.GhostBatchNorm(4, **fields)


def renorm(**fields):
    return linen.BatchRenorm(**LIMITS, **fields)


FUNCTIONS = {
    ghost: lambda *a, **k: normalization.ghost_batch_norm(*a, ghost_batch_size=4, **k),
    renorm: lambda *a, **k: normalization.batch_renorm(*a, **LIMITS, **k),
}
every_variant = pytest.mark.parametrize("build", FUNCTIONS, ids=lambda build: build.__name__)


@every_variant
@few("fields", [{}, {"use_bias": False}, {"use_scale": False}], ids=repr)
def test_checkpoints_of_flax_load(build, fields):
    x = draw(8, 3, mean=1)
    theirs = nn.BatchNorm(use_running_average=False, **fields)
    ours = build(use_running_average=True, **fields)

    @jax.jit
    def train(x):
        variables = theirs.init(KEY, x)
        trained = variables | theirs.apply(variables, x, mutable=["batch_stats"])[1]
        return trained, ours.init(KEY, x)

    trained, started = train(x)
    loaded = flax.serialization.from_bytes(started, flax.serialization.to_bytes(trained))
    both = (ours, theirs.clone(use_running_average=True))
    evaluated = jax.jit(lambda variables: [layer.apply(variables, x) for layer in both])(loaded)
    np.testing.assert_allclose(*evaluated, atol=1e-6)


@every_variant
def test_the_first_input_sets_shapes_alone(build):
    """It may be a single example, no multiple of the ghost batch."""
    made = jax.jit(build(use_running_average=False).init)(KEY, draw(1, 2, 3))
    np.testing.assert_array_equal(made["batch_stats"]["mean"], np.zeros(3))
    np.testing.assert_array_equal(made["batch_stats"]["var"], np.ones(3))


def test_a_batch_of_another_size_raises():
    layer = ghost(use_running_average=False)
    with pytest.raises(ValueError, match="`ghost_batch_size` must divide the batch size, 6, got 4"):
        jax.eval_shape(lambda x: layer.apply(VARIABLES, x, mutable=["batch_stats"]), draw(6, 3))


@every_variant
@few("dtype", [None, jnp.bfloat16, jnp.float32])
def test_a_narrow_input_is_rounded_once(build, dtype):
    """Behind the scale and the offset."""
    x = draw(8, 3).astype(jnp.bfloat16)
    layer = build(use_running_average=False, dtype=dtype)

    @jax.jit
    def run(x, variables):
        stats = BatchStats(**variables["batch_stats"])
        wide = FUNCTIONS[build](x.astype(jnp.float32), stats, **variables["params"])
        return layer.apply(variables, x, mutable=["batch_stats"]), wide[0]

    (y, updated), expected = run(x, VARIABLES)
    assert y.dtype == (dtype or jnp.float32)
    np.testing.assert_array_equal(y, np.asarray(expected).astype(y.dtype))
    assert {a.dtype for a in jax.tree.leaves(updated)} == {np.dtype("float32")}


@few("axis", [1, (1, 2)])
def test_renorm_over_other_axes_and_devices(axis):
    x = draw(8, 4, 3, mean=1)
    mask = (np.arange(4) < np.arange(8)[:, None] % 5)[..., None] if axis == (1, 2) else None
    layer = renorm(use_running_average=False, axis=axis, axis_name="d", momentum=0.5)
    shape = (4,) if axis == 1 else (4, 3)
    stats = {"mean": np.zeros(shape, np.float32), "var": np.ones(shape, np.float32)}
    affine = {"scale": np.ones(shape, np.float32), "bias": np.zeros(shape, np.float32)}
    variables = {"params": affine, "batch_stats": stats}

    def run(variables, x, mask):
        y, updated = layer.apply(variables, x, mask=mask, mutable=["batch_stats"])
        return y, BatchStats(**updated["batch_stats"])

    @jax.jit
    def both(variables, x, mask):
        expected = normalization.batch_renorm(
            x, BatchStats(**stats), axis=axis, momentum=0.5, where=mask, **LIMITS
        )
        return jax.shard_map(run, mesh=mesh, **specs)(variables, x, mask), expected

    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))
    specs = {"in_specs": (P(), P("d"), P("d")), "out_specs": (P("d"), P())}
    assert_close(*both(variables, x, mask))
    # Initialization happens outside of the mesh and needs no axis.
    jax.eval_shape(lambda: layer.init(KEY, x))


def test_limits_of_a_schedule_are_traced():
    x = draw(8, 3, mean=1)

    @jax.jit
    def run(step):
        fields = {"use_running_average": False, "momentum": 0.9}
        layer = linen.BatchRenorm(r_max=1 + step, d_max=2 * step, **fields)
        plain = linen.BatchNorm(**fields)
        return [norm.apply(VARIABLES, x, mutable=["batch_stats"]) for norm in (layer, plain)]

    ours, expected = run(0.0)
    assert_close(ours, expected, 1e-6)
    assert np.abs(run(2.0)[0][0] - expected[0]).max() > 0.1


@every_variant
def test_integers_are_rejected(build):
    with pytest.raises(TypeError, match="`x` must have a floating-point dtype, got int32"):
        build(use_running_average=False).init(KEY, np.ones((2, 3), np.int32))


class Old(nn.Module):
    """A model whose norms have automatic names."""

    norm: object

    @nn.compact
    def __call__(self, x):
        return self.norm()(nn.Dense(3)(self.norm()(x)))


class BatchNorm(linen.GhostBatchNorm):
    """A name decides where Flax looks for variables."""


def test_checkpoints_load_under_automatic_names():
    x = draw(8, 3, mean=1)
    old = Old(partial(nn.BatchNorm, use_running_average=True))
    new = Old(partial(BatchNorm, 4, use_running_average=True))

    @jax.jit
    def run(x):
        variables = old.init(KEY, x)
        return old.apply(variables, x), new.apply(variables, x)

    np.testing.assert_allclose(*run(x), atol=1e-6)


def warm(count):
    return jnp.where(count < 2, 1.0, 3.0)


def cold(count):
    return jnp.where(count < 2, 0.0, 5.0)


def test_limits_follow_a_count_of_their_own():
    """Two steps of batch norm, as in CrossQ, and then steps of batch renormalization."""
    x = draw(8, 3, mean=1)
    layer = linen.BatchRenorm(r_max=warm, d_max=cold, momentum=0.9)
    plain = linen.BatchNorm(momentum=0.9)

    @jax.jit
    def run(x):
        variables = layer.init(KEY, x, False)
        state = VARIABLES | {"batch_stats": STATS | {"count": variables["batch_stats"]["count"]}}
        _, evaluated = layer.apply(state, x, True, mutable=["batch_stats"])

        def step(state, _):
            y, updated = layer.apply(state, x, False, mutable=["batch_stats"])
            bare = {k: v for k, v in state["batch_stats"].items() if k != "count"}
            expected = plain.apply(
                state | {"batch_stats": bare}, x, False, mutable=["batch_stats"]
            )[0]
            return state | updated, (y, expected)

        return variables, evaluated, jax.lax.scan(step, state, length=3)

    variables, evaluated, (state, (found, expected)) = run(x)
    assert variables["batch_stats"]["count"] == evaluated["batch_stats"]["count"] == 0
    assert state["batch_stats"]["count"] == 3
    np.testing.assert_allclose(found[:2], expected[:2], atol=1e-6)
    assert np.abs(found[2] - expected[2]).max() > 0.1


@every_variant
def test_ddof_and_the_offset_of_the_factor_are_passed_on(build):
    x = draw(8, 3, mean=1)
    layers = [build(use_running_average=False, **more) for more in ({}, {"ddof": 1})]
    layers.append(build(use_running_average=False, scale_offset=0.5))

    @jax.jit
    def run(x):
        return [layer.apply(VARIABLES, x, mutable=["batch_stats"]) for layer in layers]

    (y, _), (same, updated), (shifted, _) = run(x)
    np.testing.assert_array_equal(y, same)
    parts = x.reshape(2, 4, 3) if build is ghost else x[None]
    expected = STATS["var"]
    for part in parts.astype(np.float64):
        expected = 0.99 * expected + 0.01 * part.var(0, ddof=1)
    np.testing.assert_allclose(updated["batch_stats"]["var"], expected, rtol=1e-5)
    plain = (np.asarray(y) - AFFINE["bias"]) / AFFINE["scale"]
    np.testing.assert_allclose(
        shifted, plain * (AFFINE["scale"] + 0.5) + AFFINE["bias"], rtol=1e-4, atol=1e-5
    )
