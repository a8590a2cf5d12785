"""Inverted dropout, ``dropout.dropout``: decisions, rounding, rates and derivatives."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import dropout
from tests.dropout.helpers import KEY, assert_same_bits, compiled, normal
from tests.helpers import always, assert_rate, few, residual_bytes

DTYPES = [jnp.bfloat16, jnp.float32, jnp.float16]
MILLION = 2**20
# A tenth and a fifth of the largest error of one rounding, 2**-8 and 2**-11.
BOUNDS = [(jnp.bfloat16, 4e-4), (jnp.float16, 1e-4)]
ONES = np.ones(64, np.float32)


@jax.jit
def drop(key, x, rate):
    """Dropout at a traced rate."""
    return dropout.dropout(key, x, rate=rate)


def dropped_fraction(rate, size, chunks=1):
    """Fraction of zeros over ``chunks`` independent arrays of ``size`` ones, at a constant rate."""

    def count(key):
        return jnp.sum(dropout.dropout(key, jnp.ones(size), rate=rate) == 0, dtype=jnp.int32)

    counts = jax.jit(lambda keys: jax.lax.map(count, keys))(jax.random.split(KEY, chunks))
    return int(counts.sum()) / (size * chunks)


def test_drops_at_a_very_small_rate():
    size = 2**21
    measured = dropped_fraction(1e-6, size, 8)
    assert measured > 0
    assert_rate(measured, 1e-6, size * 8)


@few("rate", [jnp.bfloat16(1e-3), jnp.float16(1e-4), np.float16(1e-4)], ids=["bf16", "f16", "np16"])
def test_a_low_precision_rate_is_met(rate):
    """``jax.random.bernoulli`` drops 7.7 times as often for bf16(1e-3), 9.6 times for f16(1e-4)."""
    assert_rate(dropped_fraction(rate, 2**21), float(rate), 2**21)


@few("rate", [0.3, 2.0**-32, 0.5, 1 - 2.0**-24])
def test_decisions_compare_a_word_with_the_rate(rate):
    """A word w is dropped if w < rate * 2**32: exactly so many words are, of all there are."""
    threshold = int(float(np.float32(rate)) * 2**32)

    @jax.jit
    def both(x, rate_, words):
        return [
            dropout.dropout(KEY, x, rate=r, bits=lambda *_, word=word: jnp.full(64, word))
            for word in words
            for r in (rate, rate_)
        ]

    words = np.array([threshold - 1, threshold], np.uint32)
    for y, dropped in zip(both(ONES, rate, words), (True, True, False, False), strict=True):
        np.testing.assert_array_equal(y == 0, dropped)


@few("dtype", [jnp.bfloat16, jnp.float16])
def test_the_rate_does_not_depend_on_the_dtype_of_the_input(dtype):
    ones = np.ones(4096, np.float32)
    masks = [drop(KEY, x, 1e-2) == 0 for x in (ones, ones.astype(dtype))]
    np.testing.assert_array_equal(*masks)


@few("rate", [0.1, 0.75])
@few("dtype", DTYPES)
def test_elements_are_zero_or_scaled_with_one_rounding(dtype, rate):
    x = normal(4096, dtype)
    for y in (compiled(dropout.dropout, KEY, x, rate=rate), drop(KEY, x, rate)):
        assert y.dtype == dtype
        kept = np.asarray(y != 0)
        assert 0 < kept.sum() < kept.size
        exact = np.asarray(x, np.float64)[kept] / (1 - rate)
        if dtype == jnp.float32:
            np.testing.assert_array_max_ulp(np.asarray(y)[kept], exact.astype(np.float32), 2)
        else:
            once = exact.astype(np.float32).astype(dtype)
            assert_same_bits(np.asarray(y)[kept], once)


@few(("dtype", "bound"), BOUNDS)
@few("static", [True, False], ids=["static", "traced"])
def test_kept_values_are_unbiased_at_every_rate(static, dtype, bound):
    """Without the randomness of the mask; float32 has ``1 - 0.9`` 2e-7 too large.

    At rates such as 0.9 the factor is a small integer over a power of two, and many products lie
    halfway between two numbers. Then an error of 1e-7 in 1 - rate rounds all of them one way.
    """
    x = normal(MILLION, dtype, seed=1)
    wide = abs(np.asarray(x, np.float64))
    rates = (0.1, 0.6, 0.9) if static else np.array([1, 5, *range(10, 100, 10), 95]) / 100
    for rate in rates:
        call = partial(compiled, dropout.dropout, rate=rate) if static else partial(drop, rate=rate)
        y = abs(np.asarray(call(KEY, x), np.float64))
        kept = y != 0
        assert abs(y[kept].sum() / wide[kept].sum() * (1 - rate) - 1) <= bound


def test_scaled_elements_round_up_as_often_as_down():
    """In float32, 1 - 0.9 is slightly above 0.1, so that all of these ties would round down."""
    x = np.arange(128, 256, dtype=np.float32).astype(jnp.bfloat16)

    @jax.jit
    def keep_all(x, rate):
        return dropout.dropout(KEY, x, rate=rate, bits=always(2**32 - 1))

    found = keep_all(x, np.float32(0.9))
    exact = (x.astype(np.float64) * 10).astype(np.float32).astype(jnp.bfloat16)
    np.testing.assert_array_equal(found, exact)
    error = np.asarray(found, np.float64) - 10 * x.astype(np.float64)
    assert abs(error.mean()) < 0.05 * abs(error).mean()


@pytest.mark.parametrize(("dtype", "bound"), BOUNDS)
def test_dividing_in_the_narrow_dtype_is_biased(dtype, bound):
    """Flax, Equinox, Haiku and Keras divide like this; at rate 0.1 the bound above rejects it."""
    x = normal(MILLION, dtype, seed=1)
    y = abs(np.asarray(x / dtype(1 - 0.1), np.float64))
    assert abs(y.sum() / abs(x.astype(np.float64)).sum() * 0.9 - 1) > bound


def test_masks_of_different_keys_are_uncorrelated():
    draw = jax.jit(jax.vmap(lambda key: dropout.dropout(key, jnp.ones(2**18), rate=0.5)))
    a, b = np.asarray(draw(jax.random.split(KEY, 2)))
    assert abs(np.mean((a - 1) * (b - 1))) <= 5 / math.sqrt(2**18)


@few("dtype", DTYPES)
def test_a_traced_rate_of_zero_is_the_identity_to_the_bit(dtype):
    tiny = float(jnp.finfo(dtype).smallest_subnormal)
    edges = [tiny, -tiny, 3 * tiny, 0.0, -0.0, np.inf, -np.inf, np.nan, 1.5, 1 / 3]
    x = np.array(edges).astype(dtype)
    for rate in (0.0, -0.5):
        assert_same_bits(drop(KEY, x, rate), x)
    for rate in (0, np.float32(0)):
        assert_same_bits(compiled(dropout.dropout, KEY, x, rate=rate), x)


def test_a_rate_above_one_drops_all_and_nan_gives_nan():
    x = np.array([np.inf, np.nan, 1.0], np.float32)
    for rate in (1.0, 1.5):
        np.testing.assert_array_equal(drop(KEY, x, rate), 0)
    np.testing.assert_array_equal(compiled(dropout.dropout, KEY, x, rate=1.0), 0)
    assert np.isnan(drop(KEY, x, np.nan)).all()


@few("wrap", [float, jnp.float32, jnp.bfloat16], ids=["float", "f32", "bf16"])
@few("dtype", [jnp.float32, jnp.bfloat16])
def test_rate_one_gives_zeros_and_zero_gradients(dtype, wrap):
    """Equinox gives zeros with NaN gradients; Haiku raises."""

    def total(x, rate):
        y = dropout.dropout(KEY, x, rate=rate, bits=always(2**32 - 1))
        return jnp.sum(y.astype(jnp.float32)), y

    x = normal(64, dtype)
    traced = compiled(jax.grad(total, (0, 1), has_aux=True), x, wrap(1.0))
    static = compiled(jax.grad(total, has_aux=True), x, rate=wrap(1.0))
    for leaf in jax.tree.leaves([traced, static]):
        np.testing.assert_array_equal(np.asarray(leaf, np.float32), 0)


def test_gradients_are_those_of_the_equation_for_the_mask_of_the_forward_pass():
    """With a fixed mask, d/dp of x / (1 - p) is x / (1 - p)**2 on the kept elements."""
    x = normal(500)

    def total(x, rate):
        y = dropout.dropout(KEY, x, rate=rate)
        return jnp.sum(y * x), y

    (of_x, of_rate), y = compiled(jax.grad(total, (0, 1), has_aux=True), x, 0.3)
    wide = np.where(np.asarray(y) == 0, 0, x.astype(np.float64))
    assert 0 < np.count_nonzero(wide) < 500
    np.testing.assert_allclose(y, wide / 0.7, rtol=1e-6)
    np.testing.assert_allclose(of_x, 2 * wide / 0.7, rtol=1e-6)
    np.testing.assert_allclose(of_rate, np.sum(wide**2) / 0.7**2, rtol=1e-4)


@few("key", [KEY, jax.random.PRNGKey(0)], ids=["typed", "legacy"])
def test_the_backward_pass_holds_the_key_only(key):
    """A stored mask of booleans would take 4096 bytes here."""

    def pullback(key, x, rate):
        return jax.vjp(lambda x: dropout.dropout(key, x, rate=rate), x)[1]

    ones = np.ones(4096, np.float32)
    pull = jax.jit(pullback)(key, ones, 0.5)
    assert 8 <= residual_bytes(pull) <= 8 + 2 * 4
    (gradient,) = jax.jit(lambda pull, y: pull(y))(pull, ones)
    assert set(np.unique(gradient)) == {0, 2}


@few("loop", [False, True], ids=["unrolled", "scan"])
def test_the_gradient_of_a_network_is_that_of_fixed_masks(loop):
    """Each of three layers has a key of its own; recomputing a layer draws the same mask."""
    x = np.cos(np.arange(24, dtype=np.float32)).reshape(6, 4)
    kernels = np.sin(np.arange(1, 49, dtype=np.float32)).reshape(3, 4, 4)
    keys = jax.random.split(KEY, 3)
    masks = np.asarray(jax.vmap(drop, (0, None, None))(keys, np.ones_like(x), 0.25)) != 0

    def layer(x, inputs):
        kernel, key = inputs
        return dropout.dropout(key, jnp.tanh(x @ kernel), rate=0.25), None

    def random(kernels, x):
        keys = jax.random.split(KEY, 3)
        if loop:
            y = jax.lax.scan(jax.checkpoint(layer), x, (kernels, keys))[0]
        else:
            y = x
            for i in range(3):
                y = layer(y, (kernels[i], keys[i]))[0]
        return jnp.mean(y**2)

    def fixed(kernels, x):
        for kernel, mask in zip(kernels, masks, strict=True):
            x = jnp.tanh(x @ kernel) * mask / 0.75
        return jnp.mean(x**2)

    gradients = compiled(lambda *a: (jax.grad(random)(*a), jax.grad(fixed)(*a)), kernels, x)
    scale = np.max(np.abs(gradients[1]))
    assert scale > 0
    np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-5 * scale)


def test_a_scheduled_rate_compiles_once():
    """``flax.linen.Dropout`` raises a TracerBoolConversionError for a traced rate."""
    x = normal(256)
    schedule = optax.linear_schedule(0.0, 0.6, 3)
    traces = []

    @jax.jit
    def step(index):
        traces.append(index)
        return dropout.dropout(KEY, x, rate=schedule(index))

    for index in range(4):
        expected = drop(KEY, x, 0.2 * index)
        np.testing.assert_allclose(step(index), expected, rtol=1e-6, err_msg=f"step {index}")
    assert len(traces) == 1


def test_rates_along_a_scan():
    def fractions(rates):
        def step(carry, rate):
            return carry, jnp.mean(dropout.dropout(KEY, jnp.ones(2**16), rate=rate) == 0)

        return jax.lax.scan(step, None, rates)[1]

    none, quarter, everything = np.asarray(jax.jit(fractions)(np.array([0, 0.25, 1], np.float32)))
    assert none == 0
    assert_rate(quarter, 0.25, 2**16)
    assert everything == 1


def test_a_key_for_each_example_or_one_for_all():
    """A closed-over key gives every example the same mask: a function of the key cannot know."""

    @jax.jit
    def masks(x, keys):
        def draw(key, x):
            return dropout.dropout(key, x, rate=0.5)

        scanned = jax.lax.scan(lambda carry, key: (carry, draw(key, x[0])), None, keys)[1]
        return jax.vmap(draw)(keys, x), jax.vmap(partial(draw, KEY))(x), draw(KEY, x), scanned

    def distinct(rows):
        return len({row.tobytes() for row in np.asarray(rows)})

    each, shared, whole, scanned = masks(np.ones((16, 64), np.float32), jax.random.split(KEY, 16))
    assert distinct(each) == 16
    assert distinct(shared) == 1
    assert distinct(whole) == 16
    np.testing.assert_array_equal(scanned, each)


def test_complex_parts_are_dropped_together():
    y = np.asarray(drop(KEY, np.full(512, 3 - 4j, np.complex64), 0.5))
    assert set(y.tolist()) == {0j, 6 - 8j}


def test_empty_and_scalar_arrays():
    shapes = ((0,), (0, 3), (3, 0), ())

    def pulled(arrays):
        y, pull = jax.vjp(lambda a: [dropout.dropout(KEY, x, rate=0.5) for x in a], arrays)
        return y, pull(y)[0]

    y, gradients = compiled(pulled, [np.ones(shape, np.float32) for shape in shapes])
    for shape, value, gradient in zip(shapes, y, gradients, strict=True):
        assert value.shape == gradient.shape == shape


@pytest.mark.parametrize("rate", [-0.5, 1.5, float("nan"), np.float32(1.5), np.array(-0.1), 2])
def test_a_rate_outside_the_range_raises(rate):
    """Flax turns -0.5 into a scale of 0.667, and drops everything at NaN, without an error."""
    with pytest.raises(ValueError, match=r"`rate` must be a probability in \[0, 1\], got"):
        dropout.dropout(KEY, ONES, rate=rate)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (3, r"must be a PRNG key, got int 3; make one with jax\.random\.key"),
        (0.5, "must be a PRNG key, got float"),
        (None, "must be a PRNG key, got NoneType"),
        (jnp.float32(1), r"must be a PRNG key, got float32"),
        (jnp.uint32(1), r"must be a PRNG key, got uint32 of shape \(\)"),
        (jnp.zeros(2, jnp.int32), "must be a PRNG key, got int32"),
        (jax.random.split(KEY, 2), r"single PRNG key, got keys of shape \(2,\); .*jax\.vmap"),
        (jnp.zeros((2, 2), jnp.uint32), r"single PRNG key, got a uint32 array of shape \(2, 2\)"),
    ],
)
def test_a_wrong_key_raises(key, message):
    with pytest.raises(TypeError, match=f"`key` .*{message}"):
        dropout.dropout(key, ONES, rate=0.5)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.bool_])
def test_integer_input_raises(dtype):
    with pytest.raises(TypeError, match=r"`x` must have a floating-point dtype, got"):
        dropout.dropout(KEY, np.ones(3, dtype), rate=0.5)


def test_a_list_raises():
    with pytest.raises(TypeError, match="`x` must be an array, got list"):
        dropout.dropout(KEY, [1.0], rate=0.5)
