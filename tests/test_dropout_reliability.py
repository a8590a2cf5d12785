"""Failures of randomness and rounding that other libraries have, where no other test holds them."""

import json
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as fnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import stats

from jaxreg import dropout, linen, nnx
from tests.helpers import FIVE_SIGMA

KEY = jax.random.key(14)
MILLION = 2**20
RATES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
ONES = jnp.ones(64)


def scale_error(x, y, rate):
    """How far the factor of the kept elements is from 1 / (1 - rate), on average, relatively.

    The sum over the kept elements of the result stands beside the sum over the same elements of the
    input. This leaves the rounding: the noise of the mask alone would be 3e-4 here.
    """
    x, y = (np.abs(np.asarray(a, np.float64)) for a in (x, y))
    return y.sum() / x[y != 0].sum() * (1 - rate) - 1


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("dtype", "bound"), [(jnp.bfloat16, 4e-4), (jnp.float16, 1e-4)])
def test_rounding_is_unbiased_at_every_rate(dtype, bound, rate):
    """The bounds are a tenth and a fifth of the largest error of one rounding, 2**-8 and 2**-11.

    At rates such as 0.9 the factor is a small integer over a power of two, and many products lie
    halfway between two numbers. Then an error of 1e-7 in 1 - rate rounds all of them one way.
    """
    x = jax.random.normal(jax.random.key(1), (MILLION,)).astype(dtype)
    y = dropout.dropout(KEY, x, rate=rate)
    assert y.dtype == dtype
    assert abs(scale_error(x, y, rate)) <= bound


@pytest.mark.parametrize(("dtype", "bound"), [(jnp.bfloat16, 4e-4), (jnp.float16, 1e-4)])
def test_dividing_in_the_narrow_dtype_is_biased(dtype, bound):
    """What Flax, Equinox, Haiku and Keras do at rate 0.1; the bound above tells it apart."""
    x = jax.random.normal(jax.random.key(1), (MILLION,)).astype(dtype)
    assert abs(scale_error(x, x / jnp.asarray(1 - 0.1, dtype), 0.1)) > bound


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_traced_rate_is_unbiased_at_a_tenth(dtype):
    x = jax.random.normal(jax.random.key(1), (MILLION,)).astype(dtype)
    y = jax.jit(lambda rate: dropout.dropout(KEY, x, rate=rate))(0.1)
    assert abs(scale_error(x, y, 0.1)) <= (4e-4 if dtype == jnp.bfloat16 else 1e-4)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_noise_is_as_fine_as_its_dtype(dtype):
    """``jax.random.normal`` in bfloat16 has 128 values, none above 2.5, and a mean of -0.012."""
    rate = 0.1
    noise = math.sqrt(rate / (1 - rate))
    y = dropout.gaussian_dropout(KEY, jnp.ones(MILLION, dtype), rate=rate)
    deviations = (np.asarray(y, np.float64) - 1) / noise
    spread = 5 / math.sqrt(MILLION)
    assert abs(deviations.mean()) <= spread
    assert deviations.max() > 4 < -deviations.min()
    of_jax = np.asarray(jax.random.normal(KEY, (MILLION,), dtype), np.float64)
    if dtype == jnp.bfloat16:
        assert abs(of_jax.mean()) > spread
        assert of_jax.max() < 3


def test_a_key_for_each_example_or_one_for_all():
    """A closed-over key gives every example the same mask: a function of the key cannot know."""

    def distinct(masks):
        return len({row.tobytes() for row in np.asarray(masks)})

    def draw(key, x):
        return dropout.dropout(key, x, rate=0.5)

    x, keys = jnp.ones((16, 64)), jax.random.split(KEY, 16)
    assert distinct(jax.vmap(draw)(keys, x)) == 16
    assert distinct(jax.vmap(partial(draw, KEY))(x)) == 1
    assert distinct(draw(KEY, x)) == 16
    _, scanned = jax.lax.scan(lambda carry, key: (carry, draw(key, x[0])), None, keys)
    np.testing.assert_array_equal(scanned, jax.vmap(draw)(keys, x))


def test_the_same_position_of_other_shapes_is_no_other_draw():
    """Layers of different widths need different keys just as layers of one width do."""
    wide, narrow = (dropout.dropout(KEY, jnp.ones(n), rate=0.5) for n in (64, 32))
    np.testing.assert_array_equal(wide[:32], narrow)


def test_nnx_needs_nnx_jit_or_keys():
    """``jax.jit`` loses the count of a stream and repeats the mask; a key at the call does not."""
    layer = nnx.Dropout(0.5, rngs=fnx.Rngs(0))

    def masks(call):
        return len({np.asarray(call(step)).tobytes() for step in range(3)})

    pure = jax.jit(lambda layer, x: layer(x))
    keyed = jax.jit(lambda layer, x, key: layer(x, rngs=key))
    lifted = fnx.jit(lambda layer, x: layer(x))
    assert masks(lambda step: pure(layer, ONES)) == 1
    assert masks(lambda step: keyed(layer, ONES, jax.random.fold_in(KEY, step))) == 3
    assert masks(lambda step: lifted(layer, ONES)) == 3


@pytest.mark.parametrize("axes", [(), (0,), (1,)], ids=str)
def test_modules_on_an_explicit_mesh(axes):
    """Flax's Linen layer raises on sharded inputs, its NNX layer where a shared axis is sharded."""
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    x = jnp.arange(1.0, 129).reshape(16, 8)
    expected = dropout.dropout(KEY, x, rate=0.5, broadcast_axes=axes)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data", "model")))
        modules = (
            lambda x: linen.Dropout(0.5, broadcast_dims=axes, deterministic=False).apply(
                {}, x, rng=KEY
            ),
            lambda x: nnx.Dropout(0.5, broadcast_dims=axes)(x, rngs=KEY),
        )
        for module in modules:
            np.testing.assert_array_equal(jax.jit(module)(sharded), expected)


def test_whether_and_how_much_are_independent():
    """With one key for both, augmax rotates by negative angles alone.

    A mask and a uniform or normal number from the two halves of a key; one key would give the same
    word to both, and a kept element would never have a low number.
    """
    chosen, amount = jax.random.split(KEY)
    kept = np.asarray(dropout.dropout(chosen, jnp.ones(MILLION), rate=0.5) != 0)

    def p_value(key):
        noise = dropout.gaussian_dropout(key, jnp.ones(MILLION), rate=0.5)
        table = np.histogram2d(kept, np.asarray(noise), bins=(2, [-10, 0, 1, 2, 10]))[0]
        return stats.chi2_contingency(table).pvalue

    assert p_value(amount) > FIVE_SIGMA > p_value(chosen)
    with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
        jax.jit(
            lambda key: (
                dropout.dropout(key, ONES, rate=0.5) * dropout.gaussian_dropout(key, ONES, rate=0.5)
            )
        )(jax.random.key(3))


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_a_key_comes_back_from_its_words(implementation):
    """Typed keys cannot be written to a file as they are: their words can."""
    key = jax.random.key(9, impl=implementation)
    words = json.loads(json.dumps(jax.random.key_data(key).tolist()))
    restored = jnp.asarray(words, jnp.uint32)
    expected = dropout.dropout(key, ONES, rate=0.5)
    for again in (restored, jax.random.wrap_key_data(restored, impl=implementation)):
        np.testing.assert_array_equal(dropout.dropout(again, ONES, rate=0.5), expected)
