"""Prints ``coming_from_torchvision.json``: figures for docs/coming_from/torchvision.md.

Run as ``python tests/references/coming_from_torchvision.py >
tests/references/coming_from_torchvision.json`` where torchvision is installed.
"""

import inspect
import json
import re
import sys

import numpy as np

LEVELS = np.random.default_rng(0).integers(0, 256, (3, 6, 8), dtype=np.uint8)


def functions():
    """Functions of the image as floats in [0, 1]."""
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    bilinear = InterpolationMode.BILINEAR
    return {
        "adjust_brightness": lambda x: functional.adjust_brightness(x, 1.3),
        "adjust_contrast": lambda x: functional.adjust_contrast(x, 0.7),
        "adjust_saturation": lambda x: functional.adjust_saturation(x, 1.5),
        "adjust_hue": lambda x: functional.adjust_hue(x, 0.1),
        "adjust_gamma": lambda x: functional.adjust_gamma(x, 2.0),
        "adjust_sharpness": lambda x: functional.adjust_sharpness(x, 2.0),
        "solarize": lambda x: functional.solarize(x, 0.5),
        "invert": functional.invert,
        "autocontrast": functional.autocontrast,
        "rgb_to_grayscale": lambda x: functional.rgb_to_grayscale(x, 3),
        "normalize": lambda x: functional.normalize(x, [0.5] * 3, [0.25] * 3),
        "horizontal_flip": functional.horizontal_flip,
        "vertical_flip": functional.vertical_flip,
        "rotate": lambda x: functional.rotate(x, 20.0, bilinear),
        "affine": lambda x: functional.affine(
            x, 20.0, [1, 2], 1.2, [10.0, 0.0], interpolation=bilinear
        ),
        "gaussian_blur": lambda x: functional.gaussian_blur(x, [3, 3], [0.8, 0.8]),
        "center_crop": lambda x: functional.center_crop(x, [4, 4]),
        "crop": lambda x: functional.crop(x, 1, 2, 4, 5),
        "resize": lambda x: functional.resize(x, [3, 4], antialias=True),
        "resized_crop": lambda x: functional.resized_crop(x, 1, 2, 4, 4, [2, 2], antialias=True),
        "pad": lambda x: functional.pad(x, [1, 1], padding_mode="reflect"),
        "erase": lambda x: functional.erase(x, 1, 2, 3, 4, torch.zeros(3, 1, 1)),
    }


def of_levels():
    """Functions that torchvision computes on ``uint8``."""
    from torchvision.transforms.v2 import functional

    return {
        "posterize": lambda x: functional.posterize(x, 2),
        "equalize": functional.equalize,
    }


def dropped():
    """Masks of ones."""
    import torch
    from torchvision import ops

    torch.manual_seed(0)
    ones = torch.ones(64, 2, 3)
    rows = ops.stochastic_depth(ones, 0.25, "row")
    batch = [ops.stochastic_depth(ones, 0.25, "batch") for _ in range(20)]
    return {
        "row": sorted({round(v, 5) for v in rows.flatten().tolist()}),
        "row decides for examples": bool((rows == rows[:, :1, :1]).all()),
        "batch decides once": all(len(set(y.flatten().tolist())) == 1 for y in batch),
    }


def mixed():
    """Which partner an example has, and whether the batch has one share."""
    import torch
    from torchvision.transforms import v2

    torch.manual_seed(0)
    images = torch.arange(4.0)[:, None, None, None].expand(4, 1, 2, 2).contiguous()
    found = v2.MixUp(alpha=1.0, num_classes=4)(images, torch.arange(4))
    return {"x": found[0][:, 0, 0, 0].tolist(), "labels": found[1].tolist()}


def settings():
    """Default arguments that the page names."""
    from torchvision.transforms import v2

    names = ("RandomErasing", "RandomResizedCrop", "RandAugment", "AugMix", "ElasticTransform")
    found = {}
    for name in (*names, "RandomPerspective", "MixUp", "CutMix"):
        parameters = inspect.signature(getattr(v2, name)).parameters
        found[name] = {
            key: value.default
            for key, value in parameters.items()
            if isinstance(value.default, int | float | tuple)
        }
    jitter = v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    found["ColorJitter"] = {
        name: list(getattr(jitter, name))
        for name in ("brightness", "contrast", "saturation", "hue")
    }
    return found


def public_names():
    """Names of transforms and layers."""
    from torchvision import ops
    from torchvision.transforms import v2

    found = [name for name in dir(v2) if name[0].isupper()]
    return [*found, *(name for name in dir(ops) if re.search("Drop|Depth|BatchNorm", name))]


def figures():
    import torch
    import torchvision

    image = torch.tensor(LEVELS)
    scaled = image.float() / 255
    return {
        "public": public_names(),
        "made_with": {
            "script": "tests/references/coming_from_torchvision.py",
            "torchvision": torchvision.__version__,
        },
        "levels": LEVELS.tolist(),
        "floats": {name: f(scaled).tolist() for name, f in functions().items()},
        "bytes": {name: f(image).tolist() for name, f in of_levels().items()},
        "dropped": dropped(),
        "mixed": mixed(),
        "settings": settings(),
    }


if __name__ == "__main__":
    json.dump(figures(), sys.stdout)
    print()
