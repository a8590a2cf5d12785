"""Zoneout: which state a unit keeps, at which rate, and what evaluation makes of it."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import dropout
from tests.dropout.helpers import assert_same_bits, compiled, normal
from tests.helpers import assert_rate, few, residual_bytes

KEY = jax.random.key(30)
DTYPES = [jnp.bfloat16, jnp.float32, jnp.float16]


@jax.jit
def draw(new, old, rate):
    """The random state at a traced rate."""
    return dropout.zoneout(KEY, new, old, rate=rate)


@jax.jit
def mean_of(new, old, rate):
    """The mean state at a traced rate."""
    return dropout.zoneout_mean(new, old, rate=rate)


def states(dtype=np.float32, size=64):
    """Special values in both states, at places where the other one has ordinary numbers."""
    tiny = float(jnp.finfo(dtype).smallest_subnormal)
    edges = [tiny, -tiny, -0.0, np.inf, -np.inf, np.nan, 1 / 3, 1.5]
    new = np.tile(edges, size // 8).astype(dtype)
    return new, np.roll(new, 3)


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_keeps_the_old_state_at_the_rate(rate):
    size = 2**18
    state = np.asarray(draw(np.ones(size, np.float32), np.full(size, 2, np.float32), rate))
    assert set(np.unique(state)) == {1, 2}
    assert_rate(np.mean(state == 2), rate, size)


def test_units_are_the_ones_that_dropout_drops():
    """At a static rate and with other bits too."""
    new = normal((50, 20), seed=1)
    old = normal((50, 20), seed=2)

    @jax.jit
    def both(new, old, rate):
        return [
            (
                dropout.dropout(KEY, new, rate=r, bits=b),
                dropout.zoneout(KEY, new, old, rate=r, bits=b),
            )
            for r, b in ((rate, None), (0.3, None), (rate, jax.random.bits))
        ]

    for dropped, state in both(new, old, 0.3):
        expected = np.where(np.asarray(dropped) == 0, old, new)
        assert 0 < np.sum(expected == old) < old.size
        np.testing.assert_array_equal(state, expected)


@few("dtype", DTYPES)
def test_the_ends_are_the_states_to_the_bit(dtype):
    new, old = states(dtype)
    for rate, expected in ((0, new), (1, old)):
        assert_same_bits(draw(new, old, rate), expected)
        assert_same_bits(mean_of(new, old, rate), expected)
        assert_same_bits(compiled(dropout.zoneout, KEY, new, old, rate=rate), expected)
        assert_same_bits(compiled(dropout.zoneout_mean, new, old, rate=rate), expected)


def test_between_the_ends_every_unit_has_the_bits_of_one_state():
    new, old = states(size=4096)
    state = np.asarray(draw(new, old, 0.5)).view(np.uint32)
    of_new = state == new.view(np.uint32)
    of_old = state == old.view(np.uint32)
    assert (of_new | of_old).all()
    assert 0 < of_old.mean() < 1


def test_the_mean_over_masks_is_zoneout_mean():
    new = normal(32, seed=1)
    old = normal(32, seed=2)
    keys = jax.random.split(KEY, 8192)
    function = partial(dropout.zoneout, rate=0.2)
    samples = jax.jit(jax.vmap(function, (0, None, None)))(keys, new, old)
    mean = 0.2 * old.astype(np.float64) + 0.8 * new
    error = abs(old - new) * math.sqrt(0.2 * 0.8 / len(keys))
    actual = np.asarray(samples, np.float64).mean(axis=0)
    np.testing.assert_array_less(abs(actual - mean), 5 * error + 1e-6)
    np.testing.assert_allclose(mean_of(new, old, 0.2), mean, rtol=1e-5, atol=1e-6)


@few("dtype", DTYPES)
def test_the_mean_is_rounded_once(dtype):
    new = normal(4096, dtype, seed=1)
    old = normal(4096, dtype, seed=2)
    exact = 0.15 * old.astype(np.float64) + 0.85 * new.astype(np.float64)
    half_unit = float(jnp.finfo(dtype).eps) / 2
    bound = half_unit * abs(exact) + 4e-7 + float(jnp.finfo(dtype).smallest_subnormal)
    for mean in (mean_of(new, old, 0.15), compiled(dropout.zoneout_mean, new, old, rate=0.15)):
        assert mean.dtype == dtype
        np.testing.assert_array_less(abs(np.asarray(mean, np.float64) - exact), bound)


def test_gradients_go_to_the_state_that_is_kept():
    def pulled(new, old):
        state, pull = jax.vjp(partial(dropout.zoneout, KEY, rate=0.4), new, old)
        return state, *pull(jnp.full(1000, 3.0))

    new = np.ones(1000, np.float32)
    state, to_new, to_old = compiled(pulled, new, 2 * new)
    np.testing.assert_array_equal(to_new, np.where(state == 1, 3, 0))
    np.testing.assert_array_equal(to_old, np.where(state == 2, 3, 0))


def test_gradients_of_states_and_rates():
    """They are finite at rates 0 and 1; between them, the mean's slope is a difference."""

    def total(new, old, rate):
        random = dropout.zoneout(KEY, new, old, rate=rate)
        return jnp.sum(random + dropout.zoneout_mean(new, old, rate=rate))

    slope = jax.jit(jax.grad(total, (0, 1, 2)))
    new = np.ones(4, np.float32)
    for rate in (0.0, 1.0):
        to_new, to_old, to_rate = slope(new, 3 * new, rate)
        np.testing.assert_array_equal(to_new, 2 - 2 * rate)
        np.testing.assert_array_equal(to_old, 2 * rate)
        assert np.isfinite(to_rate)
    np.testing.assert_allclose(slope(new, 3 * new, 0.25)[2], 4 * (3 - 1), rtol=1e-6)


def test_the_backward_pass_holds_the_key_only():
    """The states themselves are inputs; a mask of booleans would be another array."""

    def pullback(new, old, rate):
        return jax.vjp(lambda *states: dropout.zoneout(KEY, *states, rate=rate), new, old)[1]

    new = np.ones(4096, np.float32)
    pull = jax.jit(pullback)(new, 2 * new, 0.5)
    assert all(leaf.size == 1 or leaf.dtype == new.dtype for leaf in jax.tree.leaves(pull))
    assert residual_bytes(pull) <= 2 * 4 * 4096 + 16


def test_a_traced_rate_is_clipped_and_nan_gives_nan():
    new = np.zeros(8, np.float32)
    old = np.ones(8, np.float32)
    for function in (draw, mean_of):
        np.testing.assert_array_equal(function(new, old, -0.5), new)
        np.testing.assert_array_equal(function(new, old, 1.5), old)
        assert np.isnan(function(new, old, np.nan)).all()


def test_zoneout_in_a_scan_over_time():
    """One mask for each step and unit; a unit that keeps its state does so for that step only."""

    @jax.jit
    def scan(keys):
        def step(state, key):
            state = dropout.zoneout(key, state + 1, state, rate=0.25)
            return state, state

        return jax.lax.scan(step, jnp.zeros(500), keys)[1]

    path = np.asarray(scan(jax.random.split(KEY, 200)))
    moved = np.diff(path, axis=0, prepend=0)
    assert set(np.unique(moved)) == {0, 1}
    assert_rate(moved.mean(), 0.75, moved.size)


def test_states_that_are_sharded_differently():
    """On an Explicit mesh a select wants its arguments sharded alike: as the new state is."""
    mesh = jax.make_mesh((8,), ("device",), axis_types=(jax.sharding.AxisType.Explicit,))
    new = normal((16, 8), seed=1)
    old = normal((16, 8), seed=2)
    expected = [function(new, old, 0.3) for function in (draw, mean_of)]
    with jax.set_mesh(mesh):
        spread = jax.device_put(new, jax.NamedSharding(mesh, jax.P("device", None)))
        other = jax.device_put(old, jax.NamedSharding(mesh, jax.P(None, "device")))
        found = [function(spread, other, 0.3) for function in (draw, mean_of)]
    for actual, value in zip(found, expected, strict=True):
        assert actual.sharding.spec == jax.P("device", None)
        np.testing.assert_allclose(actual, value, rtol=1e-6)


def random_state(new, old, rate=0.1):
    return dropout.zoneout(KEY, new, old, rate=rate)


def mean_state(new, old, rate=0.1):
    return dropout.zoneout_mean(new, old, rate=rate)


@pytest.mark.parametrize("function", [random_state, mean_state])
def test_states_that_differ_raise(function):
    new = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"`old` must have the same shape as `new`, \(2, 3\), got"):
        function(new, np.ones(3, np.float32))
    with pytest.raises(TypeError, match=r"`old` must have the same dtype .* float32, got bfloat16"):
        function(new, new.astype(jnp.bfloat16))
    with pytest.raises(TypeError, match="`old` must be an array, got float"):
        function(new, 0.0)
    with pytest.raises(TypeError, match="`new` must have a floating-point dtype, got int32"):
        function(np.ones(3, np.int32), np.ones(3, np.int32))
    with pytest.raises(ValueError, match=r"`rate` must be a probability in \[0, 1\], got 1\.5"):
        function(new, new, rate=1.5)


def test_wrong_keys_and_bits_raise():
    new = np.ones((2, 3), np.float32)
    with pytest.raises(TypeError, match="`key` must be a PRNG key, got int 3"):
        dropout.zoneout(3, new, new, rate=0.5)
    with pytest.raises(TypeError, match=r"`bits` must return uint32 of shape \(2, 3\)"):
        dropout.zoneout(KEY, new, new, rate=0.5, bits=lambda *_: np.zeros(7, np.uint32))
