"""Zoneout: which state a unit keeps, at which rate, and what evaluation makes of it."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import dropout

KEY = jax.random.key(30)
DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16]


def states(dtype=jnp.float32, size=64):
    """Special values in both states, at places where the other one has ordinary numbers."""
    tiny = float(jnp.finfo(dtype).smallest_subnormal)
    edges = [tiny, -tiny, -0.0, np.inf, -np.inf, np.nan, 1 / 3, 1.5]
    new = np.tile(edges, size // 8).astype(dtype)
    return jnp.asarray(new), jnp.asarray(np.roll(new, 3))


def assert_same_bits(actual, expected):
    assert actual.dtype == expected.dtype
    assert np.asarray(actual).tobytes() == np.asarray(expected).tobytes()


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_keeps_the_old_state_at_the_rate(rate):
    size = 2**18
    state = dropout.zoneout(KEY, jnp.ones(size), jnp.full(size, 2.0), rate=rate)
    kept = np.asarray(state) == 2
    assert set(np.unique(state)) == {1, 2}
    assert abs(kept.mean() - rate) <= 5 * math.sqrt(rate * (1 - rate) / size)


def test_units_are_the_ones_that_dropout_drops():
    dropped = dropout.dropout(KEY, jnp.ones((50, 20)), rate=0.3) == 0
    new = jax.random.normal(jax.random.key(1), (50, 20))
    old = jax.random.normal(jax.random.key(2), (50, 20))
    expected = np.where(dropped, old, new)
    np.testing.assert_array_equal(dropout.zoneout(KEY, new, old, rate=0.3), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wrap", [float, jnp.float32], ids=["static", "traced"])
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_the_ends_are_the_states_to_the_bit(dtype, wrap, transform):
    new, old = states(dtype)
    for rate, expected in ((0, new), (1, old)):
        random = transform(partial(dropout.zoneout, rate=wrap(rate)))
        mean = transform(partial(dropout.zoneout_mean, rate=wrap(rate)))
        assert_same_bits(random(KEY, new, old), expected)
        assert_same_bits(mean(new, old), expected)


def test_between_the_ends_every_unit_has_the_bits_of_one_state():
    new, old = states(size=4096)
    state, new, old = (
        np.asarray(a).view(np.uint32) for a in (dropout.zoneout(KEY, new, old, rate=0.5), new, old)
    )
    assert ((state == new) | (state == old)).all()
    assert 0 < (state == old).mean() < 1


def test_the_mean_over_masks_is_zoneout_mean():
    new = jax.random.normal(jax.random.key(1), (32,))
    old = jax.random.normal(jax.random.key(2), (32,))
    keys = jax.random.split(KEY, 8192)
    samples = jax.vmap(lambda key: dropout.zoneout(key, new, old, rate=0.2))(keys)
    expected = np.asarray(dropout.zoneout_mean(new, old, rate=0.2), np.float64)
    error = np.abs(np.asarray(old - new)) * math.sqrt(0.2 * 0.8 / len(keys))
    actual = np.asarray(samples, np.float64).mean(axis=0)
    np.testing.assert_array_less(abs(actual - expected), 5 * error + 1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_mean_is_rounded_once(dtype):
    new = jax.random.normal(jax.random.key(1), (4096,)).astype(dtype)
    old = jax.random.normal(jax.random.key(2), (4096,)).astype(dtype)
    exact = 0.15 * np.asarray(old, np.float64) + 0.85 * np.asarray(new, np.float64)
    actual = np.asarray(dropout.zoneout_mean(new, old, rate=0.15), np.float64)
    half_unit = float(jnp.finfo(dtype).eps) / 2
    bound = half_unit * abs(exact) + 4e-7 + float(jnp.finfo(dtype).smallest_subnormal)
    np.testing.assert_array_less(abs(actual - exact), bound)


def test_gradients_go_to_the_state_that_is_kept():
    new, old = jnp.ones(1000), jnp.full(1000, 2.0)
    state, pull = jax.vjp(lambda new, old: dropout.zoneout(KEY, new, old, rate=0.4), new, old)
    to_new, to_old = pull(jnp.full(1000, 3.0))
    np.testing.assert_array_equal(to_new, np.where(state == 1, 3, 0))
    np.testing.assert_array_equal(to_old, np.where(state == 2, 3, 0))


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_gradients_at_the_ends_are_finite(rate):
    def total(new, old, rate):
        random = dropout.zoneout(KEY, new, old, rate=rate)
        return jnp.sum(random + dropout.zoneout_mean(new, old, rate=rate))

    to_new, to_old, to_rate = jax.grad(total, (0, 1, 2))(jnp.ones(4), jnp.full(4, 3.0), rate)
    np.testing.assert_array_equal(to_new, 2 - 2 * rate)
    np.testing.assert_array_equal(to_old, 2 * rate)
    assert np.isfinite(to_rate)


def test_the_backward_pass_holds_the_key_only():
    state = jnp.ones(4096)
    pull = jax.vjp(lambda new, old: dropout.zoneout(KEY, new, old, rate=0.5), state, state)[1]
    leaves = [leaf for leaf in jax.tree.leaves(pull) if leaf.size > 1]
    # The states themselves are inputs; a mask of booleans would be another array.
    assert all(leaf is state for leaf in leaves)


def test_a_traced_rate_is_clipped_and_nan_gives_nan():
    new, old = jnp.zeros(8), jnp.ones(8)
    for function in (
        jax.jit(lambda rate: dropout.zoneout(KEY, new, old, rate=rate)),
        jax.jit(lambda rate: dropout.zoneout_mean(new, old, rate=rate)),
    ):
        np.testing.assert_array_equal(function(-0.5), new)
        np.testing.assert_array_equal(function(1.5), old)
        assert np.isnan(function(np.nan)).all()


def test_zoneout_in_a_scan_over_time():
    """One mask for each step and unit; a unit that keeps its state does so for that step only."""
    keys = jax.random.split(KEY, 200)

    def step(state, key):
        state = dropout.zoneout(key, state + 1, state, rate=0.25)
        return state, state

    _, path = jax.lax.scan(step, jnp.zeros(500), keys)
    moved = np.diff(np.asarray(path), axis=0, prepend=0)
    assert set(np.unique(moved)) == {0, 1}
    assert abs(moved.mean() - 0.75) <= 5 * math.sqrt(0.25 * 0.75 / moved.size)


def random_state(new, old):
    return dropout.zoneout(KEY, new, old, rate=0.1)


def mean_state(new, old):
    return dropout.zoneout_mean(new, old, rate=0.1)


@pytest.mark.parametrize("function", [random_state, mean_state])
def test_states_that_differ_raise(function):
    new = jnp.ones((2, 3))
    with pytest.raises(ValueError, match=r"`old` must have the shape of `new`, \(2, 3\), got \(3,"):
        function(new, jnp.ones(3))
    with pytest.raises(TypeError, match=r"`old` must have the dtype .* float32, got bfloat16"):
        function(new, new.astype(jnp.bfloat16))
    with pytest.raises(TypeError, match="`old` must be an array, got float"):
        function(new, 0.0)
    with pytest.raises(TypeError, match="`new` must have a floating-point dtype, got int32"):
        function(jnp.ones(3, jnp.int32), jnp.ones(3, jnp.int32))
