"""Random bits: where they come from, and the numbers that are made of them.

How random they are is in ``test_randomness.py``.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxreg import _bits, dropout
from tests.helpers import FIVE_SIGMA, always

KEY = jax.random.key(11)
IMPLEMENTATIONS = ("threefry2x32", "rbg", "unsafe_rbg")
WORD = 2**32


def given(words):
    """A source of bits that returns these."""
    return lambda key, shape, dtype: jnp.asarray(words)


def words_of(key, shape):
    return np.asarray(_bits.draw(key, shape, like=jnp.zeros(shape)))


LARGE = [
    (2**20, 2**20),
    (3, 2**31, 5),
    (2**11 + 1, 2**11, 2**11 - 1, 3),
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
    coordinates, rest = [], indices
    for length in reversed(shape):
        coordinates.insert(0, np.array([i % length for i in rest], np.uint32))
        rest = [i // length for i in rest]
    high, low = _bits.flat_index([jnp.asarray(c) for c in coordinates], shape)
    assert high is not None
    np.testing.assert_array_equal(high, np.array([i // WORD for i in indices], np.uint32))
    np.testing.assert_array_equal(low, np.array([i % WORD for i in indices], np.uint32))


@pytest.mark.parametrize("shape", [(), (1,), (6, 4, 5), (2**16, 2**16), (2**32,)], ids=str)
def test_a_high_word_is_there_only_where_it_is_needed(shape):
    last = [jnp.uint32(size - 1) for size in shape]
    high, low = _bits.flat_index(last, shape)
    assert high is None
    assert int(low) == math.prod(shape) - 1


def test_the_index_counts_from_a_start():
    rows, columns = jnp.arange(6, dtype=jnp.uint32)[:, None], jnp.arange(4, dtype=jnp.uint32)[None]
    _, low = _bits.flat_index([rows, columns], (6, 4), jnp.uint32(WORD - 10))
    np.testing.assert_array_equal(low, (np.arange(24).reshape(6, 4) - 10) % WORD)


def test_a_high_word_of_zero_changes_nothing():
    keys = _bits.subkeys(KEY)
    low = jnp.arange(1000, dtype=jnp.uint32)
    hashed = _bits.hash_index(keys, (None, low))
    np.testing.assert_array_equal(_bits.hash_index(keys, (jnp.zeros_like(low), low)), hashed)
    other = _bits.hash_index(keys, (jnp.ones_like(low), low))
    assert np.count_nonzero(np.asarray(other) == np.asarray(hashed)) < 2


def test_the_high_word_of_a_product_is_exact():
    edges = [0, 1, 2**16 - 1, 2**16, 2**16 + 1, 2**31, WORD - 1]
    draws = np.random.default_rng(0).integers(0, WORD, 200).tolist()
    for b in edges + draws[:50]:
        high = _bits._high_product(jnp.asarray(np.array(edges + draws, np.uint32)), np.uint32(b))
        assert high.tolist() == [a * b // WORD for a in edges + draws]


def test_an_element_has_its_bits_by_its_position_alone():
    flat = words_of(KEY, (24,))
    np.testing.assert_array_equal(words_of(KEY, (6, 4)).ravel(), flat)
    np.testing.assert_array_equal(words_of(KEY, (2, 3, 1, 4)).ravel(), flat)
    np.testing.assert_array_equal(words_of(KEY, (5, 4)).ravel(), flat[:20])
    assert words_of(KEY, ()) == flat[0]


def test_the_bits_of_a_release_are_these():
    """Runs repeat across releases as long as this test does not change; see the changelog."""
    expected = [272036378, 2895201031, 3685120710, 2052795041]
    np.testing.assert_array_equal(words_of(jax.random.key(0), (4,)), expected)


def flip_shares(words):
    """Share of flips of every bit of the subkeys, for every bit of the keys ``[number, words]``."""

    @jax.jit
    def shares(flip):
        pairs = zip(
            jax.vmap(_bits.subkeys)(words), jax.vmap(_bits.subkeys)(words ^ flip), strict=True
        )
        changed = jnp.stack([a ^ b for a, b in pairs])[..., None]
        return jnp.mean((changed >> jnp.arange(32, dtype=jnp.uint32)) & 1, axis=1)

    flips = [(word, np.uint32(1 << bit)) for word in range(words.shape[1]) for bit in range(32)]
    return np.array([shares(jnp.zeros(words.shape[1], jnp.uint32).at[w].set(b)) for w, b in flips])


@pytest.mark.parametrize("number_of_words", [2, 4])
def test_every_bit_of_a_key_flips_half_of_its_subkeys(number_of_words):
    samples = 2**12
    shares = flip_shares(jax.random.bits(KEY, (samples, number_of_words), jnp.uint32))
    # 4096 or 8192 shares: 6 standard errors, for a chance of 2e-5 that good ones would fail.
    assert abs(shares - 0.5).max() <= 6 * 0.5 / math.sqrt(samples)


@pytest.mark.parametrize("shift", [0, 12])
def test_no_two_keys_have_the_same_subkeys(shift):
    """Seeds below 2**20, or their multiples of 4096, in either of the two words."""
    seeds = jnp.arange(2**20, dtype=jnp.uint32) << shift
    keys = jnp.stack([jnp.zeros_like(seeds), seeds], axis=1)
    keys = jnp.concatenate([keys, keys[1:, ::-1]])
    pairs = np.stack(jax.jit(jax.vmap(_bits.subkeys))(keys), axis=1)
    ordered = np.sort(pairs.view(np.uint64).ravel())
    assert (ordered[1:] != ordered[:-1]).all()


def test_typed_and_legacy_keys_have_the_same_subkeys():
    for implementation in IMPLEMENTATIONS:
        key = jax.random.key(5, impl=implementation)
        typed, legacy = _bits.subkeys(key), _bits.subkeys(jax.random.key_data(key))
        np.testing.assert_array_equal(typed, legacy)


def test_all_words_of_a_key_count():
    words = np.array([1, 2, 3, 4], np.uint32)
    found = {tuple(np.array(_bits.subkeys(jnp.asarray(words)), np.uint32).tolist())}
    for place in range(4):
        other = jnp.asarray(words).at[place].add(np.uint32(1))
        found.add(tuple(np.array(_bits.subkeys(other), np.uint32).tolist()))
    assert len(found) == 5


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_mapped_keys_draw_what_a_loop_draws(implementation):
    """Of JAX's own bits this holds for threefry alone: ``vmap`` over rbg keys is not the loop."""
    keys = jax.random.split(jax.random.key(3, impl=implementation), 4)
    mapped = jax.vmap(lambda key: dropout.dropout(key, jnp.ones((5, 7)), rate=0.5))(keys)
    loop = [dropout.dropout(key, jnp.ones((5, 7)), rate=0.5) for key in keys]
    np.testing.assert_array_equal(mapped, jnp.stack(loop))
    assert len({row.tobytes() for row in np.asarray(mapped)}) == 4


def test_jax_maps_rbg_keys_to_something_else():
    """If this fails, JAX has changed, and the sentence about rbg above is out of date."""
    keys = jax.random.split(jax.random.key(3, impl="rbg"), 4)
    loop = jnp.stack([jax.random.bits(key, (8,)) for key in keys])
    assert (jax.vmap(lambda key: jax.random.bits(key, (8,)))(keys) != loop).any()


def test_a_key_is_used_up():
    def once(key):
        return dropout.dropout(key, jnp.ones(8), rate=0.5)

    def twice(key):
        return once(key) + once(key)

    with jax.debug_key_reuse(True):
        jax.jit(once)(jax.random.key(1)).block_until_ready()
        with pytest.raises(jax.errors.KeyReuseError):
            jax.jit(twice)(jax.random.key(2))


def test_uniform_numbers_lie_in_the_open_interval():
    for word, number in [(0, 2.0**-24), (WORD - 1, 1 - 2.0**-24), (2**31, 0.5 + 2.0**-24)]:
        drawn = _bits.uniform(KEY, (2,), like=jnp.zeros(2), bits=always(word))
        assert drawn.dtype == jnp.float32
        np.testing.assert_array_equal(drawn, np.float32(number))


def test_uniform_numbers_are_evenly_spread():
    size = 2**20
    drawn = np.asarray(_bits.uniform(KEY, (size,), like=jnp.zeros(size)), np.float64)
    assert abs(drawn.mean() - 1 / 2) <= 5 * math.sqrt(1 / 12 / size)
    assert abs(drawn.var() - 1 / 12) <= 5 * math.sqrt(1 / 180 / size)
    assert stats.kstest(drawn, "uniform").pvalue > FIVE_SIGMA


def quantiles(words):
    """What SciPy makes of the words: the lowest bit is the sign, the others a tail."""
    tail = ((words >> 1).astype(np.float64) + 0.5) / 2**31
    return stats.norm.isf(tail / 2) * np.where(words & 1, -1, 1)


def test_normal_numbers_are_quantiles():
    few = np.arange(2**12)
    words = np.concatenate(
        [few, few * 2**10, few * 2**20, WORD - 1 - few, np.arange(2**20) * 4093 + 5]
    ).astype(np.uint32)
    drawn = _bits.normal(KEY, words.shape, like=jnp.zeros(1), bits=given(words))
    assert drawn.dtype == jnp.float32
    expected = quantiles(words)
    error = abs(np.asarray(drawn, np.float64) - expected)
    central = abs(expected) < 5.4
    assert central.mean() > 0.99
    assert error[central].max() < 3e-6
    # 7 words in 10**8 give more than 5.4: there the polynomial is used outside of its range.
    assert error[~central].max() < 3e-3


def test_normal_numbers_are_finite_and_symmetric():
    for word in (0, 2, 2**16, 2**31, WORD - 2):
        plus, minus = (
            float(_bits.normal(KEY, (), like=jnp.zeros(()), bits=always(w)))
            for w in (word, word + 1)
        )
        assert 0 <= plus < 6.5
        assert minus == -plus
    assert float(_bits.normal(KEY, (), like=jnp.zeros(()), bits=always(0))) > 6.3


def test_normal_numbers_have_the_moments_of_the_normal_distribution():
    size = 2**20
    drawn = np.asarray(_bits.normal(KEY, (size,), like=jnp.zeros(size)), np.float64)
    for power, moment, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)]:
        assert abs(np.mean(drawn**power) - moment) <= 5 * math.sqrt(variance / size), power
    assert stats.kstest(drawn, "norm").pvalue > FIVE_SIGMA


@pytest.mark.parametrize("rate", [1.0, 1 - 1e-12])
def test_a_float64_rate_may_round_to_one(rate):
    with jax.enable_x64(True):
        for word in (0, WORD - 1):
            drawn = _bits.bernoulli(
                KEY, jnp.float64(rate), (3,), like=jnp.zeros(3), bits=always(np.uint32(word))
            )
            assert drawn.all()


def test_other_bits_are_taken_as_they_are():
    drawn = _bits.draw(KEY, (3, 5), like=jnp.zeros((3, 5)), bits=jax.random.bits)
    np.testing.assert_array_equal(drawn, jax.random.bits(KEY, (3, 5), jnp.uint32))
    assert (np.asarray(drawn) != words_of(KEY, (3, 5))).all()
    dropped = dropout.dropout(KEY, jnp.ones((3, 5)), rate=0.25, bits=jax.random.bits) == 0
    np.testing.assert_array_equal(dropped, np.asarray(drawn) < 2**30)


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        (lambda key, shape, dtype: jax.random.bits(key, shape, jnp.uint8), r"uint32.*got uint8"),
        (lambda key, shape, dtype: jax.random.bits(key, (3, 5)), r"shape \(5, 3\).*shape \(3, 5\)"),
        (lambda key, shape, dtype: jax.random.uniform(key, shape), r"got float32"),
    ],
)
def test_wrong_bits_are_named(bits, message):
    with pytest.raises(TypeError, match=f"`bits` must return .*{message}"):
        dropout.dropout(KEY, jnp.ones((5, 3)), rate=0.5, bits=bits)


def test_the_mask_does_not_depend_on_how_threefry_is_partitioned():
    """JAX's own masks are others with ``jax_threefry_partitionable`` off."""

    def draw(function):
        masks = []
        for setting in (True, False):
            with jax.threefry_partitionable(setting):
                masks.append(np.asarray(jax.jit(function)(KEY)))
        return masks

    def own(key):
        return dropout.dropout(key, jnp.ones((64, 8)), rate=0.5)

    def of_jax(key):
        return dropout.dropout(key, jnp.ones((64, 8)), rate=0.5, bits=jax.random.bits)

    np.testing.assert_array_equal(*draw(own))
    assert not np.array_equal(*draw(of_jax))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(512, 512), (32, 8, 512)], ids=str)
def test_a_mask_is_never_stored(dtype, shape):
    """One pass reads the input and writes the result; nothing else is in memory."""
    x = jnp.ones(shape, dtype)
    call = jax.jit(lambda key, x, rate: dropout.dropout(key, x, rate=rate))
    compiled = call.lower(KEY, x, 0.1).compile()
    assert compiled.cost_analysis()["bytes accessed"] <= 2.01 * x.nbytes
    assert compiled.memory_analysis().temp_size_in_bytes <= 0.01 * x.nbytes
    assert "custom-call" not in compiled.as_text()
    assert " while(" not in compiled.as_text()
