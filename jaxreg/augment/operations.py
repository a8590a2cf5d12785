r"""Operations of augmentation policies, each with its range of strengths.

A :class:`Warp` moves points, and two of them in a row are resampled once. An :class:`Operation`
changes an image in any other way. Both are values: use the ones in this module, change a range with
``ROTATE._replace(high=10.0)``, or make your own from any function of images.

Their ranges are the published ones. A magnitude, up to 30 in :func:`jaxreg.augment.rand_augment`
and up to 9 in :func:`jaxreg.augment.auto_augment`, goes from ``low`` to ``high``:

=============================================  ====================================
``SHEAR_X``, ``SHEAR_Y``                       about the top left corner by ±0.3
``TRANSLATE_X``, ``TRANSLATE_Y``               by ±150/331 of the size
``ROTATE``                                     by ±30 degrees
``BRIGHTNESS``, ``COLOR``, ``CONTRAST``,       factors 1 ± 0.9
``SHARPNESS``
``POSTERIZE``                                  8 to 4 bits
``SOLARIZE``                                   from level 256 to level 0
``AUTO_CONTRAST``, ``EQUALIZE``, ``INVERT``,   no strength
``IDENTITY``
=============================================  ====================================

``RAND_AUGMENT``, ``TRIVIAL_AUGMENT_WIDE`` and ``AUG_MIX`` are the published sets.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg.augment import color, filters, levels, matrices


class Operation(NamedTuple):
    """A function of images ``[..., height, width, channels]`` and of strengths ``[...]``.

    It returns images of the same shape and dtype. Each result must depend on nothing but its own
    image and strength: a CPU computes it for one image at a time, only if it is chosen, and without
    ``jax.jit`` it is compiled once and cached.

    Attributes:
      function: Function of images ``[..., height, width, channels]`` and of strengths ``[...]``.
      low: Strength at magnitude 0.
      high: Strength at the largest magnitude.
      signed: Whether strengths are negated for half of the examples.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> darker = augment.Operation(
      ...     lambda image, strength: augment.brightness(image, factor=1 - strength), high=0.5
      ... )
      >>> key, image = jax.random.key(0), jnp.ones((1, 2, 2, 3))
      >>> y = augment.rand_augment(key, image, operations=[darker], magnitude=30)
      >>> print(y.min())
      0.25
    """

    function: Callable[[jax.Array, jax.Array], jax.Array]
    low: ArrayLike = 0.0
    high: ArrayLike = 0.0
    signed: bool = False


class Warp(NamedTuple):
    """A geometric operation, given by a function that returns matrices ``[..., 3, 3]``.

    Attributes:
      matrix: Function of images ``[..., height, width, channels]`` and of strengths ``[...]`` that
        returns matrices ``[..., 3, 3]``, as in :func:`affine`.
      low: Strength at magnitude 0.
      high: Strength at the largest magnitude.
      signed: Whether strengths are negated for half of the examples.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> scaling = augment.matrices.scaling
      >>> zoom = augment.Warp(lambda image, strength: scaling(1 + strength, 1.0), high=1.0)
      >>> key, image = jax.random.key(0), jnp.arange(4.0).reshape(1, 4, 1)
      >>> options = {"operations": [zoom], "number": 1, "sample": augment.sampling.bilinear}
      >>> print(augment.rand_augment(key, image, magnitude=30, **options)[0, :, 0])
      [0.75 1.25 1.75 2.25]
    """

    matrix: Callable[[jax.Array, jax.Array], jax.Array]
    low: ArrayLike = 0.0
    high: ArrayLike = 0.0
    signed: bool = False


def _same(image: jax.Array, strength: jax.Array) -> jax.Array:
    return image


def _brightness(image: jax.Array, strength: jax.Array) -> jax.Array:
    return color.brightness(image, factor=1 + strength)


def _color(image: jax.Array, strength: jax.Array) -> jax.Array:
    return color.saturation(image, factor=1 + strength)


def _contrast(image: jax.Array, strength: jax.Array) -> jax.Array:
    return color.contrast(image, factor=1 + strength)


def _sharpness(image: jax.Array, strength: jax.Array) -> jax.Array:
    return filters.sharpness(image, factor=1 + strength)


def _posterize(image: jax.Array, bits: jax.Array) -> jax.Array:
    return levels.posterize(image, bits=bits)


def _posterize_up(image: jax.Array, bits: jax.Array) -> jax.Array:
    return levels.posterize(image, bits=jnp.ceil(bits))


def _solarize(image: jax.Array, level: jax.Array) -> jax.Array:
    return color.solarize(image, threshold=level / 255)


def _auto_contrast(image: jax.Array, strength: jax.Array) -> jax.Array:
    return levels.autocontrast(image)


def _equalize(image: jax.Array, strength: jax.Array) -> jax.Array:
    return levels.equalize(image)


def _invert(image: jax.Array, strength: jax.Array) -> jax.Array:
    return color.invert(image)


def _shear_x(image: jax.Array, strength: jax.Array) -> jax.Array:
    """Returns the shear of PIL's ``(1, strength, 0, 0, 1, 0)``, which keeps the top edge fixed."""
    lower = -strength * (image.shape[-3] / 2)
    return matrices.chain(matrices.shearing(-strength, 0.0), matrices.translation(lower, 0.0))


def _shear_y(image: jax.Array, strength: jax.Array) -> jax.Array:
    lower = -strength * (image.shape[-2] / 2)
    return matrices.chain(matrices.shearing(0.0, -strength), matrices.translation(0.0, lower))


def _translate_x(image: jax.Array, share: jax.Array) -> jax.Array:
    return _shift_x(image, share * image.shape[-2])


def _translate_y(image: jax.Array, share: jax.Array) -> jax.Array:
    return _shift_y(image, share * image.shape[-3])


def _shift_x(image: jax.Array, pixels: jax.Array) -> jax.Array:
    return matrices.translation(jnp.trunc(pixels), 0.0)


def _shift_y(image: jax.Array, pixels: jax.Array) -> jax.Array:
    return matrices.translation(0.0, jnp.trunc(pixels))


def _rotate(image: jax.Array, degrees: jax.Array) -> jax.Array:
    return matrices.rotation(degrees)


IDENTITY = Operation(_same)
SHEAR_X = Warp(_shear_x, high=0.3, signed=True)
SHEAR_Y = Warp(_shear_y, high=0.3, signed=True)
TRANSLATE_X = Warp(_translate_x, high=150 / 331, signed=True)
TRANSLATE_Y = Warp(_translate_y, high=150 / 331, signed=True)
ROTATE = Warp(_rotate, high=30.0, signed=True)
BRIGHTNESS = Operation(_brightness, high=0.9, signed=True)
COLOR = Operation(_color, high=0.9, signed=True)
CONTRAST = Operation(_contrast, high=0.9, signed=True)
SHARPNESS = Operation(_sharpness, high=0.9, signed=True)
POSTERIZE = Operation(_posterize, low=8.0, high=4.0)
SOLARIZE = Operation(_solarize, low=256.0, high=0.0)
AUTO_CONTRAST = Operation(_auto_contrast)
EQUALIZE = Operation(_equalize)
INVERT = Operation(_invert)

RAND_AUGMENT = (
    IDENTITY,
    SHEAR_X,
    SHEAR_Y,
    TRANSLATE_X,
    TRANSLATE_Y,
    ROTATE,
    BRIGHTNESS,
    COLOR,
    CONTRAST,
    SHARPNESS,
    POSTERIZE,
    SOLARIZE,
    AUTO_CONTRAST,
    EQUALIZE,
)

TRIVIAL_AUGMENT_WIDE = (
    IDENTITY,
    SHEAR_X._replace(high=0.99),
    SHEAR_Y._replace(high=0.99),
    Warp(_shift_x, high=32.0, signed=True),
    Warp(_shift_y, high=32.0, signed=True),
    ROTATE._replace(high=135.0),
    BRIGHTNESS._replace(high=0.99),
    COLOR._replace(high=0.99),
    CONTRAST._replace(high=0.99),
    SHARPNESS._replace(high=0.99),
    POSTERIZE._replace(high=2.0),
    SOLARIZE,
    AUTO_CONTRAST,
    EQUALIZE,
)

# Without operations that are also corruptions of CIFAR-10-C and ImageNet-C, its test sets.
AUG_MIX = (
    AUTO_CONTRAST,
    EQUALIZE,
    Operation(_posterize_up, low=4.0, high=0.0),
    ROTATE,
    SOLARIZE,
    SHEAR_X,
    SHEAR_Y,
    TRANSLATE_X._replace(high=1 / 3),
    TRANSLATE_Y._replace(high=1 / 3),
)
