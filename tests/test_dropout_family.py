"""The techniques around dropout: their rates, what shares a decision, and their moments."""

import json
import math
import pathlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxreg import dropout
from tests.helpers import FIVE_SIGMA, always, assert_rate, residual_bytes

KEY = jax.random.key(21)
NONE, ALL = always(2**32 - 1), always(0)  # words that drop nothing, or everything
TORCH = json.loads(
    (pathlib.Path(__file__).parent / "references" / "dropout_torch.json").read_text()
)


class Member(NamedTuple):
    """A technique that decides, the axes that share a decision, and its factor on kept ones."""

    function: Callable[..., jax.Array]
    shape: tuple[int, ...]
    shared: tuple[int, ...] = ()
    factor: Callable[[float], float] = lambda p: 1 / (1 - p)

    @property
    def decisions(self):
        return tuple(1 if a in self.shared else n for a, n in enumerate(self.shape))


def alpha_slope(p):
    return ((1 - p) * (1 + p * 1.7580993408473766**2)) ** -0.5


LOCKED_0 = partial(dropout.locked_dropout, time_axis=0)
LOCKED_LAST = partial(dropout.locked_dropout, time_axis=-1)
MEMBERS = {
    "alpha_dropout": Member(dropout.alpha_dropout, (256, 512), (), alpha_slope),
    "classical_dropout": Member(dropout.classical_dropout, (256, 512), (), lambda p: 1.0),
    "drop_connect": Member(dropout.drop_connect, (256, 512)),
    "drop_path": Member(dropout.drop_path, (2**17, 2, 2), (1, 2)),
    "embedding_dropout": Member(dropout.embedding_dropout, (2**17, 3), (1,)),
    "feature_alpha_dropout": Member(
        dropout.feature_alpha_dropout, (256, 2, 2, 512), (1, 2), alpha_slope
    ),
    "locked_dropout": Member(dropout.locked_dropout, (256, 3, 512), (1,)),
    "locked_dropout-0": Member(LOCKED_0, (3, 256, 512), (0,)),
    "locked_dropout-last": Member(LOCKED_LAST, (256, 512, 3), (2,)),
    "spatial_dropout": Member(dropout.spatial_dropout, (256, 2, 2, 512), (1, 2)),
    "spatial_dropout-1d": Member(dropout.spatial_dropout, (256, 3, 512), (1,)),
    "spatial_dropout-0d": Member(dropout.spatial_dropout, (256, 512)),
}
RANDOM = {
    **{name: (m.function, m.shape) for name, m in MEMBERS.items() if "-" not in name},
    "gaussian_dropout": (dropout.gaussian_dropout, (256, 512)),
}
every_member = pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS)
every_function = pytest.mark.parametrize(("function", "shape"), RANDOM.values(), ids=RANDOM)


def small(shape):
    """A shape of the same number of axes with less elements."""
    return tuple(min(size, 8) for size in shape)


def dropped(y):
    """What was dropped of ones: zeros, or the negative saturation of alpha dropout."""
    return np.asarray(y) <= 0


@every_member
def test_the_rate_is_met_and_a_new_one_compiles_nothing(member):
    x, traces = jnp.ones(member.shape), []

    @jax.jit
    def draw(rate):
        traces.append(1)
        return member.function(KEY, x, rate=rate)

    # Averaged by NumPy: jax 0.10's compiler for CPUs adds up parts of a broadcast array twice when
    # its threads are busy (google/XNNPACK#11243), as is the output of shared decisions on ones.
    for rate in (1e-3, 0.3, 0.9):
        assert_rate(dropped(draw(rate)).mean(), rate, math.prod(member.decisions))
    assert len(traces) == 1


@every_member
@pytest.mark.parametrize("rate", [0.1, np.float32(0.5)])
def test_a_static_rate_is_met(member, rate):
    y = member.function(KEY, jnp.ones(member.shape), rate=rate)
    assert_rate(dropped(y).mean(), float(rate), math.prod(member.decisions))


@every_member
def test_which_elements_share_a_decision(member):
    mask = dropped(member.function(KEY, jnp.ones(member.shape), rate=0.5))
    for axis in range(len(member.shape)):
        first = np.take(mask, [0], axis)
        assert (mask == first).all() == (axis in member.shared)


@every_member
@pytest.mark.parametrize("draw", [None, jax.random.bits], ids=["ours", "jax"])
def test_one_draw_of_one_word_per_decision(member, draw):
    requests = []

    def recorded(key, shape, dtype):
        requests.append((shape, dtype))
        return jax.random.bits(key, shape, dtype)

    bits = recorded if draw is None else draw
    y = member.function(KEY, jnp.ones(member.shape), rate=0.3, bits=bits)
    assert_rate(dropped(y).mean(), 0.3, math.prod(member.decisions))
    if draw is None:
        assert requests == [(member.decisions, jnp.uint32)]
        assert (y != member.function(KEY, jnp.ones(member.shape), rate=0.3)).any()


@every_member
@pytest.mark.parametrize("rate", [0.2, 0.75])
def test_the_mean_over_masks(member, rate):
    """It is x times the chance of being kept and the factor; that is x where it is inverted."""
    shape = tuple(min(size, 4) for size in member.shape)
    x = np.random.default_rng(0).normal(size=shape)
    keys = jax.random.split(jax.random.key(1), 8192)
    draw = jax.jit(jax.vmap(lambda key: member.function(key, jnp.float32(x), rate=rate)))
    mean = np.asarray(draw(keys), np.float64).mean(axis=0)
    factor = member.factor(rate)
    alpha = -1.7580993408473766 if member.factor is alpha_slope else 0.0
    error = abs(x - alpha) * factor * math.sqrt(rate * (1 - rate) / len(keys))
    np.testing.assert_array_less(abs(mean - factor * (1 - rate) * x), 5 * error + 1e-6)


@every_member
def test_a_certain_rate_gives_zeros_and_zero_gradients(member):
    x = jax.random.normal(KEY, small(member.shape))

    def total(x, rate):
        y = member.function(KEY, x, rate=rate)
        return jnp.sum(y), y

    traced = jax.jit(jax.grad(total, (0, 1), has_aux=True))
    static = jax.jit(jax.grad(lambda x: total(x, 1.0), has_aux=True))
    for rate in (1.0, 1.5):
        (of_x, of_rate), y = traced(x, rate)
        assert not any(map(np.any, (y, of_x, of_rate)))
    assert not any(map(np.any, static(x)))
    for y in (static(x * jnp.nan)[1], traced(x * jnp.nan, 1.0)[1]):
        assert not np.any(y)


@every_function
@pytest.mark.parametrize("rate", [1e-7, 1 - 2.0**-24, 1.0, 1.5])
def test_traced_rates_around_the_ends_are_finite(function, shape, rate):
    x = jax.random.normal(KEY, small(shape))
    for bits in (None, ALL, NONE):
        total = lambda x, rate, bits=bits: jnp.sum(function(KEY, x, rate=rate, bits=bits))  # noqa: E731
        gradients = jax.grad(total, (0, 1))(x, jnp.float32(rate))
        assert all(np.isfinite(g).all() for g in gradients)


@every_function
def test_a_traced_nan_rate_gives_nan(function, shape):
    y = jax.jit(lambda rate: function(KEY, jnp.ones(small(shape)), rate=rate))(jnp.nan)
    assert jnp.isnan(y).all()


@every_function
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_is_float32_rounded_once(function, shape, dtype):
    x = jax.random.normal(KEY, (64, *small(shape)[1:])).astype(dtype)
    y = function(KEY, x, rate=0.1)
    assert y.dtype == dtype
    expected = function(KEY, x.astype(jnp.float32), rate=0.1).astype(dtype)
    np.testing.assert_array_equal(y.astype(jnp.float32), expected.astype(jnp.float32))


@every_function
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_the_backward_pass_holds_the_key_only(function, shape, transform):
    def pullback(key, x, rate):
        return jax.vjp(lambda x: function(key, x, rate=rate), x)[1]

    shape = tuple(min(size, 64) for size in shape)
    pull = transform(pullback)(KEY, jnp.ones(shape), 0.5)
    assert residual_bytes(pull) <= 8 + 2 * 4


@every_function
def test_wrong_bits_keys_and_data_raise(function, shape):
    x = jnp.ones(small(shape))
    with pytest.raises(TypeError, match=r"`bits` must return uint32 of shape .* of shape \(7,\)"):
        function(KEY, x, rate=0.5, bits=lambda key, shape, dtype: jnp.zeros(7, dtype))
    with pytest.raises(TypeError, match=r"`key` must be a PRNG key, got int 3"):
        function(3, x, rate=0.5)
    names = {dropout.drop_connect: "w", dropout.embedding_dropout: "table"}
    name = names.get(function, "x")
    with pytest.raises(TypeError, match=f"`{name}` must have a floating-point dtype, got int32"):
        function(KEY, x.astype(jnp.int32), rate=0.5)
    with pytest.raises(TypeError, match=f"`{name}` must be an array, got list"):
        function(KEY, [1.0], rate=0.5)


@pytest.mark.parametrize(
    ("function", "shape", "message"),
    [
        (dropout.spatial_dropout, (3,), r"`x` .* \[batch, \*spatial, channels\], got .*\(3,\)"),
        (dropout.feature_alpha_dropout, (3,), r"`x` .* \[batch, \*spatial, channels\], .*\(3,\)"),
        (dropout.drop_path, (), r"`x` must have the axes \[batch, \.\.\.\], got shape \(\)"),
        (dropout.embedding_dropout, (), r"`table` must have the axes \[vocabulary, \.\.\.\], got"),
        (dropout.locked_dropout, (3,), r"`time_axis` must lie in \[-1, 1\), got 1"),
    ],
)
def test_too_few_axes_raise(function, shape, message):
    with pytest.raises(ValueError, match=message):
        function(KEY, jnp.ones(shape), rate=0.5)


@every_function
def test_empty_arrays(function, shape):
    for empty in ((0, *small(shape)[1:]), (*small(shape)[:-1], 0)):
        y, pull = jax.vjp(lambda x: function(KEY, x, rate=0.5), jnp.ones(empty))
        assert y.shape == pull(y)[0].shape == empty


def test_the_classical_pair_agrees_in_expectation():
    """Training drops without a factor; evaluation scales by what training keeps on average."""
    x = jnp.array([-3.0, 0.5, 4.0])
    for rate in (0.25, jnp.float32(0.25)):
        np.testing.assert_array_equal(dropout.classical_scale(x, rate=rate), 0.75 * np.asarray(x))
    keys = jax.random.split(KEY, 2**16)
    y = jax.vmap(lambda key: dropout.classical_dropout(key, x, rate=0.25))(keys)
    assert all(set(np.unique(y[:, i])) == {0, float(x[i])} for i in range(3))
    error = abs(np.asarray(x)) * math.sqrt(0.25 * 0.75 / len(keys))
    mean = np.asarray(y, np.float64).mean(axis=0)
    np.testing.assert_array_less(abs(mean - dropout.classical_scale(x, rate=0.25)), 5 * error)


def test_classical_scale_at_the_ends():
    x = jnp.array([1.5, jnp.inf, jnp.nan])
    for rate in (1.0, jnp.float32(1), jnp.float32(3)):
        np.testing.assert_array_equal(dropout.classical_scale(x, rate=rate), 0)
    for rate in (0, jnp.float32(0), jnp.float32(-1)):
        np.testing.assert_array_equal(dropout.classical_scale(x, rate=rate), x)
    assert jnp.isnan(dropout.classical_scale(x, rate=jnp.float32(jnp.nan))).all()
    x = jnp.asarray(np.random.default_rng(0).normal(size=999), jnp.bfloat16)
    y = dropout.classical_scale(x, rate=0.1)
    once = (np.asarray(x, np.float64) * 0.9).astype(np.float32).astype(x.dtype)
    np.testing.assert_array_equal(np.asarray(y, np.float32), np.asarray(once, np.float32))


def test_the_factor_of_gaussian_dropout_is_normal():
    size, traces = 2**19, []

    @jax.jit
    def factors(rate):
        traces.append(1)
        return dropout.gaussian_dropout(KEY, jnp.full(size, 2.0), rate=rate) / 2

    for rate in (0.02, 0.3, 0.9):
        for y in (factors(rate), dropout.gaussian_dropout(KEY, jnp.ones(size), rate=rate)):
            sigma = math.sqrt(rate / (1 - rate))
            noise = (np.asarray(y, np.float64) - 1) / sigma
            assert abs(noise.mean()) <= 5 / math.sqrt(size)
            assert abs(noise.var() - 1) <= 5 * math.sqrt(2 / size)
            assert stats.kstest(noise, "norm").pvalue > FIVE_SIGMA
    assert len(traces) == 1


def test_gaussian_dropout_with_other_bits():
    x = jnp.ones(2**16)
    y = dropout.gaussian_dropout(KEY, x, rate=0.5, bits=jax.random.bits)
    assert stats.kstest(np.asarray(y) - 1, "norm").pvalue > FIVE_SIGMA
    assert (y != dropout.gaussian_dropout(KEY, x, rate=0.5)).any()


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.8])
@pytest.mark.parametrize(
    ("function", "shape"),
    [(dropout.alpha_dropout, (2**21,)), (dropout.feature_alpha_dropout, (2**14, 2, 64))],
    ids=["elements", "channels"],
)
def test_alpha_dropout_keeps_mean_and_variance(function, shape, rate):
    x = jnp.asarray(np.random.default_rng(3).normal(size=shape), jnp.float32)
    y = np.asarray(jax.jit(lambda rate: function(KEY, x, rate=rate))(rate), np.float64)
    assert abs(y.mean()) <= 1e-2
    assert abs(y.var() - 1) <= 1e-2


@pytest.mark.parametrize("row", range(len(TORCH["dropout"])))
@pytest.mark.parametrize("name", ["dropout", "alpha_dropout"])
def test_kept_and_dropped_elements_are_those_of_torch(name, row):
    figures = TORCH[name][row]
    x = jnp.asarray(TORCH["x"], jnp.float32)
    for bits, expected in ((NONE, figures["kept"]), (ALL, figures["dropped"])):
        if expected is None:
            continue  # Nothing is kept at a rate of 1, nothing is dropped at a rate of 0.
        for rate in (figures["rate"], jnp.float32(figures["rate"])):
            y = getattr(dropout, name)(KEY, x, rate=rate, bits=bits)
            np.testing.assert_allclose(y, expected, rtol=4e-7, atol=4e-7)


@pytest.mark.parametrize("figures", TORCH["channels"], ids=lambda f: f["torch"])
def test_channels_are_those_of_torch(figures):
    function = partial(getattr(dropout, figures["function"]), rate=figures["rate"])
    x = jnp.asarray(figures["x"], jnp.float32)
    for bits, expected in ((NONE, figures["kept"]), (ALL, figures["dropped"])):
        np.testing.assert_allclose(function(KEY, x, bits=bits), expected, rtol=4e-7, atol=4e-7)
    keys = jax.random.split(KEY, 200)
    low = np.asarray(figures["dropped"], np.float32)
    masks = np.isclose(jax.vmap(function, (0, None))(keys, x), low, rtol=4e-7, atol=4e-7)
    same = [a for a in range(x.ndim) if (masks == np.take(masks, [0], a + 1)).all()]
    assert same == figures["shared_axes"]
