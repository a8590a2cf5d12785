r"""Augmentation of images: functions ``image -> image`` and ``(key, image) -> image``.

An image is a floating-point array ``[..., height, width, channels]``: one image or any batch. In
``[0, 1]`` for color, in any range for geometry; ``uint8`` is converted by :func:`to_float` and
:func:`to_uint8`, never silently. A strength is one number for all or an array of the leading axes,
one for each example, and may be traced. ``random_x`` draws for each example of a batch what ``x``
takes, so that one key is one augmentation of a whole batch, the same on one device and on many. A
strength that does nothing is the identity to the bit, and the dtype stays.

Verbs act on images and nouns are matrices: :func:`rotate` and :func:`rotation`. Matrices compose
with :func:`chain` and are resampled once with :func:`affine`; what belongs to an image follows by
the same matrix.

:mod:`jaxreg.augment.text` augments token ids and their embeddings.
"""

from jaxreg.augment import operations, series, text
from jaxreg.augment.color import (
    brightness,
    contrast,
    gamma,
    grayscale,
    hue,
    invert,
    normalize,
    saturation,
    solarize,
)
from jaxreg.augment.compose import for_each, one_of, sequence, switch, with_probability
from jaxreg.augment.erase import cutout, grid_mask, random_cutout, random_erasing, random_grid_mask
from jaxreg.augment.filters import (
    gaussian_blur,
    random_gaussian_blur,
    random_sharpness,
    sharpness,
)
from jaxreg.augment.follow import affine_labels, boxes, keypoints
from jaxreg.augment.geometry import (
    affine,
    elastic,
    perspective,
    rotate,
    scale,
    shear,
    translate,
)
from jaxreg.augment.jitter import (
    color_jitter,
    random_brightness,
    random_color_jitter,
    random_contrast,
    random_gamma,
    random_grayscale,
    random_hue,
    random_invert,
    random_posterize,
    random_saturation,
    random_solarize,
)
from jaxreg.augment.levels import autocontrast, equalize, posterize, to_float, to_uint8
from jaxreg.augment.matrices import (
    chain,
    quadrilateral,
    rotation,
    scaling,
    shearing,
    translation,
    window,
)
from jaxreg.augment.mix import Mixed, cutmix, mixup, random_cutmix, random_mixup
from jaxreg.augment.mixtures import Mixture, fit_mixture, mixture_sampling
from jaxreg.augment.operations import Operation, Warp
from jaxreg.augment.oversampling import lacking, smote
from jaxreg.augment.partners import reversal, share_of_batch, share_of_example, shuffled, within
from jaxreg.augment.policies import aug_mix, auto_augment, rand_augment, trivial_augment
from jaxreg.augment.published import CIFAR10_POLICY, IMAGENET_POLICY, SVHN_POLICY, Step
from jaxreg.augment.random_geometry import (
    random_affine,
    random_elastic,
    random_perspective,
    random_rotate,
    random_scale,
    random_shear,
    random_translate,
)
from jaxreg.augment.random_matrices import (
    random_quadrilateral,
    random_reflection,
    random_rotation,
    random_scaling,
    random_shearing,
    random_translation,
    random_window,
)
from jaxreg.augment.random_windows import (
    random_crop,
    random_flip_left_right,
    random_flip_up_down,
    random_resized_crop,
    random_rot90,
)
from jaxreg.augment.sampling import bilinear, bilinear_matmul, edge, nearest, reflect, wrap
from jaxreg.augment.windows import (
    center_crop,
    crop,
    flip_left_right,
    flip_up_down,
    pad,
    resize,
    resized_crop,
    rot90,
)

__all__ = [
    "CIFAR10_POLICY",
    "IMAGENET_POLICY",
    "SVHN_POLICY",
    "Mixed",
    "Mixture",
    "Operation",
    "Step",
    "Warp",
    "affine",
    "affine_labels",
    "aug_mix",
    "auto_augment",
    "autocontrast",
    "bilinear",
    "bilinear_matmul",
    "boxes",
    "brightness",
    "center_crop",
    "chain",
    "color_jitter",
    "contrast",
    "crop",
    "cutmix",
    "cutout",
    "edge",
    "elastic",
    "equalize",
    "fit_mixture",
    "flip_left_right",
    "flip_up_down",
    "for_each",
    "gamma",
    "gaussian_blur",
    "grayscale",
    "grid_mask",
    "hue",
    "invert",
    "keypoints",
    "lacking",
    "mixture_sampling",
    "mixup",
    "nearest",
    "normalize",
    "one_of",
    "operations",
    "pad",
    "perspective",
    "posterize",
    "quadrilateral",
    "rand_augment",
    "random_affine",
    "random_brightness",
    "random_color_jitter",
    "random_contrast",
    "random_crop",
    "random_cutmix",
    "random_cutout",
    "random_elastic",
    "random_erasing",
    "random_flip_left_right",
    "random_flip_up_down",
    "random_gamma",
    "random_gaussian_blur",
    "random_grayscale",
    "random_grid_mask",
    "random_hue",
    "random_invert",
    "random_mixup",
    "random_perspective",
    "random_posterize",
    "random_quadrilateral",
    "random_reflection",
    "random_resized_crop",
    "random_rot90",
    "random_rotate",
    "random_rotation",
    "random_saturation",
    "random_scale",
    "random_scaling",
    "random_sharpness",
    "random_shear",
    "random_shearing",
    "random_solarize",
    "random_translate",
    "random_translation",
    "random_window",
    "reflect",
    "resize",
    "resized_crop",
    "reversal",
    "rot90",
    "rotate",
    "rotation",
    "saturation",
    "scale",
    "scaling",
    "sequence",
    "series",
    "share_of_batch",
    "share_of_example",
    "sharpness",
    "shear",
    "shearing",
    "shuffled",
    "smote",
    "solarize",
    "switch",
    "text",
    "to_float",
    "to_uint8",
    "translate",
    "translation",
    "trivial_augment",
    "window",
    "with_probability",
    "within",
    "wrap",
]
