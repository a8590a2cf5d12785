"""NNX modules: modes, streams of keys, variables and Flax's own transformations."""

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as fnx
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike

from jaxreg import dropout, linen, nnx

KEY = jax.random.key(11)
ONES = jnp.ones((16, 32))
FIELDS = [
    {},
    {"use_bias": False, "axis": 1},
    {"use_scale": False, "momentum": 0.5, "epsilon": 0.1},
    {"param_dtype": jnp.bfloat16},
    {"scale_init": fnx.initializers.normal(), "bias_init": fnx.initializers.normal()},
]


def draw(*shape, seed=0, mean=0.0):
    return jnp.asarray(np.random.default_rng(seed).normal(mean, 1, shape), jnp.float32)


def different(arrays):
    return len({np.asarray(a).tobytes() for a in arrays})


class Net(fnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(32, rngs=rngs)
        self.first = nnx.Dropout(0.5, rngs=rngs)
        self.second = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.second(self.first(self.norm(x)))


def test_dropout_in_training_and_evaluation():
    layer = nnx.Dropout(0.5, rngs=fnx.Rngs(0))
    assert set(np.unique(layer(ONES))) == {0, 2}
    np.testing.assert_array_equal(layer(ONES, deterministic=True), ONES)
    evaluated = nnx.Dropout(0.5, deterministic=True, rngs=fnx.Rngs(0))
    np.testing.assert_array_equal(evaluated(ONES), ONES)
    assert set(np.unique(evaluated(ONES, deterministic=False))) == {0, 2}


def test_train_and_eval_switch_every_module():
    net = Net(fnx.Rngs(0))
    net.eval()
    np.testing.assert_allclose(net(ONES), ONES / np.sqrt(1 + 1e-5), rtol=1e-6)
    np.testing.assert_array_equal(net.norm.mean[...], 0)
    net.train()
    assert different([net(ONES * draw(16, 1)), net(ONES * draw(16, 1))]) == 2
    assert np.all(net.norm.mean[...] != 0)


def test_a_view_evaluates_and_shares_the_variables():
    net = Net(fnx.Rngs(0))
    view = fnx.view(net, deterministic=True, use_running_average=True)
    net(draw(16, 32, mean=3))
    assert not net.first.deterministic
    assert not net.norm.use_running_average
    assert view.norm.mean is net.norm.mean
    x = draw(16, 32)
    np.testing.assert_array_equal(view(x), view(x))
    expected = (x - net.norm.mean[...]) / np.sqrt(net.norm.var[...] + 1e-5)
    np.testing.assert_allclose(view(x), expected, rtol=1e-5, atol=1e-6)


def test_every_layer_and_every_call_draws_its_own_mask():
    """``jax.jit`` in place of ``nnx.jit`` would lose the count and repeat the mask."""
    net = Net(fnx.Rngs(0))
    layers = (net.first, net.second)
    run = fnx.jit(lambda layer, x: layer(x))
    assert different([run(layer, ONES) for layer in layers for _ in range(3)]) == 6


def test_jit_draws_the_masks_of_eager_calls():
    eager, jitted = (nnx.Dropout(0.5, rngs=fnx.Rngs(0)) for _ in range(2))
    run = fnx.jit(lambda layer, x: layer(x))
    for _ in range(2):
        np.testing.assert_array_equal(run(jitted, ONES), eager(ONES))


def test_a_layer_does_not_use_up_the_stream_that_it_was_made_from():
    rngs = fnx.Rngs(0)
    layer = nnx.Dropout(0.5, rngs=rngs)
    before = rngs.default.count[...]
    layer(ONES)
    assert rngs.default.count[...] == before
    assert different([layer(ONES), nnx.Dropout(0.5, rngs=rngs)(ONES)]) == 2


def test_split_and_merge_continue_where_the_module_stood():
    net = Net(fnx.Rngs(0))
    net(ONES)
    graph, state = fnx.split(net)
    merged = fnx.merge(graph, state, copy=True)
    for _ in range(2):
        np.testing.assert_array_equal(merged(ONES), net(ONES))


@pytest.mark.parametrize(
    "source",
    [
        lambda: fnx.Rngs(dropout=KEY),
        lambda: fnx.Rngs(KEY),
        lambda: fnx.Rngs(dropout=KEY).dropout,
    ],
    ids=["named", "default", "stream"],
)
def test_streams_at_the_call(source):
    layer, rngs = nnx.Dropout(0.5), source()
    assert different([layer(ONES, rngs=rngs), layer(ONES, rngs=rngs)]) == 2
    np.testing.assert_array_equal(
        layer(ONES, rngs=source()), dropout.dropout(source_key(source()), ONES, rate=0.5)
    )


def source_key(rngs):
    return rngs.dropout() if isinstance(rngs, fnx.Rngs) else rngs()


@pytest.mark.parametrize("key", [KEY, jax.random.PRNGKey(3)], ids=["typed", "legacy"])
def test_a_key_at_the_call(key):
    layer = nnx.Dropout(0.5, rngs=fnx.Rngs(0), broadcast_dims=-1)
    expected = dropout.dropout(key, ONES, rate=0.5, broadcast_axes=-1)
    np.testing.assert_array_equal(layer(ONES, rngs=key), expected)
    np.testing.assert_array_equal(jax.jit(lambda key: layer(ONES, rngs=key))(key), expected)


def test_a_missing_stream_raises():
    with pytest.raises(ValueError, match=r"`rngs` must be given to Dropout .*nnx\.Rngs"):
        nnx.Dropout(0.5)(ONES)
    with pytest.raises(KeyError, match="No RngStream named 'dropout'"):
        nnx.Dropout(0.5, rngs=fnx.Rngs(params=0))


def test_a_number_is_not_a_stream():
    with pytest.raises(TypeError, match="`rngs` must be"):
        nnx.Dropout(0.5)(ONES, rngs=3)  # pyright: ignore[reportArgumentType]


def test_the_stream_has_a_name():
    layer = nnx.Dropout(0.5, rng_collection="noise", rngs=fnx.Rngs(noise=0, dropout=1))
    expected = nnx.Dropout(0.5, rngs=fnx.Rngs(dropout=0))(ONES)
    assert different([expected, expected * 0]) == 2
    np.testing.assert_array_equal(layer(ONES), expected)


@pytest.mark.parametrize("rate", [0, 0.0, np.float32(0)])
def test_a_rate_of_zero_needs_no_key(rate):
    np.testing.assert_array_equal(nnx.Dropout(rate)(ONES), ONES)


@pytest.mark.parametrize("rate", [-0.5, 1.5, float("nan")])
def test_a_wrong_rate_raises_in_the_constructor(rate):
    with pytest.raises(ValueError, match=r"`rate` must be a probability in \[0, 1\], got"):
        nnx.Dropout(rate)


def test_a_traced_rate():
    """As an attribute, and of a module that is built under ``vmap``."""

    def fraction(rate):
        return jnp.mean(nnx.Dropout(rate, rngs=fnx.Rngs(0))(ONES) == 0)

    rates = jnp.array([0.0, 0.5, 1.0])
    error = 5 * 0.5 / np.sqrt(ONES.size)
    np.testing.assert_allclose(jax.vmap(fraction)(rates), rates, atol=error)

    layer = nnx.Dropout(rates[0], rngs=fnx.Rngs(0))
    run = fnx.jit(lambda layer: jnp.mean(layer(ONES) == 0))
    for rate in rates:
        layer.rate = rate
        np.testing.assert_allclose(run(layer), rate, atol=error)


def test_vmap_over_modules():
    @fnx.split_rngs(splits=3)
    @fnx.vmap
    def make(rngs):
        return nnx.Dropout(0.5, rngs=rngs)

    layers = make(fnx.Rngs(0))
    run = fnx.vmap(lambda layer, x: layer(x), in_axes=(0, None))
    assert different([*run(layers, ONES), *run(layers, ONES)]) == 6


def test_split_streams_of_one_module():
    layer = nnx.Dropout(0.5, rngs=fnx.Rngs(0))
    axes = fnx.StateAxes({fnx.RngState: 0, ...: None})
    run = fnx.vmap(lambda layer, x: layer(x), in_axes=(axes, None))
    assert different(fnx.split_rngs(splits=3)(run)(layer, ONES)) == 3


def test_scan_over_modules():
    @fnx.split_rngs(splits=3)
    @fnx.vmap
    def make(rngs):
        return Net(rngs)

    @fnx.scan(in_axes=(fnx.Carry, 0), out_axes=(fnx.Carry, 0))
    def forward(x, net):
        return x, net.first(jnp.ones_like(x)) + 0 * net.norm(x)

    nets = make(fnx.Rngs(0))
    x = draw(16, 32, mean=2)
    _, masks = forward(x, nets)
    assert different(masks) == 3
    np.testing.assert_allclose(nets.norm.mean[...], [0.01 * x.mean(0)] * 3, rtol=1e-4)


@pytest.mark.parametrize(("axis_name", "distinct"), [("d", 8), (None, 1)])
def test_axis_name_gives_every_device_its_own_mask(axis_name, distinct):
    layer = nnx.Dropout(0.5, axis_name=axis_name)
    mesh = jax.make_mesh((8,), ("d",), (jax.sharding.AxisType.Auto,))
    specs = {"in_specs": (P("d"), P()), "out_specs": P("d")}
    run = jax.shard_map(lambda x, key: layer(x, rngs=key), mesh=mesh, **specs)
    assert different(jax.jit(run)(jnp.ones((8, 64)), KEY)) == distinct


def test_a_stochastic_module_of_ones_own():
    @fnx.dataclass(eq=False)
    class Noise(nnx.Stochastic):
        size: ArrayLike = 1.0

        def is_off(self):
            return isinstance(self.size, int) and self.size == 0

        def transform(self, key, x):
            return x + self.size * jax.random.normal(key, x.shape, x.dtype)

    layer = Noise(size=0.1, rngs=fnx.Rngs(0))
    assert 0 < float(jnp.std(layer(ONES))) < 0.2
    assert different([layer(ONES), layer(ONES)]) == 2
    layer.eval()
    np.testing.assert_array_equal(layer(ONES), ONES)
    np.testing.assert_array_equal(Noise(size=0)(ONES), ONES)
    expected = ONES + 0.1 * jax.random.normal(KEY, ONES.shape)
    np.testing.assert_array_equal(Noise(size=0.1)(ONES, rngs=KEY), expected)


def test_a_module_without_a_transform_raises():
    with pytest.raises(NotImplementedError, match=r"Stochastic must define `transform\(key, x\)`"):
        nnx.Stochastic(rngs=fnx.Rngs(0))(ONES)


@fnx.jit
def step(layer, x, dy):
    def loss(layer, x):
        y = layer(x)
        return jnp.sum(y.astype(jnp.float32) * dy), y

    (dlayer, dx), y = fnx.grad(loss, argnums=(0, 1), has_aux=True)(layer, x)
    return y, dx, fnx.to_pure_dict(dlayer)


def assert_trees_close(ours, theirs, tolerance=1e-5):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        tol = tolerance if a.dtype == jnp.float32 else max(tolerance, 2e-2)
        np.testing.assert_allclose(*(np.asarray(v, np.float32) for v in (a, b)), tol, tol)


def variables(layer):
    return fnx.to_pure_dict(fnx.state(layer))


@pytest.mark.parametrize("fields", FIELDS, ids=lambda f: "-".join(f) or "defaults")
def test_batch_norm_is_that_of_flax(fields):
    theirs = fnx.BatchNorm(3, use_fast_variance=False, rngs=fnx.Rngs(0), **fields)
    ours = nnx.BatchNorm(3, rngs=fnx.Rngs(0), **fields)
    assert_trees_close(variables(ours), variables(theirs), 0)
    dy = draw(8, 3, 3, seed=9)
    for seed in range(3):
        x = draw(8, 3, 3, seed=seed, mean=seed)
        assert_trees_close(step(ours, x, dy), step(theirs, x, dy), 2e-5)
        assert_trees_close(variables(ours), variables(theirs))


def test_a_narrow_result_is_rounded_once():
    """Flax rounds the input before it normalizes."""
    x = draw(64, 3, mean=20)
    wide, narrow = (nnx.BatchNorm(3, dtype=dtype, rngs=fnx.Rngs(0)) for dtype in ("f4", "bfloat16"))
    np.testing.assert_array_equal(narrow(x), wide(x).astype(jnp.bfloat16))
    assert_trees_close(variables(narrow), variables(wide), 0)


def test_states_load_both_ways():
    layers = [cls(3, rngs=fnx.Rngs(0)) for cls in (nnx.BatchNorm, fnx.BatchNorm)]
    x = draw(8, 3, mean=2)
    for source, target in (layers, layers[::-1]):
        source(x)
        fnx.update(target, fnx.state(source))
        outputs = [layer(x, use_running_average=True) for layer in (source, target)]
        np.testing.assert_allclose(*outputs, atol=1e-6)
        assert_trees_close(variables(source), variables(target), 0)


@pytest.mark.parametrize(
    "mask", [None, np.array([1, 1, 0, 1, 0, 1, 1, 1], bool)], ids=["all", "masked"]
)
def test_linen_and_nnx_agree(mask):
    x = draw(8, 3, mean=2)
    ours = nnx.BatchNorm(3, momentum=0.7, rngs=fnx.Rngs(0))
    module = linen.BatchNorm(use_running_average=False, momentum=0.7)
    tree = module.init(KEY, x)
    for _ in range(2):
        expected, updated = module.apply(tree, x, mask=mask, mutable=["batch_stats"])
        tree = tree | updated
        np.testing.assert_array_equal(ours(x, mask=mask), expected)
        for name, stat in tree["batch_stats"].items():
            np.testing.assert_array_equal(getattr(ours, name)[...], stat)


def test_statistics_change_in_training_only():
    x, layer = draw(8, 3, mean=2), nnx.BatchNorm(3, momentum=0.9, rngs=fnx.Rngs(0))
    layer(x, use_running_average=True)
    np.testing.assert_array_equal(layer.mean[...], 0)
    layer(x)
    np.testing.assert_allclose(layer.mean[...], 0.1 * x.mean(0), rtol=1e-5)
    evaluating = nnx.BatchNorm(3, use_running_average=True, rngs=fnx.Rngs(0))
    evaluating(x)
    np.testing.assert_array_equal(evaluating.mean[...], 0)
    evaluating(x, use_running_average=False)
    assert np.all(evaluating.mean[...] != 0)


def test_batch_norm_over_several_axes_and_devices():
    x, mask = draw(8, 4, 2, 3, mean=1), np.arange(4) < np.arange(8)[:, None] % 5
    layer = nnx.BatchNorm((2, 3), axis=(2, 3), momentum=0.0, axis_name="d", rngs=fnx.Rngs(0))
    graph, state = fnx.split(layer)

    def run(state, x, mask):
        layer = fnx.merge(graph, state)
        layer(x, mask=mask)
        return layer.mean[...], layer.var[...]

    mesh = jax.make_mesh((8,), ("d",), (jax.sharding.AxisType.Auto,))
    mapped = jax.shard_map(run, mesh=mesh, in_specs=(P(), P("d"), P("d")), out_specs=P())
    mean, var = jax.jit(mapped)(state, x, mask)
    valid = np.asarray(x, np.float64)[mask]
    np.testing.assert_allclose(mean, valid.mean(0), rtol=1e-4)
    np.testing.assert_allclose(var, valid.var(0), rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_bfloat16_evaluation_keeps_float32_statistics(dtype):
    """Flax rounds the running mean to bfloat16 first: 0.0 where -5 is right."""
    x = jnp.full((1, 1), 1000, dtype)
    outputs = []
    for cls in (nnx.BatchNorm, fnx.BatchNorm):
        layer = cls(1, use_running_average=True, dtype=jnp.bfloat16, rngs=fnx.Rngs(0))
        layer.mean[...] = jnp.full((1,), 1000.5, jnp.float32)
        layer.var[...] = jnp.full((1,), 0.01, jnp.float32)
        outputs.append(float(layer(x)[0, 0]))
        assert layer(x).dtype == jnp.bfloat16
    np.testing.assert_allclose(outputs[0], -4.9975, rtol=1e-2)
    assert outputs[1] == 0


def test_metadata_of_the_variables():
    mesh = jax.make_mesh((2,), ("model",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    names = ("bias", "scale", "stats")
    metadata = {f"{name}_metadata": {"out_sharding": ("model",), "role": name} for name in names}
    with jax.set_mesh(mesh):
        layer = nnx.BatchNorm(4, rngs=fnx.Rngs(0), **metadata)
        layer(draw(8, 4))
    for name, role in [("bias", "bias"), ("scale", "scale"), ("mean", "stats"), ("var", "stats")]:
        variable = getattr(layer, name)
        assert variable.get_metadata()["role"] == role
        assert variable.get_metadata()["out_sharding"] == ("model",)
        assert variable.sharding.spec == P("model")


def test_eval_shape_makes_no_arrays():
    abstract = fnx.eval_shape(lambda: Net(fnx.Rngs(0)))
    assert {type(leaf) for leaf in jax.tree.leaves(variables(abstract))} == {jax.ShapeDtypeStruct}
    shapes = [
        [leaf.shape for leaf in jax.tree.leaves(variables(net))]
        for net in (abstract, Net(fnx.Rngs(0)))
    ]
    assert shapes[0] == shapes[1]


def test_a_linen_checkpoint_holds_the_same_arrays():
    tree = flax.linen.BatchNorm(use_running_average=False).init(KEY, ONES)
    layer = nnx.BatchNorm(32, rngs=fnx.Rngs(0))
    assert_trees_close({**tree["params"], **tree["batch_stats"]}, dict(variables(layer)), 0)
