"""PIL's versions of the operations that policies choose from, and the published ranges."""

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from jaxreg.augment import operations
from tests.augment.helpers import LEVELS

NAMES = {
    id(value): name.lower()
    for name, value in vars(operations).items()
    if isinstance(value, operations.Operation | operations.Warp)
}


def pulled(image, *data):
    return image.transform(image.size, Image.Transform.AFFINE, data)


PILS = {
    "identity": lambda i, s: i,
    "shear_x": lambda i, s: pulled(i, 1, s, 0, 0, 1, 0),
    "shear_y": lambda i, s: pulled(i, 1, 0, 0, s, 1, 0),
    "translate_x": lambda i, s: pulled(i, 1, 0, -int(s * i.width), 0, 1, 0),
    "translate_y": lambda i, s: pulled(i, 1, 0, 0, 0, 1, -int(s * i.height)),
    "rotate": lambda i, s: i.rotate(s),
    "brightness": lambda i, s: ImageEnhance.Brightness(i).enhance(1 + s),
    "color": lambda i, s: ImageEnhance.Color(i).enhance(1 + s),
    "contrast": lambda i, s: ImageEnhance.Contrast(i).enhance(1 + s),
    "sharpness": lambda i, s: ImageEnhance.Sharpness(i).enhance(1 + s),
    "posterize": lambda i, s: ImageOps.posterize(i, round(s)),
    "solarize": lambda i, s: ImageOps.solarize(i, s),
    "auto_contrast": lambda i, s: ImageOps.autocontrast(i),
    "equalize": lambda i, s: ImageOps.equalize(i),
    "invert": lambda i, s: ImageOps.invert(i),
}
WIDE = {
    "shear_x": 0.99,
    "shear_y": 0.99,
    "rotate": 135.0,
    "brightness": 0.99,
    "color": 0.99,
    "contrast": 0.99,
    "sharpness": 0.99,
    "posterize": 2.0,
}
ENHANCED = ("brightness", "color", "contrast", "sharpness")
RANGES = {
    "shear_x": (0, 0.3),
    "shear_y": (0, 0.3),
    "translate_x": (0, 150 / 331),
    "translate_y": (0, 150 / 331),
    "rotate": (0, 30),
    "posterize": (8, 4),
    "solarize": (256, 0),
    **dict.fromkeys(ENHANCED, (0, 0.9)),
}
GEOMETRIES = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")


def excess(y, name, strength):
    """The error of a color and the share of wrong pixels of a geometry, relative to their bounds.

    PIL rounds the other image of a blend and truncates the result. If a point is halfway between
    two pixels, the pixel that a slightly different strength selects is right too.
    """
    nudges = (1, 1 + 1e-4, 1 - 1e-4) if name in GEOMETRIES else (1,)
    image = Image.fromarray(LEVELS)
    right = [np.asarray(PILS[name](image, n * strength), np.float64) for n in nudges]
    error = np.min([abs(np.asarray(y, np.float64) * 255 - r).max(-1) for r in right], axis=0)
    if name in GEOMETRIES:
        return (error > 0.01).mean() / 0.01
    if name in ENHANCED:
        return error.max() / (1.01 + 0.51 * abs(strength))
    return error.max() / (1.01 if name == "auto_contrast" else 1e-3)
