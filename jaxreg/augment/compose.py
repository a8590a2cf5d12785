"""Functions that combine augmentations, which are functions ``(key, image) -> image``.

They take whole batches, and decide separately for each example.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import check_key, check_rate
from jaxreg._scopes import name_scope
from jaxreg._sharding import place_first
from jaxreg.augment._draws import decide, die
from jaxreg.augment._images import append_axes, as_pixels, check_result, select
from jaxreg.augment.mix import Mixed

Augmentation = Callable[[jax.Array, jax.Array], jax.Array]
Mixing = Callable[[jax.Array, jax.Array, jax.Array], Mixed]


def sequence(first: Augmentation, *others: Augmentation) -> Augmentation:
    """Returns a function that applies the given functions in turn, each with its own key.

    Args:
      first: Function of a key and images.
      *others: More such functions.

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

    def apply_all(key: jax.Array, image: jax.Array) -> jax.Array:
        check_key(key)
        functions = (first, *others)
        for function, own in zip(functions, jax.random.split(key, len(functions)), strict=True):
            image = function(own, image)
        return image

    return apply_all


def with_probability(function: Augmentation, *, probability: ArrayLike) -> Augmentation:
    """Returns a function that applies ``function`` to randomly chosen examples of a batch.

    Args:
      function: Function of a key and images that keeps their shape.
      probability: Probability of applying it, in ``[0, 1]``; the decision has its own key.

    Returns:
      Function of a key and images. It applies ``function`` to all examples, and keeps the results
      of the chosen ones.

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

    @name_scope("augment.with_probability", "probability", probability)
    def apply_to_some(key: jax.Array, image: jax.Array) -> jax.Array:
        check_key(key)
        image = as_pixels(image)
        coin, own = jax.random.split(key)
        changed = check_result(function(own, image), image)
        return select(decide(coin, image, probability), changed, image)

    return apply_to_some


def one_of(first: Augmentation, *others: Augmentation) -> Augmentation:
    """Returns a function that applies one of several functions, drawn uniformly, to each example.

    Args:
      first: Function of a key and images that keeps their shape.
      *others: More such functions.

    Returns:
      Function of a key and images. It applies all functions, and keeps one result per example.

    Example:
      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> either = augment.one_of(lambda key, image: image, lambda key, image: 1 - image)
      >>> print(jnp.unique(either(jax.random.key(0), jnp.zeros((50, 2, 2, 1)))))
      [0. 1.]
    """

    @name_scope("augment.one_of")
    def apply_one(key: jax.Array, image: jax.Array) -> jax.Array:
        check_key(key)
        image = as_pixels(image)
        functions = (first, *others)
        die_key, *keys = jax.random.split(key, len(functions) + 1)
        number = append_axes(die(die_key, image, len(functions)))
        result = check_result(first(keys[0], image), image)
        for position, (function, own) in enumerate(zip(others, keys[1:], strict=True), 1):
            result = select(number == position, check_result(function(own, image), image), result)
        return result

    return apply_one


def for_each(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Lifts a function of one image to batches, with one key per example.

    The functions of this package already take batches; use ``for_each`` for other functions.

    Args:
      function: Function of a key, one image ``[height, width, channels]``, and any number of other
        arrays.

    Returns:
      Function of a key, a batch, and batches of the other arrays.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> lit = augment.for_each(lambda key, image: image + jax.random.uniform(key))
      >>> print(jnp.unique(lit(jax.random.key(0), jnp.zeros((5, 2, 2, 1)))).size)
      5
    """

    def apply_to_each(key: jax.Array, images: jax.Array, *others: jax.Array) -> jax.Array:
        check_key(key)
        keys = place_first(jax.random.split(key, images.shape[0]), images)
        return jax.vmap(function)(keys, images, *others)

    return apply_to_each


def switch(first: Mixing, second: Mixing, *, probability: ArrayLike) -> Mixing:
    """Returns a function that applies one of two mixing functions, at random, to each example.

    With both enabled, timm chooses once per batch: CutMix with probability ``switch_prob``,
    otherwise mixup. For that, use ``jax.lax.cond`` with a random boolean and the same two
    functions.

    Args:
      first: Function of a key, a batch and its labels that returns :class:`Mixed`:
        :func:`random_mixup` or :func:`random_cutmix` with their options, or a function like them.
      second: Another function, whose results have the same shapes and dtypes.
      probability: Probability of ``second``, in ``[0, 1]``.

    Returns:
      Function of a key, a batch ``[batch, ...]`` and its labels. It applies both functions. Its
      labels are distributions, which :func:`jaxreg.targets.smoothed_cross_entropy` takes.

    Raises:
      ValueError: ``probability`` is a number outside ``[0, 1]``, or the results differ in shape or
        dtype.

    Example:
      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> mix = augment.switch(
      ...     partial(augment.random_mixup, alpha=0.8, num_classes=4),
      ...     partial(augment.random_cutmix, alpha=1.0, num_classes=4),
      ...     probability=0.5,
      ... )
      >>> images, labels = jnp.eye(4)[:, None, None] * jnp.ones((4, 8, 8, 4)), jnp.arange(4)
      >>> mixed = jax.jit(mix)(jax.random.key(0), images, labels)
      >>> print(jnp.allclose(mixed.x.mean(axis=(1, 2)), mixed.labels, atol=1e-6))
      True
      >>> from jaxreg import targets
      >>> logits = jnp.zeros((4, 4))
      >>> loss = targets.smoothed_cross_entropy(logits, mixed.labels, alpha=0.1)
      >>> print(jnp.allclose(loss, jnp.log(4)))
      True
    """
    check_rate(probability, "probability")

    @name_scope("augment.switch", "probability", probability)
    def mix(key: jax.Array, x: jax.Array, labels: jax.Array) -> Mixed:
        check_key(key)
        coin, *keys = jax.random.split(key, 3)
        one = first(keys[0], x, labels)
        other = second(keys[1], x, labels)
        rate = jnp.clip(jnp.asarray(probability, jnp.float32), 0, 1)
        like = one.x
        chosen = _bits.bernoulli(coin, rate, like.shape[:1] + (1,) * (like.ndim - 1), like=like)
        return Mixed(*(_choose(chosen, *pair) for pair in zip(one, other, strict=True)))

    return mix


def _choose(chosen: jax.Array, one: jax.Array, other: jax.Array) -> jax.Array:
    """Returns the examples of ``other`` where ``chosen`` is true, and of ``one`` elsewhere."""
    if one.shape != other.shape or one.dtype != other.dtype:
        raise ValueError(
            f"`second` must return what `first` returns, {one.dtype} of shape {one.shape}, got "
            f"{other.dtype} of shape {other.shape}; pass both the same `num_classes`."
        )
    return select(chosen.reshape(chosen.shape[:1] + (1,) * (one.ndim - 1)), other, one)
