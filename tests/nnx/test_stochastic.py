"""Properties of all random NNX modules: modes, streams of keys and Flax's transformations."""

import copy
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike

from jaxreg import dropout, nnx, penalties
from tests.cases.modules import MODULES
from tests.helpers import few
from tests.trees import different, draw

KEY = jax.random.key(11)
ONES = np.ones((16, 32), np.float32)


@flax_nnx.jit
def run(layer, *inputs):
    return layer(*inputs)


class Net(flax_nnx.Module):
    """A norm and two dropouts."""

    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(32, rngs=rngs)
        self.first = nnx.Dropout(0.5, rngs=rngs)
        self.second = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.second(self.first(self.norm(x)))


def test_train_and_eval_switch_every_module():
    net = Net(flax_nnx.Rngs(0))
    net.eval()
    np.testing.assert_allclose(run(net, ONES), ONES / np.sqrt(1 + 1e-5), rtol=1e-6)
    np.testing.assert_array_equal(net.norm.mean[...], 0)
    net.train()
    x = ONES * draw(16, 1)
    assert different([run(net, x), run(net, x)]) == 2
    assert np.all(np.asarray(net.norm.mean[...]) != 0)


def test_a_view_evaluates_and_shares_the_variables():
    net = Net(flax_nnx.Rngs(0))
    view = flax_nnx.view(net, deterministic=True, use_running_average=True)
    run(net, draw(16, 32, mean=3))
    assert not net.first.deterministic
    assert not net.norm.use_running_average
    assert view.norm.mean is net.norm.mean
    x = draw(16, 32)
    y = run(view, x)
    np.testing.assert_array_equal(run(view, x), y)
    mean = np.asarray(net.norm.mean[...])
    var = np.asarray(net.norm.var[...])
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5), rtol=1e-5, atol=1e-6)


RANDOM = [row for row in MODULES if row.mode == "deterministic"]


@few("row", RANDOM, ids=str)
def test_streams_advance_under_nnx_jit_and_not_under_jax_jit(row):
    """``jax.jit`` in place of ``nnx.jit`` loses the count and repeats the mask."""

    @flax_nnx.jit
    def pair(key):
        rngs = flax_nnx.Rngs(key)
        return [row.nnx(**{**row.fields, "rngs": rngs}) for _ in range(2)]

    layers = pair(KEY)
    before = jax.device_get(layers[0].rngs.count[...])
    repeat = jax.jit(lambda layer, inputs: layer(*inputs))
    assert different_trees(repeat(layers[0], row.inputs) for _ in range(3)) == 1
    np.testing.assert_array_equal(layers[0].rngs.count[...], before)
    drawn = [[run(layer, *row.inputs) for _ in range(9)] for layer in layers]
    assert different_trees(drawn[0]) > 1
    assert different_trees(drawn) == 2
    assert layers[0].rngs.count[...] == before + 9


def different_trees(trees):
    return len({b"".join(np.asarray(a).tobytes() for a in jax.tree.leaves(t)) for t in trees})


def test_a_layer_does_not_use_up_the_stream_that_it_was_made_from():
    rngs = flax_nnx.Rngs(0)
    layer = nnx.Dropout(0.5, rngs=rngs)
    before = rngs.default.count[...]
    y = run(layer, ONES)
    assert rngs.default.count[...] == before
    assert different([y, run(nnx.Dropout(0.5, rngs=rngs), ONES)]) == 2


def test_split_and_merge_continue_where_the_module_stood():
    net = Net(flax_nnx.Rngs(0))
    run(net, ONES)
    graph, state = flax_nnx.split(net)
    merged = flax_nnx.merge(graph, state, copy=True)
    for _ in range(2):
        np.testing.assert_array_equal(run(merged, ONES), run(net, ONES))


SOURCES = {
    "named": lambda key: flax_nnx.Rngs(dropout=key),
    "default": flax_nnx.Rngs,
    "stream": lambda key: flax_nnx.Rngs(dropout=key).dropout,
}


@few("source", SOURCES.values(), ids=SOURCES)
def test_streams_at_the_call_come_before_the_own_one(source):
    @jax.jit
    def call(key):
        layer = nnx.Dropout(0.5, rngs=flax_nnx.Rngs(7))
        rngs = source(key)
        drawn = [layer(ONES, rngs=rngs), layer(ONES, rngs=rngs)]
        same = source(key)
        first = same.dropout() if isinstance(same, flax_nnx.Rngs) else same()
        return drawn, dropout.dropout(first, ONES, rate=0.5)

    drawn, expected = call(KEY)
    assert different(drawn) == 2
    np.testing.assert_array_equal(drawn[0], expected)


@few("key", [KEY, np.array([0, 3], np.uint32)], ids=["typed", "legacy"])
def test_a_key_at_the_call(key):
    @jax.jit
    def call(key):
        layer = nnx.Dropout(0.5, rngs=flax_nnx.Rngs(0), broadcast_dims=-1)
        return layer(ONES, rngs=key), dropout.dropout(key, ONES, rate=0.5, broadcast_axes=-1)

    np.testing.assert_array_equal(*call(key))


def test_a_missing_stream_is_named():
    with pytest.raises(ValueError, match=r"no `rngs` argument .* Dropout; .*nnx\.Rngs"):
        nnx.Dropout(0.5)(ONES)
    with pytest.raises(KeyError, match="No RngStream named 'dropout'"):
        nnx.Dropout(0.5, rngs=flax_nnx.Rngs(params=0))


def test_a_number_is_not_a_stream():
    with pytest.raises(TypeError, match="`rngs` must be a PRNG key or streams, got int"):
        nnx.Dropout(0.5)(ONES, rngs=3)


def test_the_stream_has_a_name():
    @jax.jit
    def both(key, other):
        streams = flax_nnx.Rngs(noise=key, dropout=other, params=other)
        layer = nnx.Dropout(0.5, rng_collection="noise", rngs=streams)
        return layer(ONES), nnx.Dropout(0.5, rngs=flax_nnx.Rngs(dropout=key, params=other))(ONES)

    y, expected = both(KEY, jax.random.key(1))
    assert set(np.unique(y)) == {0, 2}
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("rate", [0, 0.0, np.float32(0)])
def test_a_rate_of_zero_needs_no_key(rate):
    assert nnx.Dropout(rate)(ONES) is ONES


def test_vmap_over_modules():
    @flax_nnx.split_rngs(splits=3)
    @flax_nnx.vmap
    def make(rngs):
        return nnx.Dropout(0.5, rngs=rngs)

    @flax_nnx.jit
    def calls(key):
        layers = make(flax_nnx.Rngs(key))
        call = flax_nnx.vmap(lambda layer, x: layer(x), in_axes=(0, None))
        return [*call(layers, jnp.asarray(ONES)), *call(layers, jnp.asarray(ONES))]

    assert different(calls(KEY)) == 6


def test_split_streams_of_one_module():
    axes = flax_nnx.StateAxes({flax_nnx.RngState: 0, ...: None})

    @flax_nnx.jit
    def calls(layer):
        call = flax_nnx.vmap(lambda layer, x: layer(x), in_axes=(axes, None))
        return flax_nnx.split_rngs(splits=3)(call)(layer, jnp.asarray(ONES))

    assert different(calls(nnx.Dropout(0.5, rngs=flax_nnx.Rngs(0)))) == 3


def test_scan_over_modules():
    @flax_nnx.split_rngs(splits=3)
    @flax_nnx.vmap
    def make(rngs):
        return Net(rngs)

    @flax_nnx.scan(in_axes=(flax_nnx.Carry, 0), out_axes=(flax_nnx.Carry, 0))
    def forward(x, net):
        return x, net.first(jnp.ones_like(x)) + 0 * net.norm(x)

    @flax_nnx.jit
    def go(key, x):
        nets = make(flax_nnx.Rngs(key))
        _, masks = forward(x, nets)
        return masks, nets.norm.mean[...]

    x = draw(16, 32, mean=2)
    masks, means = go(KEY, x)
    assert different(masks) == 3
    np.testing.assert_allclose(means, [0.01 * x.mean(0)] * 3, rtol=1e-4)


@few(("axis_name", "distinct"), [("d", 8), (None, 1)])
def test_axis_name_gives_every_device_its_own_mask(axis_name, distinct):
    layer = nnx.Dropout(0.5, axis_name=axis_name)
    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))
    specs = {"in_specs": (P("d"), P()), "out_specs": P("d")}
    on_devices = jax.shard_map(lambda x, key: layer(x, rngs=key), mesh=mesh, **specs)
    assert different(jax.jit(on_devices)(np.ones((8, 64), np.float32), KEY)) == distinct


class Cell(flax_nnx.RNNCellBase):
    """A cell without parameters."""

    def __call__(self, carry, inputs):
        return carry + inputs, carry + inputs


WITH_CALLS = {
    "ZoneoutCell": lambda: (nnx.ZoneoutCell(Cell(), 0.5, axis_name="d"), (ONES, ONES)),
    "DropConnect": lambda: (
        nnx.DropConnect(flax_nnx.Linear(32, 32, rngs=flax_nnx.Rngs(0)), 0.5, axis_name="d"),
        (ONES,),
    ),
}


@few("build", WITH_CALLS.values(), ids=WITH_CALLS)
def test_modules_with_calls_of_their_own_take_an_axis(build):
    """With ``vmap`` in place of devices: a named axis is a named axis."""

    @jax.jit
    def on_devices(key):
        layer, inputs = build()
        mapped = jax.vmap(
            lambda key: layer(*inputs, rngs=key), in_axes=None, axis_size=2, axis_name="d"
        )
        return mapped(key)

    assert any(np.any(leaf[0] != leaf[1]) for leaf in jax.tree.leaves(on_devices(KEY)))


@flax_nnx.dataclass(eq=False)
class Noise(nnx.Stochastic):
    """A module such as a user writes it."""

    size: ArrayLike = 1.0

    def is_off(self):
        return isinstance(self.size, int) and self.size == 0

    def transform(self, key, x):
        return x + self.size * jax.random.normal(key, x.shape, x.dtype)


def test_a_stochastic_module_of_ones_own():
    layer = Noise(size=0.1, rngs=flax_nnx.Rngs(0))
    drawn = [run(layer, ONES), run(layer, ONES)]
    assert 0 < np.std(drawn[0]) < 0.2
    assert different(drawn) == 2
    layer.eval()
    assert layer(ONES) is ONES
    assert Noise(size=0)(ONES) is ONES

    @jax.jit
    def keyed(key):
        expected = ONES + 0.1 * jax.random.normal(key, ONES.shape)
        return Noise(size=0.1)(ONES, rngs=key), expected

    np.testing.assert_array_equal(*keyed(KEY))


def test_a_module_without_a_transform_raises():
    with pytest.raises(NotImplementedError, match=r"Stochastic must define `transform\(key, x\)`"):
        nnx.Stochastic()(ONES, rngs=KEY)


STRENGTHS = [row for row in RANDOM if row.strength and row.name == row.kind]


@pytest.mark.parametrize("row", STRENGTHS, ids=str)
def test_a_missing_strength_is_named(row):
    def call(key):
        return row.nnx(**{**row.fields, row.strength: None})(*row.inputs, rngs=key)

    message = f"`{row.strength}` must be given to {row.kind} in its constructor or when called"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call, KEY)


@pytest.mark.parametrize("row", RANDOM, ids=str)
def test_a_missing_mode_is_named(row):
    """Also where a strength of zero would need no mode, as in Flax."""
    off = {row.strength: 0.0} if row.strength else {}

    def call(**options):
        layer = row.nnx(**{**row.fields, **off, "deterministic": None})
        return layer(*row.inputs, **options)

    with pytest.raises(ValueError, match=f"`deterministic` must be given to {row.kind} in its"):
        jax.eval_shape(call)
    jax.eval_shape(lambda: call(deterministic=True))


def test_every_argument_of_flax_is_taken():
    for ours, theirs in (
        (nnx.Dropout.__init__, flax_nnx.Dropout.__init__),
        (nnx.Dropout.__call__, flax_nnx.Dropout.__call__),
    ):
        taken = inspect.signature(ours).parameters
        for place, (name, parameter) in enumerate(inspect.signature(theirs).parameters.items()):
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
                assert list(taken).index(name) == place
            if name != "rate":
                assert taken[name].default == parameter.default, name


def test_the_input_may_be_given_by_name():
    assert nnx.Dropout(0.0)(inputs=ONES) is ONES
    assert nnx.ActivityPenalty(penalties.l1, 1.0)(inputs=ONES) is ONES


@few("row", RANDOM, ids=str)
def test_modules_made_alike_are_one_graph(row):
    """Calls of initializers make other functions each time."""
    names = {"kernel_init", "log_var_init"} & set(dir(getattr(nnx, row.kind)))

    def make():
        given = {name: flax_nnx.initializers.constant(0.5) for name in names}
        return row.nnx(**{**row.fields, **given, "rngs": flax_nnx.Rngs(0)})

    graphs = [flax_nnx.graphdef(flax_nnx.eval_shape(make)) for _ in range(2)]
    assert graphs[0] == graphs[1]
    assert hash(graphs[0]) == hash(graphs[1])
    layer = flax_nnx.eval_shape(make)
    assert flax_nnx.graphdef(copy.deepcopy(layer)) == graphs[0]


def listed(table):
    """The paths and types of the rows of a table."""
    rows = [line.split("│")[1:3] for line in table.splitlines() if line.startswith("│")]
    return [(path.strip(), kind.strip()) for path, kind in rows if kind.strip()]


PLAIN = {"width": 200, "force_terminal": False}


@few("row", [row for row in RANDOM if row.kind != "ZoneoutCell"], ids=str)
def test_tabulate_lists_modules_alone(row):
    layer = flax_nnx.eval_shape(lambda: row.nnx(**{**row.fields, "rngs": flax_nnx.Rngs(0)}))
    layer = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), layer)
    table = flax_nnx.tabulate(layer, *row.inputs, console_kwargs=PLAIN)
    kind = "Conv" if row.name.endswith("convolution") else "Linear"
    wrapped = [(row.inside, kind)] if row.inside else []
    assert listed(table) == [("", row.kind), *wrapped]
