"""Population statistics of batch norms against float64 NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx

from jaxreg import linen, nnx
from jaxreg.training import statistics
from tests.helpers import few
from tests.training.helpers import (
    LINEN_NORMS,
    NNX_NORMS,
    Net,
    NnxNet,
    assert_moments,
    net_variables,
    normal,
    of_model,
    some_batches,
    trains,
    variables_of_norm,
)

# Batches of two sizes, so that each count has its weight; a program is compiled for each size.
SIZES = (7, 12, 7)


def linen_statistics(norm, batches, **fields):
    """Statistics of a norm by itself."""
    module = LINEN_NORMS[norm](use_running_average=False, **fields)
    variables = variables_of_norm(batches[0].shape[-1])
    return statistics.recalibrate(trains(module), variables, batches)["batch_stats"]


def nnx_statistics(norm, batches, **fields):
    layer = NNX_NORMS[norm](batches[0].shape[-1], rngs=flax_nnx.Rngs(0), **fields)
    return of_model(statistics.recalibrate_model(layer, batches))


FRAMEWORKS = {"linen": linen_statistics, "nnx": nnx_statistics}


@few(("framework", "norm", "momentum"), [
    ("linen", "jaxreg", 0.99), ("nnx", "jaxreg", 0.99), ("linen", "flax", 0.99),
    ("nnx", "flax", 0.99), ("linen", "jaxreg", 0.0), ("nnx", "flax", 1.0),
])  # fmt: skip
def test_moments_of_all_data_together(framework, norm, momentum):
    batches = some_batches(SIZES, 5, 3)
    data = np.concatenate(batches).astype(np.float64)
    stats = FRAMEWORKS[framework](norm, batches, momentum=momentum)
    assert_moments(stats, data.mean((0, 1)), data.var((0, 1)))
    assert stats["var"].dtype == jnp.float32


@few(("framework", "norm"), [(f, n) for f in ("linen", "nnx") for n in ("jaxreg", "flax")])
def test_a_large_mean_keeps_the_variance(framework, norm):
    """Flax's own batches have a variance of 0 here, which tests/normalization shows."""
    batches = some_batches(SIZES, 500, 1, mean=1e4)
    data = np.concatenate(batches).astype(np.float64)
    stats = FRAMEWORKS[framework](norm, batches)
    assert_moments(stats, data.mean((0, 1)), data.var((0, 1)), rtol=1e-3)


@few("framework", ["linen", "nnx"])
def test_complex_numbers_have_a_real_variance(framework):
    """The means of the batches differ in their phase, whose square would be negative."""
    batches = [
        (rows + 3j * index * (rows[::-1] + 1)).astype(np.complex64)
        for index, rows in enumerate(some_batches(SIZES, 3))
    ]
    if framework == "linen":
        module = linen.BatchNorm(use_running_average=False)
        old = variables_of_norm(3)
        old["batch_stats"]["mean"] = np.zeros(3, np.complex64)
        stats = statistics.recalibrate(trains(module), old, batches)["batch_stats"]
    else:
        layer = nnx.BatchNorm(3, rngs=flax_nnx.Rngs(0))
        # Training makes the mean complex.
        flax_nnx.jit(lambda layer, x: layer(x))(layer, batches[0])
        stats = of_model(statistics.recalibrate_model(layer, batches))
    data = np.concatenate(batches).astype(np.complex128)
    np.testing.assert_allclose(stats["mean"], data.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], data.var(0), rtol=1e-5)
    assert (stats["mean"].dtype, stats["var"].dtype) == (jnp.complex64, jnp.float32)


def test_old_statistics_do_not_matter():
    """Not even where they were lost."""
    batches = some_batches(SIZES, 3)
    data = np.concatenate(batches).astype(np.float64)
    module = linen.BatchNorm(use_running_average=False)
    for old in (np.full(3, 1e8, np.float32), np.full(3, np.nan, np.float32)):
        lost = {**variables_of_norm(3), "batch_stats": {"mean": old, "var": old}}
        new = statistics.recalibrate(trains(module), lost, batches)["batch_stats"]
        assert_moments(new, data.mean(0), data.var(0))


def test_masks_count_elements():
    batches = some_batches(SIZES, 5, 3)
    rates = (0.5, 1.1, -0.1)  # None of the second one is masked in, all of the third.
    masks = [
        normal(*x.shape[:2], 1, seed=seed) > 1.5 * rate
        if 0 < rate < 1
        else np.full((*x.shape[:2], 1), rate < 0)
        for seed, (x, rate) in enumerate(zip(batches, rates, strict=True))
    ]
    data = np.concatenate([x[m[..., 0]] for x, m in zip(batches, masks, strict=True)]).astype(
        np.float64
    )
    pairs = list(zip(batches, masks, strict=True))
    module = linen.BatchNorm(use_running_average=False)

    def apply(variables, batch):
        x, mask = batch
        return module.apply(variables, x, mask=mask, mutable=["batch_stats"])

    stats = statistics.recalibrate(apply, variables_of_norm(3), pairs)["batch_stats"]
    assert_moments(stats, data.mean(0), data.var(0))
    layer = nnx.BatchNorm(3, rngs=flax_nnx.Rngs(0))
    layer = statistics.recalibrate_model(
        layer, pairs, call=lambda layer, batch: layer(batch[0], mask=batch[1])
    )
    assert_moments(of_model(layer), data.mean(0), data.var(0))


def net_reference(params, batches):
    """Deeper norms see the batch as the ones before normalize it; equal counts of all elements."""
    firsts = []
    seconds = []
    for x in batches:
        x = np.float64(x) @ np.float64(params["first"]["kernel"])
        firsts.append(x)
        x = np.maximum((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), 0)
        seconds.append(x @ np.float64(params["second"]["kernel"]))
    together = np.concatenate(firsts), np.concatenate(seconds)
    return [{"mean": x.mean(0), "var": x.var(0)} for x in together]


def test_a_linen_network_gets_the_moments_of_every_norm():
    batches = some_batches(SIZES, 3)
    variables = net_variables()
    traces = []

    def apply(variables, x):
        traces.append(x.shape)
        return trains(Net())(variables, x)

    new = statistics.recalibrate(apply, variables, batches)
    assert traces == [(7, 3), (12, 3)]  # One program for each shape.
    jax.tree.map(np.testing.assert_array_equal, variables, net_variables())
    jax.tree.map(np.testing.assert_array_equal, new["params"], variables["params"])
    assert jax.tree.structure(new) == jax.tree.structure(variables)
    want = net_reference(variables["params"], batches)
    for name, expected in zip(("first_norm", "second_norm"), want, strict=True):
        stats = new["batch_stats"][name]
        np.testing.assert_allclose(stats["mean"], expected["mean"], atol=1e-5)
        np.testing.assert_allclose(stats["var"], expected["var"], rtol=1e-4)


@pytest.mark.programs(24)  # Making a model of NNX costs ten.
def test_an_nnx_network_gets_the_moments_of_every_norm():
    batches = some_batches(SIZES, 3)
    variables = net_variables()
    model = NnxNet(variables)
    result = statistics.recalibrate_model(model, batches)
    np.testing.assert_array_equal(model.first_norm.mean[...], 0)
    assert not hasattr(model.first_norm, "recalibration_count")
    assert type(result.first_norm) is nnx.BatchNorm
    want = net_reference(variables["params"], batches)
    for norm, expected in zip((result.first_norm, result.second_norm), want, strict=True):
        np.testing.assert_allclose(norm.mean[...], expected["mean"], atol=1e-5)
        np.testing.assert_allclose(norm.var[...], expected["var"], rtol=1e-4)


@pytest.mark.programs(24)  # Making a model of NNX costs ten.
def test_frozen_norms_keep_their_statistics():
    batches = some_batches((7,), 3)
    model = Net(frozen=True)
    variables = net_variables()
    stats = {"mean": np.full(4, 0.3, np.float32), "var": np.full(4, 2.0, np.float32)}
    variables["batch_stats"]["second_norm"] = stats
    new = statistics.recalibrate(trains(model), variables, batches)["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, new["second_norm"], stats)
    expected = net_reference(variables["params"], batches)[0]
    np.testing.assert_allclose(new["first_norm"]["mean"], expected["mean"], atol=1e-5)
    net = NnxNet(variables)
    net.second_norm.use_running_average = True
    net = statistics.recalibrate_model(net, batches)
    np.testing.assert_array_equal(net.second_norm.var[...], 2)
    np.testing.assert_allclose(net.first_norm.mean[...], expected["mean"], atol=1e-5)


def test_what_was_not_seen_stays():
    """A feature without an element keeps both; one with a single element its variance."""
    x = np.float32([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    module = linen.BatchNorm(use_running_average=False)
    old = {"mean": np.full(3, 7.0, np.float32), "var": np.full(3, 9.0, np.float32)}

    def apply(variables, x):
        return module.apply(variables, x, mask=mask, mutable=["batch_stats"])

    variables = {**variables_of_norm(3), "batch_stats": old}
    new = statistics.recalibrate(apply, variables, [x])["batch_stats"]
    np.testing.assert_array_equal(new["mean"], [2.5, 2.0, 7.0])
    np.testing.assert_array_equal(new["var"], [2.25, 9.0, 9.0])
    layer = nnx.BatchNorm(3, rngs=flax_nnx.Rngs(0))
    layer.mean[...] = jnp.asarray(old["mean"])
    layer.var[...] = jnp.asarray(old["var"])
    layer = statistics.recalibrate_model(layer, [x], call=lambda layer, x: layer(x, mask=mask))
    np.testing.assert_array_equal(layer.mean[...], new["mean"])
    np.testing.assert_array_equal(layer.var[...], new["var"])


def test_a_norm_that_is_called_twice_sees_both():
    class Twice(flax_linen.Module):
        @flax_linen.compact
        def __call__(self, x):
            norm = linen.BatchNorm(use_running_average=False, name="norm")
            return norm(x), norm(x=2 * x[:2])

    batches = some_batches((7, 7), 3)
    data = np.concatenate([np.concatenate([x, 2 * x[:2]]) for x in batches]).astype(np.float64)
    own = variables_of_norm(3)
    variables = {name: {"norm": values} for name, values in own.items()}
    new = statistics.recalibrate(trains(Twice()), variables, batches)["batch_stats"]["norm"]
    assert_moments(new, data.mean(0), data.var(0))


def test_traced_batches_are_refused():
    apply = trains(linen.BatchNorm(use_running_average=False))

    layer = nnx.BatchNorm(3, rngs=flax_nnx.Rngs(0))

    def of_variables(x):
        return statistics.recalibrate(apply, variables_of_norm(3), [x])

    def of_layer(x):
        return flax_nnx.state(statistics.recalibrate_model(layer, [x]))

    for run in (of_variables, of_layer):
        with pytest.raises(TypeError, match="`batches` must be arrays, got traced ones; recalibr"):
            jax.eval_shape(run, np.ones((7, 3), np.float32))


def test_a_compiled_apply_stays_as_it_was():
    batches = some_batches((7, 7), 3)
    variables = net_variables()
    compiled = jax.jit(trains(Net()))
    expected = compiled(variables, batches[0])
    result = statistics.recalibrate(compiled, variables, batches)["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, compiled(variables, batches[0]), expected)
    want = net_reference(variables["params"], batches)
    np.testing.assert_allclose(result["second_norm"]["var"], want[1]["var"], rtol=1e-4)


def test_partition_metadata_stays():
    fields = {
        f"{name}_init": flax_linen.with_partitioning(init, ("model",))
        for name, init in [
            ("mean", flax_linen.initializers.zeros),
            ("var", flax_linen.initializers.ones),
        ]
    }
    batches = some_batches((7, 7), 3)
    module = linen.BatchNorm(use_running_average=False, **fields)
    variables = jax.jit(module.init)(jax.random.key(0), batches[0])
    new = statistics.recalibrate(trains(module), variables, batches)
    assert flax_linen.get_partition_spec(new) == flax_linen.get_partition_spec(variables)
    data = np.concatenate(batches).astype(np.float64)
    assert_moments(flax_linen.unbox(new)["batch_stats"], data.mean(0), data.var(0))


@pytest.mark.programs(24)  # Making a model of NNX costs ten.
def test_what_cannot_be_recalibrated_raises():
    x = normal(4, 3)
    variables = net_variables()
    recalibrate = statistics.recalibrate
    counted = r"`batches` must contain input for .* got none"
    with pytest.raises(ValueError, match=counted):
        recalibrate(trains(Net()), variables, [])
    with pytest.raises(ValueError, match=counted):
        recalibrate(partial(trains(Net()), train=False), variables, [x])
    with pytest.raises(ValueError, match=r"`variables` must contain statistics .* got none"):
        recalibrate(trains(Net()), {"params": variables["params"]}, [x])
    with pytest.raises(TypeError, match=r"`apply` must return .*updated.*got \w+; call the model"):
        recalibrate(partial(Net().apply, train=False), variables, [x])
    with pytest.raises(TypeError, match=r"`apply` must return .*updated.*got tuple"):
        recalibrate(lambda variables, x: (x, x), variables, [x])
    with pytest.raises(TypeError, match=r"`apply` must return .*updated.*got tuple"):
        recalibrate(lambda variables, x: (x, {"losses": x}), variables, [x])

    with pytest.raises(ValueError, match=r"`model` must contain a BatchNorm .* got none"):
        statistics.recalibrate_model(flax_nnx.Dropout(0.5), [x])
    model = NnxNet(variables)
    with pytest.raises(ValueError, match=counted):
        statistics.recalibrate_model(model, [])
    model.eval()
    with pytest.raises(ValueError, match=counted):
        statistics.recalibrate_model(model, [x])
