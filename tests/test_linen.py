"""Linen modules: modes, keys, variables and Flax's own transformations."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike

from jaxreg import dropout, linen

KEY = jax.random.key(11)
ONES = jnp.ones((16, 32))
FIELDS = [
    {},
    {"use_bias": False, "axis": 1},
    {"use_scale": False, "axis": (1, 2), "momentum": 0.5},
    {"dtype": jnp.bfloat16},
    {"param_dtype": jnp.bfloat16, "epsilon": 0.1},
    {"scale_init": nn.initializers.normal(), "bias_init": nn.initializers.normal()},
]


def draw(*shape, seed=0, mean=0.0):
    return jnp.asarray(np.random.default_rng(seed).normal(mean, 1, shape), jnp.float32)


def apply_dropout(module, x=ONES, key=KEY, **kwargs):
    return module.apply({}, x, deterministic=False, rngs={"dropout": key}, **kwargs)


def test_dropout_in_training_and_evaluation():
    module = linen.Dropout(0.5)
    y = apply_dropout(module)
    assert set(np.unique(y)) == {0, 2}
    np.testing.assert_array_equal(module.apply({}, ONES, deterministic=True), ONES)
    np.testing.assert_array_equal(linen.Dropout(0.5, deterministic=True).apply({}, ONES), ONES)
    field = linen.Dropout(0.5, deterministic=False).apply({}, ONES, rngs={"dropout": KEY})
    np.testing.assert_array_equal(field, y)


@pytest.mark.parametrize(
    ("module", "argument"),
    [(linen.Dropout(0.5), "deterministic"), (linen.BatchNorm(), "use_running_average")],
)
def test_the_mode_must_be_given_exactly_once(module, argument):
    with pytest.raises(ValueError, match=f'"{argument}" must be passed to the constructor or'):
        module.init(KEY, ONES)
    both = module.clone(**{argument: True})
    with pytest.raises(ValueError, match=f'"{argument}" was passed to the constructor and at call'):
        both.init(KEY, ONES, **{argument: True})


def test_a_missing_key_raises():
    with pytest.raises(flax.errors.InvalidRngError, match='needs PRNG for "dropout"'):
        linen.Dropout(0.5).apply({}, ONES, deterministic=False)


@pytest.mark.parametrize("rate", [0, 0.0, np.float32(0)])
def test_a_rate_of_zero_needs_no_key(rate):
    np.testing.assert_array_equal(linen.Dropout(rate).apply({}, ONES, deterministic=False), ONES)


@pytest.mark.parametrize("rate", [-0.5, 1.5, float("nan")])
def test_a_wrong_rate_raises_in_the_constructor(rate):
    with pytest.raises(ValueError, match=r"`rate` must be a probability in \[0, 1\], got"):
        linen.Dropout(rate)


def test_a_key_at_the_call():
    expected = dropout.dropout(KEY, ONES, rate=0.5, broadcast_axes=0)
    module = linen.Dropout(0.5, broadcast_dims=0, deterministic=False)
    np.testing.assert_array_equal(module.apply({}, ONES, rng=KEY), expected)


def test_the_stream_has_a_name():
    module = linen.Dropout(0.5, deterministic=False, rng_collection="noise")
    y = module.apply({}, ONES, rngs={"noise": KEY})
    np.testing.assert_array_equal(y, apply_dropout(linen.Dropout(0.5)))
    with pytest.raises(flax.errors.InvalidRngError, match='needs PRNG for "noise"'):
        module.apply({}, ONES, rngs={"dropout": KEY})


def test_dropout_has_no_variables():
    assert not linen.Dropout(0.5).init({"dropout": KEY}, ONES, deterministic=False)


def test_a_traced_rate_is_a_field():
    def fraction(rate):
        return jnp.mean(apply_dropout(linen.Dropout(rate)) == 0)

    fractions = jax.jit(jax.vmap(fraction))(jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(fractions, [0, 0.5, 1], atol=5 * 0.5 / np.sqrt(ONES.size))


def test_a_rate_that_a_module_learns():
    class Learned(nn.Module):
        @nn.compact
        def __call__(self, x):
            rate = self.param("rate", nn.initializers.constant(0.3), ())
            return linen.Dropout(rate, deterministic=False)(x)

    variables = Learned().init({"params": KEY, "dropout": KEY}, ONES)

    def total(variables):
        return jnp.sum(Learned().apply(variables, ONES, rngs={"dropout": KEY}))

    gradient = jax.grad(total)(variables)["params"]["rate"]
    np.testing.assert_allclose(gradient, total(variables) / 0.7, rtol=1e-4)


@pytest.mark.parametrize(("split", "distinct"), [(True, 3), (False, 1)])
def test_scan_splits_the_keys_if_told_to(split, distinct):
    """With ``split_rngs={"dropout": False}`` all layers share one mask, silently."""

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, carry, _):
            return carry, linen.Dropout(0.5)(jnp.ones_like(carry), deterministic=False)

    lifted = nn.scan(Layer, length=3, split_rngs={"dropout": split})()
    _, masks = lifted.apply({}, ONES, None, rngs={"dropout": KEY})
    assert len({np.asarray(mask).tobytes() for mask in masks}) == distinct


@pytest.mark.parametrize(("split", "distinct"), [(True, 4), (False, 1)])
def test_vmap_splits_the_keys_if_told_to(split, distinct):
    module = nn.vmap(linen.Dropout, in_axes=0, split_rngs={"dropout": split})
    x = jnp.ones((4, 64))
    masks = module(0.5, deterministic=False).apply({}, x, rngs={"dropout": KEY})
    assert len({np.asarray(mask).tobytes() for mask in masks}) == distinct


def test_remat_draws_the_same_mask_again():
    class Net(nn.Module):
        block: type[nn.Module]

        @nn.compact
        def __call__(self, x):
            x = self.block(0.5, deterministic=False, name="drop")(x)
            return nn.Dense(4, name="dense")(x)

    def gradient(block):
        net = Net(block)
        variables = net.init({"params": KEY, "dropout": KEY}, ONES)

        def loss(x):
            return jnp.sum(jnp.sin(net.apply(variables, x, rngs={"dropout": KEY})))

        return jax.jit(jax.grad(loss))(ONES)

    plain, saved = gradient(linen.Dropout), gradient(nn.remat(linen.Dropout))
    assert 0 < np.mean(plain == 0) < 1
    np.testing.assert_allclose(saved, plain, rtol=1e-6)


@pytest.mark.parametrize(("axis_name", "distinct"), [("d", 8), (None, 1)])
def test_axis_name_gives_every_device_its_own_mask(axis_name, distinct):
    module = linen.Dropout(0.5, axis_name=axis_name)
    mesh = jax.make_mesh((8,), ("d",), (jax.sharding.AxisType.Auto,))
    run = jax.shard_map(
        lambda x, key: apply_dropout(module, x, key),
        mesh=mesh,
        in_specs=(P("d"), P()),
        out_specs=P("d"),
    )
    masks = np.asarray(jax.jit(run)(jnp.ones((8, 64)), KEY))
    assert len({mask.tobytes() for mask in masks}) == distinct
    # Initialization happens outside of the mesh and needs no axis.
    module.init({"dropout": KEY}, ONES, deterministic=False)


def test_a_stochastic_module_of_ones_own():
    class Noise(linen.Stochastic):
        size: ArrayLike = 1.0

        def is_off(self):
            return self.size == 0

        def transform(self, key, x):
            return x + self.size * jax.random.normal(key, x.shape, x.dtype)

    y = Noise(0.1).apply({}, ONES, deterministic=False, rngs={"dropout": KEY})
    assert 0 < float(jnp.std(y)) < 0.2
    np.testing.assert_array_equal(Noise(0.1).apply({}, ONES, deterministic=True), ONES)
    np.testing.assert_array_equal(Noise(0).apply({}, ONES, deterministic=False), ONES)
    keyed = Noise(0.1, rng_collection="noise").apply({}, ONES, deterministic=False, rng=KEY)
    np.testing.assert_array_equal(keyed, ONES + 0.1 * jax.random.normal(KEY, ONES.shape))


def test_a_module_without_a_transform_raises():
    with pytest.raises(NotImplementedError, match=r"Stochastic must define `transform\(key, x\)`"):
        linen.Stochastic().apply({}, ONES, deterministic=False, rngs={"dropout": KEY})


def train(module, batches, variables, dy):
    """Outputs, gradients and variables of some steps of training."""

    @jax.jit
    def step(variables, x):
        params = {name: tree for name, tree in variables.items() if name != "batch_stats"}

        def loss(params, x):
            y, updated = module.apply(variables | params, x, mutable=["batch_stats"])
            return jnp.sum(y.astype(jnp.float32) * dy), (y, updated)

        gradients, (y, updated) = jax.grad(loss, (0, 1), has_aux=True)(params, x)
        return (y, gradients), variables | updated

    results = []
    for x in batches:
        result, variables = step(variables, x)
        results.append((result, variables))
    return results


def assert_trees_close(ours, theirs, tolerance=1e-5):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        tol = tolerance if a.dtype == jnp.float32 else 2e-2
        np.testing.assert_allclose(*(np.asarray(v, np.float32) for v in (a, b)), tol, tol)


@pytest.mark.parametrize("fields", FIELDS, ids=lambda f: "-".join(f) or "defaults")
def test_batch_norm_is_that_of_flax(fields):
    """Flax's own variables, for several steps, and back into Flax in evaluation."""
    batches = [draw(8, 4, 3, seed=seed, mean=seed) for seed in range(3)]
    dy = draw(8, 4, 3, seed=9)
    theirs = nn.BatchNorm(use_running_average=False, use_fast_variance=False, **fields)
    ours = linen.BatchNorm(use_running_average=False, **fields)
    variables = theirs.init(KEY, batches[0])
    assert_trees_close(ours.init(KEY, batches[0]), variables, 0)
    results = train(ours, batches, variables, dy)
    assert_trees_close(results, train(theirs, batches, variables, dy), 2e-5)
    final = results[-1][1]
    evaluated = [
        jax.jit(module.clone(use_running_average=True).apply)(final, batches[0])
        for module in (ours, theirs)
    ]
    assert_trees_close(*evaluated)


def test_checkpoints_load_both_ways():
    x = draw(8, 3, mean=2)
    layers = [cls(use_running_average=False) for cls in (linen.BatchNorm, nn.BatchNorm)]
    for source, target in (layers, layers[::-1]):
        _, updated = source.apply(source.init(KEY, x), x, mutable=["batch_stats"])
        blob = flax.serialization.to_bytes(source.init(KEY, x) | updated)
        loaded = flax.serialization.from_bytes(target.init(KEY, x), blob)
        outputs = [
            layer.clone(use_running_average=True).apply(loaded, x) for layer in (source, target)
        ]
        np.testing.assert_allclose(*outputs, atol=1e-6)


def test_statistics_change_in_training_only():
    x = draw(8, 3, mean=2)
    layer = linen.BatchNorm(momentum=0.9)
    variables = layer.init(KEY, x, use_running_average=False)
    # The first batch initializes the shapes; it does not count.
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], 0)
    np.testing.assert_array_equal(variables["batch_stats"]["var"], 1)
    _, updated = layer.apply(variables, x, use_running_average=False, mutable=["batch_stats"])
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.1 * x.mean(0), rtol=1e-5)
    _, same = layer.apply(variables, x, use_running_average=True, mutable=["batch_stats"])
    assert_trees_close(same["batch_stats"], variables["batch_stats"], 0)
    with pytest.raises(flax.errors.ModifyScopeVariableError, match="batch_stats"):
        layer.apply(variables, x, use_running_average=False)


def test_batch_norm_with_a_mask_and_devices():
    """Uneven shards under ``shard_map``; initialization needs no mesh."""
    x, mask = draw(8, 4, 2, mean=1), np.arange(4) < np.arange(8)[:, None] % 5
    layer = linen.BatchNorm(use_running_average=False, momentum=0.0, axis_name="d")
    variables = layer.init(KEY, x)

    def run(variables, x, mask):
        return layer.apply(variables, x, mask=mask, mutable=["batch_stats"])

    mesh = jax.make_mesh((8,), ("d",), (jax.sharding.AxisType.Auto,))
    specs = {"in_specs": (P(), P("d"), P("d")), "out_specs": (P("d"), P())}
    _, updated = jax.jit(jax.shard_map(run, mesh=mesh, **specs))(variables, x, mask)
    valid = np.asarray(x, np.float64)[mask]
    np.testing.assert_allclose(updated["batch_stats"]["mean"], valid.mean(0), rtol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["var"], valid.var(0), rtol=1e-5)


def test_partition_metadata_survives_a_step():
    initializers = {"scale": nn.initializers.ones, "bias": nn.initializers.zeros}
    initializers |= {"var": nn.initializers.ones, "mean": nn.initializers.zeros}
    fields = {
        f"{name}_init": nn.with_partitioning(init, ("model",))
        for name, init in initializers.items()
    }
    layer, x = linen.BatchNorm(use_running_average=False, **fields), draw(8, 3, mean=2)
    variables = layer.init(KEY, x)
    specs = nn.get_partition_spec(variables)
    assert set(jax.tree.leaves(specs, is_leaf=lambda s: isinstance(s, P))) == {P("model")}
    y, updated = layer.apply(variables, x, mutable=["batch_stats"])
    assert jax.tree.structure(updated["batch_stats"]) == jax.tree.structure(
        variables["batch_stats"]
    )
    plain = linen.BatchNorm(use_running_average=False)
    expected, expected_updated = plain.apply(nn.unbox(variables), x, mutable=["batch_stats"])
    np.testing.assert_array_equal(y, expected)
    assert_trees_close(nn.unbox(updated), expected_updated, 0)


def test_bfloat16_evaluation_keeps_float32_statistics():
    layer = linen.BatchNorm(use_running_average=True, dtype=jnp.bfloat16)
    x = jnp.full((1, 1), 1000, jnp.float32)
    variables = layer.init(KEY, x)
    stats = {"mean": jnp.full((1,), 1000.5), "var": jnp.full((1,), 0.01)}
    y = layer.apply(variables | {"batch_stats": stats}, x.astype(jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(y, np.float32), -4.9975, rtol=1e-2)
