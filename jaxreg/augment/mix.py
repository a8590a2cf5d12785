r"""Mixup and CutMix, which mix examples of a batch and their labels.

Labels are integer class ids ``[batch]`` or ``[batch, height, width, ...]``, which ``num_classes``
makes one-hot, or floats of any shape ``[batch, ...]``, such as distributions
``[batch, num_classes]`` and regression targets. Labels of pixels, such as a segmentation mask or a
depth ``[batch, height, width, ...]``, are not averaged by :func:`cutmix` but pasted with their
pixels. A mask needs no ``num_classes`` there, and keeps its dtype.

The partners of a batch come from :func:`partners.shuffle` by default, which on a sharded batch
sends examples to all devices. :func:`partners.reverse` sends each to one device, and
:func:`partners.reverse_within` keeps each on its device if the groups lie on one. Any function
``(key, x) -> x`` that depends on nothing but the key and positions will do. Shares are drawn for
each example, or once for all with :func:`partners.share_per_batch`. :func:`switch` chooses between
two ways of mixing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import (
    check_broadcasts,
    check_key,
    check_nonnegative,
    check_rate,
    check_real,
    check_scalar,
)
from jaxreg._numerics import as_strength
from jaxreg._scopes import mark
from jaxreg._sharding import place_first, place_like
from jaxreg.augment._draws import between
from jaxreg.augment._images import as_pixels, select
from jaxreg.augment._mixing import (
    are_of_pixels,
    average,
    check_partner,
    mix_labels,
    paste_labels,
)
from jaxreg.augment.erase import box
from jaxreg.augment.partners import Draw, Partners, share_per_example, shuffle


class Mixed(NamedTuple):
    """A mixed batch, its mixed labels, and the share of each original example in its mixture.

    Attributes:
      x: The mixed batch, with the shape and dtype of the original one.
      labels: The mixed labels. Class ids get an axis of ``num_classes``, in float32 or wider;
        pasted labels of pixels keep their dtype.
      share: Share of each original example in its mixture, ``[batch]``, in float32 or wider.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> x, labels = jnp.array([[1.0], [2.0]]), jnp.array([0, 1])
      >>> mixed = augment.mixup(x, labels, x[::-1], labels[::-1], share=0.75, num_classes=2)
      >>> print(mixed.labels)
      [[0.75 0.25]
       [0.25 0.75]]
    """

    x: jax.Array
    labels: jax.Array
    share: jax.Array


@mark("share")
def mixup(
    x: jax.Array,
    labels: jax.Array,
    other: jax.Array,
    other_labels: jax.Array,
    *,
    share: ArrayLike,
    num_classes: int | None = None,
) -> Mixed:
    r"""Averages each example and its labels with another example and its labels.

    .. math::

      v_i = \lambda_i u_i + (1 - \lambda_i) u'_i, \qquad
      q_i = \lambda_i y_i + (1 - \lambda_i) y'_i

    On hidden activations instead of inputs it is manifold mixup.

    Args:
      x: Floating-point array :math:`u`, ``[batch, ...]``.
      labels: Labels :math:`y`: class ids ``[batch]``, distributions or other floats
        ``[batch, ...]``, or class ids of pixels.
      other: Examples to mix in, :math:`u'`, with the shape and dtype of ``x``.
      other_labels: Their labels :math:`y'`, with the shape of ``labels``.
      share: Share :math:`\lambda` in ``[0, 1]`` of ``x``: a single number, or one per example; 1 is
        exactly the identity.
      num_classes: Number of classes, for class ids; an id out of range becomes zeros.

    Returns:
      The mixed batch, with the shape and dtype of ``x``, its labels and its shares.

    Raises:
      TypeError: ``x`` is not real floating-point.
      ValueError: The shapes do not fit, ``share`` is a number outside ``[0, 1]``, or ``labels`` are
        class ids and ``num_classes`` is None.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> x, labels = jnp.array([[0.0], [1.0]]), jnp.eye(2)
      >>> print(augment.mixup(x, labels, x[::-1], labels[::-1], share=0.75).x[:, 0])
      [0.25 0.75]

    References:
      Zhang et al., `mixup: Beyond Empirical Risk Minimization
      <https://arxiv.org/abs/1710.09412>`_, 2017
      Verma et al., `Manifold Mixup <https://arxiv.org/abs/1806.05236>`_, 2018
    """
    check_real(x, "x")
    x = jnp.asarray(x)
    other = jnp.asarray(other)
    check_partner(x, other, "other")
    own_share = _shares(share, x)
    column = own_share.reshape(own_share.shape + (1,) * (x.ndim - 1))
    mixed_labels = mix_labels(x, labels, other_labels, own_share, num_classes)
    return Mixed(select(column == 1, x, average(x, other, column)), mixed_labels, own_share)


@mark("share")
def cutmix(
    image: jax.Array,
    labels: jax.Array,
    other: jax.Array,
    other_labels: jax.Array,
    *,
    share: ArrayLike,
    center: tuple[ArrayLike, ArrayLike],
    num_classes: int | None = None,
) -> Mixed:
    r"""Pastes a box of another image into each image, and averages their labels by its area.

    .. math::

      \frac{h}{H} = \frac{w}{W} = \sqrt{1 - \lambda}, \qquad
      \tilde \lambda = 1 - \frac{\text{pixels pasted}}{H W}, \qquad
      q = \tilde \lambda y + (1 - \tilde \lambda) y'

    The box is rounded to whole pixels and cut off at the border, and the labels follow the
    remaining area. In an image of one row or column, such as a series, the box spans it, and its
    other side covers the share :math:`1 - \lambda`.

    Args:
      image: Array ``[batch, height, width, channels]`` of floats, integers or booleans.
      labels: Labels :math:`y`: class ids ``[batch]``, distributions or other floats
        ``[batch, ...]``, or labels of pixels ``[batch, height, width, ...]``.
      other: Images to paste from, with the shape and dtype of ``image``.
      other_labels: Their labels :math:`y'`, with the shape of ``labels``.
      share: Requested share :math:`\lambda` in ``[0, 1]`` of ``image``: a single number, or one per
        example; 1 is exactly the identity.
      center: Row and column of the center of the box, from 0 to the height and the width, each in
        the same form as ``share``.
      num_classes: Number of classes, for class ids; an id out of range becomes zeros.
        Without it, ids of pixels stay ids.

    Returns:
      The mixed batch, its labels, and the shares :math:`\tilde \lambda` of remaining pixels.

    Raises:
      TypeError: ``image`` is complex.
      ValueError: The shapes do not fit, ``share`` is a number outside ``[0, 1]``, or ``labels`` are
        class ids of images and ``num_classes`` is None.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image, labels = jnp.zeros((2, 4, 4, 1)), jnp.array([0, 1])
      >>> mixed = augment.cutmix(
      ...     image, labels, image + 1, labels[::-1], share=0.75, center=(0, 2), num_classes=2
      ... )
      >>> print(mixed.share, mixed.x[0, ..., 0].mean())
      [0.875 0.875] 0.125

    References:
      Yun et al., `CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
      Features <https://arxiv.org/abs/1905.04899>`_, 2019
    """
    image = as_pixels(image)
    other = jnp.asarray(other)
    _check_images(image)
    check_partner(image, other, "other")
    asked = _shares(share, image)
    height, width = image.shape[-3:-1]
    part = (1 - asked) ** (0.5 if min(height, width) > 1 else 1.0)
    middle = [_shares(place, image, "center", clip=False) for place in center]
    sides = [part * n if n > 1 else jnp.full_like(part, 2.0) for n in (height, width)]
    pasted = box(image, *middle, *sides)
    pasted = pasted & (part > 0).reshape(-1, 1, 1, 1)
    area = jnp.sum(pasted, axis=(1, 2, 3), dtype=jnp.int32).astype(asked.dtype)
    own_share = 1 - area / max(height * width, 1)
    if are_of_pixels(labels, image):
        mixed_labels = paste_labels(pasted, labels, other_labels, num_classes)
    else:
        mixed_labels = mix_labels(image, labels, other_labels, own_share, num_classes)
    return Mixed(select(pasted, place_like(other, image), image), mixed_labels, own_share)


@mark("alpha")
def random_mixup(
    key: jax.Array,
    x: jax.Array,
    labels: jax.Array,
    *,
    alpha: ArrayLike,
    num_classes: int | None = None,
    partners: Partners | None = None,
    draw: Draw | None = None,
) -> Mixed:
    r"""Averages each example and its labels with another of the batch, by a random share.

    .. math::

      \lambda_i \sim \mathrm{Beta}(\alpha, \alpha)

    Args:
      key: PRNG key.
      x: Floating-point array ``[batch, ...]``: inputs, or hidden activations for manifold mixup.
      labels: Class ids, distributions or other floats, as in :func:`mixup`.
      alpha: Parameter :math:`\alpha`, zero or positive; 0 is exactly the identity, and infinity
        gives shares of one half.
      num_classes: Number of classes, for class ids.
      partners: Function that chooses the examples to mix in; :func:`partners.shuffle` by default.
      draw: Function that draws the shares; :func:`partners.share_per_example` by default.

    Returns:
      The mixed batch, see :func:`mixup`.

    Raises:
      TypeError: ``x`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``alpha`` is negative or not a single number, or :func:`mixup` raises.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> x, labels = jnp.arange(4.0)[:, None], jnp.arange(4)
      >>> mixed = augment.random_mixup(jax.random.key(0), x, labels, alpha=1.0, num_classes=4)
      >>> print(jnp.allclose(mixed.labels @ jnp.arange(4.0), mixed.x[:, 0], atol=1e-6))
      True
    """
    check_real(x, "x")
    x = jnp.asarray(x)
    share, other, other_labels = _draw_partners(key, x, labels, alpha, partners, draw)
    return mixup(x, labels, other, other_labels, share=share, num_classes=num_classes)


@mark("alpha")
def random_cutmix(
    key: jax.Array,
    image: jax.Array,
    labels: jax.Array,
    *,
    alpha: ArrayLike,
    num_classes: int | None = None,
    partners: Partners | None = None,
    draw: Draw | None = None,
) -> Mixed:
    r"""Pastes a random box from another image of the batch, and averages the labels by its area.

    .. math::

      \lambda_i \sim \mathrm{Beta}(\alpha, \alpha)

    Args:
      key: PRNG key.
      image: Array ``[batch, height, width, channels]`` of floats, integers or booleans.
      labels: Class ids, distributions, other floats or labels of pixels, as in :func:`cutmix`.
      alpha: Parameter :math:`\alpha`, zero or positive; 0 pastes nothing, and infinity draws
        boxes of half the image.
      num_classes: Number of classes, for class ids.
      partners: Function that chooses the images to paste from; :func:`partners.shuffle` by default.
      draw: Function that draws the shares; :func:`partners.share_per_example` by default.

    Returns:
      The mixed batch, see :func:`cutmix`. The center of the box is uniform over the image, and
      drawn separately for each example.

    Raises:
      TypeError: ``image`` is complex, or ``key`` is not a single PRNG key.
      ValueError: ``alpha`` is negative or not a single number, or :func:`cutmix` raises.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> image, labels = jnp.eye(4)[:, None, None] * jnp.ones((4, 8, 8, 4)), jnp.arange(4)
      >>> mixed = augment.random_cutmix(jax.random.key(0), image, labels, alpha=1.0, num_classes=4)
      >>> print(jnp.allclose(mixed.x.mean(axis=(1, 2)), mixed.labels))
      True
    """
    check_key(key)
    image = as_pixels(image)
    _check_images(image)
    key, row_key, column_key = jax.random.split(key, 3)
    share, other, other_labels = _draw_partners(key, image, labels, alpha, partners, draw)
    center = (
        between(row_key, image, 0, image.shape[-3]),
        between(column_key, image, 0, image.shape[-2]),
    )
    return cutmix(
        image, labels, other, other_labels, share=share, center=center, num_classes=num_classes
    )


def _draw_partners(
    key: jax.Array,
    x: jax.Array,
    labels: jax.Array,
    alpha: ArrayLike,
    partners: Partners | None,
    draw: Draw | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns random shares, the partner of each example, and the labels of the partners."""
    check_key(key)
    check_scalar(alpha, "alpha")
    check_nonnegative(alpha, "alpha")
    _check_batch(x)
    share_key, partner_key = jax.random.split(key)
    partners = shuffle if partners is None else partners
    draw = share_per_example if draw is None else draw
    share = draw(share_key, x, as_strength(alpha, x))
    # The same key on purpose, so that labels have the partners of their examples.
    other_labels = partners(jax.random.clone(partner_key), jnp.asarray(labels))
    return share, partners(partner_key, x), other_labels


def _check_batch(x: jax.Array) -> None:
    if x.ndim < 1:
        raise ValueError(f"`x` must have a batch axis, got shape {x.shape}.")


def _check_images(image: jax.Array) -> None:
    if image.ndim != 4:
        raise ValueError(
            f"`image` must have shape [batch, height, width, channels], got {image.shape}."
        )


def _shares(value: ArrayLike, x: jax.Array, name: str = "share", *, clip: bool = True) -> jax.Array:
    """Broadcasts ``value`` to ``[batch]``; if ``clip`` is true, clips it to ``[0, 1]``."""
    check_broadcasts(value, name, x.shape[:1])
    if clip and jnp.ndim(value) == 0:
        check_rate(value, name)
    value = jnp.broadcast_to(as_strength(value, x), x.shape[:1])
    value = jnp.clip(value, 0, 1) if clip else value
    return place_first(value, x)
