"""NNX cells with dropout and zoneout between their states, inside ``flax.nnx.RNN``."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

from jaxreg import dropout, nnx
from tests.helpers import few, first_of
from tests.trees import assert_close, different

KEY = jax.random.key(15)
X = np.sin(np.arange(1.0, 16 * 6 * 4 + 1)).reshape(16, 6, 4).astype(np.float32)
SEQUENCE = np.ones((8, 5, 32), np.float32)
# What cells start from takes long to compile: orthogonal matrices, and truncated normal numbers.
FAST = {
    "kernel_init": flax_nnx.initializers.uniform(0.8),
    "recurrent_kernel_init": flax_nnx.initializers.uniform(0.3),
}


class Passes(flax_nnx.Module):
    """A layer that does nothing."""

    def __call__(self, x):
        return x


class Probe(flax_nnx.RNNCellBase):
    """A cell that keeps its state and puts out what it and its layer see."""

    @property
    def num_feature_axes(self):
        return 1

    def __init__(self):
        self.layer = Passes()

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return jnp.ones(input_shape)

    def __call__(self, carry, inputs):
        return carry, jnp.stack([inputs, self.layer(carry), carry])


class Counter(flax_nnx.RNNCellBase):
    """A cell of two states that grow by one at each step; the second one is the output."""

    @property
    def num_feature_axes(self):
        return 1

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return jnp.zeros(input_shape), jnp.zeros(input_shape)

    def __call__(self, carry, inputs):
        carry = tuple(state + 1 for state in carry)
        return carry, carry[1]


def locked(cell, rngs, rate=0.5):
    return nnx.LockedDropoutCell(cell, rate, rate, rngs=rngs)


def zoned(cell, rngs, rate=0.5):
    return nnx.ZoneoutCell(cell, rate, rngs=rngs)


def both(cell, rngs, rate=0.5):
    return locked(zoned(cell, rngs, rate), rngs, rate)


def other_way_round(cell, rngs, rate=0.5):
    return zoned(locked(cell, rngs, rate), rngs, rate)


def cell_of(kind, rngs, inputs=4, features=6):
    return kind(inputs, features, **FAST, rngs=rngs)


@few("broadcast_rngs", [True, None])
def test_locked_masks_last_for_a_call(broadcast_rngs):
    @jax.jit
    def run(key):
        cell = nnx.LockedDropoutCell(Probe(), 0.5, 0.75, rngs=flax_nnx.Rngs(key))
        rnn = flax_nnx.RNN(cell, broadcast_rngs=broadcast_rngs)
        return [rnn(jnp.asarray(SEQUENCE)) for _ in range(2)]

    # [call, kind, example, time, feature]: the time axis is where it is in the inputs.
    seen = np.stack([np.moveaxis(np.asarray(call), 1, 2) for call in run(KEY)])
    inputs, states, carry = np.moveaxis(seen, 1, 0)
    assert set(np.unique(inputs)) == {0, 2}
    assert set(np.unique(states)) == {0, 4}
    np.testing.assert_array_equal(carry, 1)
    for mask in (inputs, states):
        np.testing.assert_array_equal(mask, np.broadcast_to(mask[:, :, :1], mask.shape))
        assert different(mask[:, :, 0].reshape(16, 32)) == 16  # calls and examples
    # From the same bits, the higher rate would drop all that the lower one drops.
    assert np.any((states != 0) & (inputs == 0))


def test_locked_masks_are_those_of_the_function():
    @jax.jit
    def run(key, x):
        cell = nnx.LockedDropoutCell(
            Probe(), 0.5, 0.25, bits=jax.random.bits, rngs=flax_nnx.Rngs(key)
        )
        carry = cell.initialize_carry((8, 32))
        masks = []
        for keys, rate in zip(carry.keys, (0.5, 0.25), strict=True):
            mask = partial(dropout.locked_dropout, rate=rate, time_axis=0, bits=jax.random.bits)
            masks.append(jax.vmap(mask)(keys, x))
        return flax_nnx.RNN(cell)(x, initial_carry=carry), masks

    seen, masks = run(KEY, SEQUENCE)
    np.testing.assert_array_equal(np.moveaxis(np.asarray(seen), 1, 2)[:2], masks)


def test_a_locked_sequence_in_two_parts():
    @jax.jit
    def run(key, x):
        rnn = flax_nnx.RNN(
            locked(cell_of(flax_nnx.GRUCell, flax_nnx.Rngs(key), 4, 4), flax_nnx.Rngs(key))
        )
        start = rnn.cell.initialize_carry((16, 4), flax_nnx.Rngs(0))
        whole = rnn(x, initial_carry=start)
        carry, first = rnn(x[:, :2], initial_carry=start, return_carry=True)
        second = rnn(x[:, 2:], initial_carry=carry)
        return whole, jnp.concatenate([first, second], 1), [rnn(x), rnn(x)]

    whole, parts, others = run(KEY, X)
    assert_close(parts, whole, 2e-6)
    assert different([*others, whole]) == 3


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(weights, x, h, input_mask, state_mask):
    """The equations of the cell, in float64, with masks where the layers read."""
    wi = weights["dense_i"]["kernel"]
    bi = weights["dense_i"]["bias"]
    wh = weights["dense_h"]["kernel"]
    outputs = []
    for t in range(x.shape[1]):
        xr, xz, xn = np.split((x[:, t] * input_mask) @ wi + bi, 3, -1)
        hr, hz, hn = np.split((h * state_mask) @ wh, 3, -1)
        z = sigmoid(xz + hz)
        h = (1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * h
        outputs.append(h)
    return np.stack(outputs, 1)


def lstm(weights, x, h, input_mask, state_mask):
    """As above, with the cell state beside."""
    wi = weights["dense_i"]["kernel"]
    wh = weights["dense_h"]["kernel"]
    b = weights["dense_h"]["bias"]
    outputs = []
    c = h
    for t in range(x.shape[1]):
        i, f, g, o = np.split((x[:, t] * input_mask) @ wi + (h * state_mask) @ wh + b, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, 1)


@few(("kind", "reference"), [(flax_nnx.OptimizedLSTMCell, lstm), (flax_nnx.GRUCell, gru)])
def test_locked_dropout_lies_on_what_the_layers_read(kind, reference):
    @jax.jit
    def run(key, x):
        inner = kind(
            4, 6, bias_init=flax_nnx.initializers.uniform(), **FAST, rngs=flax_nnx.Rngs(key)
        )
        cell = nnx.LockedDropoutCell(inner, 0.5, 0.25, rngs=flax_nnx.Rngs(key))
        carry = cell.initialize_carry((16, 4), flax_nnx.Rngs(0), flax_nnx.initializers.ones)
        masks = []
        for keys, rate, n in zip(carry.keys, (0.5, 0.25), (4, 6), strict=True):
            mask = jax.vmap(partial(dropout.dropout, rate=rate))
            masks.append(mask(keys, jnp.ones((16, n))))
        y = flax_nnx.RNN(cell)(x, initial_carry=carry)
        return flax_nnx.to_pure_dict(flax_nnx.state(inner, flax_nnx.Param)), masks, y

    params, masks, y = run(KEY, X)
    weights = jax.tree.map(np.float64, params)
    expected = reference(weights, np.float64(X), np.ones((16, 6)), *map(np.float64, masks))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


CELLS = [flax_nnx.OptimizedLSTMCell, flax_nnx.LSTMCell, flax_nnx.GRUCell, flax_nnx.SimpleCell]
NESTED = [(other_way_round, flax_nnx.OptimizedLSTMCell)] + [(both, kind) for kind in CELLS]


@first_of(("wrap", "kind"), NESTED, ids=[f"{k.__name__}-{w.__name__}" for w, k in NESTED])
def test_cells_in_a_recurrent_network(wrap, kind):
    @jax.jit
    def run(key, x, lengths):
        rngs = flax_nnx.Rngs(key)
        rnn = flax_nnx.RNN(wrap(cell_of(kind, rngs), rngs))

        def loss(rnn):
            carry, y = rnn(x, seq_lengths=lengths, return_carry=True)
            return jnp.sum(y**2), (carry, y)

        gradient, (carry, y) = flax_nnx.grad(loss, has_aux=True)(rnn)
        return carry, y, flax_nnx.to_pure_dict(gradient), rnn(x, seq_lengths=lengths)

    lengths = np.arange(16) % 6 + 1
    carry, y, gradient, other = run(KEY, X, lengths)
    assert np.any(y != other)
    for slope in jax.tree.leaves(gradient):
        assert np.all(np.isfinite(slope))
        assert np.any(slope != 0)
    hidden = [leaf for leaf in jax.tree.leaves(carry) if leaf.dtype == np.float32][-1]
    np.testing.assert_array_equal(hidden, np.asarray(y)[np.arange(16), lengths - 1])


@few("kind", [flax_nnx.OptimizedLSTMCell, flax_nnx.GRUCell])
@few("wrap", [locked, zoned])
def test_cells_that_are_off(kind, wrap):
    @jax.jit
    def run(key, x):
        inner = cell_of(kind, flax_nnx.Rngs(key))
        evaluating = flax_nnx.RNN(wrap(inner, flax_nnx.Rngs(key)))
        evaluating.eval()
        return flax_nnx.RNN(inner)(x), flax_nnx.RNN(wrap(inner, None, 0.0))(x), evaluating(x)

    expected, off, evaluated = run(KEY, X)
    np.testing.assert_array_equal(off, expected)
    assert different([evaluated, expected]) == (1 if wrap is locked else 2)

    def without_streams(key, x):
        return flax_nnx.RNN(wrap(cell_of(kind, flax_nnx.Rngs(key)), None))(x)

    with pytest.raises(ValueError, match=r"no `rngs` argument was provided to \w+Cell"):
        jax.eval_shape(without_streams, KEY, X)


def test_one_rate_of_zero_leaves_the_other_one():
    """Inputs, or states, alone are dropped."""

    @jax.jit
    def run(key, x):
        rates = [(0.5, 0.0), (0.0, 0.5)]
        cells = [nnx.LockedDropoutCell(Probe(), *pair, rngs=flax_nnx.Rngs(key)) for pair in rates]
        return [flax_nnx.RNN(cell)(x) for cell in cells]

    for number, seen in enumerate(run(KEY, SEQUENCE)):
        assert set(np.unique(seen[number])) == {0, 2}
        np.testing.assert_array_equal(seen[1 - number], 1)


def test_both_directions_with_padding():
    def run(key, x, lengths):
        rngs = flax_nnx.Rngs(key)
        rnns = [flax_nnx.RNN(both(cell_of(flax_nnx.GRUCell, rngs), rngs)) for _ in range(2)]
        return flax_nnx.Bidirectional(*rnns)(x, seq_lengths=lengths)

    assert jax.eval_shape(run, KEY, X, np.full(16, 3)).shape == (16, 6, 12)


@few("wrap", [locked, zoned])
def test_cells_of_one_rngs_differ_in_networks_of_their_own(wrap):
    """The streams that ``nnx.RNN`` makes for carries have the same seed in all of them."""

    @jax.jit
    def run(key, x):
        rngs = flax_nnx.Rngs(key)
        inner = cell_of(flax_nnx.SimpleCell, rngs)
        return [flax_nnx.RNN(wrap(inner, rngs))(x) for _ in range(2)]

    assert different(run(KEY, X)) == 2


def test_a_wrong_carry_is_named():
    def steps(key, x):
        cell = locked(cell_of(flax_nnx.SimpleCell, flax_nnx.Rngs(key)), flax_nnx.Rngs(key))
        state = jnp.ones((16, 6))
        with pytest.raises(TypeError, match=r"`carry` must come from `initialize_carry`.*_replace"):
            cell(state, x)
        cell.eval()
        carry = cell.initialize_carry((16, 4), flax_nnx.Rngs(key))
        cell(carry, x)
        cell.train()
        with pytest.raises(ValueError, match=r"`carry` must contain PRNG keys in training"):
            cell(carry, x)
        return cell(cell.initialize_carry((16, 4), flax_nnx.Rngs(key))._replace(cell=state), x)[1]

    assert jax.eval_shape(steps, KEY, X[:, 0]).shape == (16, 6)


def test_a_cell_without_layers_is_refused():
    def run(key, x):
        return flax_nnx.RNN(locked(Counter(), flax_nnx.Rngs(key)))(x)

    with pytest.raises(ValueError, match=r"`cell` must pass its state unchanged .* of Counter"):
        jax.eval_shape(run, KEY, SEQUENCE)


@pytest.mark.parametrize("name", ["input_rate", "state_rate"])
def test_a_wrong_rate_is_named(name):
    rates = {"input_rate": 0.5, "state_rate": 0.5, name: 1.5}
    with pytest.raises(ValueError, match=rf"`{name}` must be a probability"):
        nnx.LockedDropoutCell(Probe(), **rates)


def test_zoneout_decides_at_every_step_for_every_state():
    @jax.jit
    def run(key, x):
        rnn = flax_nnx.RNN(zoned(Counter(), flax_nnx.Rngs(key), 0.25))
        drawn = [rnn(x, return_carry=True) for _ in range(2)]
        rnn.eval()
        return drawn, rnn(x)

    (((first, second), y), (_, other)), evaluated = run(KEY, SEQUENCE)
    np.testing.assert_array_equal(second, y[:, -1])
    assert different([first, second]) == 2
    steps = np.diff(y, axis=1, prepend=0)
    assert set(np.unique(steps)) == {0, 1}
    assert different(np.moveaxis(steps, 1, 0)) == 5
    error = 5 * np.sqrt(0.25 * 0.75 / steps.size)
    np.testing.assert_allclose(steps.mean(), 0.75, atol=error)
    assert different([y, other]) == 2
    np.testing.assert_allclose(evaluated[0, :, 0], 0.75 * np.arange(1, 6), rtol=1e-6)


class Clock(flax_nnx.RNNCellBase):
    """A cell that counts its steps beside its state."""

    def __call__(self, carry, inputs):
        step, seen = carry
        return (step + 1, seen + 1), seen


def test_zoneout_leaves_counters_alone():
    @jax.jit
    def run(key, carry):
        cell = nnx.ZoneoutCell(Clock(), 0.5)
        return [cell(carry, 0.0, deterministic=evaluate, rngs=key)[0] for evaluate in (False, True)]

    for step, seen in run(KEY, (np.int32(3), np.zeros(64, np.float32))):
        assert step == 4
        assert 0 < np.mean(seen) < 1


def test_zoneout_with_broadcast_streams_keeps_the_same_elements():
    """The documentation warns of this: ``nnx.RNN`` does not advance broadcast streams."""

    @jax.jit
    def run(key, x):
        return flax_nnx.RNN(zoned(Counter(), flax_nnx.Rngs(key)), broadcast_rngs=True)(x)

    assert set(np.unique(run(KEY, SEQUENCE)[:, -1])) == {0, 5}
