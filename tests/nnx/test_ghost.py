"""Ghost batch norm and batch renormalization as NNX modules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxreg import linen, nnx, normalization
from jaxreg.normalization import BatchStats
from tests.helpers import few
from tests.trees import assert_close, draw

KEY = jax.random.key(11)
STATS = BatchStats(np.float32([0.5, -1, 2]), np.float32([2, 0.5, 1]))
LIMITS = {"r_max": 1.5, "d_max": 0.4}
X = draw(8, 3, mean=1)


def ghost(**fields):
    return nnx.GhostBatchNorm(3, 4, rngs=flax_nnx.Rngs(0), **fields)


def renorm(**fields):
    return nnx.BatchRenorm(3, **LIMITS, rngs=flax_nnx.Rngs(0), **fields)


LINEN = {
    ghost: lambda **fields: linen.GhostBatchNorm(4, **fields),
    renorm: lambda **fields: linen.BatchRenorm(**LIMITS, **fields),
}
every_variant = pytest.mark.parametrize("build", LINEN, ids=lambda build: build.__name__)


@every_variant
def test_linen_and_nnx_agree_from_their_start(build):
    """Two steps, then evaluation."""
    module = LINEN[build]()

    @jax.jit
    def run(x):
        layer = build()
        tree = module.init(KEY, x, False)
        found = []
        for _ in range(2):
            y, updated = module.apply(tree, x, False, mutable=["batch_stats"])
            tree = tree | updated
            stats = updated["batch_stats"]
            found.append(((layer(x), layer.mean[...], layer.var[...]), (y, *stats.values())))
        layer.eval()
        found.append(((layer(x),), (module.apply(tree, x, True),)))
        return found

    for ours, theirs in run(X):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


@every_variant
@few("fields", [{}, {"use_bias": False}, {"use_scale": False}], ids=repr)
def test_states_of_flax_load(build, fields):
    @jax.jit
    def run(x):
        theirs = flax_nnx.BatchNorm(3, rngs=flax_nnx.Rngs(0), **fields)
        theirs(x)
        ours = build(**fields)
        flax_nnx.update(ours, flax_nnx.state(theirs))
        return [layer(x, use_running_average=True) for layer in (ours, theirs)]

    np.testing.assert_allclose(*run(X), atol=1e-6)


@every_variant
def test_metadata_of_the_variables(build):
    metadata = {f"{name}_metadata": {"role": name} for name in ("bias", "scale", "stats")}
    layer = flax_nnx.eval_shape(lambda: build(**metadata))
    for name, role in [("bias", "bias"), ("scale", "scale"), ("mean", "stats"), ("var", "stats")]:
        assert getattr(layer, name).get_metadata()["role"] == role


def test_a_batch_of_another_size_raises():
    with pytest.raises(ValueError, match="`ghost_batch_size` must divide the batch size, 6, got 4"):
        jax.eval_shape(lambda x: ghost()(x), X[:6])


def test_limits_follow_a_schedule():
    traces = []
    layer = nnx.BatchRenorm(3, r_max=jnp.ones(()), d_max=jnp.zeros(()), rngs=flax_nnx.Rngs(0))

    @flax_nnx.jit
    def run(layer, x):
        traces.append(1)
        layer.mean[...] = jnp.asarray(STATS.mean)
        layer.var[...] = jnp.asarray(STATS.var)
        expected = normalization.batch_renorm(x, STATS, r_max=layer.r_max, d_max=layer.d_max)
        return layer(x), expected[0]

    found = []
    for r_max, d_max in [(1.0, 0.0), (3.0, 5.0)]:
        layer.r_max = jnp.asarray(r_max)
        layer.d_max = jnp.asarray(d_max)
        y, expected = run(layer, X)
        np.testing.assert_allclose(y, expected, atol=1e-6)
        found.append(y)
    assert len(traces) == 1
    assert np.abs(found[0] - found[1]).max() > 0.1


def test_renorm_over_several_axes_and_devices():
    x = draw(8, 4, 2, 3, mean=1)
    mask = (np.arange(4) < np.arange(8)[:, None] % 5)[..., None, None]
    shared = {"axis": (2, 3), "momentum": 0.5, **LIMITS}

    def run(x, mask):
        layer = nnx.BatchRenorm((2, 3), axis_name="d", rngs=flax_nnx.Rngs(0), **shared)
        y = layer(x, mask=mask)
        return y, BatchStats(layer.mean[...], layer.var[...])

    @jax.jit
    def both(x, mask):
        start = normalization.init_stats((2, 3))
        expected = normalization.batch_renorm(x, start, where=mask, **shared)
        return jax.shard_map(run, mesh=mesh, **specs)(x, mask), expected

    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))
    specs = {"in_specs": (P("d"), P("d")), "out_specs": (P("d"), P())}
    assert_close(*both(x, mask))


@every_variant
def test_integers_are_rejected(build):
    with pytest.raises(TypeError, match="`x` must have a floating-point dtype, got int32"):
        jax.eval_shape(lambda x: build()(x), np.ones((4, 3), np.int32))


def warm(count):
    return jnp.where(count < 2, 1.0, 3.0)


def cold(count):
    return jnp.where(count < 2, 0.0, 5.0)


def test_limits_follow_a_count_of_their_own():
    """Two steps of batch norm, as in CrossQ, and then steps of batch renormalization."""

    @jax.jit
    def run(x):
        layer = nnx.BatchRenorm(3, r_max=warm, d_max=cold, rngs=flax_nnx.Rngs(0))
        plain = nnx.BatchNorm(3, rngs=flax_nnx.Rngs(0))
        layer(x, use_running_average=True)
        found = [(layer(x), plain(x), layer.count[...]) for _ in range(3)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)

    found, expected, counts = run(X)
    np.testing.assert_array_equal(counts, [1, 2, 3])
    np.testing.assert_allclose(found[:2], expected[:2], atol=1e-6)
    assert np.abs(found[2] - expected[2]).max() > 0.1
    # Without a schedule it has batch norm's variables.
    assert not hasattr(flax_nnx.eval_shape(renorm), "count")


@every_variant
def test_ddof_and_the_offset_of_the_factor_are_passed_on(build):
    @jax.jit
    def run(x):
        layers = [build(momentum=0.0, **more) for more in ({}, {"ddof": 1, "scale_offset": 1.0})]
        return [(layer(x), layer.var[...]) for layer in layers]

    (y, var), (twice, unbiased) = run(X)
    np.testing.assert_allclose(twice, 2 * y, rtol=1e-6)
    np.testing.assert_allclose(unbiased / var, 4 / 3 if build is ghost else 8 / 7, rtol=1e-5)
