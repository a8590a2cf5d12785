"""Population statistics of batch norms against float64 NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx
from jax.sharding import PartitionSpec as P

from jaxreg import linen, nnx
from jaxreg.training import statistics

pytestmark = pytest.mark.slow

KEY = jax.random.key(4)
SIZES = (7, 32, 1, 20)
NORMS = {"flax": flax_linen.BatchNorm, "jaxreg": linen.BatchNorm}
NNX_NORMS = {"flax": flax_nnx.BatchNorm, "jaxreg": nnx.BatchNorm}
every_norm = pytest.mark.parametrize("norm", NORMS)


def draw(*shape, seed=0, mean=0.0):
    return np.random.default_rng(seed).normal(mean, 1.5, shape).astype(np.float32)


def some_batches(*shape, mean=0.0):
    """Batches of different sizes, each around a mean of its own."""
    return [draw(size, *shape, seed=seed, mean=mean + seed) for seed, size in enumerate(SIZES)]


def trains(module):
    return partial(module.apply, mutable=["batch_stats"])


def assert_close(stats, mean, var, rtol=1e-5):
    np.testing.assert_allclose(stats["mean"], mean, rtol=rtol, atol=1e-6)
    np.testing.assert_allclose(stats["var"], var, rtol=rtol)


def recalibrated(norm, batches, **fields):
    """Statistics of a norm by itself, in Linen and in NNX."""
    module = NORMS[norm](use_running_average=False, **fields)
    variables = module.init(KEY, batches[0])
    yield statistics.recalibrate(trains(module), variables, batches)["batch_stats"]
    layer = NNX_NORMS[norm](batches[0].shape[-1], rngs=flax_nnx.Rngs(0), **fields)
    layer = statistics.recalibrate_model(layer, batches)
    yield {"mean": layer.mean[...], "var": layer.var[...]}


@every_norm
@pytest.mark.parametrize("momentum", [0.0, 0.99, 1.0])
def test_moments_of_all_data_together(norm, momentum):
    batches = some_batches(5, 3)
    data = np.concatenate(batches).astype(np.float64)
    for stats in recalibrated(norm, batches, momentum=momentum):
        assert_close(stats, data.mean((0, 1)), data.var((0, 1)))
        assert stats["var"].dtype == jnp.float32


@every_norm
def test_a_large_mean_keeps_the_variance(norm):
    """Flax's own batches have a variance of 0 here, see test_normalization.py."""
    batches = some_batches(500, 1, mean=1e4)
    data = np.concatenate(batches).astype(np.float64)
    for stats in recalibrated(norm, batches):
        assert_close(stats, data.mean((0, 1)), data.var((0, 1)), rtol=1e-3)


def test_many_batches_lose_nothing():
    batches = list(draw(1000, 4, 2, mean=30))
    data = np.concatenate(batches).astype(np.float64)
    for stats in recalibrated("jaxreg", batches):
        assert_close(stats, data.mean(0), data.var(0), rtol=2e-5)


def test_old_statistics_do_not_matter():
    """Not even where they were lost."""
    batches = some_batches(3)
    data = np.concatenate(batches).astype(np.float64)
    module = linen.BatchNorm(use_running_average=False)
    variables = module.init(KEY, batches[0])
    layer = nnx.BatchNorm(3, rngs=flax_nnx.Rngs(0))
    for old in (jnp.full(3, 1e8), jnp.full(3, jnp.nan)):
        lost = {**variables, "batch_stats": {"mean": old, "var": old}}
        new = statistics.recalibrate(trains(module), lost, batches)["batch_stats"]
        assert_close(new, data.mean(0), data.var(0))
        layer.mean[...] = layer.var[...] = old
        found = statistics.recalibrate_model(layer, batches)
        assert_close({"mean": found.mean[...], "var": found.var[...]}, data.mean(0), data.var(0))


def masked(batches):
    """Some elements of each batch: none of the second one, all of the third."""
    rates = (0.5, 1.1, -0.1, 0.2)
    return [
        np.random.default_rng(seed).uniform(size=x.shape[:2]) > rate
        for seed, (x, rate) in enumerate(zip(batches, rates, strict=True))
    ]


def test_masks_count_elements():
    batches = some_batches(5, 3)
    masks = masked(batches)
    data = np.concatenate([x[m] for x, m in zip(batches, masks, strict=True)]).astype(np.float64)
    pairs = list(zip(batches, masks, strict=True))
    module = linen.BatchNorm(use_running_average=False)
    variables = module.init(KEY, batches[0])

    def apply(variables, batch):
        x, mask = batch
        return module.apply(variables, x, mask=mask, mutable=["batch_stats"])

    stats = statistics.recalibrate(apply, variables, pairs)["batch_stats"]
    assert_close(stats, data.mean(0), data.var(0))
    layer = nnx.BatchNorm(3, rngs=flax_nnx.Rngs(0))
    layer = statistics.recalibrate_model(
        layer, pairs, call=lambda layer, batch: layer(batch[0], mask=batch[1])
    )
    assert_close({"mean": layer.mean[...], "var": layer.var[...]}, data.mean(0), data.var(0))


class Net(flax_linen.Module):
    """Two layers with norms, the second of which may be frozen."""

    frozen: bool = False

    @flax_linen.compact
    def __call__(self, x, *, train=True):
        x = flax_linen.Dense(6, name="first")(x)
        x = flax_linen.relu(linen.BatchNorm(not train, name="first_norm")(x))
        x = flax_linen.Dense(4, name="second")(x)
        evaluate = self.frozen or not train
        return flax_linen.BatchNorm(evaluate, name="second_norm")(x)


class NnxNet(flax_nnx.Module):
    """The same in NNX."""

    def __init__(self, variables):
        rngs = flax_nnx.Rngs(0)
        self.first = flax_nnx.Linear(3, 6, rngs=rngs)
        self.first_norm = nnx.BatchNorm(6, rngs=rngs)
        self.second = flax_nnx.Linear(6, 4, rngs=rngs)
        self.second_norm = flax_nnx.BatchNorm(4, rngs=rngs)
        for name, values in {**variables["params"]}.items():
            for leaf, value in {**values, **variables["batch_stats"].get(name, {})}.items():
                getattr(getattr(self, name), leaf)[...] = value

    def __call__(self, x):
        x = jax.nn.relu(self.first_norm(self.first(x)))
        return self.second_norm(self.second(x))


def net_reference(params, batches):
    """Deeper norms see the batch as the ones before normalize it; equal counts of all elements."""
    firsts, seconds = [], []
    for x in batches:
        x = np.float64(x) @ np.float64(params["first"]["kernel"])
        firsts.append(x)
        x = np.maximum((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), 0)
        seconds.append(x @ np.float64(params["second"]["kernel"]))
    together = np.concatenate(firsts), np.concatenate(seconds)
    return [{"mean": x.mean(0), "var": x.var(0)} for x in together]


def test_a_network_in_linen_and_nnx():
    batches = some_batches(3)
    variables = Net().init(KEY, batches[0])
    before = jax.tree.map(np.array, variables)
    new = statistics.recalibrate(trains(Net()), variables, batches)
    jax.tree.map(np.testing.assert_array_equal, variables, before)
    jax.tree.map(np.testing.assert_array_equal, new["params"], before["params"])
    assert jax.tree.structure(new) == jax.tree.structure(variables)

    model = NnxNet(variables)
    result = statistics.recalibrate_model(model, batches)
    np.testing.assert_array_equal(model.first_norm.mean[...], 0)
    assert type(result.first_norm) is nnx.BatchNorm
    names = ("first_norm", "second_norm")
    for name, expected in zip(names, net_reference(before["params"], batches), strict=True):
        norm = getattr(result, name)
        for stats in (new["batch_stats"][name], {"mean": norm.mean[...], "var": norm.var[...]}):
            np.testing.assert_allclose(stats["mean"], expected["mean"], atol=1e-5)
            np.testing.assert_allclose(stats["var"], expected["var"], rtol=1e-4)


def test_frozen_norms_keep_their_statistics():
    batches = some_batches(3)
    model = Net(frozen=True)
    variables = model.init(KEY, batches[0])
    stats = {"mean": jnp.full(4, 0.3), "var": jnp.full(4, 2.0)}
    variables["batch_stats"]["second_norm"] = stats
    new = statistics.recalibrate(trains(model), variables, batches)["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, new["second_norm"], stats)
    assert np.all(new["first_norm"]["mean"] != 0)

    net = NnxNet(variables)
    net.second_norm.use_running_average = True
    net = statistics.recalibrate_model(net, batches)
    np.testing.assert_array_equal(net.second_norm.var[...], 2)
    np.testing.assert_allclose(net.first_norm.mean[...], new["first_norm"]["mean"], atol=1e-6)


def test_what_was_not_seen_stays():
    """A feature without an element keeps both; one with a single element its variance."""
    x, mask = jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), jnp.array([[1, 1, 0], [1, 0, 0]])
    module = linen.BatchNorm(use_running_average=False)
    variables = module.init(KEY, x)
    old = {"mean": jnp.full(3, 7.0), "var": jnp.full(3, 9.0)}

    def apply(variables, x):
        return module.apply(variables, x, mask=mask, mutable=["batch_stats"])

    new = statistics.recalibrate(apply, {**variables, "batch_stats": old}, [x])["batch_stats"]
    np.testing.assert_array_equal(new["mean"], [2.5, 2.0, 7.0])
    np.testing.assert_array_equal(new["var"], [2.25, 9.0, 9.0])
    layer = nnx.BatchNorm(3, rngs=flax_nnx.Rngs(0))
    layer.mean[...], layer.var[...] = old["mean"], old["var"]
    layer = statistics.recalibrate_model(layer, [x], call=lambda layer, x: layer(x, mask=mask))
    np.testing.assert_array_equal(layer.mean[...], new["mean"])
    np.testing.assert_array_equal(layer.var[...], new["var"])


def test_a_norm_that_is_called_twice_sees_both():
    class Twice(flax_linen.Module):
        @flax_linen.compact
        def __call__(self, x):
            norm = linen.BatchNorm(use_running_average=False, name="norm")
            return norm(x), norm(2 * x[:2])

    batches = some_batches(3)
    data = np.concatenate([np.concatenate([x, 2 * x[:2]]) for x in batches]).astype(np.float64)
    variables = Twice().init(KEY, batches[0])
    new = statistics.recalibrate(trains(Twice()), variables, batches)["batch_stats"]["norm"]
    assert_close(new, data.mean(0), data.var(0))


class Body(flax_linen.Module):
    @flax_linen.compact
    def __call__(self, x, _):
        x = flax_linen.Dense(3)(x)
        return linen.BatchNorm(use_running_average=False, name="norm")(x), x


@pytest.mark.parametrize("lift", [flax_linen.remat, flax_linen.jit, lambda body: body])
def test_inside_of_a_scan(lift):
    class Scanned(flax_linen.Module):
        @flax_linen.compact
        def __call__(self, x):
            body = flax_linen.scan(
                lift(Body),
                variable_axes={"params": 0, "batch_stats": 0},
                split_rngs={"params": True},
                length=2,
            )
            return body(name="body")(x, None)[1]

    batches = some_batches(3)
    variables = Scanned().init(KEY, batches[0])
    new = statistics.recalibrate(trains(Scanned()), variables, batches)
    seen = [Scanned().apply(variables, x, mutable=["batch_stats"])[0] for x in batches]
    data = np.concatenate(seen, axis=1).astype(np.float64)
    assert_close(new["batch_stats"]["body"]["norm"], data.mean(1), data.var(1), rtol=1e-4)


def test_a_compiled_apply_stays_as_it_was():
    batches = some_batches(3)
    variables = Net().init(KEY, batches[0])
    compiled = jax.jit(trains(Net()))
    expected = compiled(variables, batches[0])
    results = [statistics.recalibrate(compiled, variables, batches) for _ in range(2)]
    jax.tree.map(np.testing.assert_array_equal, *results)
    jax.tree.map(np.testing.assert_array_equal, compiled(variables, batches[0]), expected)
    uncompiled = statistics.recalibrate(trains(Net()), variables, batches)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), results[0], uncompiled)


def test_one_program_for_each_shape():
    traces = []

    def apply(variables, x):
        traces.append(x.shape)
        return trains(Net())(variables, x)

    batches = [draw(size, 3) for size in (8, 8, 8, 5)]
    statistics.recalibrate(apply, Net().init(KEY, batches[0]), batches)
    assert traces == [(8, 3), (5, 3)]


def test_across_devices():
    """Global batches under plain ``jit``, and ``axis_name`` inside of ``shard_map``."""
    batches = [draw(size, 3, seed=size, mean=size) for size in (8, 32)]
    data = np.concatenate(batches).astype(np.float64)
    mesh = jax.make_mesh((8,), ("d",), (jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, P("d"))
    for axis_name in (None, "d"):
        module = linen.BatchNorm(use_running_average=False, axis_name=axis_name)
        variables = module.init(KEY, batches[0])
        apply = trains(module)
        if axis_name:
            specs = {"in_specs": (P(), P("d")), "out_specs": (P("d"), P())}
            apply = jax.shard_map(apply, mesh=mesh, **specs)
        placed = [jax.device_put(x, sharding) for x in batches]
        new = statistics.recalibrate(apply, variables, placed)["batch_stats"]
        assert_close(new, data.mean(0), data.var(0))


def test_partition_metadata_stays():
    fields = {
        f"{name}_init": flax_linen.with_partitioning(init, ("model",))
        for name, init in [
            ("mean", flax_linen.initializers.zeros),
            ("var", flax_linen.initializers.ones),
        ]
    }
    batches = some_batches(3)
    module = linen.BatchNorm(use_running_average=False, **fields)
    variables = module.init(KEY, batches[0])
    new = statistics.recalibrate(trains(module), variables, batches)
    assert flax_linen.get_partition_spec(new) == flax_linen.get_partition_spec(variables)
    data = np.concatenate(batches).astype(np.float64)
    assert_close(flax_linen.unbox(new)["batch_stats"], data.mean(0), data.var(0))


def test_errors():
    x = draw(4, 3)
    variables = Net().init(KEY, x)
    recalibrate, counted = statistics.recalibrate, r"`batches` must hold elements .* got none"
    with pytest.raises(ValueError, match=counted):
        recalibrate(trains(Net()), variables, [])
    with pytest.raises(ValueError, match=counted):
        recalibrate(partial(trains(Net()), train=False), variables, [x])
    with pytest.raises(ValueError, match=r"`variables` must have the statistics .* got none"):
        recalibrate(trains(Net()), {"params": variables["params"]}, [x])
    with pytest.raises(TypeError, match=r"`apply` must return .*updated.*got \w+; call the model"):
        recalibrate(partial(Net().apply, train=False), variables, [x])

    with pytest.raises(ValueError, match=r"`model` must have a BatchNorm .* got none"):
        statistics.recalibrate_model(flax_nnx.Linear(3, 3, rngs=flax_nnx.Rngs(0)), [x])
    model = NnxNet(variables)
    with pytest.raises(ValueError, match=counted):
        statistics.recalibrate_model(model, [])
    model.eval()
    with pytest.raises(ValueError, match=counted):
        statistics.recalibrate_model(model, [x])
