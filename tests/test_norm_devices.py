"""Norms of sharded arrays: their numbers, and the collectives that they take."""

import re
from functools import partial

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxreg import normalization
from jaxreg.normalization import statistics

pytestmark = pytest.mark.slow

SCALE, BIAS = jnp.linspace(0.5, 1.5, 16), jnp.linspace(-1, 1, 16)
MODES = [AxisType.Auto, AxisType.Explicit]
COLLECTIVE = r" = (.*?) (?:all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all)\("


def draw(*shape, seed=0, mean=0.0):
    return np.random.default_rng(seed).normal(mean, 1, shape).astype(np.float32)


def uneven(masked):
    """No, one or many examples of each of 8 shards; or nothing."""
    return (np.arange(64) % 8) < np.arange(64) // 8 if masked else None


def place(mesh, spec, array):
    return None if array is None else jax.device_put(array, NamedSharding(mesh, spec))


def collectives(function, *arguments):
    """The shapes that each collective of a compiled function sends, and whether all are taken."""
    text = jax.jit(function).lower(*arguments).compile().as_text()
    found = re.findall(COLLECTIVE, text)
    taken = re.findall(COLLECTIVE, text[text.index("\nENTRY") :])
    return found, taken


def numbers_sent(found):
    """How many numbers the collectives send."""
    shapes = re.findall(r"\[([\d,]*)\]", "".join(found))
    return sum(int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes)


def batch_norm(x, scale, bias, where, axis_name=None):
    stats = normalization.init_stats(16)
    return normalization.batch_norm(
        x, stats, scale=scale, bias=bias, where=where, axis_name=axis_name, momentum=0.0
    )


def renorm(x, scale, bias, axis_name=None):
    stats = normalization.init_stats(16)
    return normalization.batch_renorm(
        x, stats, scale=scale, bias=bias, r_max=2.0, d_max=2.0, axis_name=axis_name
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
    """One small collective, a second in a branch where the mean is large, and one backward."""
    mesh = jax.make_mesh((8,), ("d",), (mode,))
    x, dy, where = draw(64, 16, mean=1), draw(64, 16, seed=1), uneven(masked)
    expected = gradients(batch_norm)(x, SCALE, BIAS, where, dy)
    with jax.set_mesh(mesh):
        x, where, dy = (place(mesh, P("d"), a) for a in (x, where, dy))
        actual = jax.jit(gradients(batch_norm))(x, SCALE, BIAS, where, dy)
        forward, taken = collectives(batch_norm, x, SCALE, BIAS, where)
        both, _ = collectives(gradients(batch_norm), x, SCALE, BIAS, where, dy)
    assert (len(forward), len(taken), len(both)) == (2, 1, 3)
    assert numbers_sent(both) <= 7 * 16
    assert_same(actual, expected)


@pytest.mark.parametrize("mean", [1.0, 1e4])
@pytest.mark.parametrize("masked", [False, True])
def test_batch_norm_in_shard_map(masked, mean):
    """One collective forward and one backward, from the first step and whatever the mean."""
    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))
    x, dy, where = draw(64, 16, mean=mean), draw(64, 16, seed=1), uneven(masked)
    expected = gradients(batch_norm)(x, SCALE, BIAS, where, dy)
    where = np.ones(64, bool) if where is None else where
    actual = jax.jit(gradients(sharded(mesh)))(x, SCALE, BIAS, where, dy)
    forward, _ = collectives(sharded(mesh), x, SCALE, BIAS, where)
    both, _ = collectives(gradients(sharded(mesh)), x, SCALE, BIAS, where, dy)
    assert (len(forward), len(both)) == (1, 2)
    # Neighbours of 1e4 in float32 are 1e-3 apart, and the means of the two may be such.
    assert_same(actual, expected, spacing=1e-3 if mean > 1 else 0.0)


@pytest.mark.parametrize("train", [partial(batch_norm, where=None), renorm])
def test_row_19_an_axis_that_was_forgotten(train):
    """Flax 0.12.8, here too, normalizes each device's examples by themselves and says nothing."""
    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))
    x = draw(64, 16, mean=1)

    def local(function):
        return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=P("d"), out_specs=P("d")))

    with pytest.raises(ValueError, match=r"`axis_name` must be given .* along \['d'\]; pass"):
        local(lambda x: train(x, SCALE, BIAS)[0])(x)
    own = local(lambda x: train(x, SCALE, BIAS, axis_name=())[0])(x)
    expected = jnp.concatenate([train(part, SCALE, BIAS)[0] for part in jnp.split(x, 8)])
    np.testing.assert_allclose(own, expected, rtol=1e-6, atol=1e-6)

    layer = flax.linen.BatchNorm(use_running_average=False)
    variables = layer.init(jax.random.key(0), x)
    flax_own = local(lambda x: layer.apply(variables, x, mutable=["batch_stats"])[0])(x)
    flax_all = layer.apply(variables, x, mutable=["batch_stats"])[0]
    assert np.abs(flax_own - flax_all).max() > 0.5


def test_many_devices_add_up_instead(monkeypatch):
    """Two collectives of the size of the features, however many devices there are."""
    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))
    x, where = draw(64, 16, mean=1), uneven(masked=True)
    expected = batch_norm(x, SCALE, BIAS, where)
    monkeypatch.setattr(statistics, "_GATHERED", 7)
    forward, _ = collectives(sharded(mesh), x, SCALE, BIAS, where)
    assert len(forward) == 2
    assert numbers_sent(forward) <= 3 * 16
    actual = sharded(mesh)(x, SCALE, BIAS, where)
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("spec", [P("d"), P(None, None, "d"), P(None, "d")])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_group_norm_of_a_sharded_array(mode, masked, spec):
    """Channels too: groups of 4 channels over devices that hold 2 each."""
    mesh = jax.make_mesh((8,), ("d",), (mode,))
    x = draw(8, 8, 16, mean=1)
    where = draw(8, 8, seed=1) > 0 if masked else None

    def call(x, where):
        return normalization.group_norm(x, groups=4, scale=SCALE, bias=BIAS, where=where)

    expected = call(x, where)
    with jax.set_mesh(mesh):
        placed = place(mesh, spec, x)
        y = jax.jit(call)(placed, place(mesh, P(*spec[:2]), where))
        assert mode == AxisType.Auto or y.sharding.is_equivalent_to(placed.sharding, 3)
        found, _ = collectives(call, placed, place(mesh, P(*spec[:2]), where))
        assert numbers_sent(found) <= 4 * 8 * 16
    np.testing.assert_allclose(y, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("spec", [P("d"), P(None, "d"), P("d", "e")])
@pytest.mark.parametrize("norm", [normalization.layer_norm, normalization.rms_norm])
@pytest.mark.parametrize("mode", MODES)
def test_layer_norm_of_a_sharded_array(mode, norm, spec):
    mesh = jax.make_mesh((4, 2), ("d", "e"), (mode,) * 2)
    x = draw(8, 16, mean=1)
    expected = norm(x, scale=SCALE)
    with jax.set_mesh(mesh):
        y = jax.jit(norm)(place(mesh, spec, x), scale=SCALE)
    np.testing.assert_allclose(y, expected, rtol=2e-6, atol=2e-6)


def test_the_second_pass_is_taken_where_it_is_needed():
    """On either side of the bound, and for one feature out of many, as accurate as float64."""
    for mean in (0, 1, 3.8, 4.0, 30, 1e4):
        x = draw(4096, 3)
        x[:, 1] += mean
        result = jax.jit(lambda x: normalization.moments(x, axis=0))(x)
        np.testing.assert_allclose(result.var, x.astype(np.float64).var(0), rtol=5e-6)
    outlier = np.full((4096, 1), 1e4, np.float32) + draw(4096, 1)
    outlier[0] = 0
    result = normalization.moments(outlier, axis=0)
    np.testing.assert_allclose(result.var, outlier.astype(np.float64).var(0), rtol=5e-6)


def test_only_a_cpu_chooses():
    """A conditional would make a GPU wait for the host. One on a constant is folded away."""
    run = jax.jit(lambda x: normalization.moments(x, axis=0))
    traced = run.trace(jnp.ones((8, 3)))
    branches = {
        platform: traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.case")
        for platform in ("cpu", "cuda", "tpu")
    }
    assert branches["cpu"] == branches["cuda"] + 1 == branches["tpu"] + 1
    assert run.lower(jnp.ones((8, 3))).compile().as_text().count(" conditional(") == 1
