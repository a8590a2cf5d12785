"""The published policies of AutoAugment, as tuples of :class:`Step`.

Each has 25 pairs of steps. Operations without a strength list the published magnitude, which is not
used.

References:
  Cubuk et al., `AutoAugment: Learning Augmentation Strategies from Data
  <https://arxiv.org/abs/1805.09501>`_, 2019, appendix
"""

from typing import NamedTuple

from jax.typing import ArrayLike

from jaxreg.augment.operations import (
    AUTO_CONTRAST,
    BRIGHTNESS,
    COLOR,
    CONTRAST,
    EQUALIZE,
    INVERT,
    POSTERIZE,
    ROTATE,
    SHARPNESS,
    SHEAR_X,
    SHEAR_Y,
    SOLARIZE,
    TRANSLATE_X,
    TRANSLATE_Y,
    Operation,
    Warp,
)


class Step(NamedTuple):
    """An operation of a policy, its probability, and its magnitude from 0 to 9.

    Attributes:
      operation: Operation or warp to apply, from :mod:`jaxreg.augment.operations` or your own.
      probability: Probability of applying it to an example, in ``[0, 1]``.
      magnitude: Magnitude from 0 to 9, which goes from ``low`` to ``high`` of the operation.

    Example:
      >>> from jaxreg import augment
      >>> step = augment.CIFAR10_POLICY[1][0]
      >>> print(step.operation is augment.operations.ROTATE, step.probability, step.magnitude)
      True 0.7 2
    """

    operation: Operation | Warp
    probability: ArrayLike
    magnitude: ArrayLike


Policy = tuple[tuple[Step, ...], ...]


def _policy(*pairs: tuple[tuple, tuple]) -> Policy:
    return tuple((Step(*first), Step(*second)) for first, second in pairs)


CIFAR10_POLICY = _policy(
    ((INVERT, 0.1, 7), (CONTRAST, 0.2, 6)),
    ((ROTATE, 0.7, 2), (TRANSLATE_X, 0.3, 9)),
    ((SHARPNESS, 0.8, 1), (SHARPNESS, 0.9, 3)),
    ((SHEAR_Y, 0.5, 8), (TRANSLATE_Y, 0.7, 9)),
    ((AUTO_CONTRAST, 0.5, 8), (EQUALIZE, 0.9, 2)),
    ((SHEAR_Y, 0.2, 7), (POSTERIZE, 0.3, 7)),
    ((COLOR, 0.4, 3), (BRIGHTNESS, 0.6, 7)),
    ((SHARPNESS, 0.3, 9), (BRIGHTNESS, 0.7, 9)),
    ((EQUALIZE, 0.6, 5), (EQUALIZE, 0.5, 1)),
    ((CONTRAST, 0.6, 7), (SHARPNESS, 0.6, 5)),
    ((COLOR, 0.7, 7), (TRANSLATE_X, 0.5, 8)),
    ((EQUALIZE, 0.3, 7), (AUTO_CONTRAST, 0.4, 8)),
    ((TRANSLATE_Y, 0.4, 3), (SHARPNESS, 0.2, 6)),
    ((BRIGHTNESS, 0.9, 6), (COLOR, 0.2, 8)),
    ((SOLARIZE, 0.5, 2), (INVERT, 0.0, 3)),
    ((EQUALIZE, 0.2, 0), (AUTO_CONTRAST, 0.6, 0)),
    ((EQUALIZE, 0.2, 8), (EQUALIZE, 0.6, 4)),
    ((COLOR, 0.9, 9), (EQUALIZE, 0.6, 6)),
    ((AUTO_CONTRAST, 0.8, 4), (SOLARIZE, 0.2, 8)),
    ((BRIGHTNESS, 0.1, 3), (COLOR, 0.7, 0)),
    ((SOLARIZE, 0.4, 5), (AUTO_CONTRAST, 0.9, 3)),
    ((TRANSLATE_Y, 0.9, 9), (TRANSLATE_Y, 0.7, 9)),
    ((AUTO_CONTRAST, 0.9, 2), (SOLARIZE, 0.8, 3)),
    ((EQUALIZE, 0.8, 8), (INVERT, 0.1, 3)),
    ((TRANSLATE_Y, 0.7, 9), (AUTO_CONTRAST, 0.9, 1)),
)

IMAGENET_POLICY = _policy(
    ((POSTERIZE, 0.4, 8), (ROTATE, 0.6, 9)),
    ((SOLARIZE, 0.6, 5), (AUTO_CONTRAST, 0.6, 5)),
    ((EQUALIZE, 0.8, 8), (EQUALIZE, 0.6, 3)),
    ((POSTERIZE, 0.6, 7), (POSTERIZE, 0.6, 6)),
    ((EQUALIZE, 0.4, 7), (SOLARIZE, 0.2, 4)),
    ((EQUALIZE, 0.4, 4), (ROTATE, 0.8, 8)),
    ((SOLARIZE, 0.6, 3), (EQUALIZE, 0.6, 7)),
    ((POSTERIZE, 0.8, 5), (EQUALIZE, 1.0, 2)),
    ((ROTATE, 0.2, 3), (SOLARIZE, 0.6, 8)),
    ((EQUALIZE, 0.6, 8), (POSTERIZE, 0.4, 6)),
    ((ROTATE, 0.8, 8), (COLOR, 0.4, 0)),
    ((ROTATE, 0.4, 9), (EQUALIZE, 0.6, 2)),
    ((EQUALIZE, 0.0, 7), (EQUALIZE, 0.8, 8)),
    ((INVERT, 0.6, 4), (EQUALIZE, 1.0, 8)),
    ((COLOR, 0.6, 4), (CONTRAST, 1.0, 8)),
    ((ROTATE, 0.8, 8), (COLOR, 1.0, 2)),
    ((COLOR, 0.8, 8), (SOLARIZE, 0.8, 7)),
    ((SHARPNESS, 0.4, 7), (INVERT, 0.6, 8)),
    ((SHEAR_X, 0.6, 5), (EQUALIZE, 1.0, 9)),
    ((COLOR, 0.4, 0), (EQUALIZE, 0.6, 3)),
    ((EQUALIZE, 0.4, 7), (SOLARIZE, 0.2, 4)),
    ((SOLARIZE, 0.6, 5), (AUTO_CONTRAST, 0.6, 5)),
    ((INVERT, 0.6, 4), (EQUALIZE, 1.0, 8)),
    ((COLOR, 0.6, 4), (CONTRAST, 1.0, 8)),
    ((EQUALIZE, 0.8, 8), (EQUALIZE, 0.6, 3)),
)

SVHN_POLICY = _policy(
    ((SHEAR_X, 0.9, 4), (INVERT, 0.2, 3)),
    ((SHEAR_Y, 0.9, 8), (INVERT, 0.7, 5)),
    ((EQUALIZE, 0.6, 5), (SOLARIZE, 0.6, 6)),
    ((INVERT, 0.9, 3), (EQUALIZE, 0.6, 3)),
    ((EQUALIZE, 0.6, 1), (ROTATE, 0.9, 3)),
    ((SHEAR_X, 0.9, 4), (AUTO_CONTRAST, 0.8, 3)),
    ((SHEAR_Y, 0.9, 8), (INVERT, 0.4, 5)),
    ((SHEAR_Y, 0.9, 5), (SOLARIZE, 0.2, 6)),
    ((INVERT, 0.9, 6), (AUTO_CONTRAST, 0.8, 1)),
    ((EQUALIZE, 0.6, 3), (ROTATE, 0.9, 3)),
    ((SHEAR_X, 0.9, 4), (SOLARIZE, 0.3, 3)),
    ((SHEAR_Y, 0.8, 8), (INVERT, 0.7, 4)),
    ((EQUALIZE, 0.9, 5), (TRANSLATE_Y, 0.6, 6)),
    ((INVERT, 0.9, 4), (EQUALIZE, 0.6, 7)),
    ((CONTRAST, 0.3, 3), (ROTATE, 0.8, 4)),
    ((INVERT, 0.8, 5), (TRANSLATE_Y, 0.0, 2)),
    ((SHEAR_Y, 0.7, 6), (SOLARIZE, 0.4, 8)),
    ((INVERT, 0.6, 4), (ROTATE, 0.8, 4)),
    ((SHEAR_Y, 0.3, 7), (TRANSLATE_X, 0.9, 3)),
    ((SHEAR_X, 0.1, 6), (INVERT, 0.6, 5)),
    ((SOLARIZE, 0.7, 2), (TRANSLATE_Y, 0.6, 7)),
    ((SHEAR_Y, 0.8, 4), (INVERT, 0.8, 8)),
    ((SHEAR_X, 0.7, 9), (TRANSLATE_Y, 0.8, 3)),
    ((SHEAR_Y, 0.8, 5), (AUTO_CONTRAST, 0.7, 3)),
    ((SHEAR_X, 0.7, 2), (INVERT, 0.1, 5)),
)
