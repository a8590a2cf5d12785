"""Helpers of the tests of dropout: the promises of every technique with a rate."""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import dropout
from tests.helpers import always, assert_rate, residual_bytes

KEY = jax.random.key(21)
NONE = always(2**32 - 1)  # a source of words that drop nothing
ALL = always(0)  # a source of words that drop everything
TORCH = json.loads(Path(__file__).parents[1].joinpath("references/dropout_torch.json").read_text())


class Member(NamedTuple):
    """A technique, the axes that share a decision, and its factor on kept elements."""

    function: Callable[..., jax.Array]
    shape: tuple[int, ...]
    shared: tuple[int, ...] = ()
    factor: Callable[[float], float] = lambda p: 1 / (1 - p)
    low: float = 0.0  # the value of a dropped element, before the factor
    data: str = "x"  # the name of the data in errors

    @property
    def decisions(self):
        return tuple(1 if a in self.shared else n for a, n in enumerate(self.shape))


def every(members):
    """Runs a test for each of the named members."""
    return pytest.mark.parametrize("member", members.values(), ids=members)


def compiled(function, *arguments, **options):
    """Calls a function as one program with constant options."""
    return jax.jit(partial(function, **options))(*arguments)


def normal(shape, dtype=np.float32, seed=0):
    """Normal numbers from NumPy."""
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def small(shape):
    """A shape of the same number of axes with fewer elements."""
    return tuple(min(size, 8) for size in shape)


def dropped(y):
    """Finds dropped ones, which are zero, or negative after alpha dropout."""
    return np.asarray(y) <= 0


def assert_same_bits(actual, expected):
    """Compares every bit, also in zeros and NaN."""
    assert actual.dtype == expected.dtype
    assert np.asarray(actual).tobytes() == np.asarray(expected).tobytes()


def assert_decisions(member):
    """Checks static and traced rates, shared decisions, and the source of the bits."""
    traces = []
    requests = []

    def recorded(key, shape, dtype):
        requests.append((shape, dtype))
        return jax.random.bits(key, shape, dtype)

    @jax.jit
    def draw(x, rate):
        traces.append(1)
        function = partial(member.function, KEY, x)
        return (
            function(rate=rate),
            function(rate=np.float32(0.3)),
            function(rate=rate, bits=recorded),
        )

    # NumPy averages, because the output of shared decisions on ones is a broadcast array, and jax
    # 0.10 on a busy CPU adds parts of such arrays twice (google/XNNPACK#11243).
    ones = np.ones(member.shape, np.float32)
    for rate in (1e-3, 0.9, 0.3):
        traced, static, other = [dropped(y) for y in draw(ones, rate)]
        for mask, expected in ((traced, rate), (static, 0.3), (other, rate)):
            assert_rate(mask.mean(), expected, math.prod(member.decisions))
        assert (other != traced).any()
    np.testing.assert_array_equal(traced, static)
    for axis in range(len(member.shape)):
        same = (traced == np.take(traced, [0], axis)).all()
        assert same == (axis in member.shared)
    assert len(traces) == 1
    assert requests == [(member.decisions, jnp.uint32)]


def assert_mean(member):
    """Checks the mean over masks: x times the probability to keep it and the factor."""
    shape = tuple(min(size, 4) for size in member.shape)
    x = normal(shape)
    keys = jax.random.split(jax.random.key(1), 8192)
    draw = jax.jit(jax.vmap(lambda key, x, r: member.function(key, x, rate=r), (0, None, None)))
    for rate in (0.2, 0.75):
        mean = np.asarray(draw(keys, x, rate), np.float64).mean(axis=0)
        factor = member.factor(rate)
        error = abs(x - member.low) * factor * math.sqrt(rate * (1 - rate) / len(keys))
        np.testing.assert_array_less(abs(mean - factor * (1 - rate) * x), 5 * error + 1e-6)


def assert_ends(member):
    """Checks rates near, at and beyond 0 and 1, and NaN, with every word, and derivatives."""

    @jax.jit
    def ends(x, rate):
        def total(x, rate, bits):
            y = member.function(KEY, x, rate=rate, bits=bits)
            return jnp.sum(y), y

        slope = jax.grad(total, (0, 1), has_aux=True)
        static = jax.grad(total, has_aux=True)(x, 1.0, None)
        return [slope(x, rate, bits) for bits in (None, ALL, NONE)], static

    x = normal(small(member.shape), seed=2)
    for rate in (1e-7, 1 - 2.0**-24, 1.0, 1.5):
        traced, static = ends(x, np.float32(rate))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(traced))
        assert not any(map(np.any, jax.tree.leaves(static)))
        if rate >= 1:
            assert not any(map(np.any, jax.tree.leaves(traced)))
    for rate in (0.0, -0.5):
        for (of_x, _), y in ends(x, np.float32(rate))[0]:
            np.testing.assert_array_equal(y, x)
            np.testing.assert_array_equal(of_x, 1)
    traced, static = ends(x * np.nan, np.float32(1))
    assert not any(np.any(y) for _, y in [*traced, static])
    assert np.isnan(ends(x, np.float32(np.nan))[0][0][1]).all()


def assert_rounded_once(function, shape, dtype):
    """Checks that the result in a narrow dtype is the float32 result, rounded once."""
    x = normal((64, *small(shape)[1:]), dtype)

    @jax.jit
    def both(x):
        wide = function(KEY, x.astype(jnp.float32), rate=0.1)
        return function(KEY, x, rate=0.1), wide.astype(dtype)

    narrow, expected = both(x)
    assert_same_bits(narrow, expected)


def assert_residuals(function, shape):
    """Checks that the backward pass holds only a key and numbers; a mask would be larger."""

    def pullback(key, x, rate):
        return jax.vjp(lambda x: function(key, x, rate=rate), x)[1]

    shape = tuple(min(size, 64) for size in shape)
    pull = jax.jit(pullback)(KEY, np.ones(shape, np.float32), 0.5)
    assert residual_bytes(pull) <= 8 + 2 * 4


def assert_refusals(function, shape, data="x"):
    """Checks the errors about bits, keys and data."""
    x = np.ones(small(shape), np.float32)
    with pytest.raises(TypeError, match=r"`bits` must return uint32 of shape .* of shape \(7,\)"):
        function(KEY, x, rate=0.5, bits=lambda key, shape, dtype: np.zeros(7, dtype))
    with pytest.raises(TypeError, match=r"`key` must be a PRNG key, got int 3"):
        function(3, x, rate=0.5)
    with pytest.raises(TypeError, match=f"`{data}` must have a floating-point dtype, got int32"):
        function(KEY, x.astype(np.int32), rate=0.5)
    with pytest.raises(TypeError, match=f"`{data}` must be an array, got list"):
        function(KEY, [1.0], rate=0.5)


def assert_empty(function, shape):
    """Checks arrays without elements, and their gradients."""
    for empty in ((0, *small(shape)[1:]), (*small(shape)[:-1], 0)):

        @jax.jit
        def both(x):
            y, pull = jax.vjp(lambda x: function(KEY, x, rate=0.5), x)
            return y, pull(y)[0]

        y, gradient = both(np.ones(empty, np.float32))
        assert y.shape == gradient.shape == empty


def assert_torch_elements(name, row):
    """Compares kept and dropped elements with torch's, at static and traced rates."""
    figures = TORCH[name][row]
    function = getattr(dropout, name)
    x = np.asarray(TORCH["x"], np.float32)

    @jax.jit
    def both(x, rate):
        rates = (rate, figures["rate"])
        return [[function(KEY, x, rate=r, bits=bits) for r in rates] for bits in (NONE, ALL)]

    actual = both(x, np.float32(figures["rate"]))
    for values, expected in zip(actual, (figures["kept"], figures["dropped"]), strict=True):
        if expected is None:
            continue  # Nothing is kept at a rate of 1, nothing is dropped at a rate of 0.
        for y in values:
            np.testing.assert_allclose(y, expected, rtol=4e-7, atol=4e-7)


def assert_torch_channels(figures):
    """Compares kept and dropped channels, and the axes that share decisions, with torch's."""
    function = partial(getattr(dropout, figures["function"]), rate=figures["rate"])
    x = np.asarray(figures["x"], np.float32)

    @jax.jit
    def draws(keys, x):
        given = [function(KEY, x, bits=bits) for bits in (NONE, ALL)]
        return given, jax.vmap(function, (0, None))(keys, x)

    (kept, low), masked = draws(jax.random.split(KEY, 200), x)
    np.testing.assert_allclose(kept, figures["kept"], rtol=4e-7, atol=4e-7)
    np.testing.assert_allclose(low, figures["dropped"], rtol=4e-7, atol=4e-7)
    masks = np.isclose(masked, np.asarray(figures["dropped"], np.float32), rtol=4e-7, atol=4e-7)
    same = [a for a in range(x.ndim) if (masks == np.take(masks, [0], a + 1)).all()]
    assert same == figures["shared_axes"]
