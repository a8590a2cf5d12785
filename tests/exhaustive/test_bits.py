"""The random bits in front of statistical tests, and weaker bits that these have to reject.

``battery`` maps a hash of index and key to p-values. They are two-sided, for bits that are too even
are as wrong as bits that are too uneven. The complete set of dieharder is in ``benchmarks``.
"""

import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jaxreg import _bits

RATES = (0.01, 0.1, 0.5)
LAGS = (1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512, 784, 1000, 1024, 4096, 2**16)
LEVEL = 1e-6  # The chance that good bits and other keys would have failed the whole battery.
RANKS = np.array([0.13363571, 0.57757619, 0.28878810])  # Of 32x32 bits: at most 30, 31, 32.


def one_round(keys, index):
    """Mixes once: a permutation of the index, in which no word comes twice."""
    first, second = keys
    return _bits.mix((index[1] + first) ^ second)


def one_word_of_key(keys, index):
    """Leaves out the second word: among 2**20 keys, some pairs give the same bits throughout."""
    return _bits.hash_index((keys[0], jnp.zeros_like(keys[1])), index)


@cache
def battery(hash_):
    """Returns a p-value for the name of every test."""
    found = {}
    for name, (make, size) in STREAMS.items():
        words = jax.jit(partial(make, hash_))(jnp.arange(size, dtype=jnp.uint32))
        found |= {f"{name}: {test}": p for test, p in of_stream(words).items()}
    for name, make in BLOCKS.items():
        block = jax.jit(partial(make, hash_))()
        found |= {f"{name}: {test}": p for test, p in of_block(block).items()}
    found |= avalanche(hash_)
    return found | {"seeds: pairs of words that repeat": repeated_pairs(hash_)}


def first_word(hash_, key, element=0):
    return hash_(_bits.subkeys(key), (None, jnp.uint32(element)))


def elements(hash_, counter):
    return hash_(_bits.subkeys(jax.random.key(1)), (None, counter))


def column(hash_, counter):
    """The first element of every row of 4096."""
    return elements(hash_, counter * np.uint32(4096))


def seeds(hash_, counter):
    """The words that ``jax.random.key`` makes of consecutive seeds are (0, seed)."""
    return jax.vmap(lambda seed: first_word(hash_, jnp.stack([jnp.uint32(0), seed])))(counter)


def splits(hash_, counter):
    return jax.vmap(partial(first_word, hash_))(jax.random.split(jax.random.key(2), counter.size))


def layers(hash_, counter):
    """32 layers of one step after another."""

    def of(count):
        step = jax.random.fold_in(jax.random.key(3), count // 32)
        return first_word(hash_, jax.random.fold_in(step, count % 32))

    return jax.vmap(of)(counter)


def steps(hash_, counter):
    root = jax.random.key(4)
    return jax.vmap(lambda step: first_word(hash_, jax.random.fold_in(root, step)))(counter)


STREAMS = {
    "elements": (elements, 2**22),
    "column": (column, 2**20),
    "seeds": (seeds, 2**20),
    "splits": (splits, 2**20),
    "layers": (layers, 2**20),
    "steps": (steps, 2**20),
}


def below_each_other(make_keys):
    """Makes a block ``[keys, elements]``: the masks of neighboring keys are neighboring rows."""

    def make(hash_):
        index = (None, jnp.arange(2048, dtype=jnp.uint32))
        return jax.vmap(lambda key: hash_(_bits.subkeys(key), index))(make_keys(jnp.arange(1024)))

    return make


def array(shape):
    """Makes the block of the elements of one array."""
    counter = np.arange(math.prod(shape), dtype=np.uint32)
    return lambda hash_: elements(hash_, counter).reshape(shape)


def layer_keys(numbers):
    return jax.vmap(partial(jax.random.fold_in, jax.random.key(6)))(numbers)


def step_keys(numbers):
    """The keys of layer 3 of every step."""
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(7)))(numbers)
    return jax.vmap(lambda key: jax.random.fold_in(key, 3))(keys)


BLOCKS = {
    "masks of seeds": below_each_other(jax.vmap(jax.random.key)),
    "masks of splits": below_each_other(lambda n: jax.random.split(jax.random.key(5), n.size)),
    "masks of layers": below_each_other(layer_keys),
    "masks of steps": below_each_other(step_keys),
    "mask of [1024, 784]": array((1024, 784)),
    "mask of [1000, 1000]": array((1000, 1000)),
}


def of_stream(words):
    """Tests of one word after another."""
    ones = np.asarray(bit_counts(words), np.float64)
    found = {f"bit {i}": p_of_z(z) for i, z in enumerate(coin(ones, words.size))}
    for lag in LAGS:
        shifted = jnp.roll(words, lag)
        agreeing = np.asarray(bit_counts(words ^ shifted), np.float64)
        found[f"bits at lag {lag}"] = p_of_squares(coin(agreeing, words.size))
        found[f"values at lag {lag}"] = p_of_z(correlation(words, shifted))
    words = np.asarray(words)
    for i, byte in enumerate(words.view(np.uint8).reshape(-1, 4).T):
        found[f"byte {i}"] = p_of_counts(np.bincount(byte, minlength=2**8))
    for i, half in enumerate(words.view(np.uint16).reshape(-1, 2).T):
        found[f"half {i}"] = p_of_counts(np.bincount(half, minlength=2**16))
    found["repeated words"] = p_of_events(repeated(words), repeats(words.size))
    found["gaps of a mask"] = gaps(words < round(0.1 * 2**32), 0.1)
    found["ranks of matrices"] = p_of_counts(ranks(words[: 2**20].reshape(-1, 32)), RANKS)
    return found


def of_block(block):
    """Tests of masks beside each other, along both axes."""
    found = {}
    for rate in RATES:
        mask = np.asarray(block < np.uint32(round(rate * 2**32)))
        for axis in (0, 1):
            mask = np.swapaxes(mask, 0, axis)
            pairs = np.count_nonzero(mask[1:] & mask[:-1])
            singles = np.count_nonzero(mask[1:]) + np.count_nonzero(mask[:-1])
            number = mask[1:].size
            covariance = pairs - rate * singles + number * rate**2
            z = covariance / (math.sqrt(number) * rate * (1 - rate))
            found[f"neighbors along {axis} at rate {rate}"] = p_of_z(z)
            sums = np.count_nonzero(mask, axis=0)
            deviations = (sums - len(mask) * rate) / math.sqrt(len(mask) * rate * (1 - rate))
            found[f"sums along {axis} at rate {rate}"] = p_of_squares(deviations)
    return found


def avalanche(hash_, samples=2**15):
    """Flips each bit of the key's two words and of the index: half of the bits have to flip."""
    words = jax.random.bits(jax.random.key(8), (3, samples), jnp.uint32)

    @jax.jit
    def flipped(flip):
        def value(word):
            return hash_(jax.vmap(_bits.subkeys)(word[:2].T), (None, word[2]))

        return bit_counts(value(words) ^ value(words ^ flip[:, None]))

    found = {}
    for place in range(96):
        flip = np.zeros(3, np.uint32)
        flip[place // 32] = 1 << (place % 32)
        deviations = coin(np.asarray(flipped(flip), np.float64), samples)
        name = ("high word of key", "low word of key", "index")[place // 32]
        found[f"avalanche of {name}, bit {place % 32}"] = p_of_squares(deviations)
    return found


def repeated_pairs(hash_, number=2**20):
    """The first two elements of consecutive seeds: keys that agree in both agree in all."""

    def pair(seed):
        key = jnp.stack([jnp.uint32(0), seed])
        return jnp.stack([first_word(hash_, key, element) for element in (0, 1)])

    pairs = np.asarray(jax.jit(jax.vmap(pair))(jnp.arange(number, dtype=jnp.uint32)))
    return p_of_events(repeated(pairs.view(np.uint64).ravel()), number**2 / 2**65)


@jax.jit
def bit_counts(words):
    """Counts the words in which each of the 32 bits is set."""
    # Four bits at a time, a byte apart: the sum of 128 words does not carry over.
    shifts = jnp.arange(8, dtype=jnp.uint32)[:, None, None]
    sums = jnp.sum((words.reshape(128, -1) >> shifts) & np.uint32(0x01010101), axis=1)
    places = jnp.arange(0, 32, 8, dtype=jnp.uint32)[:, None, None]
    return jnp.sum((sums >> places) & np.uint32(0xFF), axis=-1).ravel()


@jax.jit
def correlation(words, others):
    """Standard errors of the correlation of two evenly spread variables."""
    a = words.astype(jnp.float32) * 2.0**-32 - 0.5
    b = others.astype(jnp.float32) * 2.0**-32 - 0.5
    return jnp.sum(a * b) * 12 / math.sqrt(words.size)


def coin(heads, tosses):
    return (heads - tosses / 2) / math.sqrt(tosses / 4)


def repeated(words):
    """Counts the words that occurred before."""
    ordered = np.sort(words)
    return np.count_nonzero(ordered[1:] == ordered[:-1])


def repeats(number):
    """Expected number of those among random words that came up before."""
    return number + 2.0**32 * math.expm1(number * math.log1p(-(2.0**-32)))


def gaps(mask, rate, longest=64):
    """Distances between the dropped elements, which are geometrically distributed."""
    distances = np.minimum(np.diff(np.flatnonzero(mask)) - 1, longest)
    shares = rate * (1 - rate) ** np.arange(longest)
    counts = np.bincount(distances, minlength=longest + 1)
    return p_of_counts(counts, np.append(shares, (1 - rate) ** longest))


def ranks(rows):
    """Counts of the ranks at most 30, 31 and 32 of matrices of bits, by elimination."""
    rows = rows.copy()
    rank = np.zeros(len(rows), int)
    everyone = np.arange(len(rows))
    for bit in range(32):
        having = (rows >> np.uint32(bit)) & 1 == 1
        pivot = having.argmax(axis=1)
        found = having.any(axis=1)
        row = np.where(found, rows[everyone, pivot], 0).astype(np.uint32)
        # The pivot row clears the bit everywhere, in itself too, so that it is not used again.
        rows ^= np.where(having, row[:, None], np.uint32(0))
        rank += found
    return np.bincount(np.maximum(rank, 30) - 30, minlength=3)


def p_of_z(z):
    return float(2 * stats.norm.sf(abs(float(z))))


def p_of_squares(deviations):
    """Two-sided, of the sum of squares of independent standard normal numbers."""
    return both_sides(stats.chi2(deviations.size), float(np.sum(np.square(deviations))))


def p_of_counts(counts, shares=None):
    expected = counts.sum() * (1 / counts.size if shares is None else shares)
    return both_sides(
        stats.chi2(counts.size - 1), float(np.sum((counts - expected) ** 2 / expected))
    )


def p_of_events(count, expected):
    poisson = stats.poisson(expected)
    return min(1.0, 2 * float(min(poisson.cdf(count), poisson.sf(count - 1))))


def both_sides(distribution, value):
    return min(1.0, 2 * float(min(distribution.cdf(value), distribution.sf(value))))


def rejected(hash_):
    """The names of the tests that fail, at a level shared by all of them."""
    found = battery(hash_)
    return {name for name, p in found.items() if not p > LEVEL / len(found)}


def test_the_bits_pass():
    assert len(battery(_bits.hash_index)) > 600
    assert not rejected(_bits.hash_index)


def test_one_round_is_rejected():
    """Its words never repeat, and words at some distances agree too often in some bits."""
    found = rejected(one_round)
    assert {"elements: repeated words", "column: repeated words"} <= found
    assert {"elements: bits at lag 64", "elements: bits at lag 128"} <= found


def test_one_word_of_key_is_rejected():
    """No test of one stream can tell: what is wrong is that streams come twice."""
    assert rejected(one_word_of_key) == {"seeds: pairs of words that repeat"}
