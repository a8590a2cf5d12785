r"""Random sequences of operations, drawn separately for each example.

Two warps in a row share one resampling, by the product of their matrices, so the second can bring
back pixels that the first moved outside the image.

A warp moves all channels of an image, an alpha channel (opacity) included. Operations on colors
keep the alpha channel. Outside the image it is 1, unless ``fill`` has one number per channel.
Operations on colors clip to ``[0, 1]`` as in :mod:`jaxreg.augment.color`.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import (
    check_between,
    check_key,
    check_nonnegative,
    check_rate,
    check_scalar,
    check_static_integer,
)
from jaxreg._numerics import as_strength, real_dtype, widen
from jaxreg._scopes import mark
from jaxreg.augment._draws import die, sign, uniform
from jaxreg.augment._images import append_axes, as_image, place_by_example, select
from jaxreg.augment._shares import beta, dirichlet
from jaxreg.augment.operations import AUG_MIX, RAND_AUGMENT, TRIVIAL_AUGMENT_WIDE
from jaxreg.augment.published import CIFAR10_POLICY, Step
from jaxreg.augment.sampling import Sampler, bilinear, nearest
from jaxreg.augment.steps import Choice, Operations, apply, choose, draw_choice

_RAND_AUGMENT_LEVELS = 30
_AUTO_AUGMENT_LEVELS = 9
_AUG_MIX_LEVELS = 10
_LEAST_SEVERITY = 0.1


@mark("magnitude")
def rand_augment(
    key: jax.Array,
    image: jax.Array,
    *,
    magnitude: ArrayLike = 9,
    number: int = 2,
    operations: Operations = RAND_AUGMENT,
    fill: ArrayLike = 0.0,
    sample: Sampler = nearest,
) -> jax.Array:
    """Applies ``number`` operations in turn, each drawn uniformly from a set.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``, gray or colored,
        with or without an alpha channel.
      magnitude: Magnitude of all operations, from 0 to 30.
      number: Number of operations to apply, an untraced integer.
      operations: Operations to draw from, by default the 14 of Cubuk et al. At magnitude 0 only
        ``AUTO_CONTRAST`` and ``EQUALIZE``, which have no strength, change the image.
      fill: Value for pixels outside the image: a number for all colors, or one per channel.
      sample: Function that reads between pixels, as in :func:`affine`.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point, ``key`` is not a single PRNG key, or
        ``number`` is not an integer.
      ValueError: ``magnitude`` is a number outside ``[0, 30]``, ``number`` is negative, or there
        are no operations.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> images = jnp.full((20, 8, 8, 3), 0.25)
      >>> y = jax.jit(augment.rand_augment)(jax.random.key(0), images, magnitude=15)
      >>> print(y.shape, y.min() >= 0, y.max() <= 1, jnp.unique(y.mean(axis=(1, 2, 3))).size > 5)
      (20, 8, 8, 3) True True True

    References:
      Cubuk et al., `RandAugment: Practical Automated Data Augmentation with a Reduced Search Space
      <https://arxiv.org/abs/1909.13719>`_, 2020
    """
    check_key(key)
    image = as_image(image)
    check_between(magnitude, "magnitude", 0, _RAND_AUGMENT_LEVELS)
    check_static_integer(number, "number")
    if number < 0:
        raise ValueError(f"`number` must be zero or positive, got {number}.")
    level = as_strength(magnitude, image) / _RAND_AUGMENT_LEVELS
    choices = [draw_choice(k, image, operations, level) for k in jax.random.split(key, number)]
    return apply(image, choices, fill, sample)


@mark()
def trivial_augment(
    key: jax.Array,
    image: jax.Array,
    *,
    operations: Operations = TRIVIAL_AUGMENT_WIDE,
    fill: ArrayLike = 0.0,
    sample: Sampler = nearest,
) -> jax.Array:
    """Applies one operation of a set at one of 31 levels, both drawn uniformly.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``, gray or colored,
        with or without an alpha channel.
      operations: Operations to draw from, by default the 14 of Mueller and Hutter's wide space.
      fill: Value for pixels outside the image: a number for all colors, or one per channel.
      sample: Function that reads between pixels, as in :func:`affine`.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: There are no operations.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> images = jnp.full((20, 8, 8, 3), 0.25)
      >>> y = jax.jit(augment.trivial_augment)(jax.random.key(0), images)
      >>> print(y.shape, y.min() >= 0, y.max() <= 1, jnp.unique(y.mean(axis=(1, 2, 3))).size > 5)
      (20, 8, 8, 3) True True True

    References:
      Mueller and Hutter, `TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation
      <https://arxiv.org/abs/2103.10158>`_, 2021
    """
    check_key(key)
    image = as_image(image)
    key, level_key = jax.random.split(key)
    levels = _RAND_AUGMENT_LEVELS
    level = die(level_key, image, levels + 1).astype(real_dtype(image)) / levels
    return apply(image, [draw_choice(key, image, operations, level)], fill, sample)


@mark()
def auto_augment(
    key: jax.Array,
    image: jax.Array,
    *,
    policy: Sequence[Sequence[Step]] = CIFAR10_POLICY,
    fill: ArrayLike = 0.0,
    sample: Sampler = nearest,
) -> jax.Array:
    """Draws a sequence of steps from a policy, and applies each step with its own probability.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``, gray or colored,
        with or without an alpha channel.
      policy: Sequences of steps, one of which is drawn uniformly for each example:
        ``CIFAR10_POLICY``, ``IMAGENET_POLICY``, ``SVHN_POLICY``, or your own sequences of
        :class:`Step`. Probabilities, magnitudes and ranges of operations may be traced, for a
        search.
      fill: Value for pixels outside the image: a number for all colors, or one per channel.
      sample: Function that reads between pixels, as in :func:`affine`.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``policy`` has no sequences, a probability is outside ``[0, 1]``, or a magnitude
        is outside ``[0, 9]``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> step = augment.Step(augment.operations.INVERT, probability=0.5, magnitude=0)
      >>> images = jnp.zeros((50, 2, 2, 1))
      >>> print(jnp.unique(augment.auto_augment(jax.random.key(0), images, policy=[[step]])))
      [0. 1.]

    References:
      Cubuk et al., `AutoAugment: Learning Augmentation Strategies from Data
      <https://arxiv.org/abs/1805.09501>`_, 2019
    """
    check_key(key)
    image = as_image(image)
    _check_policy(policy)
    length = max(map(len, policy))
    key, *keys = jax.random.split(key, length + 1)
    which = die(key, image, len(policy))
    choices = []
    for position, own in enumerate(keys):
        column = [s[position] if position < len(s) else None for s in policy]
        choices.append(_choose_step(own, image, which, column))
    return apply(image, choices, fill, sample)


@mark("severity")
def aug_mix(
    key: jax.Array,
    image: jax.Array,
    *,
    severity: ArrayLike = 3.0,
    alpha: ArrayLike = 1.0,
    width: int = 3,
    depth: tuple[int, int] = (1, 3),
    operations: Operations = AUG_MIX,
    fill: ArrayLike = 0.0,
) -> jax.Array:
    r"""Averages an image with copies altered by random chains of operations.

    .. math::

      v = m u + (1 - m) \sum_{i=1}^{k} w_i \, c_i(u), \qquad
      m \sim \mathrm{Beta}(\alpha, \alpha), \quad w \sim \mathrm{Dirichlet}(\alpha, \dots, \alpha)

    Here :math:`u` is the image, :math:`v` the result, and :math:`c_i` the chain number :math:`i`,
    which applies its operations in turn. Each example has its own :math:`m`, :math:`w` and chains.

    Hendrycks et al. minimize the cross entropy of the image plus 12 times the mean of
    :func:`jaxreg.information.jensen_shannon` of the logits of the image and of two such averages.

    Args:
      key: PRNG key; each example of a batch has its own draw.
      image: Floating-point array ``[..., height, width, channels]`` in ``[0, 1]``, gray or colored,
        with or without an alpha channel.
      severity: Largest magnitude :math:`s`, from 0.1 to 10; the operations' magnitudes are uniform
        in :math:`(0.1, s)`.
      alpha: Parameter :math:`\alpha`, zero or positive; 0 is exactly the identity, and infinity
        weights the image by 1/2 and each chain by :math:`1 / (2 k)`.
      width: Number of chains :math:`k`, an untraced integer.
      depth: Least and largest number of operations of a chain, drawn uniformly.
      operations: Operations to draw from, by default the 9 of Hendrycks et al.
      fill: Value for pixels outside the image: a number for all colors, or one per channel.

    Returns:
      Array with the shape and dtype of ``image``.

    Raises:
      TypeError: ``image`` is not real floating-point, ``key`` is not a single PRNG key, or
        ``width`` or a number of ``depth`` is not an integer.
      ValueError: ``severity`` is a number outside ``[0.1, 10]``, ``alpha`` is negative, ``width``
        is not positive, or ``depth`` is not a pair that ascends from 1 or more.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> key, images = jax.random.key(0), jnp.linspace(0, 1, 192).reshape(1, 8, 8, 3)
      >>> print((jax.jit(augment.aug_mix)(key, images, alpha=0.0) == images).all())
      True

    References:
      Hendrycks et al., `AugMix: A Simple Data Processing Method to Improve Robustness and
      Uncertainty <https://arxiv.org/abs/1912.02781>`_, 2020
    """
    check_key(key)
    image = as_image(image)
    check_between(severity, "severity", _LEAST_SEVERITY, _AUG_MIX_LEVELS)
    check_scalar(alpha, "alpha")
    check_nonnegative(alpha, "alpha")
    _check_chains(width, depth)
    share_key, weight_key, chain_key = jax.random.split(key, 3)
    share = place_by_example(beta(share_key, image, alpha, image.shape[:-3]), image)
    share = append_axes(share)
    weights = place_by_example(dirichlet(weight_key, image, alpha, width), image)
    weights = jnp.moveaxis(weights, -1, 0)[..., None, None, None]
    copies = jnp.broadcast_to(image, (width, *image.shape))
    choices = _draw_chain(chain_key, copies, as_strength(severity, image), depth, operations)
    mixed = jnp.sum(weights * widen(apply(copies, choices, fill, bilinear)), axis=0)
    y = share * widen(image) + (1 - share) * mixed
    return select(share == 1, image, y.astype(image.dtype))


def _draw_chain(
    key: jax.Array,
    image: jax.Array,
    severity: jax.Array,
    depth: tuple[int, int],
    operations: Operations,
) -> list[Choice]:
    """Draws the steps of the longest chain; steps beyond an example's random length do nothing."""
    least, most = depth
    key, *keys = jax.random.split(key, most + 1)
    length = least + die(key, image, most - least + 1)
    choices = []
    for position, own in enumerate(keys):
        own, level_key = jax.random.split(own)
        share = uniform(level_key, image)
        level = (_LEAST_SEVERITY + (severity - _LEAST_SEVERITY) * share) / _AUG_MIX_LEVELS
        choice = draw_choice(own, image, operations, level)
        number = jnp.where(position < length, choice.number, jnp.full_like(choice.number, -1))
        choices.append(dataclasses.replace(choice, number=number))
    return choices


def _choose_step(
    key: jax.Array, image: jax.Array, which: jax.Array, column: Sequence[Step | None]
) -> Choice:
    """Chooses step ``column[which]`` for each example with its probability, or else no step."""
    coin_key, sign_key = jax.random.split(key)
    operations, numbers = [], []
    for step in column:
        # Compared by identity, since ranges may be arrays.
        known = [step is not None and step.operation is one for one in operations]
        if step is not None and not any(known):
            operations.append(step.operation)
        numbers.append(known.index(True) if any(known) else len(known))
    probability = _entry(which, [0.0 if s is None else s.probability for s in column], image)
    magnitude = _entry(which, [0.0 if s is None else s.magnitude for s in column], image)
    number = _entry(which, numbers, image).astype(jnp.int32)
    happens = uniform(coin_key, image) < probability
    number = jnp.where(happens, number, jnp.full_like(number, -1))
    level = magnitude / _AUTO_AUGMENT_LEVELS
    return choose(image, operations, number, level, sign(sign_key, image))


def _entry(which: jax.Array, values: Sequence[ArrayLike], image: jax.Array) -> jax.Array:
    """Returns ``values[which]`` for each example, by a masked sum instead of a gather."""
    table = jnp.stack([as_strength(value, image) for value in values])
    positions = jnp.arange(len(values), dtype=which.dtype)
    shape = (1,) * which.ndim + table.shape
    hit = which[..., None] == positions.reshape(shape)
    return jnp.sum(jnp.where(hit, table.reshape(shape), jnp.zeros_like(table[0])), axis=-1)


def _check_policy(policy: Sequence[Sequence[Step]]) -> None:
    if not len(policy) or not any(map(len, policy)):
        raise ValueError("`policy` must contain at least one sequence of steps, but is empty.")
    for step in (step for steps in policy for step in steps):
        check_rate(step.probability, "probability")
        check_between(step.magnitude, "magnitude", 0, _AUTO_AUGMENT_LEVELS)


def _check_chains(width: int, depth: tuple[int, int]) -> None:
    check_static_integer(width, "width")
    if width < 1:
        raise ValueError(f"`width` must be positive, got {width}.")
    if not isinstance(depth, Sequence) or len(depth) != 2:
        raise ValueError(f"`depth` must be a pair (least, largest), got {depth}.")
    for length in depth:
        check_static_integer(length, "depth")
    if not 1 <= depth[0] <= depth[1]:
        raise ValueError(
            f"`depth` must ascend from 1 or more, got {depth}; pass (3, 3) for chains of three."
        )
