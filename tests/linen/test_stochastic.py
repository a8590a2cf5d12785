"""Properties of all random Linen modules: modes, keys and Flax's own transformations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike

from jaxreg import linen, penalties
from jaxreg._trees import map_with_keys
from jaxreg.dropout import dropout
from tests.cases.modules import MODULES
from tests.helpers import few
from tests.trees import different

KEY = jax.random.key(11)
ONES = np.ones((16, 32), np.float32)


def draws(module, inputs=(ONES,), variables=None):
    """A compiled call in training, as a function of the keys."""

    def run(rngs, rng=None):
        given = {} if variables is None else {"params": variables}
        return module.apply(given, *inputs, rngs=rngs, rng=rng)

    return jax.jit(run)


@pytest.mark.parametrize("rate", [0, 0.0, np.float32(0)])
def test_a_rate_of_zero_needs_no_key(rate):
    assert linen.Dropout(rate).apply({}, ONES, deterministic=False) is ONES


def test_the_stream_has_a_name():
    module = linen.Dropout(0.5, deterministic=False, rng_collection="noise")
    y = draws(module)({"noise": KEY, "dropout": jax.random.key(1)})
    expected = draws(linen.Dropout(0.5, deterministic=False))({"dropout": KEY})
    np.testing.assert_array_equal(y, expected)
    assert set(np.unique(y)) == {0, 2}


def test_a_key_at_the_call_comes_before_the_stream():
    run = draws(linen.Dropout(0.5, deterministic=False))
    expected = jax.jit(lambda key: dropout(key, ONES, rate=0.5))(KEY)
    np.testing.assert_array_equal(run({"dropout": jax.random.key(1)}, KEY), expected)


@few("split", [True, False])
@few("lift", ["scan", "vmap"])
def test_lifts_split_the_keys_if_told_to(lift, split):
    """With ``split_rngs={"dropout": False}`` all layers share one mask, silently."""

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, carry, x):
            return carry, linen.Dropout(0.5, deterministic=False)(x)

    rngs = {"dropout": split}
    if lift == "scan":
        lifted = nn.scan(Layer, length=3, split_rngs=rngs)()
    else:
        lifted = nn.vmap(Layer, in_axes=(None, 0), out_axes=(None, 0), split_rngs=rngs)()
    run = jax.jit(lambda key: lifted.apply({}, 0.0, np.ones((3, 64)), rngs={"dropout": key})[1])
    assert different(run(KEY)) == (3 if split else 1)


def test_remat_draws_the_same_mask_again():
    class Net(nn.Module):
        block: type[nn.Module]

        @nn.compact
        def __call__(self, x):
            x = self.block(0.5, deterministic=False, name="drop")(x)
            return nn.Dense(4, name="dense", kernel_init=nn.initializers.ones)(x)

    @jax.jit
    def gradients(x):
        def gradient(block):
            def loss(x):
                y, _ = Net(block).init_with_output({"params": KEY, "dropout": KEY}, x)
                return jnp.sum(jnp.sin(y))

            return jax.grad(loss)(x)

        return gradient(linen.Dropout), gradient(nn.remat(linen.Dropout))

    plain, saved = gradients(ONES)
    assert 0 < np.mean(plain == 0) < 1
    np.testing.assert_allclose(saved, plain, rtol=1e-6)


@few(("axis_name", "distinct"), [("d", 8), (None, 1)])
def test_axis_name_gives_every_device_its_own_mask(axis_name, distinct):
    module = linen.Dropout(0.5, axis_name=axis_name, deterministic=False)
    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))
    specs = {"in_specs": (P("d"), P()), "out_specs": P("d")}
    run = jax.shard_map(lambda x, key: module.apply({}, x, rng=key), mesh=mesh, **specs)
    assert different(jax.jit(run)(np.ones((8, 64), np.float32), KEY)) == distinct
    # Initialization happens outside of the mesh and needs no axis.
    assert not jax.eval_shape(lambda: module.init({"dropout": KEY}, ONES))


WITH_CALLS = [
    (linen.VariationalDense(32, log_var_init=nn.initializers.zeros), (ONES,)),
    (linen.DropConnect(nn.Dense(32), 0.5), (ONES,)),
    (linen.ZoneoutCell(nn.SimpleCell(32), 0.5), (ONES, ONES)),
]


@few(("module", "inputs"), WITH_CALLS, ids=[type(module).__name__ for module, _ in WITH_CALLS])
def test_modules_with_calls_of_their_own_take_an_axis(module, inputs):
    """With ``vmap`` in place of devices: a named axis is a named axis."""
    training = module.clone(deterministic=False, axis_name="d")

    def run(key):
        variables = training.init({"params": KEY}, *inputs)
        return training.apply(variables, *inputs, rngs={"dropout": key})

    on_devices = jax.vmap(run, in_axes=None, axis_size=2, axis_name="d")
    drawn = jax.jit(on_devices)(KEY)
    assert any(np.any(leaf[0] != leaf[1]) for leaf in jax.tree.leaves(drawn))
    # Initialization happens outside of the mesh and needs no axis.
    jax.eval_shape(lambda: training.init({"params": KEY}, *inputs))


def test_layers_and_calls_have_different_masks():
    class Twice(nn.Module):
        def setup(self):
            self.layers = [linen.Dropout(0.5, deterministic=False) for _ in range(2)]

        def __call__(self, x):
            first, second = self.layers
            return first(x), second(x), first(x)

    outputs = jax.jit(lambda key: Twice().apply({}, ONES, rngs={"dropout": key}))(KEY)
    assert different(outputs) == 3


def test_every_leaf_has_its_own_key():
    ones = [np.ones(64, np.float32), {"a": np.ones(64, np.float32)}, np.ones(64, np.float32)]
    run = jax.jit(lambda key: map_with_keys(lambda k, x: dropout(k, x, rate=0.5), key, ones))
    assert different(jax.tree.leaves(run(KEY))) == 3


class Noise(linen.Stochastic):
    """A module such as a user writes it."""

    size: ArrayLike = 1.0

    def is_off(self):  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.size == 0

    def transform(self, key, x):
        return x + self.size * jax.random.normal(key, x.shape, x.dtype)


def test_a_stochastic_module_of_ones_own():
    assert Noise(0.1).apply({}, ONES, deterministic=True) is ONES
    assert Noise(0).apply({}, ONES, deterministic=False) is ONES

    @jax.jit
    def run(key):
        module = Noise(0.1, deterministic=False, rng_collection="noise")
        keyed = module.apply({}, ONES, rng=key)
        streamed = module.apply({}, ONES, rngs={"noise": key})
        return keyed, streamed, ONES + 0.1 * jax.random.normal(key, ONES.shape)

    keyed, streamed, expected = run(KEY)
    np.testing.assert_array_equal(keyed, expected)
    assert 0 < np.std(streamed) < 0.2


def test_a_module_without_a_transform_raises():
    with pytest.raises(NotImplementedError, match=r"Stochastic must define `transform\(key, x\)`"):
        linen.Stochastic().apply({}, ONES, deterministic=False, rng=KEY)


RANDOM = [row for row in MODULES if row.mode == "deterministic"]
STRENGTHS = [row for row in RANDOM if row.strength and row.name == row.kind]


@pytest.mark.parametrize("row", STRENGTHS, ids=str)
def test_a_missing_strength_is_named(row):
    module = row.linen(**{**row.fields, row.strength: None})

    def apply():
        variables = module.init(KEY, *row.inputs, deterministic=True) if row.params else {}
        return module.apply(variables, *row.inputs, deterministic=False, rng=KEY)

    message = f"`{row.strength}` must be given to {row.kind} in its constructor or when called"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(apply)


def test_fields_are_those_of_flax_in_their_order():
    fields = dataclasses.fields(nn.Dropout)
    given = [field for field in fields if field.name not in ("parent", "name")]
    taken = [field for field in dataclasses.fields(linen.Dropout) if not field.kw_only]
    for mine, field in zip(taken, given, strict=False):
        assert mine.name == field.name
        assert field.name == "rate" or mine.default == field.default
    assert len(taken) >= len(given)


def test_the_input_may_be_given_by_name():
    assert linen.Dropout(0.5, (), True, "noise").apply({}, inputs=ONES) is ONES
    assert linen.Dropout().apply({}, ONES, False, None, rate=0.0) is ONES
    assert linen.ActivityPenalty(penalties.l1, 1.0).apply({}, inputs=ONES) is ONES
    dense = linen.DropConnect(nn.Dense(3))
    assert jax.eval_shape(lambda: dense.init(KEY, inputs=ONES, deterministic=True))


class Block(nn.Module):
    """A layer of a stack, which gets its rate at the call."""

    @nn.compact
    def __call__(self, x, rate):
        x = x + self.param("bias", nn.initializers.ones, ())
        x = linen.Dropout(deterministic=False)(x, rate=rate)
        return x, jnp.mean(x == 0)


def test_stacked_layers_with_rates_of_their_own():
    axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True, "dropout": True}}
    stack = nn.scan(Block, **axes, in_axes=0, length=3)()
    rates = np.float32([0, 0.5, 1])

    @jax.jit
    def run(key, rates):
        keys = {"params": key, "dropout": key}
        return stack.init_with_output(keys, ONES, rates)[0][1]

    np.testing.assert_allclose(run(KEY, rates), rates, atol=5 * 0.5 / np.sqrt(ONES.size))


def listed(table):
    """The paths and types of the rows of a table."""
    rows = [line.split("│")[1:3] for line in table.splitlines() if line.startswith("│")]
    return [(path.strip(), kind.strip()) for path, kind in rows if kind.strip()]


PLAIN = {"console_kwargs": {"width": 200, "force_terminal": False}}
INNER = ("layer", "cell")


@pytest.mark.parametrize("row", RANDOM, ids=str)
def test_tabulate_lists_modules_alone(row):
    keys = {"params": KEY, "dropout": KEY}
    for deterministic in (False, True):
        module = row.linen(**row.fields)
        table = nn.tabulate(module, keys, **PLAIN)
        assert listed(table(*row.inputs, deterministic=deterministic)) == [("", row.kind)]


@few("row", RANDOM, ids=str)
def test_tabulate_with_repeated_rows_and_costs(row):
    keys = {"params": KEY, "dropout": KEY}
    options = {"show_repeated": True, "compute_flops": True, "compute_vjp_flops": True, **PLAIN}
    table = nn.tabulate(row.linen(**row.fields), keys, **options)
    inner = [("", type(value).__name__) for name, value in row.of_linen.items() if name in INNER]
    for deterministic in (False, True):
        rows = listed(table(*row.inputs, deterministic=deterministic))
        assert rows == [("", row.kind), *inner]
