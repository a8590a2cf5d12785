"""Random bits hashed from a key and positions, and random booleans and numbers made from them.

Threefry needs about a hundred integer operations for each element. Here the bits of an element are
a hash of its position and the key: a few operations that fuse into the loop that uses them, so that
nothing is stored and the backward pass draws the same bits again. They depend only on the global
position, not on devices or shardings. ``benchmarks/randomness.py`` tests the hash, and
``benchmarks/hashes.py`` compares it with others.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.typing import DTypeLike

from jaxreg._sharding import explicit_sharding, for_axis, for_shape

Bits = Callable[[jax.Array, tuple[int, ...], DTypeLike], jax.Array]
Index = tuple[jax.Array | None, jax.Array]

_WORD = 2**32 - 1


def bernoulli(
    key: jax.Array,
    rate: jax.Array,
    shape: tuple[int, ...],
    *,
    like: jax.Array,
    bits: Bits | None = None,
) -> jax.Array:
    """Returns random booleans, true with probability ``rate``.

    Args:
      key: PRNG key.
      rate: Probability of true in ``[0, 1]``, an array of shape ``()``.
      shape: Shape of the result: the shape of ``like``, with 1 along some of its axes.
      like: Array whose sharding the result takes on an Explicit mesh.
      bits: Source of the bits, see :func:`draw`.
    """
    return below(draw(key, shape, like=like, bits=bits), rate)


def below(words: jax.Array, rate: jax.Array) -> jax.Array:
    """Returns booleans, true where a random 32-bit word is below ``rate * 2**32``.

    The comparison of 32 bits with an integer is exact to 2**-32, whereas a comparison with uniform
    float32 numbers rounds a small rate to multiples of 2**-23. A rate of 0 gives only False, and a
    rate of 1 only True.
    """
    rate = rate.astype(jnp.float32)
    return (words < (rate * 2.0**32).astype(jnp.uint32)) | (rate >= 1)


def once(decisions: jax.Array) -> jax.Array:
    """Returns equal booleans that XLA computes once before it broadcasts them.

    XLA repeats cheap operations in the loop that broadcasts them, even behind a barrier. It does
    not repeat a square root.
    """
    return jnp.sqrt(decisions.astype(jnp.float32)) != 0


def uniform(
    key: jax.Array, shape: tuple[int, ...], *, like: jax.Array, bits: Bits | None = None
) -> jax.Array:
    """Returns uniform float32 numbers in ``(0, 1)``: odd multiples of 2**-24."""
    words = draw(key, shape, like=like, bits=bits) >> np.uint32(9)
    return (words.astype(jnp.float32) + 0.5) * 2.0**-23


def normal(
    key: jax.Array, shape: tuple[int, ...], *, like: jax.Array, bits: Bits | None = None
) -> jax.Array:
    r"""Returns standard normal random numbers in float32, at most 6.3 in magnitude.

    One bit gives the sign; the others give a tail probability :math:`v`, whose magnitude is
    :math:`\sqrt 2 \, \mathrm{erf}^{-1}(1 - v)`. The logarithm is computed from the small number
    :math:`v` itself and loses no digits in the tail. The polynomials are from Giles, "Approximating
    the erfinv function", 2010, single precision: within 3e-6 up to a magnitude of 5.4, and within
    3e-3 for the seven words in 10**8 beyond.
    """
    words = draw(key, shape, like=like, bits=bits)
    tail = ((words >> np.uint32(1)).astype(jnp.float32) + 0.5) * 2.0**-31
    w = -jnp.log(tail * (2 - tail))
    erfinv = jnp.where(
        w < 5, _polynomial(_CENTRAL, w - 2.5), _polynomial(_TAIL, jnp.sqrt(w) - 3)
    ) * (1 - tail)
    magnitude = math.sqrt(2) * erfinv
    return jnp.where((words & np.uint32(1)) == 0, magnitude, -magnitude)


def draw(
    key: jax.Array, shape: tuple[int, ...], *, like: jax.Array, bits: Bits | None = None
) -> jax.Array:
    """Returns a uint32 array of random bits, hashed from ``key`` and the index of each element.

    Args:
      key: PRNG key.
      shape: Shape of the result: the shape of ``like``, with 1 along some of its axes.
      like: Array whose sharding the result takes on an Explicit mesh.
      bits: Another source, called as ``bits(key, shape, jnp.uint32)`` like ``jax.random.bits``.
    """
    sharding = explicit_sharding(like)
    if sharding is not None:
        sharding = for_shape(sharding, shape)
    if bits is not None:
        return _call_source(bits, key, shape, sharding)
    if jax.config.jax_debug_key_reuse:  # type: ignore[attr-defined]
        jax.random.bits(key)  # The checker does not count reading a key's words as a use.
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return _hash_positions(jax.random.key_data(key) if typed else key, shape, sharding)


@partial(jax.jit, static_argnums=(1, 2))
def _hash_positions(
    key: jax.Array, shape: tuple[int, ...], sharding: NamedSharding | None
) -> jax.Array:
    """Hashes the index of each element; the programs of all layers share one copy of it."""
    keys = subkeys(key)
    coordinates = []
    for axis, size in enumerate(shape):
        line = tuple(size if a == axis else 1 for a in range(len(shape)))
        out = None if sharding is None else for_axis(sharding, axis)
        coordinates.append(jax.lax.broadcasted_iota(jnp.uint32, line, axis, out_sharding=out))
    # Offsetting the index by the key and subtracting it again keeps XLA from hoisting the array of
    # indices out of a loop over layers, where it would have to be stored.
    start = keys[0] if math.prod(shape) <= 2**32 else jnp.uint32(0)
    high, low = flat_index(coordinates, shape, start)
    return hash_index(keys, (high, low - start))


def subkeys(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mixes a PRNG key into two uint32 words, whose bits depend on every bit of the key.

    A Feistel network of four rounds is a permutation of pairs of words, so different keys of two
    words give different results. Longer keys, as in the generator ``rbg``, pass through it pair by
    pair.
    """
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    words = jax.random.key_data(key) if typed else key
    left = jnp.uint32(0x243F6A88)  # The first digits of pi.
    right = jnp.uint32(0x85A308D3)
    for start in range(0, words.shape[0], 2):
        left = left ^ words[start]
        if start + 1 < words.shape[0]:
            right = right ^ words[start + 1]
        for _ in range(2):
            left = left ^ mix(right + np.uint32(0x9E3779B9))
            right = right ^ mix(left + np.uint32(0x7F4A7C15))
    return left, right


def flat_index(
    coordinates: Sequence[jax.Array], shape: tuple[int, ...], start: jax.Array | int = 0
) -> Index:
    """Returns row-major indices as (high, low) uint32 words; high is None for up to 2**32 elements.

    Args:
      coordinates: Positions along every axis, ``uint32``, of shapes that broadcast.
      shape: Lengths of the axes; their product is at most 2**64.
      start: Number that the low word counts from, modulo 2**32; 0 if there is a high word.
    """
    low = jnp.asarray(start, jnp.uint32)
    high = jnp.uint32(0) if math.prod(shape) > 2**32 else None
    for axis, position in enumerate(coordinates):
        stride = math.prod(shape[axis + 1 :])
        low_stride = np.uint32(stride & _WORD)
        step = position * low_stride
        if high is not None:
            carried = (low + step < step).astype(jnp.uint32)
            high_step = _high_product(position, low_stride) + position * np.uint32(stride >> 32)
            high = high + high_step + carried
        low = low + step
    return high, low


def hash_index(keys: tuple[jax.Array, jax.Array], index: Index) -> jax.Array:
    """Hashes element indices with the two key words of :func:`subkeys` to uint32 words.

    The index enters both rounds, so that the result is not a permutation of the indices: values
    repeat as often as random numbers do.
    """
    first, second = keys
    high, low = index
    if high is not None:
        block = mix(high)  # Zero for the first 2**32 elements, which need no high word.
        first = first ^ block
        second = second ^ (block * np.uint32(0x9E3779B9))
    return mix(mix(low + first) + (low ^ second))


def mix(x: jax.Array) -> jax.Array:
    """Applies a bijective mixing function to uint32 words; 0 maps to 0.

    It is ``lowbias32`` of Wellons, "Prospecting for Hash Functions", 2018.
    ``benchmarks/hashes.py`` compares it with others.
    """
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def _call_source(
    bits: Bits, key: jax.Array, shape: tuple[int, ...], sharding: NamedSharding | None
) -> jax.Array:
    """Calls the user's ``bits`` function, and checks the shape and dtype of its result."""
    words = bits(key, shape, jnp.uint32)
    if words.shape != shape or words.dtype != jnp.uint32:
        raise TypeError(
            f"`bits` must return uint32 of shape {shape}, got {words.dtype} of shape "
            f"{words.shape}; pass a function like jax.random.bits."
        )
    return words if sharding is None else jax.sharding.reshard(words, sharding)


def _high_product(a: jax.Array, b: np.uint32) -> jax.Array:
    """Returns the high 32 bits of the product of two uint32 numbers, in 32-bit arithmetic."""
    half = np.uint32(16)
    low_half = np.uint32(0xFFFF)
    a_high = a >> half
    a_low = a & low_half
    b_high = b >> half
    b_low = b & low_half
    middle = a_high * b_low + ((a_low * b_low) >> half)
    crossed = a_low * b_high + (middle & low_half)
    return a_high * b_high + (middle >> half) + (crossed >> half)


def _polynomial(coefficients: Sequence[float], x: jax.Array) -> jax.Array:
    """Evaluates a polynomial by Horner's rule, the highest coefficient first."""
    value = jnp.float32(coefficients[0])
    for coefficient in coefficients[1:]:
        value = coefficient + value * x
    return value


_CENTRAL = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
)
_TAIL = (
    -0.000200214257,
    0.000100950558,
    0.00134934322,
    -0.00367342844,
    0.00573950773,
    -0.0076224613,
    0.00943887047,
    1.00167406,
    2.83297682,
)
