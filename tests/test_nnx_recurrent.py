"""NNX cells with dropout and zoneout between their states, inside ``flax.nnx.RNN``."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as fnx

from jaxreg import dropout, nnx
from tests.nnx_rows import X, assert_equal, different

pytestmark = pytest.mark.slow


class Passes(fnx.Module):
    """A layer that does nothing."""

    def __call__(self, x):
        return x


class Probe(fnx.RNNCellBase):
    """A cell that keeps its state and puts out what it and its layer see."""

    num_feature_axes = 1

    def __init__(self):
        self.layer = Passes()

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return jnp.ones(input_shape)

    def __call__(self, carry, inputs):
        return carry, jnp.stack([inputs, self.layer(carry), carry])


class Counter(fnx.RNNCellBase):
    """A cell of two states that grow by one at each step; the second one is the output."""

    num_feature_axes = 1

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return jnp.zeros(input_shape), jnp.zeros(input_shape)

    def __call__(self, carry, inputs):
        carry = tuple(state + 1 for state in carry)
        return carry, carry[1]


SEQUENCE = jnp.ones((8, 5, 32))


def probed(cell, calls=1, **fields):
    """``[call, kind, example, time, feature]`` of what a probe inside of ``cell`` sees."""
    rnn = fnx.RNN(cell, **fields)
    run = fnx.jit(lambda rnn, x: rnn(x))
    # The time axis of the outputs stands where it stood in the inputs.
    return np.stack([np.moveaxis(run(rnn, SEQUENCE), 1, 2) for _ in range(calls)])


@pytest.mark.parametrize("broadcast_rngs", [None, True])
def test_locked_masks_last_for_a_call(broadcast_rngs):
    cell = nnx.LockedDropoutCell(Probe(), 0.5, 0.75, rngs=fnx.Rngs(0))
    seen = probed(cell, calls=2, broadcast_rngs=broadcast_rngs)
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
    cell = nnx.LockedDropoutCell(Probe(), 0.5, 0.25, bits=jax.random.bits, rngs=fnx.Rngs(0))
    carry = cell.initialize_carry((8, 32))
    seen = np.moveaxis(fnx.RNN(cell)(SEQUENCE, initial_carry=carry), 1, 2)
    for kind, rate in enumerate((0.5, 0.25)):
        locked = partial(dropout.locked_dropout, rate=rate, time_axis=0, bits=jax.random.bits)
        np.testing.assert_array_equal(seen[kind], jax.vmap(locked)(carry.keys[kind], SEQUENCE))


def test_a_locked_sequence_in_two_parts():
    rnn = fnx.RNN(
        nnx.LockedDropoutCell(fnx.GRUCell(4, 4, rngs=fnx.Rngs(0)), 0.5, 0.5, rngs=fnx.Rngs(0))
    )
    start = rnn.cell.initialize_carry((16, 4), fnx.Rngs(0))
    whole = rnn(X, initial_carry=start)
    carry, first = rnn(X[:, :2], initial_carry=start, return_carry=True)
    second = rnn(X[:, 2:], initial_carry=carry)
    assert_equal(jnp.concatenate([first, second], 1), whole)
    assert different([rnn(X), rnn(X), whole]) == 3


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(cell, x, h, input_mask, state_mask):
    """The equations of the paper of the cell, in float64, with masks where the layers read."""
    (wi, bi), wh = (
        (np.asarray(v[...], np.float64) for v in vs)
        for vs in ((cell.dense_i.kernel, cell.dense_i.bias), (cell.dense_h.kernel,))
    )
    wh = next(wh)
    outputs = []
    for t in range(x.shape[1]):
        xr, xz, xn = np.split((x[:, t] * input_mask) @ wi + bi, 3, -1)
        hr, hz, hn = np.split((h * state_mask) @ wh, 3, -1)
        z = sigmoid(xz + hz)
        h = (1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * h
        outputs.append(h)
    return np.stack(outputs, 1)


def lstm(cell, x, h, input_mask, state_mask):
    wi, wh, b = (
        np.asarray(v[...], np.float64)
        for v in (cell.dense_i.kernel, cell.dense_h.kernel, cell.dense_h.bias)
    )
    outputs, c = [], h
    for t in range(x.shape[1]):
        i, f, g, o = np.split((x[:, t] * input_mask) @ wi + (h * state_mask) @ wh + b, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, 1)


@pytest.mark.parametrize(("kind", "reference"), [(fnx.GRUCell, gru), (fnx.OptimizedLSTMCell, lstm)])
def test_locked_dropout_lies_on_what_the_layers_read(kind, reference):
    inner = kind(4, 6, bias_init=fnx.initializers.normal(), rngs=fnx.Rngs(0))
    cell = nnx.LockedDropoutCell(inner, 0.5, 0.25, rngs=fnx.Rngs(1))
    carry = cell.initialize_carry((16, 4), fnx.Rngs(0), fnx.initializers.ones)
    input_mask, state_mask = (
        np.asarray(jax.vmap(partial(dropout.dropout, rate=rate))(keys, jnp.ones((16, n))))
        for keys, rate, n in zip(carry.keys, (0.5, 0.25), (4, 6), strict=True)
    )
    expected = reference(inner, np.asarray(X, np.float64), np.ones((16, 6)), input_mask, state_mask)
    outputs = fnx.RNN(cell)(X, initial_carry=carry)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


CELLS = [fnx.LSTMCell, fnx.OptimizedLSTMCell, fnx.GRUCell, fnx.SimpleCell]


def locked(cell, rngs, rate=0.5):
    return nnx.LockedDropoutCell(cell, rate, rate, rngs=rngs)


def zoned(cell, rngs, rate=0.5):
    return nnx.ZoneoutCell(cell, rate, rngs=rngs)


def both(cell, rngs, rate=0.5):
    return locked(zoned(cell, rngs, rate), rngs, rate)


def other_way_round(cell, rngs, rate=0.5):
    return zoned(locked(cell, rngs, rate), rngs, rate)


@pytest.mark.parametrize(
    ("wrap", "kind"),
    [(both, kind) for kind in CELLS] + [(other_way_round, fnx.LSTMCell)],
)
def test_cells_in_a_recurrent_network(wrap, kind):
    rngs = fnx.Rngs(0)
    rnn = fnx.RNN(wrap(kind(4, 6, rngs=rngs), rngs))

    @fnx.jit
    def run(rnn, x, lengths):
        def loss(rnn):
            carry, y = rnn(x, seq_lengths=lengths, return_carry=True)
            return jnp.sum(y**2), (carry, y)

        gradient, aux = fnx.grad(loss, has_aux=True)(rnn)
        return aux, gradient

    lengths = jnp.arange(16) % 6 + 1
    results = [run(rnn, X, lengths) for _ in range(2)]
    assert different([y for (_, y), _ in results]) == 2
    for gradient in jax.tree.leaves(results[0][1]):
        assert np.all(np.isfinite(gradient))
        assert np.any(gradient != 0)
    (carry, y), _ = results[0]
    hidden = [leaf for leaf in jax.tree.leaves(carry) if leaf.dtype == jnp.float32][-1]
    np.testing.assert_array_equal(hidden, y[jnp.arange(16), lengths - 1])


@pytest.mark.parametrize("kind", [fnx.OptimizedLSTMCell, fnx.GRUCell])
@pytest.mark.parametrize("wrap", [locked, zoned])
def test_cells_that_are_off(kind, wrap):
    inner = kind(4, 6, rngs=fnx.Rngs(0))
    expected = fnx.RNN(inner)(X)
    np.testing.assert_array_equal(fnx.RNN(wrap(inner, None, 0.0))(X), expected)
    evaluating = fnx.RNN(wrap(inner, fnx.Rngs(0)))
    evaluating.eval()
    assert different([evaluating(X), expected]) == (1 if wrap is locked else 2)
    with pytest.raises(ValueError, match=r"`rngs` must be given to \w+Cell in its constructor"):
        fnx.RNN(wrap(inner, None))(X)


def test_both_directions_with_padding():
    rngs = fnx.Rngs(0)
    forward, backward = (fnx.RNN(both(fnx.GRUCell(4, 6, rngs=rngs), rngs)) for _ in range(2))
    layer = fnx.Bidirectional(forward, backward)
    y = layer(X, seq_lengths=jnp.full(16, 3))
    assert y.shape == (16, 6, 12)
    assert different([y, layer(X, seq_lengths=jnp.full(16, 3))]) == 2


@pytest.mark.parametrize("wrap", [locked, zoned])
def test_cells_of_one_rngs_differ_in_networks_of_their_own(wrap):
    """The streams that ``nnx.RNN`` makes for carries have the same seed in all of them."""
    rngs, inner = fnx.Rngs(0), fnx.SimpleCell(4, 6, rngs=fnx.Rngs(0))
    assert different([fnx.RNN(wrap(inner, rngs))(X) for _ in range(2)]) == 2


def test_a_wrong_carry_is_named():
    cell = locked(fnx.SimpleCell(4, 6, rngs=fnx.Rngs(0)), fnx.Rngs(0))
    with pytest.raises(TypeError, match=r"`carry` must come from `initialize_carry`.*_replace\("):
        cell(jnp.ones((16, 6)), X[:, 0])
    cell.eval()
    carry = cell.initialize_carry((16, 4), fnx.Rngs(0))
    cell(carry, X[:, 0])
    cell.train()
    with pytest.raises(ValueError, match=r"`carry` must hold keys in training"):
        cell(carry, X[:, 0])
    own = cell.initialize_carry((16, 4), fnx.Rngs(0))._replace(cell=jnp.ones((16, 6)))
    assert cell(own, X[:, 0])[1].shape == (16, 6)


def test_a_cell_without_layers_is_refused():
    with pytest.raises(ValueError, match=r"`cell` must hand its state to layers.*Counter"):
        fnx.RNN(locked(Counter(), fnx.Rngs(0)))(SEQUENCE)


def test_wrong_rates_of_cells():
    for fields in ({"input_rate": 1.5, "state_rate": 0.5}, {"input_rate": 0.5, "state_rate": -1}):
        with pytest.raises(ValueError, match=r"`(input|state)_rate` must be a probability"):
            nnx.LockedDropoutCell(Probe(), **fields)


def test_zoneout_decides_at_every_step_for_every_state():
    cell = zoned(Counter(), fnx.Rngs(0), 0.25)
    run = fnx.jit(lambda rnn: rnn(SEQUENCE, return_carry=True))
    rnn = fnx.RNN(cell)
    (first, second), y = run(rnn)
    np.testing.assert_array_equal(second, y[:, -1])
    assert different([first, second]) == 2
    steps = np.diff(y, axis=1, prepend=0)
    assert set(np.unique(steps)) == {0, 1}
    assert different(np.moveaxis(steps, 1, 0)) == 5
    error = 5 * np.sqrt(0.25 * 0.75 / steps.size)
    np.testing.assert_allclose(steps.mean(), 0.75, atol=error)
    assert different([y, run(rnn)[1]]) == 2
    rnn.eval()
    np.testing.assert_allclose(rnn(SEQUENCE)[0, :, 0], 0.75 * np.arange(1, 6), rtol=1e-6)


def test_zoneout_with_broadcast_streams_keeps_the_same_elements():
    """What the documentation warns of: streams that ``nnx.RNN`` is told not to advance."""
    rnn = fnx.RNN(zoned(Counter(), fnx.Rngs(0)), broadcast_rngs=True)
    assert set(np.unique(rnn(SEQUENCE)[:, -1])) == {0, 5}
