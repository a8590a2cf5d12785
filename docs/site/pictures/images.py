"""Pictures of augmentations: a photograph before and after each call."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from docs.site.panels import KEY, Panel, Photo, Picture, as_array, compiled, evaluate
from docs.site.pictures.photographs import china, digits, flower

# The photograph and the calls of each page.
GEOMETRY = {
    "affine": (
        "augment.affine(image, matrices.chain(matrices.shearing(0.2, 0.0), "
        "matrices.rotation(9.0)))",
        "augment.random_affine(key, image, degrees=20.0, shift=10.0, scale=0.2, shear=0.2)",
    ),
    "perspective": ("augment.random_perspective(key, image, distortion=0.5)",),
    "rotate": (
        "augment.rotate(image, degrees=15.0)",
        "augment.random_rotate(key, image, degrees=30.0)",
    ),
    "translate": (
        "augment.translate(image, x=20.0, y=10.0, border=borders.wrap)",
        "augment.random_translate(key, image, x=30.0, y=20.0)",
    ),
    "scale": (
        "augment.scale(image, x=0.8, y=0.8, border=borders.reflect)",
        "augment.random_scale(key, image, x=0.5, y=0.5)",
    ),
    "shear": (
        "augment.shear(image, x=0.3, y=0.0)",
        "augment.random_shear(key, image, x=0.3, y=0.1)",
    ),
    "elastic": ("augment.random_elastic(key, image, strength=30.0, sigma=4.0, radius=8)",),
    "flip_left_right": (
        "augment.flip_left_right(image)",
        "augment.random_flip_left_right(key, image, probability=0.5)",
    ),
    "flip_up_down": (
        "augment.flip_up_down(image)",
        "augment.random_flip_up_down(key, image, probability=0.5)",
    ),
    "rot90": ("augment.rot90(image, turns=1)",),
    "crop": (
        "augment.crop(image, top=20, left=60, size=(60, 90))",
        "augment.center_crop(image, size=(60, 90))",
        "augment.random_crop(key, image, size=(60, 90))",
    ),
    "resize": ("augment.resize(image, size=(30, 45))",),
    "resized_crop": (
        "augment.resized_crop(image, top=20, left=60, height=40, width=60, size=(90, 135))",
        "augment.random_resized_crop(key, image, size=(90, 135))",
    ),
    "pad": ("augment.pad(image, width=15, border=borders.edge)",),
    "cutout": (
        "augment.cutout(image, row=45, column=60, height=40, width=40)",
        "augment.random_cutout(key, image, height=40, width=40, fill=0.5)",
    ),
    "random_erasing": ("augment.random_erasing(key, image, probability=1.0)",),
    "grid_mask": (
        "augment.grid_mask(image, spacing=24.0, share=0.5)",
        "augment.random_grid_mask(key, image, spacing=(12.0, 30.0), share=0.4)",
    ),
    "rand_augment": ("augment.rand_augment(key, image, magnitude=12)",),
    "trivial_augment": ("augment.trivial_augment(key, image)",),
    "auto_augment": ("augment.auto_augment(key, image, policy=augment.SVHN_POLICY)",),
    "aug_mix": ("augment.aug_mix(key, image, severity=5.0)",),
    "sequence": (
        "augment.sequence(partial(augment.random_rotate, degrees=30.0), "
        "partial(augment.random_hue, shift=0.5))(key, image)",
        "augment.one_of(partial(augment.random_rotate, degrees=30.0), "
        "partial(augment.random_hue, shift=0.5))(key, image)",
    ),
}
COLOR = {
    "brightness": (
        "augment.brightness(image, factor=1.5)",
        "augment.random_brightness(key, image, amount=0.5)",
    ),
    "contrast": (
        "augment.contrast(image, factor=1.8)",
        "augment.random_contrast(key, image, amount=0.8)",
    ),
    "saturation": (
        "augment.saturation(image, factor=2.0)",
        "augment.random_saturation(key, image, amount=0.9)",
    ),
    "hue": ("augment.hue(image, shift=0.3)", "augment.random_hue(key, image, shift=0.5)"),
    "gamma": ("augment.gamma(image, gamma=2.0)", "augment.random_gamma(key, image, amount=1.0)"),
    "color_jitter": (
        "augment.color_jitter(image, brightness=1.3, contrast=0.7, saturation=1.5, hue=0.1)",
        "augment.random_color_jitter(key, image, brightness=0.4, contrast=0.4, saturation=0.4, "
        "hue=0.1)",
    ),
    "grayscale": (
        "augment.grayscale(image)",
        "augment.random_grayscale(key, image, probability=0.5)",
    ),
    "invert": ("augment.invert(image)", "augment.random_invert(key, image, probability=0.5)"),
    "solarize": (
        "augment.solarize(image, threshold=0.5)",
        "augment.random_solarize(key, image, threshold=0.5, probability=0.5)",
    ),
    "posterize": (
        "augment.posterize(image, bits=2)",
        "augment.random_posterize(key, image, bits=2, probability=0.5)",
    ),
    "equalize": ("augment.equalize(image)",),
    "autocontrast": ("augment.autocontrast(image)",),
    "normalize": ("augment.normalize(image, mean=0.4, stddev=0.8)",),
    "sharpness": (
        "augment.sharpness(image, factor=4.0)",
        "augment.random_sharpness(key, image, amount=0.9)",
    ),
    "gaussian_blur": (
        "augment.gaussian_blur(image, sigma=2.0, radius=5)",
        "augment.random_gaussian_blur(key, image, sigma=(0.5, 3.0), radius=5)",
    ),
}
PANELS = 4


def applied(photograph: Callable[[], jax.Array], codes: tuple[str, ...]) -> Picture:
    """Shows a photograph, the result of each call, and several draws of random ones."""
    image = photograph()
    panels: list[Panel] = [Photo("image", as_array(image))]
    fixed = sum("key, image" not in code for code in codes)
    for code in codes:
        name = code.removeprefix("augment.").partition("(")[0]
        call = compiled(code, "key", "image")
        number = max(1, PANELS - 1 - fixed) if "key, image" in code else 1
        for key in jax.random.split(KEY, number):
            panels.append(Photo(name, as_array(call(key, image))))
    return Picture(tuple(panels), codes)


def mixed(codes: tuple[str, str]) -> Picture:
    """Shows two photographs mixed, and the digits of a batch."""
    fixed, drawn = codes
    image = china()
    other = flower()
    one = jnp.array([0])
    result = evaluate(
        fixed, x=image[None], image=image[None], labels=one, other=other[None],
        other_labels=one + 1,
    )  # fmt: skip
    labels = np.round(as_array(result.labels[0]), 2)
    batch = evaluate(drawn, x=digits(), image=digits(), labels=jnp.arange(5))
    panels: list[Panel] = [
        Photo("image, label 0", as_array(image)),
        Photo("other, label 1", as_array(other)),
        Photo(f"labels {labels}", as_array(result.x[0])),
    ]
    for x, y in zip(batch.x, batch.labels, strict=True):
        top = np.argsort(as_array(y))[::-1][:2]
        title = " + ".join(f"{y[i]:.2f} of {i}" for i in top)
        panels.append(Photo(title, as_array(x)))
    return Picture(tuple(panels), codes)


MATRIX = "matrices.chain(matrices.rotation(15.0), matrices.scaling(1.2, 1.2))"


def followed(code: str, field: str, value: Any) -> Picture:
    """Shows labels that follow a warp of their image."""
    image = china()
    matrix = evaluate(MATRIX)
    warp = "augment.affine(image, matrix)"
    after = evaluate(warp, image=image, matrix=matrix)
    moved = evaluate(code, matrix=matrix, points=value, corners=value, labels=value)
    panels = (
        Photo("image", as_array(image), **{field: np.asarray(value)}),
        Photo("result", as_array(after), **{field: np.asarray(moved)}),
    )
    return Picture(panels, (f"matrix = {MATRIX}", warp, code))


def roof() -> jax.Array:
    """Returns a mask of the dark half of the photograph, as labels of pixels."""
    return (china().mean(-1) < 0.35).astype(jnp.int32)


POINTS = np.float32([[22.0, 38.0], [66.0, 30.0], [108.0, 44.0], [66.0, 62.0]])
BOXES = np.float32([[14.0, 26.0, 52.0, 66.0], [74.0, 34.0, 124.0, 72.0]])
PAIR = "x, labels, other, other_labels, share=0.6"
CUT = "image, labels, other, other_labels, share=0.6, center=(45, 70)"

PICTURES: dict[str, Callable[[], Picture]] = {
    **{f"augment/{name}": partial(applied, china, codes) for name, codes in GEOMETRY.items()},
    **{f"augment/{name}": partial(applied, flower, codes) for name, codes in COLOR.items()},
    "augment/mixup": partial(
        mixed,
        (
            f"augment.mixup({PAIR}, num_classes=2)",
            "augment.random_mixup(key, x, labels, alpha=1.0, num_classes=5)",
        ),
    ),
    "augment/cutmix": partial(
        mixed,
        (
            f"augment.cutmix({CUT}, num_classes=2)",
            "augment.random_cutmix(key, image, labels, alpha=1.0, num_classes=5)",
        ),
    ),
    "augment/affine_labels": lambda: followed(
        "augment.affine_labels(labels, matrix)", "mask", roof()
    ),
    "augment/keypoints": partial(
        followed, "augment.keypoints(points, matrix, image_size=(90, 135))", "points", POINTS
    ),
    "augment/boxes": partial(
        followed, "augment.boxes(corners, matrix, image_size=(90, 135))", "boxes", BOXES
    ),
}
