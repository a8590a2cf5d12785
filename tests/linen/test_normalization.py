"""Batch norm as a Linen module: Flax's variables and numbers, modes, masks and devices."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxreg import linen
from jaxreg.linen.normalization import RunningNorm
from tests.helpers import few
from tests.trees import assert_close, assert_equal, draw

KEY = jax.random.key(11)
TRAINING = {"use_running_average": False}
FIELDS = [
    {},
    {"use_bias": False, "axis": 1},
    {"use_scale": False, "axis": (1, 2), "momentum": 0.5},
    {"dtype": jnp.bfloat16},
    {"param_dtype": jnp.bfloat16, "epsilon": 0.1},
    {"scale_init": nn.initializers.normal(), "bias_init": nn.initializers.normal()},
]


def training_step(module, dy):
    """Output, gradients and variables of a step of training."""

    def step(variables, x):
        params = {name: tree for name, tree in variables.items() if name != "batch_stats"}

        def loss(params, x):
            y, updated = module.apply(variables | params, x, mutable=["batch_stats"])
            return jnp.sum(y.astype(jnp.float32) * dy), (y, updated)

        gradients, (y, updated) = jax.grad(loss, (0, 1), has_aux=True)(params, x)
        return variables | updated, (y, gradients)

    return step


@few("fields", FIELDS, ids=lambda fields: "-".join(fields) or "defaults")
def test_batch_norm_is_that_of_flax(fields):
    """Flax's own variables, for several steps, and back into Flax in evaluation."""
    batches = np.stack([draw(8, 4, 3, seed=seed, mean=seed) for seed in range(3)])
    theirs = nn.BatchNorm(**TRAINING, use_fast_variance=False, **fields)
    ours = linen.BatchNorm(**TRAINING, **fields)

    @jax.jit
    def run(key, batches):
        started = [module.init(key, batches[0]) for module in (ours, theirs)]
        found = []
        for module in (ours, theirs):
            step = training_step(module, draw(8, 4, 3, seed=9))
            final, results = jax.lax.scan(step, started[1], batches)
            evaluated = module.clone(use_running_average=True).apply(final, batches[0])
            found.append((final, results, evaluated))
        return started, found

    started, found = run(KEY, batches)
    assert_close(*started, 0)
    assert_close(*found, 2e-5)


def test_checkpoints_load_both_ways():
    x = draw(8, 3, mean=2)
    layers = [cls(**TRAINING) for cls in (linen.BatchNorm, nn.BatchNorm)]

    @jax.jit
    def train(key):
        found = []
        for layer in layers:
            variables = layer.init(key, x)
            found.append(variables | layer.apply(variables, x, mutable=["batch_stats"])[1])
        return found

    @jax.jit
    def evaluate(variables):
        return [layer.clone(use_running_average=True).apply(variables, x) for layer in layers]

    trained = train(KEY)
    for source, target in (trained, trained[::-1]):
        loaded = flax.serialization.from_bytes(target, flax.serialization.to_bytes(source))
        np.testing.assert_allclose(*evaluate(loaded), atol=1e-6)


def test_statistics_change_in_training_only():
    x = draw(8, 3, mean=2)
    layer = linen.BatchNorm(momentum=0.9)

    @jax.jit
    def run(x):
        made = layer.init(KEY, x, use_running_average=False)
        found = [
            layer.apply(made, x, use_running_average=evaluate, mutable=["batch_stats"])[1]
            for evaluate in (False, True)
        ]
        return made, *found

    made, trained, evaluated = run(x)
    # The first batch initializes the shapes; it does not count.
    assert_equal(made["batch_stats"], {"mean": np.zeros(3), "var": np.ones(3)})
    stats = trained["batch_stats"]
    np.testing.assert_allclose(stats["mean"], 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * x.var(0), rtol=1e-5)
    assert_equal(evaluated["batch_stats"], made["batch_stats"])
    with pytest.raises(flax.errors.ModifyScopeVariableError, match="batch_stats"):
        jax.eval_shape(lambda: layer.apply(made, x, use_running_average=False))


STARTS = {"mean": 2.0, "var": 3.0, "scale": 4.0, "bias": 5.0}


def test_initializers_are_fields():
    inits = {f"{name}_init": nn.initializers.constant(value) for name, value in STARTS.items()}
    made = jax.jit(linen.BatchNorm(**TRAINING, **inits).init)(KEY, draw(8, 3))
    assert_equal(made["batch_stats"], {name: np.full(3, STARTS[name]) for name in ("mean", "var")})
    assert_equal(made["params"], {name: np.full(3, STARTS[name]) for name in ("scale", "bias")})


def test_masked_statistics_count_elements_across_devices():
    """Uneven shards under ``shard_map``; initialization needs no mesh."""
    x = draw(8, 4, 2, mean=1)
    mask = (np.arange(4) < np.arange(8)[:, None] % 5)[..., None]
    layer = linen.BatchNorm(**TRAINING, momentum=0.0, axis_name="d")
    variables = jax.jit(layer.init)(KEY, x)

    def run(variables, x, mask):
        return layer.apply(variables, x, mask=mask, mutable=["batch_stats"])

    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))
    specs = {"in_specs": (P(), P("d"), P("d")), "out_specs": (P("d"), P())}
    _, updated = jax.jit(jax.shard_map(run, mesh=mesh, **specs))(variables, x, mask)
    valid = np.asarray(x, np.float64)[mask[..., 0]]
    np.testing.assert_allclose(updated["batch_stats"]["mean"], valid.mean(0), rtol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["var"], valid.var(0), rtol=1e-5)


def partitioned(names):
    """Initializers of parameters along an axis of a mesh."""
    start = {"scale": nn.initializers.ones, "var": nn.initializers.ones}
    return {
        f"{name}_init": nn.with_partitioning(start.get(name, nn.initializers.zeros), ("model",))
        for name in names
    }


def test_partition_metadata_survives_a_step():
    layer = linen.BatchNorm(**TRAINING, **partitioned(["scale", "bias", "mean", "var"]))
    plain = linen.BatchNorm(**TRAINING)
    x = draw(8, 3, mean=2)

    @jax.jit
    def run(x):
        variables = layer.init(KEY, x)
        stepped = layer.apply(variables, x, mutable=["batch_stats"])
        return variables, stepped, plain.apply(nn.unbox(variables), x, mutable=["batch_stats"])

    variables, (y, updated), (expected, expected_updated) = run(x)
    specs = nn.get_partition_spec(variables)
    assert set(jax.tree.leaves(specs, is_leaf=lambda s: isinstance(s, P))) == {P("model")}
    before, after = variables["batch_stats"], updated["batch_stats"]
    assert jax.tree.structure(after) == jax.tree.structure(before)
    np.testing.assert_array_equal(y, expected)
    assert_equal(nn.unbox(updated), expected_updated)


def test_bfloat16_evaluation_keeps_float32_statistics():
    layer = linen.BatchNorm(use_running_average=True, dtype=jnp.bfloat16)
    params = {"scale": np.ones(1, np.float32), "bias": np.zeros(1, np.float32)}
    stats = {"mean": np.full(1, 1000.5, np.float32), "var": np.full(1, 0.01, np.float32)}
    x = np.full((1, 1), 1000, jnp.bfloat16)
    y = jax.jit(layer.apply)({"params": params, "batch_stats": stats}, x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(y, np.float32), -4.9975, rtol=1e-2)


def test_statistics_of_complex_numbers_are_those_of_flax():
    """After a step, and in evaluation; ours are complex from the start, and so may be scanned."""
    x = (draw(8, 3, mean=2) + 1j * draw(8, 3, seed=1)) + 0
    ours = linen.BatchNorm(**TRAINING, momentum=0.5)
    theirs = nn.BatchNorm(**TRAINING, momentum=0.5)

    @jax.jit
    def run(x):
        started = ours.init(KEY, x)
        found = []
        for layer in (ours, theirs):
            y, updated = layer.apply(started, x, mutable=["batch_stats"])
            evaluated = layer.clone(use_running_average=True).apply(started | updated, x)
            found.append((y, evaluated, updated))
        return started, found

    started, found = run(x)
    assert started["batch_stats"]["mean"].dtype == np.complex64
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *found)


def test_a_model_in_bfloat16_keeps_float32_statistics():
    x = draw(8, 3, mean=10).astype(jnp.bfloat16)
    layer = linen.BatchNorm(**TRAINING)

    @jax.jit
    def run(x):
        cast = jax.tree.map(lambda a: a.astype(jnp.bfloat16), layer.init(KEY, x))
        y, updated = layer.apply(cast, x, mutable=["batch_stats"])
        return y, updated["batch_stats"]

    y, stats = run(x)
    assert y.dtype == jnp.bfloat16
    assert {a.dtype for a in stats.values()} == {np.dtype("float32")}
    np.testing.assert_allclose(stats["mean"], 0.01 * x.astype("f4").mean(0), rtol=1e-5)


def test_ddof_and_the_offset_of_the_factor_are_passed_on():
    x = draw(8, 3, mean=2)
    plain = linen.BatchNorm(**TRAINING, momentum=0.0)
    layer = linen.BatchNorm(**TRAINING, momentum=0.0, ddof=1, scale_offset=1.0)

    @jax.jit
    def run(x):
        variables = layer.init(KEY, x)
        return [a.apply(variables, x, mutable=["batch_stats"]) for a in (plain, layer)]

    (y, stats), (twice, unbiased) = run(x)
    np.testing.assert_allclose(twice, 2 * y, rtol=1e-6)
    ratio = unbiased["batch_stats"]["var"] / stats["batch_stats"]["var"]
    np.testing.assert_allclose(ratio, 8 / 7, rtol=1e-6)


def test_groups_of_devices_are_those_of_flax():
    x = draw(4, 8, 3, mean=2)
    fields = {**TRAINING, "axis_name": "d", "axis_index_groups": [[0, 3], [2, 1]]}
    layers = [place.BatchNorm(**fields) for place in (linen, nn)]

    def run(x):
        variables = layers[0].init(KEY, x)
        return [layer.apply(variables, x, mutable=["batch_stats"]) for layer in layers]

    assert_close(*jax.pmap(run, axis_name="d")(x), 2e-5)


def test_a_mask_of_features_and_one_that_does_not_fit():
    x = draw(8, 3, mean=2)
    mask = np.array([True, False, True])
    layer = linen.BatchNorm(**TRAINING, momentum=0.0)
    run = jax.jit(lambda x: layer.apply(layer.init(KEY, x), x, mask=mask, mutable=["batch_stats"]))
    stats = run(x)[1]["batch_stats"]
    np.testing.assert_allclose(stats["mean"], np.where(mask, x.mean(0), 0), rtol=1e-5)
    with pytest.raises(ValueError, match=r"`mask` must broadcast to the shape .*got shape \(8,\)"):
        jax.eval_shape(lambda: layer.init(KEY, x, mask=np.ones(8, bool)))


@pytest.mark.parametrize("at", [{}, {"use_running_average": None}])
def test_a_missing_mode_is_asked_for(at):
    with pytest.raises(ValueError, match="use_running_average"):
        jax.eval_shape(lambda: linen.BatchNorm().init(KEY, draw(8, 3), **at))


def test_a_running_norm_without_a_function_raises():
    with pytest.raises(NotImplementedError):
        RunningNorm()._in_training()


def test_integers_are_rejected():
    with pytest.raises(TypeError, match="`x` must have a floating-point dtype, got int32"):
        linen.BatchNorm(**TRAINING).init(KEY, np.ones((2, 3), np.int32))
