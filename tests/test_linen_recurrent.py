"""Linen cells with locked dropout and zoneout: by hand, and under ``nn.RNN``."""

from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxreg import linen

pytestmark = pytest.mark.slow

KEY = jax.random.key(5)
BATCH, STEPS, FEATURES, HIDDEN = 4, 7, 3, 16
X = jnp.asarray(np.random.default_rng(0).normal(1, 1, (BATCH, STEPS, FEATURES)), jnp.float32)
CELLS = [
    nn.SimpleCell(HIDDEN),
    nn.SimpleCell(HIDDEN, residual=True),
    nn.GRUCell(HIDDEN),
    nn.MGUCell(HIDDEN),
    nn.LSTMCell(HIDDEN),
    nn.OptimizedLSTMCell(HIDDEN),
]
every_cell = pytest.mark.parametrize(
    "cell", CELLS, ids=lambda c: f"{type(c).__name__}{'-residual' * getattr(c, 'residual', False)}"
)


def wrappers(cell, **fields):
    return [
        linen.LockedDropoutCell(cell, 0.4, 0.3, **fields),
        linen.ZoneoutCell(cell, 0.3, **fields),
    ]


class Counting(nn.RNNCellBase):
    """A cell whose state, or whose output, shows what it was given."""

    @nn.compact
    def __call__(self, carry, inputs):
        count, seen = carry
        return (count + 1, seen), (inputs, seen)

    @nn.nowrap
    def initialize_carry(self, rng, input_shape):
        return jnp.zeros((BATCH, HIDDEN)), jnp.ones((BATCH, HIDDEN))

    @property
    def num_feature_axes(self):
        return 1


class Reading(nn.RNNCellBase):
    """A cell of one state that passes on directly and shows what its layers read."""

    @nn.compact
    def __call__(self, carry, inputs):
        read = nn.Dense(HIDDEN, kernel_init=lambda *_: jnp.eye(HIDDEN))(carry)
        return carry, (inputs, read)

    @nn.nowrap
    def initialize_carry(self, rng, input_shape):
        return jnp.ones((BATCH, HIDDEN))

    @property
    def num_feature_axes(self):
        return 1


def run_init(cell, x=X):
    return nn.RNN(cell, split_rngs=cell.split_rngs).init(KEY, x)


def run(cell, x=X, variables=None, rngs=None):
    rnn = nn.RNN(cell, split_rngs=cell.split_rngs)
    variables = run_init(cell, x) if variables is None else variables
    return rnn.apply(variables, x, rngs={"dropout": KEY} if rngs is None else rngs)


@pytest.mark.parametrize("cell", [nn.GRUCell(HIDDEN), nn.LSTMCell(HIDDEN)])
def test_variables_and_evaluation_are_those_of_the_cell(cell):
    plain = nn.RNN(cell)
    expected, variables = plain.init_with_output(KEY, X)
    for wrapped in wrappers(cell, deterministic=True):
        rnn = nn.RNN(wrapped, split_rngs=wrapped.split_rngs)
        jax.tree.map(np.testing.assert_array_equal, rnn.init(KEY, X), variables)
    unchanged = [
        linen.LockedDropoutCell(cell, 0.4, 0.3, deterministic=True),
        linen.LockedDropoutCell(cell, 0.0, 0.0, deterministic=False),
        linen.ZoneoutCell(cell, 0.0, deterministic=False),
    ]
    for wrapped in unchanged:
        y = run(wrapped, variables=variables, rngs={})
        np.testing.assert_array_equal(y, expected)


@every_cell
def test_training_is_random_and_differentiable(cell):
    variables = nn.RNN(cell).init(KEY, X)
    for wrapped in wrappers(cell, deterministic=False):

        @jax.jit
        @jax.value_and_grad
        def loss(variables, key, wrapped=wrapped):
            return jnp.sum(run(wrapped, variables=variables, rngs={"dropout": key}))

        value, gradient = loss(variables, KEY)
        assert value == loss(variables, KEY)[0]
        assert value != loss(variables, jax.random.key(9))[0]
        leaves = jax.tree.leaves(gradient)
        assert all(np.all(np.isfinite(g)) and np.any(g != 0) for g in leaves)


def test_cells_take_other_bits():
    for wrapped in wrappers(nn.GRUCell(HIDDEN), deterministic=False):
        variables = run_init(wrapped)
        y = run(wrapped, variables=variables)
        other = run(wrapped.clone(bits=jax.random.bits), variables=variables)
        assert np.any(y != other)


@pytest.mark.parametrize("cell", [Counting(), Reading()], ids=lambda c: type(c).__name__)
def test_locked_masks_are_the_same_at_all_steps_of_a_call(cell):
    wrapped = linen.LockedDropoutCell(cell, 0.5, 0.25, deterministic=False)

    class Twice(nn.Module):
        def setup(self):
            self.rnn = nn.RNN(wrapped, split_rngs=wrapped.split_rngs, time_major=True)

        def __call__(self, x):
            return self.rnn(x), self.rnn(x)

    ones = jnp.ones((STEPS, BATCH, HIDDEN))
    variables = Twice().init(KEY, ones)
    calls = Twice().apply(variables, ones, rngs={"dropout": KEY})
    for inputs, states in calls:
        np.testing.assert_array_equal(np.unique(inputs), [0, 2])
        np.testing.assert_array_equal(inputs, np.broadcast_to(inputs[:1], inputs.shape))
        for state in states[: 1 if isinstance(cell, Counting) else STEPS]:
            np.testing.assert_allclose(np.unique(state), [0, 4 / 3], rtol=1e-6)
        assert np.any((inputs[0] == 0) != (states[0] == 0))
    (first, first_state), (second, second_state) = calls
    assert np.any(first[0] != second[0])
    assert np.any(first_state[0] != second_state[0])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference_gru(params, x, input_mask, state_mask):
    """GRU of Flax with the masks of Gal on what its six layers read, in float64."""
    params = jax.tree.map(partial(np.asarray, dtype=np.float64), params["cell"])
    h, outputs = np.zeros((BATCH, HIDDEN)), []
    for t in range(STEPS):
        i, d = np.asarray(x[:, t], np.float64) * input_mask, h * state_mask

        def affine(name, value):
            return value @ params[name]["kernel"] + params[name].get("bias", 0)

        r = sigmoid(affine("ir", i) + affine("hr", d))
        z = sigmoid(affine("iz", i) + affine("hz", d))
        n = np.tanh(affine("in", i) + r * affine("hn", d))
        h = (1 - z) * n + z * h
        outputs.append(h)
    return np.stack(outputs, 1)


def reference_lstm(params, x, input_mask, state_mask):
    """LSTM of Flax with the masks of Gal on what its gates read, in float64."""
    params = jax.tree.map(partial(np.asarray, dtype=np.float64), params["cell"])
    c, h, outputs = np.zeros((BATCH, HIDDEN)), np.zeros((BATCH, HIDDEN)), []
    for t in range(STEPS):
        seen, d = np.asarray(x[:, t], np.float64) * input_mask, h * state_mask
        i, f, g, o = (
            seen @ params[f"i{k}"]["kernel"]
            + d @ params[f"h{k}"]["kernel"]
            + params[f"h{k}"]["bias"]
            for k in "ifgo"
        )
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, 1)


@pytest.mark.parametrize(
    ("cell", "reference"),
    [
        (nn.GRUCell(HIDDEN), reference_gru),
        (nn.LSTMCell(HIDDEN), reference_lstm),
        (nn.OptimizedLSTMCell(HIDDEN), reference_lstm),
    ],
)
def test_locked_dropout_is_that_of_the_paper(cell, reference):
    variables = nn.RNN(cell).init(KEY, X)
    wrapped = linen.LockedDropoutCell(cell, 0.5, 0.5, deterministic=False)
    # The masks depend on the key and the shapes alone: another cell shows them.
    probe = linen.LockedDropoutCell(Counting(), 0.5, 0.5, deterministic=False)
    inputs, states = run(probe, jnp.ones_like(X))
    expected = reference(variables["params"], X, inputs[:, 0], states[:, 0])
    np.testing.assert_allclose(run(wrapped, variables=variables), expected, atol=2e-6)


def test_locked_dropout_of_a_gru_stays_bounded():
    """A mask on the direct path too would double what it keeps at each of 200 steps."""
    always = {"gate_fn": lambda x: 0.99 + 0 * x}
    cell = linen.LockedDropoutCell(nn.GRUCell(HIDDEN, **always), 0.0, 0.5, deterministic=False)
    y = run(cell, jnp.ones((1, 200, FEATURES)))
    assert np.all(np.abs(y) <= 1)


def test_zoneout_decides_anew_at_each_step_and_for_each_state():
    cell = linen.ZoneoutCell(Counting(), 0.5, deterministic=False)

    def counts(rngs, **fields):
        rnn = nn.RNN(cell, split_rngs=cell.split_rngs, return_carry=True, **fields)
        (count, _), _ = rnn.apply({}, jnp.ones((BATCH, 100, FEATURES)), rngs=rngs)
        return np.asarray(count)

    drawn = counts({"dropout": KEY})
    # Each unit advances at half of the 100 steps; with one decision for all it is 0 or 100.
    assert abs(drawn.mean() - 50) < 5 * np.sqrt(25 / drawn.size)
    assert 15 < drawn.var() < 40
    assert np.any(drawn != counts({"dropout": jax.random.key(8)}))

    shared = nn.RNN(cell, split_rngs={"params": False, "dropout": False}, return_carry=True)
    (count, _), _ = shared.apply({}, jnp.ones((BATCH, 100, FEATURES)), rngs={"dropout": KEY})
    np.testing.assert_array_equal(np.unique(count), [0, 100])


def test_zoneout_of_one_step():
    """Old or new for each unit of each state; the output is the state; the mean in evaluation."""
    cell = nn.LSTMCell(HIDDEN)
    old = (jnp.full((BATCH, HIDDEN), 3.0), jnp.full((BATCH, HIDDEN), 5.0))
    variables = cell.init(KEY, old, X[:, 0])
    new, _ = cell.apply(variables, old, X[:, 0])
    wrapped = linen.ZoneoutCell(cell, 0.25)
    mixed, output = wrapped.apply(variables, old, X[:, 0], deterministic=False, rng=KEY)
    kept = [np.asarray(a == b) for a, b in zip(mixed, old, strict=True)]
    for mask, a, b in zip(kept, mixed, new, strict=True):
        assert 0 < mask.mean() < 0.6
        np.testing.assert_array_equal(np.asarray(a)[~mask], np.asarray(b)[~mask])
    assert np.any(kept[0] != kept[1])
    np.testing.assert_array_equal(output, mixed[1])
    mean, output = wrapped.apply(variables, old, X[:, 0], deterministic=True)
    for a, b, c in zip(mean, old, new, strict=True):
        np.testing.assert_allclose(a, 0.25 * b + 0.75 * c, rtol=1e-6)
    np.testing.assert_array_equal(output, mean[1])


@pytest.mark.parametrize("make", [lambda c: wrappers(c)[0], lambda c: wrappers(c)[1]])
def test_what_is_forgotten_is_named(make):
    cell = make(nn.LSTMCell(HIDDEN))
    variables = nn.RNN(nn.LSTMCell(HIDDEN)).init(KEY, X)
    rngs = {"dropout": KEY}
    with pytest.raises(ValueError, match='"deterministic" must be passed to the constructor or'):
        nn.RNN(cell, split_rngs=cell.split_rngs).apply(variables, X, rngs=rngs)
    training = cell.clone(deterministic=False)
    with pytest.raises(flax.errors.InvalidRngError, match='needs PRNG for "dropout"'):
        nn.RNN(training).apply(variables, X, rngs=rngs)
    with pytest.raises(flax.errors.InvalidRngError, match='needs PRNG for "dropout"'):
        run(training, variables=variables, rngs={})


def test_a_cell_that_reads_its_state_itself_is_named():
    class Leaky(nn.RNNCellBase):
        @nn.compact
        def __call__(self, carry, inputs):
            carry = 0.5 * carry + nn.Dense(HIDDEN)(inputs)
            return carry, carry

        @nn.nowrap
        def initialize_carry(self, rng, input_shape):
            return jnp.zeros((BATCH, HIDDEN))

        @property
        def num_feature_axes(self):
            return 1

    cell = linen.LockedDropoutCell(Leaky(), 0.5, 0.5, deterministic=False)
    with pytest.raises(ValueError, match=r"`cell` must hand its state to layers .* of Leaky has"):
        run(cell)


def test_zoneout_leaves_counters_alone():
    class Clock(nn.RNNCellBase):
        @nn.compact
        def __call__(self, carry, inputs):
            step, seen = carry
            return (step + 1, seen + 1), seen

    for deterministic in (False, True):
        cell = linen.ZoneoutCell(Clock(), 0.5, deterministic=deterministic)
        (step, seen), _ = cell.apply({}, (jnp.int32(3), jnp.zeros(64)), X[0, 0], rng=KEY)
        assert step == 4
        assert np.mean(seen) < 1


def test_both_around_one_cell_need_two_streams():
    for both in (
        linen.ZoneoutCell(linen.LockedDropoutCell(nn.GRUCell(HIDDEN), 0.5, 0.5), 0.5),
        linen.LockedDropoutCell(linen.ZoneoutCell(nn.GRUCell(HIDDEN), 0.5), 0.5, 0.5),
    ):
        with pytest.raises(ValueError, match=r"`rng_collection` of .* got 'dropout' twice"):
            _ = both.split_rngs
    inner = linen.LockedDropoutCell(nn.GRUCell(HIDDEN), 0.5, 0.5, deterministic=False)
    outer = linen.ZoneoutCell(inner, 0.5, deterministic=False, rng_collection="zoneout")
    assert outer.split_rngs == {"params": False, "dropout": False, "zoneout": True}
    variables = nn.RNN(nn.GRUCell(HIDDEN)).init(KEY, X)
    keys = {"dropout": KEY, "zoneout": jax.random.key(1)}
    y = run(outer, variables=variables, rngs=keys)
    for name in keys:
        other = run(outer, variables=variables, rngs={**keys, name: jax.random.key(2)})
        assert np.any(y != other)


def test_locked_dropout_lies_inside_of_zoneout():
    """The other way round, zoneout would keep what is dropped as the old state."""
    inside = linen.ZoneoutCell(nn.LSTMCell(HIDDEN), 0.5, rng_collection="zoneout")
    cell = linen.LockedDropoutCell(inside, 0.5, 0.5, deterministic=False)
    carry = cell.initialize_carry(KEY, X[:, 0].shape)
    keys = {"params": KEY, "dropout": KEY, "zoneout": KEY}
    variables = nn.LSTMCell(HIDDEN).init(KEY, carry, X[:, 0])
    with pytest.raises(ValueError, match=r"`cell` .* must not be a ZoneoutCell .*; put"):
        cell.apply(variables, carry, X[:, 0], rngs=keys)


def test_the_cells_work_as_others_do():
    """Sequences of different lengths, both directions, the state of ``ConvLSTMCell``."""
    locked, zoned = wrappers(nn.LSTMCell(HIDDEN), deterministic=False)
    rnns = [nn.RNN(cell, split_rngs=cell.split_rngs) for cell in (locked, zoned)]
    both = nn.Bidirectional(*rnns)
    lengths = jnp.array([7, 3, 5, 1])
    y = jax.eval_shape(lambda: both.init_with_output(KEY, X, seq_lengths=lengths)[0])
    assert y.shape == (BATCH, STEPS, 2 * HIDDEN)
    images = jnp.ones((2, 3, 5, 5, 2))
    for cell in wrappers(nn.ConvLSTMCell(4, (3, 3)), deterministic=False):
        y = jax.eval_shape(lambda cell=cell: run(cell, images))
        assert y.shape == (2, 3, 5, 5, 4)
