"""Random bits: where they come from, and the numbers that are made of them.

How random they are is in ``tests/exhaustive/test_bits.py``.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import stats

from jaxreg import _bits, dropout
from tests.helpers import FIVE_SIGMA, always, few

KEY = jax.random.key(11)
IMPLEMENTATIONS = ("rbg", "threefry2x32", "unsafe_rbg")
WORD = 2**32
subkeys = jax.jit(_bits.subkeys)
hash_index = jax.jit(_bits.hash_index)


def given(words):
    """A source of bits that returns these."""
    return lambda key, shape, dtype: jnp.asarray(words)


@partial(jax.jit, static_argnums=1)
def drawn(key, shape):
    return _bits.draw(key, shape, like=jnp.zeros(shape))


def words_of(key, shape):
    return np.asarray(drawn(key, shape))


def drawn_from(function, words, **options):
    """The result of a function for given words."""
    shape = np.shape(words)
    call = jax.jit(lambda w: function(KEY, shape=shape, like=w, bits=given(w), **options))
    return np.asarray(call(np.asarray(words, np.uint32)))


def mixed(x):
    """The hash ``lowbias32`` of Wellons, with Python's integers."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) % WORD
    x = ((x ^ (x >> 15)) * 0x846CA68B) % WORD
    return x ^ (x >> 16)


def expected_subkeys(words):
    """A Feistel network of two rounds of two for each pair of words, from the digits of pi."""
    left = 0x243F6A88
    right = 0x85A308D3
    words = [int(word) for word in words]
    for start in range(0, len(words), 2):
        left ^= words[start]
        right ^= words[start + 1] if start + 1 < len(words) else 0
        for _ in range(2):
            left ^= mixed((right + 0x9E3779B9) % WORD)
            right ^= mixed((left + 0x7F4A7C15) % WORD)
    return left, right


def expected_words(keys, indices):
    """The words of elements by their index, which may have more than 32 bits."""
    found = []
    for index in map(int, indices):
        high, low = divmod(index, WORD)
        block = mixed(high)
        first = keys[0] ^ block
        second = keys[1] ^ (block * 0x9E3779B9) % WORD
        found.append(mixed((mixed((low + first) % WORD) + (low ^ second)) % WORD))
    return np.array(found, np.uint32)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_the_bits_are_those_of_python_s_integers(number):
    """For keys of any number of words, and for indices of more than 32 bits."""
    key = np.random.default_rng(number).integers(0, WORD, number, np.uint32)
    keys = expected_subkeys(key)
    assert tuple(map(int, subkeys(key))) == keys
    indices = np.random.default_rng(0).integers(0, 2**64, 200, np.uint64)
    indices[:20] %= np.uint64(WORD)  # A high word of zero changes nothing.
    high = (indices >> np.uint64(32)).astype(np.uint32)
    low = indices.astype(np.uint32)
    as_words = tuple(np.uint32(word) for word in keys)
    np.testing.assert_array_equal(hash_index(as_words, (high, low)), expected_words(keys, indices))
    expected = expected_words(keys, low)
    np.testing.assert_array_equal(hash_index(as_words, (None, low)), expected)
    if number != 2:
        return
    np.testing.assert_array_equal(words_of(key, (5, 4)).ravel(), expected_words(keys, range(20)))


def test_the_bits_of_a_release_are_these():
    """Runs repeat across releases as long as this test does not change; see the changelog."""
    expected = [272036378, 2895201031, 3685120710, 2052795041]
    np.testing.assert_array_equal(words_of(jax.random.key(0), (4,)), expected)


@pytest.mark.parametrize("shape", [(), (24,), (6, 4), (2, 3, 1, 4), (5, 4)], ids=str)
def test_an_element_has_its_bits_by_its_position_alone(shape):
    expected = expected_words(expected_subkeys(jax.random.key_data(KEY)), range(math.prod(shape)))
    np.testing.assert_array_equal(words_of(KEY, shape).ravel(), expected)


LARGE = [
    (2**11 + 1, 2**11, 2**11 - 1, 3),
    (2**20, 2**20),
    (3, 2**31, 5),
    (2**8,) * 5,
    (2**16, 2**16 + 1),
    (7, 2**32 - 1, 11),
    (2**32 - 1, 2**32 - 1),
]


@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_the_index_of_elements_beyond_32_bits_is_exact(shape):
    """Python's integers give the positions of elements around carries, and of others."""
    size = math.prod(shape)
    carries = [size * k // 7 // WORD * WORD for k in range(8)]
    indices = [c + d for c in carries for d in (-2, -1, 0, 1, 2)]
    indices += [size - 1, *(size * k // 1000 for k in range(1000))]
    indices = [i for i in indices if 0 <= i < size]
    coordinates = []
    rest = indices
    for length in reversed(shape):
        coordinates.insert(0, np.array([i % length for i in rest], np.uint32))
        rest = [i // length for i in rest]
    high, low = jax.jit(partial(_bits.flat_index, shape=shape))(coordinates)
    assert high is not None
    np.testing.assert_array_equal(high, np.array([i // WORD for i in indices], np.uint32))
    np.testing.assert_array_equal(low, np.array([i % WORD for i in indices], np.uint32))


@pytest.mark.parametrize("shape", [(), (1,), (6, 4, 5), (2**16, 2**16), (2**32,)], ids=str)
def test_a_high_word_is_there_only_where_it_is_needed(shape):
    last = [np.uint32(size - 1) for size in shape]
    high, low = jax.jit(partial(_bits.flat_index, shape=shape))(last)
    assert high is None
    assert int(low) == math.prod(shape) - 1


def test_the_index_counts_from_a_start():
    rows = np.arange(6, dtype=np.uint32)[:, None]
    columns = np.arange(4, dtype=np.uint32)[None]
    index = jax.jit(partial(_bits.flat_index, shape=(6, 4)))
    _, low = index([rows, columns], start=np.uint32(WORD - 10))
    np.testing.assert_array_equal(low, (np.arange(24).reshape(6, 4) - 10) % WORD)


def test_the_high_word_of_a_product_is_exact():
    edges = [0, 1, 2**16 - 1, 2**16, 2**16 + 1, 2**31, WORD - 1]
    draws = np.random.default_rng(0).integers(0, WORD, 200).tolist()
    high_product = jax.jit(_bits._high_product)
    for b in edges + draws[:50]:
        high = high_product(np.array(edges + draws, np.uint32), np.uint32(b))
        assert high.tolist() == [a * b // WORD for a in edges + draws]


def test_every_bit_of_a_key_flips_half_of_its_subkeys():
    samples = 2**12
    words = np.random.default_rng(0).integers(0, WORD, (samples, 2), np.uint32)

    @jax.jit
    def shares(words, flips):
        def of(flip):
            before = jax.vmap(_bits.subkeys)(words)
            after = jax.vmap(_bits.subkeys)(words ^ flip)
            changed = jnp.stack([a ^ b for a, b in zip(before, after, strict=True)])[..., None]
            return jnp.mean((changed >> jnp.arange(32, dtype=jnp.uint32)) & 1, axis=1)

        return jax.lax.map(of, flips)

    flips = np.zeros((64, 2), np.uint32)
    for place in range(64):
        flips[place, place // 32] = 1 << (place % 32)
    # 4096 shares: 6 standard errors, for a chance of 1e-5 that good ones would fail.
    deviation = abs(np.asarray(shares(words, flips)) - 0.5)
    assert deviation.max() <= 6 * 0.5 / math.sqrt(samples)


@few("shift", [0, 12])
def test_no_two_keys_have_the_same_subkeys(shift):
    """Seeds below 2**20, or their multiples of 4096, in either of the two words."""
    seeds = np.arange(2**20, dtype=np.uint32) << np.uint32(shift)
    keys = np.stack([np.zeros_like(seeds), seeds], axis=1)
    keys = np.concatenate([keys, keys[1:, ::-1]])
    pairs = np.stack(jax.jit(jax.vmap(_bits.subkeys))(keys), axis=1)
    ordered = np.sort(pairs.view(np.uint64).ravel())
    assert (ordered[1:] != ordered[:-1]).all()


def test_typed_and_legacy_keys_have_the_same_subkeys():
    for implementation in IMPLEMENTATIONS:
        key = jax.random.key(5, impl=implementation)
        words = jax.random.key_data(key)
        np.testing.assert_array_equal(subkeys(key), subkeys(words))
        again = jax.random.wrap_key_data(np.asarray(words), impl=implementation)
        np.testing.assert_array_equal(subkeys(again), subkeys(words))


@few("implementation", IMPLEMENTATIONS)
def test_mapped_keys_draw_what_a_loop_draws(implementation):
    """Of JAX's own bits this holds for threefry alone: ``vmap`` over rbg keys is not the loop."""
    keys = jax.random.split(jax.random.key(3, impl=implementation), 4)
    draw = partial(_bits.draw, shape=(5, 7), like=np.zeros((5, 7), np.float32))
    mapped = jax.jit(jax.vmap(draw))(keys)
    loop = [words_of(key, (5, 7)) for key in keys]
    np.testing.assert_array_equal(mapped, np.stack(loop))
    assert len({row.tobytes() for row in np.asarray(mapped)}) == 4


def test_jax_maps_rbg_keys_to_something_else():
    """If this fails, JAX has changed, and the sentence about rbg above is out of date."""
    keys = jax.random.split(jax.random.key(3, impl="rbg"), 4)
    draw = jax.jit(lambda key: jax.random.bits(key, (8,)))
    loop = np.stack([draw(key) for key in keys])
    assert (np.asarray(jax.vmap(draw)(keys)) != loop).any()


def test_a_key_is_used_up():
    def once(key):
        return dropout.dropout(key, jnp.ones(8), rate=0.5)

    def twice(key):
        return once(key) + once(key)

    with jax.debug_key_reuse(True):
        jax.jit(once)(jax.random.key(1)).block_until_ready()
        with pytest.raises(jax.errors.KeyReuseError):
            jax.jit(twice)(jax.random.key(2))


def test_whether_and_how_much_are_independent():
    """With one key for both, augmax rotates by negative angles alone.

    A mask and a normal number from the two halves of a key; one key would give the same word to
    both, and a kept element would never have a low number.
    """
    ones = np.ones(2**20, np.float32)
    chosen, amount = jax.random.split(KEY)
    kept = np.asarray(jax.jit(partial(dropout.dropout, rate=0.5))(chosen, ones) != 0)
    noise_of = jax.jit(partial(dropout.gaussian_dropout, rate=0.5))

    def p_value(key):
        table = np.histogram2d(kept, np.asarray(noise_of(key, ones)), (2, [-10, 0, 1, 2, 10]))[0]
        return stats.chi2_contingency(table).pvalue

    assert p_value(amount) > FIVE_SIGMA > p_value(chosen)


def test_uniform_numbers_lie_in_the_open_interval():
    numbers = drawn_from(_bits.uniform, [0, 511, 512, 2**31, WORD - 1])
    assert numbers.dtype == np.float32
    expected = [2.0**-24, 2.0**-24, 3 * 2.0**-24, 0.5 + 2.0**-24, 1 - 2.0**-24]
    np.testing.assert_array_equal(numbers, np.float32(expected))


@jax.jit
def uniform_and_normal(x):
    functions = (_bits.uniform, _bits.normal)
    return [function(KEY, x.shape, like=x) for function in functions]


def test_numbers_have_the_distributions_of_their_names():
    size = 2**20
    found = uniform_and_normal(np.zeros(size, np.float32))
    uniform, normal = [np.asarray(numbers, np.float64) for numbers in found]
    assert abs(uniform.mean() - 1 / 2) <= 5 * math.sqrt(1 / 12 / size)
    assert abs(uniform.var() - 1 / 12) <= 5 * math.sqrt(1 / 180 / size)
    assert stats.kstest(uniform, "uniform").pvalue > FIVE_SIGMA
    for power, moment, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)]:
        assert abs(np.mean(normal**power) - moment) <= 5 * math.sqrt(variance / size), power
    assert stats.kstest(normal, "norm").pvalue > FIVE_SIGMA


def quantiles(words):
    """Normal numbers from words by SciPy: the lowest bit is the sign, the others a tail."""
    tail = ((words >> 1).astype(np.float64) + 0.5) / 2**31
    return stats.norm.isf(tail / 2) * np.where(words & 1, -1, 1)


def test_normal_numbers_are_quantiles():
    low = np.arange(2**12)
    words = [low, low * 2**10, low * 2**20, WORD - 1 - low, np.arange(2**20) * 4093 + 5]
    words = np.concatenate(words).astype(np.uint32)
    numbers = drawn_from(_bits.normal, words)
    assert numbers.dtype == np.float32
    expected = quantiles(words)
    error = abs(numbers.astype(np.float64) - expected)
    central = abs(expected) < 5.4
    assert central.mean() > 0.99
    assert error[central].max() < 3e-6
    # 7 words in 10**8 give more than 5.4: there the polynomial is used outside of its range.
    assert error[~central].max() < 3e-3


def test_normal_numbers_are_finite_and_symmetric():
    even = np.array([0, 2, 2**16, 2**31, WORD - 2], np.uint32)
    plus = drawn_from(_bits.normal, even)
    np.testing.assert_array_equal(drawn_from(_bits.normal, even + np.uint32(1)), -plus)
    assert ((plus >= 0) & (plus < 6.5)).all()
    assert plus[0] > 6.3


@pytest.mark.parametrize("word", [0, 2**32 - 1])
def test_certain_decisions_hold_for_every_draw(word):
    """The extreme draws, of probability 2**-32, that no sample would meet."""

    @jax.jit
    def decide(rate):
        return _bits.bernoulli(KEY, rate, (3,), like=jnp.ones(3), bits=always(word))

    for rate in (0.0, 1.0):
        np.testing.assert_array_equal(decide(rate), rate == 1)
    np.testing.assert_array_equal(decide(1 - 2.0**-24), word == 0)


def test_a_word_below_the_rate_is_one_below_its_share_of_all_words():
    below = jax.jit(_bits.below)
    for rate in (2.0**-32, 0.3, 0.5, 1 - 2.0**-24):
        threshold = int(float(np.float32(rate)) * WORD)
        words = np.array([0, threshold - 1, threshold, WORD - 1], np.uint32)
        np.testing.assert_array_equal(below(words, np.float32(rate)), [True, True, False, False])


@pytest.mark.parametrize("word", [0, 2**32 - 1])
def test_a_float64_rate_may_round_to_one(word):
    """A rate of 1 - 1e-12 is 1 in float32, which the words are compared in."""
    with jax.enable_x64(True):

        @jax.jit
        def decide(rate):
            bits = always(np.uint32(word))
            return _bits.bernoulli(KEY, rate, (3,), like=jnp.zeros(3), bits=bits)

        for rate in (1.0, 1 - 1e-12):
            assert decide(np.float64(rate)).all()


def test_other_bits_are_taken_as_they_are():
    @jax.jit
    def draws(x):
        y = dropout.dropout(KEY, x, rate=0.25, bits=jax.random.bits)
        other = _bits.draw(KEY, (3, 5), like=x, bits=jax.random.bits)
        return other, jax.random.bits(KEY, (3, 5), jnp.uint32), y

    other, of_jax, y = jax.device_get(draws(np.ones((3, 5), np.float32)))
    np.testing.assert_array_equal(other, of_jax)
    assert (other != words_of(KEY, (3, 5))).all()
    np.testing.assert_array_equal(y == 0, other < 2**30)


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        (lambda key, shape, dtype: np.zeros(shape, np.uint8), r"uint32.*got uint8"),
        (lambda key, shape, dtype: np.zeros((3, 5), dtype), r"shape \(5, 3\).*shape \(3, 5\)"),
        (lambda key, shape, dtype: np.zeros(shape, np.float32), r"got float32"),
    ],
)
def test_wrong_bits_are_named(bits, message):
    with pytest.raises(TypeError, match=f"`bits` must return .*{message}"):
        _bits.draw(KEY, (5, 3), like=np.ones((5, 3), np.float32), bits=bits)


def test_the_mask_does_not_depend_on_how_threefry_is_partitioned():
    """JAX's own masks are others with ``jax_threefry_partitionable`` off."""
    ones = np.ones((64, 8), np.float32)

    def both(key):
        drop = partial(dropout.dropout, key, ones, rate=0.5)
        return drop(), drop(bits=jax.random.bits)

    masks = []
    for setting in (True, False):
        with jax.threefry_partitionable(setting):
            masks.append(jax.jit(both)(KEY))
    (own, of_jax), (own_too, other) = masks
    np.testing.assert_array_equal(own, own_too)
    assert not np.array_equal(of_jax, other)


@few("spec", [("data", "model", None), (None, ("data", "model"), None), ("model", None, "data")])
def test_bits_on_an_explicit_mesh_are_those_of_one_device(spec):
    """They lie where the data lie, along an axis of size 1 nowhere, and nothing is communicated."""
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    x = np.zeros((8, 16, 8), np.float32)

    @jax.jit
    def call(key, x):
        other = _bits.draw(key, x.shape, like=x, bits=jax.random.bits)
        return _bits.draw(key, x.shape, like=x), _bits.draw(key, (8, 1, 8), like=x), other

    expected = call(KEY, x)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))
        compiled = call.lower(KEY, sharded).compile()
        found = compiled(KEY, sharded)
    for actual, value in zip(found, expected, strict=True):
        np.testing.assert_array_equal(actual, value)
    assert found[0].sharding.spec == found[2].sharding.spec == PartitionSpec(*spec)
    assert found[1].sharding.spec == PartitionSpec(spec[0], None, spec[2])
    assert " all-" not in compiled.as_text()


@few("dtype", [jnp.bfloat16, jnp.float32])
@few("shape", [(32, 8, 512), (512, 512)], ids=str)
def test_a_mask_is_never_stored(dtype, shape):
    """One pass reads the input and writes the result; nothing else is in memory."""
    x = np.ones(shape, dtype)
    call = jax.jit(lambda key, x, rate: dropout.dropout(key, x, rate=rate))
    compiled = call.lower(KEY, x, 0.1).compile()
    assert compiled.cost_analysis()["bytes accessed"] <= 2.01 * x.nbytes
    assert compiled.memory_analysis().temp_size_in_bytes <= 0.01 * x.nbytes
    assert "custom-call" not in compiled.as_text()
    assert " while(" not in compiled.as_text()


def test_a_loop_over_layers_keeps_no_index():
    """The compiler moves what is equal in all steps in front of a loop, if nothing prevents it."""

    def network(drop):
        def layer(x, inputs):
            kernel, key = inputs
            return drop(key, jax.nn.relu(x @ kernel)), None

        def apply(x, kernels):
            keys = jax.random.split(KEY, 8)
            return jnp.mean(jax.lax.scan(layer, x, (kernels, keys))[0] ** 2)

        arguments = (np.zeros((512, 128), np.float32), np.zeros((8, 128, 128), np.float32))
        return jax.jit(apply).lower(*arguments).compile().memory_analysis().temp_size_in_bytes

    extra = network(partial(dropout.dropout, rate=0.1)) - network(lambda key, x: x)
    assert extra <= 0.01 * 8 * 512 * 128 * 4
