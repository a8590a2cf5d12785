"""Linen cells with locked dropout and zoneout: by hand, and under ``nn.RNN``."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxreg import linen
from tests.helpers import few, first_of
from tests.trees import assert_equal

KEY = jax.random.key(5)
BATCH = 4
STEPS = 7
FEATURES = 3
HIDDEN = 16
X = np.random.default_rng(0).normal(1, 1, (BATCH, STEPS, FEATURES)).astype(np.float32)
# What cells start from takes long to compile: orthogonal matrices, and truncated normal numbers.
FAST = {
    "kernel_init": nn.initializers.uniform(0.8),
    "recurrent_kernel_init": nn.initializers.uniform(0.3),
}
CELLS = [
    nn.SimpleCell(HIDDEN, **FAST),
    nn.SimpleCell(HIDDEN, **FAST, residual=True),
    nn.GRUCell(HIDDEN, **FAST),
    nn.MGUCell(HIDDEN, **FAST),
    nn.LSTMCell(HIDDEN, **FAST),
    nn.OptimizedLSTMCell(HIDDEN, **FAST),
]
NAMES = [type(cell).__name__ for cell in CELLS]
NAMES[1] += "-residual"


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


def rnn_of(cell, **fields):
    return nn.RNN(cell, split_rngs=cell.split_rngs, **fields)


def run(cell, x=X, variables=None, rngs=None):
    """A compiled pass over a sequence, from new parameters where none are given."""

    @jax.jit
    def forward(variables, x, rngs):
        if variables is None:
            variables = rnn_of(cell).init(KEY, x)
        return rnn_of(cell).apply(variables, x, rngs=rngs)

    return forward(variables, x, {"dropout": KEY} if rngs is None else rngs)


@first_of(
    "cell", [nn.LSTMCell(HIDDEN, **FAST), nn.GRUCell(HIDDEN, **FAST)], ids=["LSTMCell", "GRUCell"]
)
def test_variables_and_evaluation_are_those_of_the_cell(cell):
    unchanged = [
        linen.LockedDropoutCell(cell, 0.4, 0.3, deterministic=True),
        linen.LockedDropoutCell(cell, 0.0, 0.0, deterministic=False),
        linen.ZoneoutCell(cell, 0.0, deterministic=False),
    ]

    @jax.jit
    def both(x):
        plain = nn.RNN(cell).init_with_output(KEY, x)
        return plain, [rnn_of(wrapped).init_with_output(KEY, x) for wrapped in unchanged]

    expected, found = both(X)
    for result in found:
        assert_equal(result, expected)
    training = jax.eval_shape(
        lambda: [rnn_of(w).init(KEY, X) for w in wrappers(cell, deterministic=False)]
    )
    for variables in training:
        assert jax.tree.structure(variables) == jax.tree.structure(expected[1])


@first_of("cell", CELLS, ids=NAMES)
def test_training_is_random_and_differentiable(cell):
    training = wrappers(cell, deterministic=False)

    @jax.jit
    def run(x, seeds):
        variables = nn.RNN(cell).init(KEY, x)
        keys = jax.vmap(jax.random.key)(seeds)

        def loss(variables, wrapped, key):
            return jnp.sum(rnn_of(wrapped).apply(variables, x, rngs={"dropout": key}))

        return [
            jax.vmap(lambda key, w=w: jax.value_and_grad(loss)(variables, w, key))(keys)
            for w in training
        ]

    for (first, again, other), gradients in run(X, np.array([5, 5, 9])):
        assert first == again
        assert first != other
        for gradient in jax.tree.leaves(gradients):
            assert np.all(np.isfinite(gradient))
            assert np.any(gradient[0] != 0)


def test_cells_take_other_bits():
    @jax.jit
    def run(x):
        variables = nn.RNN(nn.SimpleCell(HIDDEN, **FAST)).init(KEY, x)
        cells = wrappers(nn.SimpleCell(HIDDEN, **FAST), deterministic=False)
        return [
            [rnn_of(c).apply(variables, x, rngs={"dropout": KEY}) for c in (cell, other)]
            for cell, other in [(cell, cell.clone(bits=jax.random.bits)) for cell in cells]
        ]

    for y, other in run(X):
        assert np.any(y != other)


class Twice(nn.Module):
    """Two calls of one recurrent network."""

    cell: nn.RNNCellBase

    def setup(self):
        self.rnn = rnn_of(self.cell, time_major=True)

    def __call__(self, x):
        return self.rnn(x), self.rnn(x)


@few("cell", [Reading(), Counting()], ids=["Reading", "Counting"])
def test_locked_masks_are_the_same_at_all_steps_of_a_call(cell):
    model = Twice(linen.LockedDropoutCell(cell, 0.5, 0.25, deterministic=False))

    @jax.jit
    def run(x):
        return model.apply(model.init(KEY, x), x, rngs={"dropout": KEY})

    calls = run(np.ones((STEPS, BATCH, HIDDEN), np.float32))
    for inputs, states in calls:
        np.testing.assert_array_equal(np.unique(inputs), [0, 2])
        np.testing.assert_array_equal(inputs, np.broadcast_to(inputs[:1], inputs.shape))
        for state in states[: 1 if isinstance(cell, Counting) else STEPS]:
            np.testing.assert_allclose(np.unique(state), [0, 4 / 3], rtol=1e-6)
            if isinstance(cell, Reading):
                np.testing.assert_array_equal(state, states[0])
        assert np.any((np.asarray(inputs[0]) == 0) != (np.asarray(states[0]) == 0))
    (first, first_state), (second, second_state) = calls
    assert np.any(first[0] != second[0])
    assert np.any(first_state[0] != second_state[0])


def test_one_rate_of_zero_leaves_the_other_one():
    """Inputs, or states, alone are dropped."""

    @jax.jit
    def run(x):
        cells = [
            linen.LockedDropoutCell(Reading(), *rates, deterministic=False)
            for rates in ((0.5, 0.0), (0.0, 0.5))
        ]
        variables = nn.RNN(Reading()).init(KEY, x)
        return [rnn_of(cell).apply(variables, x, rngs={"dropout": KEY}) for cell in cells]

    inputs, states = run(np.ones((BATCH, STEPS, HIDDEN), np.float32))
    np.testing.assert_array_equal(np.unique(inputs[0]), [0, 2])
    np.testing.assert_array_equal(inputs[1], 1)
    np.testing.assert_array_equal(states[0], 1)
    np.testing.assert_array_equal(np.unique(states[1]), [0, 2])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference_gru(params, x, input_mask, state_mask):
    """GRU of Flax with the masks of Gal on what its six layers read, in float64."""
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params["cell"])
    h = np.zeros((BATCH, HIDDEN))
    outputs = []
    for t in range(STEPS):
        i = np.asarray(x[:, t], np.float64) * input_mask
        d = h * state_mask

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
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params["cell"])
    c = np.zeros((BATCH, HIDDEN))
    h = np.zeros((BATCH, HIDDEN))
    outputs = []
    for t in range(STEPS):
        seen = np.asarray(x[:, t], np.float64) * input_mask
        gates = {
            k: seen @ params[f"i{k}"]["kernel"]
            + h * state_mask @ params[f"h{k}"]["kernel"]
            + params[f"h{k}"]["bias"]
            for k in "ifgo"
        }
        c = sigmoid(gates["f"]) * c + sigmoid(gates["i"]) * np.tanh(gates["g"])
        h = sigmoid(gates["o"]) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, 1)


EQUATIONS = [
    (nn.LSTMCell(HIDDEN, **FAST), reference_lstm),
    (nn.GRUCell(HIDDEN, **FAST), reference_gru),
    (nn.OptimizedLSTMCell(HIDDEN, **FAST), reference_lstm),
]


@first_of(("cell", "reference"), EQUATIONS, ids=[type(cell).__name__ for cell, _ in EQUATIONS])
def test_locked_dropout_is_that_of_the_paper(cell, reference):
    @jax.jit
    def run(x):
        variables = nn.RNN(cell).init(KEY, x)
        wrapped = linen.LockedDropoutCell(cell, 0.5, 0.5, deterministic=False)
        # The masks depend on the key and the shapes alone: another cell shows them.
        probe = linen.LockedDropoutCell(Counting(), 0.5, 0.5, deterministic=False)
        keys = {"dropout": KEY}
        seen = rnn_of(probe).apply({}, jnp.ones_like(x), rngs=keys)
        return variables["params"], seen, rnn_of(wrapped).apply(variables, x, rngs=keys)

    params, (inputs, states), y = run(X)
    expected = reference(params, X, np.float64(inputs[:, 0]), np.float64(states[:, 0]))
    np.testing.assert_allclose(y, expected, atol=2e-6)


def test_locked_dropout_of_a_gru_stays_bounded():
    """A mask on the direct path too would double what it keeps at each of 200 steps."""
    always = {"gate_fn": lambda x: 0.99 + 0 * x}
    cell = linen.LockedDropoutCell(
        nn.GRUCell(HIDDEN, **FAST, **always), 0.0, 0.5, deterministic=False
    )
    y = run(cell, np.ones((1, 200, FEATURES), np.float32))
    assert np.max(np.abs(y)) <= 1
    assert np.max(np.abs(y)) > 0.1


def test_zoneout_decides_anew_at_each_step_and_for_each_state():
    cell = linen.ZoneoutCell(Counting(), 0.5, deterministic=False)

    @jax.jit
    def counts(x, key, other):
        def count(key, split):
            rnn = nn.RNN(cell, split_rngs={"params": False, "dropout": split}, return_carry=True)
            return rnn.apply({}, x, rngs={"dropout": key})[0][0]

        return count(key, split=True), count(other, split=True), count(key, split=False)

    ones = np.ones((BATCH, 100, FEATURES), np.float32)
    assert cell.split_rngs == {"params": False, "dropout": True}
    drawn, others, shared = counts(ones, KEY, jax.random.key(8))
    # Each unit advances at half of the 100 steps; with one decision for all it is 0 or 100.
    assert abs(np.mean(drawn) - 50) < 5 * np.sqrt(25 / drawn.size)
    assert 15 < np.var(drawn) < 40
    assert np.any(drawn != others)
    np.testing.assert_array_equal(np.unique(shared), [0, 100])


def test_zoneout_of_one_step():
    """Old or new for each unit of each state; the output is the state; the mean in evaluation."""
    cell = nn.LSTMCell(HIDDEN, **FAST)
    wrapped = linen.ZoneoutCell(cell, 0.25)
    old = [np.full((BATCH, HIDDEN), value, np.float32) for value in (3, 5)]

    @jax.jit
    def step(old, x):
        variables = cell.init(KEY, old, x)
        drawn = wrapped.apply(variables, old, x, deterministic=False, rng=KEY)
        evaluated = wrapped.apply(variables, old, x, deterministic=True)
        return cell.apply(variables, old, x)[0], drawn, evaluated

    new, (mixed, output), (mean, mean_output) = step(tuple(old), X[:, 0])
    kept = [np.asarray(a == b) for a, b in zip(mixed, old, strict=True)]
    for mask, a, b in zip(kept, mixed, new, strict=True):
        assert 0 < mask.mean() < 0.6
        np.testing.assert_array_equal(np.asarray(a)[~mask], np.asarray(b)[~mask])
    assert np.any(kept[0] != kept[1])
    np.testing.assert_array_equal(output, mixed[1])
    for a, b, c in zip(mean, old, new, strict=True):
        np.testing.assert_allclose(a, 0.25 * b + 0.75 * c, rtol=1e-6)
    np.testing.assert_array_equal(mean_output, mean[1])


@pytest.mark.parametrize("kind", [0, 1], ids=["locked", "zoneout"])
def test_what_is_forgotten_is_named(kind):
    cell = wrappers(nn.LSTMCell(HIDDEN, **FAST))[kind]
    variables = jax.eval_shape(lambda: nn.RNN(nn.LSTMCell(HIDDEN, **FAST)).init(KEY, X))

    def apply(rnn, rngs):
        jax.eval_shape(lambda variables: rnn.apply(variables, X, rngs=rngs), variables)

    with pytest.raises(ValueError, match='"deterministic" must be passed to the constructor or'):
        apply(rnn_of(cell), {"dropout": KEY})
    training = cell.clone(deterministic=False)
    with pytest.raises(flax.errors.InvalidRngError, match='needs PRNG for "dropout"'):
        apply(nn.RNN(training), {"dropout": KEY})
    with pytest.raises(flax.errors.InvalidRngError, match='needs PRNG for "dropout"'):
        apply(rnn_of(training), {})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda cell: linen.ZoneoutCell(cell, 1.5), r"`rate`.*got 1.5"),
        (lambda cell: linen.LockedDropoutCell(cell, 1.5, 0.5), r"`input_rate`.*got 1.5"),
        (lambda cell: linen.LockedDropoutCell(cell, 0.5, 1.5), r"`state_rate`.*got 1.5"),
    ],
)
def test_a_wrong_rate_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(nn.LSTMCell(3))


def test_a_cell_that_reads_its_state_itself_is_named():
    class Leaky(Reading):
        @nn.compact
        def __call__(self, carry, inputs):
            carry = 0.5 * carry + nn.Dense(HIDDEN)(inputs)
            return carry, carry

    cell = linen.LockedDropoutCell(Leaky(), 0.5, 0.5, deterministic=False)
    with pytest.raises(ValueError, match=r"`cell` must pass its state unchanged .* of Leaky reads"):
        run(cell)


def test_zoneout_leaves_counters_alone():
    class Clock(nn.RNNCellBase):
        @nn.compact
        def __call__(self, carry, inputs):
            step, seen = carry
            return (step + 1, seen + 1), seen

    @jax.jit
    def run(carry):
        cell = linen.ZoneoutCell(Clock(), 0.5)
        return [cell.apply({}, carry, X[0, 0], evaluate, KEY)[0] for evaluate in (False, True)]

    for step, seen in run((np.int32(3), np.zeros(64, np.float32))):
        assert step == 4
        assert 0 < np.mean(seen) < 1


def test_both_around_one_cell_need_two_streams():
    for both in (
        linen.ZoneoutCell(linen.LockedDropoutCell(nn.GRUCell(HIDDEN, **FAST), 0.5, 0.5), 0.5),
        linen.LockedDropoutCell(linen.ZoneoutCell(nn.GRUCell(HIDDEN, **FAST), 0.5), 0.5, 0.5),
    ):
        with pytest.raises(ValueError, match=r"`rng_collection` of .* got 'dropout' for both"):
            _ = both.split_rngs
    inner = linen.LockedDropoutCell(nn.SimpleCell(HIDDEN, **FAST), 0.5, 0.5, deterministic=False)
    outer = linen.ZoneoutCell(inner, 0.5, deterministic=False, rng_collection="zoneout")
    assert outer.split_rngs == {"params": False, "dropout": False, "zoneout": True}

    @jax.jit
    def run(dropout, zoneout):
        variables = nn.RNN(nn.SimpleCell(HIDDEN, **FAST)).init(KEY, X)
        return rnn_of(outer).apply(variables, X, rngs={"dropout": dropout, "zoneout": zoneout})

    one = jax.random.key(1)
    two = jax.random.key(2)
    y = run(KEY, one)
    assert np.any(y != run(two, one))
    assert np.any(y != run(KEY, two))


def test_locked_dropout_lies_inside_of_zoneout():
    """The other way round, zoneout would keep what is dropped as the old state."""
    inside = linen.ZoneoutCell(nn.LSTMCell(HIDDEN, **FAST), 0.5, rng_collection="zoneout")
    cell = linen.LockedDropoutCell(inside, 0.5, 0.5, deterministic=False)
    carry = (np.zeros((BATCH, HIDDEN), np.float32), np.zeros((BATCH, HIDDEN), np.float32))
    variables = jax.eval_shape(lambda: nn.LSTMCell(HIDDEN, **FAST).init(KEY, carry, X[:, 0]))
    keys = {"dropout": KEY, "zoneout": KEY}
    with pytest.raises(ValueError, match=r"`cell` .* must not be a ZoneoutCell .*; put"):
        jax.eval_shape(lambda v: cell.apply(v, carry, X[:, 0], rngs=keys), variables)


def test_the_cells_work_as_others_do():
    """Sequences of different lengths, both directions, the state of ``ConvLSTMCell``."""
    cells = wrappers(nn.LSTMCell(HIDDEN, **FAST), deterministic=False)
    both = nn.Bidirectional(*map(rnn_of, cells))
    lengths = np.array([7, 3, 5, 1])
    y = jax.eval_shape(lambda: both.init_with_output(KEY, X, seq_lengths=lengths)[0])
    assert y.shape == (BATCH, STEPS, 2 * HIDDEN)
    images = np.ones((2, 3, 5, 5, 2), np.float32)
    for cell in wrappers(nn.ConvLSTMCell(4, (3, 3)), deterministic=False):
        y = jax.eval_shape(lambda cell=cell: run(cell, images))
        assert y.shape == (2, 3, 5, 5, 4)
