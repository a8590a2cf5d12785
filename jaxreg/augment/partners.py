"""Functions that choose a partner for each example to mix with, or draw the mixing shares."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxreg import _bits, _signatures
from jaxreg._checks import check_static_integer
from jaxreg._sharding import examples_of_device, place_like, whole_along
from jaxreg.augment._shares import beta

__all__ = ["reverse", "reverse_within", "share_per_batch", "share_per_example", "shuffle"]

Partners = Callable[[jax.Array, jax.Array], jax.Array]
Draw = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def shuffle(key: jax.Array, x: jax.Array) -> jax.Array:
    """Permutes the batch at random; arrays of the same length and key get the same permutation.

    Args:
      key: PRNG key.
      x: Array ``[batch, ...]``.

    Returns:
      Array with the shape and dtype of ``x``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(jnp.sort(augment.partners.shuffle(jax.random.key(0), jnp.arange(4))))
      [0 1 2 3]
    """
    number = x.shape[0]
    # Pairs of words hardly ever repeat. `jax.random.permutation` compiles three times as long.
    words = _bits.draw(key, (number, 2), like=jnp.zeros((number, 2)))
    *_, order = jax.lax.sort((words[:, 0], words[:, 1], jnp.arange(number)), num_keys=2)
    return place_like(jnp.take(whole_along(x, [0]), order, axis=0, mode="clip"), x)


def reverse(key: jax.Array, x: jax.Array) -> jax.Array:
    """Reverses the order of the batch, which should already be shuffled.

    If the batch is sharded, each device sends its examples to only one other device.

    Args:
      key: Not used.
      x: Array ``[batch, ...]``.

    Returns:
      Array with the shape and dtype of ``x``. In a batch of odd length, the middle example is its
      own partner.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.partners.reverse(None, jnp.arange(4)))
      [3 2 1 0]
    """
    del key
    return jnp.flip(x, axis=0)


def reverse_within(size: int) -> Partners:
    """Returns a function that reverses each group of ``size`` consecutive examples of a batch.

    No example is moved if every group is on one device: choose a ``size`` that divides the number
    of examples per device. Otherwise an Explicit mesh gathers the batch.

    Args:
      size: Number of examples per group; it must divide the batch size.

    Returns:
      Function of a key, which is not used, and an array ``[batch, ...]``.

    Raises:
      ValueError: ``size`` does not divide the batch size.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.partners.reverse_within(2)(None, jnp.arange(4)))
      [1 0 3 2]
    """
    check_static_integer(size, "size")

    def reverse_groups(key: jax.Array, x: jax.Array) -> jax.Array:
        del key
        if size < 1 or x.shape[0] % size:
            raise ValueError(f"`size` must divide the batch size, {x.shape[0]}, got {size}.")
        own = x if examples_of_device(x) % size == 0 else whole_along(x, [0])
        groups = own.reshape((x.shape[0] // size, size, *x.shape[1:]))
        return place_like(jnp.flip(groups, axis=1).reshape(x.shape), x)

    return reverse_groups


def share_per_example(key: jax.Array, x: jax.Array, alpha: jax.Array) -> jax.Array:
    """Draws a share from ``Beta(alpha, alpha)`` for each example; the share is 1 if ``alpha`` is 0.

    Args:
      key: PRNG key.
      x: Array ``[batch, ...]``.
      alpha: Parameter of the distribution, zero or positive; infinity gives a share of one half.

    Returns:
      Array ``[batch]``, float32 or wider.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.partners.share_per_example(jax.random.key(0), jnp.ones((3, 2)), 0.0))
      [1. 1. 1.]
    """
    return beta(key, x, alpha, (x.shape[0],))


def share_per_batch(key: jax.Array, x: jax.Array, alpha: jax.Array) -> jax.Array:
    """Draws one share from ``Beta(alpha, alpha)`` for the batch; the share is 1 if ``alpha`` is 0.

    Args:
      key: PRNG key.
      x: Array ``[batch, ...]``.
      alpha: Parameter of the distribution, zero or positive; infinity gives a share of one half.

    Returns:
      Scalar, float32 or wider.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.partners.share_per_batch(jax.random.key(0), jnp.ones((3, 2)), 0.0))
      1.0
    """
    return beta(key, x, alpha, ())


_signatures.show(__name__)
