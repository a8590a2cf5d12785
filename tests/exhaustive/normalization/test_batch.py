"""Batch norm and batch renorm of sharded arrays: their numbers, and the collectives they take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxreg import normalization
from jaxreg.normalization import BatchStats, statistics
from tests.exhaustive.normalization.helpers import MODES, collectives, numbers_sent, place
from tests.normalization.helpers import draw

SCALE = np.linspace(0.5, 1.5, 16, dtype="f4")
BIAS = np.linspace(-1, 1, 16, dtype="f4")


def uneven(masked):
    """No, one or many examples of each of 8 shards; or nothing."""
    return ((np.arange(64) % 8) < np.arange(64) // 8)[:, None] if masked else None


def batch_norm(x, scale, bias, where, axis_name=None):
    stats = normalization.init_stats(16)
    return normalization.batch_norm(
        x, stats, scale=scale, bias=bias, where=where, axis_name=axis_name, momentum=0.0
    )


def gradients(norm):
    """The function that returns results and gradients of a norm."""

    def compute(x, scale, bias, where, dy):
        y, pull, stats = jax.vjp(lambda *a: norm(*a, where), x, scale, bias, has_aux=True)
        return y, stats, pull(dy)

    return compute


def sharded(mesh):
    """Batch norm that each device calls with its examples."""

    def call(x, scale, bias, where):
        return jax.shard_map(
            lambda *arrays: batch_norm(*arrays, axis_name="d"),
            mesh=mesh,
            in_specs=(P("d"), P(), P(), P("d")),
            out_specs=(P("d"), P()),
        )(x, scale, bias, where)

    return call


def assert_same(actual, expected, *, spacing=0.0):
    """Results within 1e-6 and 4 spacings of x; gradients, sums of 64 products, 2e-6 and 20."""
    limits = (1e-6, 4), (1e-6, 4), (2e-6, 20)
    for ours, theirs, (bound, spacings) in zip(actual, expected, limits, strict=True):
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=bound, atol=bound + spacings * spacing)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_batch_norm_under_jit(mode, masked):
    """One small collective, two in a branch where the mean is far from its pivot, one backward."""
    mesh = jax.make_mesh((8,), ("d",), (mode,))
    x = draw(64, 16, mean=1)
    dy = draw(64, 16, seed=1)
    where = uneven(masked)
    expected = gradients(batch_norm)(x, SCALE, BIAS, where, dy)
    with jax.set_mesh(mesh):
        x = place(mesh, P("d"), x)
        where = place(mesh, P("d"), where)
        dy = place(mesh, P("d"), dy)
        actual = jax.jit(gradients(batch_norm))(x, SCALE, BIAS, where, dy)
        forward, taken = collectives(batch_norm, x, SCALE, BIAS, where)
        both, _ = collectives(gradients(batch_norm), x, SCALE, BIAS, where, dy)
    assert (len(forward), len(taken), len(both)) == (3, 1, 4)
    assert numbers_sent(both) <= 7 * 16
    assert_same(actual, expected)


@pytest.mark.parametrize("mean", [1.0, 1e4])
@pytest.mark.parametrize("masked", [False, True])
def test_batch_norm_in_shard_map(masked, mean):
    """One collective forward and one backward, from the first step and whatever the mean."""
    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))
    x = draw(64, 16, mean=mean)
    dy = draw(64, 16, seed=1)
    where = uneven(masked)
    expected = gradients(batch_norm)(x, SCALE, BIAS, where, dy)
    where = np.ones((64, 1), bool) if where is None else where
    actual = jax.jit(gradients(sharded(mesh)))(x, SCALE, BIAS, where, dy)
    forward, _ = collectives(sharded(mesh), x, SCALE, BIAS, where)
    both, _ = collectives(gradients(sharded(mesh)), x, SCALE, BIAS, where, dy)
    assert (len(forward), len(both)) == (1, 2)
    # Neighbors of 1e4 in float32 are 1e-3 apart, and the means of the two may be such.
    assert_same(actual, expected, spacing=1e-3 if mean > 1 else 0.0)


def test_many_devices_add_up_instead(monkeypatch):
    """Two collectives of the size of the features, however many devices there are."""
    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))
    x = draw(64, 16, mean=1)
    where = uneven(masked=True)
    monkeypatch.setattr(statistics, "_MOST_GATHERED", 7)
    forward, _ = collectives(sharded(mesh), x, SCALE, BIAS, where)
    assert len(forward) == 2
    assert numbers_sent(forward) <= 3 * 16


@pytest.mark.parametrize("spec", [P("d"), P(None, "d")])
def test_batch_renorm_on_an_explicit_mesh_within_the_limits(spec):
    """The rows of the contract are at the limits."""
    x = jnp.asarray(draw(16, 8, mean=1))
    stats = BatchStats(jnp.full(8, 0.5), jnp.full(8, 2.0))
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
