"""Composition: functions ``(key, image) -> image`` made of such functions.

They take what has a batch as it is, and decide for each example.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_key, check_rate
from jaxreg._sharding import place_first
from jaxreg.augment._shared import checked, chosen, kept_shape, select, spread, uniform

Augmentation = Callable[[jax.Array, jax.Array], jax.Array]


def sequence(first: Augmentation, *others: Augmentation) -> Augmentation:
    """Applies functions one after the other, each with a key of its own.

    Args:
      first: Function of a key and images.
      *others: Further ones.

    Returns:
      Function of a key and images.

    Example:
      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> both = augment.sequence(
      ...     partial(augment.random_rotate, degrees=0.0),
      ...     partial(augment.random_invert, probability=1.0),
      ... )
      >>> print(both(jax.random.key(0), jnp.zeros((2, 2, 1))).mean())
      1.0
    """

    def augmented(key: jax.Array, image: jax.Array) -> jax.Array:
        check_key(key)
        functions = (first, *others)
        for function, own in zip(functions, jax.random.split(key, len(functions)), strict=True):
            image = function(own, image)
        return image

    return augmented


def with_probability(function: Augmentation, *, probability: ArrayLike) -> Augmentation:
    """Applies a function to some examples and leaves the others.

    Args:
      function: Function of a key and images that keeps their shape.
      probability: Of applying it, in ``[0, 1]``; the decision has a key of its own.

    Returns:
      Function of a key and images. It computes all examples, and keeps those that are chosen.

    Raises:
      ValueError: ``probability`` is a number outside ``[0, 1]``.

    Example:
      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> turned = partial(augment.random_rotate, degrees=90.0)
      >>> never = augment.with_probability(turned, probability=0.0)
      >>> image = jnp.arange(9.0).reshape(3, 3, 1)
      >>> print((never(jax.random.key(0), image) == image).all())
      True
    """
    check_rate(probability, "probability")

    def augmented(key: jax.Array, image: jax.Array) -> jax.Array:
        check_key(key)
        image = checked(image)
        coin, own = jax.random.split(key)
        changed = kept_shape(function(own, image), image)
        return select(chosen(coin, image, probability), changed, image)

    return augmented


def one_of(first: Augmentation, *others: Augmentation) -> Augmentation:
    """Applies one of several functions to each example, each with the same probability.

    Args:
      first: Function of a key and images that keeps their shape.
      *others: Further ones.

    Returns:
      Function of a key and images. It computes all of the functions, and keeps one result for each
      example.

    Example:
      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> either = augment.one_of(lambda key, image: image, lambda key, image: 1 - image)
      >>> print(jnp.unique(either(jax.random.key(0), jnp.zeros((50, 2, 2, 1)))))
      [0. 1.]
    """

    def augmented(key: jax.Array, image: jax.Array) -> jax.Array:
        check_key(key)
        image = checked(image)
        functions = (first, *others)
        die, *keys = jax.random.split(key, len(functions) + 1)
        number = spread(jnp.floor(uniform(die, image) * len(functions)).astype(jnp.int32))
        result = kept_shape(first(keys[0], image), image)
        for position, (function, own) in enumerate(zip(others, keys[1:], strict=True), 1):
            result = select(number == position, kept_shape(function(own, image), image), result)
        return result

    return augmented


def for_each(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Makes a function of one image one of a batch, with a key for each example.

    The functions of this package take batches as they are; this is for those of others.

    Args:
      function: Function of a key and one image ``[height, width, channels]``, and of further
        arrays.

    Returns:
      Function of a key and a batch, and of batches of the further arrays.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> lit = augment.for_each(lambda key, image: image + jax.random.uniform(key))
      >>> print(jnp.unique(lit(jax.random.key(0), jnp.zeros((5, 2, 2, 1)))).size)
      5
    """

    def augmented(key: jax.Array, images: jax.Array, *others: jax.Array) -> jax.Array:
        check_key(key)
        keys = place_first(jax.random.split(key, images.shape[0]), images)
        return jax.vmap(function)(keys, images, *others)

    return augmented
