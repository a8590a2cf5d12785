r"""Geometric transformations as 3 by 3 matrices, composed before a single resampling.

A matrix maps a point :math:`(x, y, 1)` of the image to its new place. Points are counted in pixels
from the center of the image, :math:`x` to the right and :math:`y` downward, so that a matrix means
the same for every size. Arguments of shape ``[...]`` give matrices ``[..., 3, 3]``, in float32 or
wider.

Functions ``random_f`` draw one matrix per example of a batch. Their ``image`` gives the leading
axes, the size and the dtype; its pixels are not read. A limit bounds an angle, a shift, a factor or
a shear, and 0 gives exactly the identity matrix.
"""

from jaxreg import _signatures
from jaxreg.augment.matrices.fixed import (
    chain,
    quadrilateral,
    rotation,
    scaling,
    shearing,
    translation,
    window,
)
from jaxreg.augment.matrices.random import (
    random_quadrilateral,
    random_reflection,
    random_rotation,
    random_scaling,
    random_shearing,
    random_translation,
    random_window,
)

__all__ = [
    "chain",
    "quadrilateral",
    "random_quadrilateral",
    "random_reflection",
    "random_rotation",
    "random_scaling",
    "random_shearing",
    "random_translation",
    "random_window",
    "rotation",
    "scaling",
    "shearing",
    "translation",
    "window",
]

_signatures.show(__name__)
