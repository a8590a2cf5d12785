r"""Augmentation of images: functions ``image -> image`` and ``(key, image) -> image``.

An image is a floating-point array ``[..., height, width, channels]``: one image or any batch. Its
values are in ``[0, 1]`` for color, and in any range for geometry; convert ``uint8`` with
:func:`to_float` and :func:`to_uint8`. A strength is a single number, or an array with the leading
axes of the image, one number per example. It may be traced. ``random_f`` draws the arguments of
``f`` separately for each example, so one key augments a whole batch, with the same result on one
device and on many. A strength that means no change returns the image exactly, and the dtype is
kept.

Submodules:

- :mod:`jaxreg.augment.matrices`: rotations, shifts and others as matrices. Compose them with
  :func:`matrices.chain` and resample once with :func:`affine`; the same matrix moves labels, points
  and boxes.
- :mod:`jaxreg.augment.sampling`: how an image is read between its pixels.
- :mod:`jaxreg.augment.borders`: which pixels are read beyond the border.
- :mod:`jaxreg.augment.partners`: which examples :func:`random_mixup` and :func:`random_cutmix` mix.
- :mod:`jaxreg.augment.operations`: operations for policies such as :func:`rand_augment`.
- :mod:`jaxreg.augment.series`: time series.
- :mod:`jaxreg.augment.tables`: new examples of rare classes.
- :mod:`jaxreg.augment.text`: token ids and their embeddings.
"""

from jaxreg import _signatures
from jaxreg.augment import borders, matrices, operations, partners, sampling, series, tables, text
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
from jaxreg.augment.mix import Mixed, cutmix, mixup, random_cutmix, random_mixup
from jaxreg.augment.operations import Operation, Warp
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
from jaxreg.augment.random_windows import (
    random_crop,
    random_flip_left_right,
    random_flip_up_down,
    random_resized_crop,
    random_rot90,
)
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
    "Operation",
    "Step",
    "Warp",
    "affine",
    "affine_labels",
    "aug_mix",
    "auto_augment",
    "autocontrast",
    "borders",
    "boxes",
    "brightness",
    "center_crop",
    "color_jitter",
    "contrast",
    "crop",
    "cutmix",
    "cutout",
    "elastic",
    "equalize",
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
    "matrices",
    "mixup",
    "normalize",
    "one_of",
    "operations",
    "pad",
    "partners",
    "perspective",
    "posterize",
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
    "random_resized_crop",
    "random_rot90",
    "random_rotate",
    "random_saturation",
    "random_scale",
    "random_sharpness",
    "random_shear",
    "random_solarize",
    "random_translate",
    "resize",
    "resized_crop",
    "rot90",
    "rotate",
    "sampling",
    "saturation",
    "scale",
    "sequence",
    "series",
    "sharpness",
    "shear",
    "solarize",
    "switch",
    "tables",
    "text",
    "to_float",
    "to_uint8",
    "translate",
    "trivial_augment",
    "with_probability",
]

_signatures.show(__name__)
