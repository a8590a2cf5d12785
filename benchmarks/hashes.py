"""Candidates for the hash that makes random bits: their speed, and how well they mix.

Every candidate hashes an index with the two words of a key. The one in use is ``_bits.hash_index``;
``one round`` is the floor, and the control that tests of randomness must reject.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measuring import Row, rows_against, shortest
from jaxreg import _bits

Words = tuple[jax.Array, jax.Array]
Hash = Callable[[Words, _bits.Index], jax.Array]


def measure(*, small: bool) -> list[Row]:
    """Measures the time of drawing a mask of booleans."""
    shape, turns = ((64, 128), 2) if small else ((2048, 4096), 15)
    times = shortest({name: _work(hash_, shape) for name, hash_ in CANDIDATES.items()}, turns=turns)
    times["jaxreg"] = times.pop("two rounds")
    return rows_against("hash: mask of booleans", times, floor="one round")


def quality() -> list[tuple[str, str, str]]:
    """Returns the name, the worst bias and the number of repeats of every candidate."""
    return [
        (name, f"{worst_bias(hash_, 2**20):.5f}", str(repeats(hash_, 2**22)))
        for name, hash_ in CANDIDATES.items()
    ]


def one_round(keys: Words, index: _bits.Index) -> jax.Array:
    """Applies the mixing function in use once, as the control."""
    first, second = keys
    return _bits.mix((index[1] + first) ^ second)


def two_rounds_of_murmur(keys: Words, index: _bits.Index) -> jax.Array:
    """Uses the finalizer of MurmurHash3 (Appleby, 2011) in place of ours."""
    first, second = keys
    low = index[1]
    return _murmur(_murmur(low + first) + (low ^ second))


def two_rounds_of_later_constants(keys: Words, index: _bits.Index) -> jax.Array:
    """Uses later constants from the same search, with a smaller bias over all inputs."""
    first, second = keys
    low = index[1]
    return _later(_later(low + first) + (low ^ second))


def triple(keys: Words, index: _bits.Index) -> jax.Array:
    """Applies one round of three multiplications (Wellons, 2018)."""
    first, second = keys
    x = (index[1] + first) ^ second
    x = (x ^ (x >> np.uint32(17))) * np.uint32(0xED5AD4BB)
    x = (x ^ (x >> np.uint32(11))) * np.uint32(0xAC4C1B51)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x31848BAB)
    return x ^ (x >> np.uint32(14))


def threefry(keys: Words, index: _bits.Index, *, rounds: int) -> jax.Array:
    """Applies Threefry-2x32 (Salmon et al., 2011); JAX uses 20 rounds, and 13 pass BigCrush."""
    first, second = keys
    schedule = (first, second, first ^ second ^ np.uint32(0x1BD11BDA))
    left = jnp.zeros_like(index[1]) + first
    right = index[1] + second
    for number in range(rounds):
        turn = np.uint32((13, 15, 26, 6, 17, 29, 16, 24)[number % 8])
        left = left + right
        right = ((right << turn) | (right >> (np.uint32(32) - turn))) ^ left
        if number % 4 == 3:
            step = number // 4 + 1
            left = left + schedule[step % 3]
            right = right + schedule[(step + 1) % 3] + np.uint32(step)
    return left ^ right


CANDIDATES: dict[str, Hash] = {
    "two rounds": _bits.hash_index,
    "one round": one_round,
    "two rounds of murmur": two_rounds_of_murmur,
    "two rounds, later constants": two_rounds_of_later_constants,
    "triple": triple,
    "threefry, 13 rounds": partial(threefry, rounds=13),
    "threefry, 20 rounds": partial(threefry, rounds=20),
}


def worst_bias(hash_: Hash, samples: int) -> float:
    """Measures how far the share of flips is from 1/2, at the worst pair of bits.

    A pair is an input bit, of the key's two words and the index, and an output bit. Sampling alone
    gives up to about ``2 / sqrt(samples)``.
    """
    words = jax.random.bits(jax.random.key(1), (3, samples), jnp.uint32)

    @jax.jit
    def shares(words: jax.Array, flip: jax.Array) -> jax.Array:
        def value(w: jax.Array) -> jax.Array:
            return hash_((w[0], w[1]), (None, w[2]))

        changed = value(words) ^ value(words ^ flip[:, None])
        bits = (changed[:, None] >> jnp.arange(32, dtype=jnp.uint32)) & 1
        return jnp.mean(bits, axis=0, dtype=jnp.float32)

    flips = np.zeros((96, 3), np.uint32)
    for place in range(96):
        flips[place, place // 32] = 1 << (place % 32)
    return float(jnp.max(jnp.abs(jax.lax.map(partial(shares, words), flips) - 0.5)))


def repeats(hash_: Hash, number: int) -> int:
    """Counts the words of consecutive indices that came up before."""
    keys = _bits.subkeys(jax.random.key(2))
    words = np.asarray(hash_(keys, (None, jnp.arange(number, dtype=jnp.uint32))))
    return number - np.unique(words).size


def _murmur(x: jax.Array) -> jax.Array:
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


def _later(x: jax.Array) -> jax.Array:
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x21F0AAAD)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x735A2D97)
    return x ^ (x >> np.uint32(15))


def _work(hash_: Hash, shape: tuple[int, ...]) -> Callable[[], jax.Array]:
    @jax.jit
    def mask(key: jax.Array) -> jax.Array:
        coordinates = [jax.lax.broadcasted_iota(jnp.uint32, shape, axis) for axis in (0, 1)]
        index = _bits.flat_index(coordinates, shape)
        return hash_(_bits.subkeys(key), index) < np.uint32(2**31)

    return partial(mask, jax.random.key(0))
