"""Rows of image augmentations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import augment
from jaxreg._numerics import widen
from tests.cases.base import KEY, Case, array, misfit, negative, outside
from tests.cases.base import row as row_of

# Away from 0 and 1, where color clips, with channels that all differ, and in whole levels, so that
# no value is close to halfway between two levels.
SPREAD = (np.arange(3.0) + np.arange(20.0).reshape(5, 4, 1)) % 3 - 1
LEVELS = 0.5 + 0.2 * SPREAD + 0.08 * np.sin(np.arange(1.0, 961)).reshape(16, 5, 4, 3)
IMAGES = array(np.round(LEVELS * 255) / 255)
# One darkest and one lightest pixel in every channel, since at ties their derivative is a choice.
STRETCHED = IMAGES.at[:, 0, 0].set(0.02).at[:, 1, 1].set(0.98)
# With as many channels as devices, so that they can be sharded.
DEEP = array(np.sin(np.arange(1.0, 16 * 3 * 4 * 8 + 1)).reshape(16, 3, 4, 8))
SQUARE = IMAGES[:, :4]
MATRICES = augment.matrices.chain(
    augment.matrices.rotation(array(np.linspace(-50, 50, 16))), augment.matrices.scaling(0.8, -1.1)
)
HOMOGRAPHIES = MATRICES.at[:, 2, 0].set(0.03)
POINTS = array(np.stack([np.linspace(-1.0, 5.0, 6)] * 16)[:, None] + np.array([[0.1], [0.2]]))
SHAPES = {"size": (3, 2)}


def _size() -> Any:
    return (ValueError, r"`size` must be at most the 5 x 4 pixels .*got 6 x 2", {"size": (6, 2)})


def row(function: Any, *more: jax.Array, **options: Any) -> Case:
    """Returns a row ``function(images, *more, **strengths)``."""
    return row_of(function, IMAGES, *more, **options)


def random(function: Any, *, errors: Any = (), off: Any = None, **strengths: Any) -> Case:
    """Returns a row ``function(key, images, **strengths)``; strengths of 0 are off by default."""
    off = dict.fromkeys(strengths, 0.0) if off is None else off
    return row_of(function, KEY, IMAGES, errors=errors, off=off, **strengths)


def _affine_in_float32(image: jax.Array, matrix: jax.Array) -> jax.Array:
    return widen(augment.affine(image, matrix, size=(3, 5), border=augment.borders.reflect))


def _nearest(image: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    return widen(augment.sampling.nearest(image, x, y, fill=2.0))


def _bilinear(image: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    return widen(augment.sampling.bilinear(image, x, y, fill=0.5))


def _bilinear_matmul(image: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    return widen(augment.sampling.bilinear_matmul(image, x, y, fill=0.5))


def _crop(image: jax.Array) -> jax.Array:
    return widen(augment.crop(image, top=1, left=jnp.arange(len(image)) % 3, **SHAPES))


def _center_crop(image: jax.Array) -> jax.Array:
    return widen(augment.center_crop(image, **SHAPES))


def _resize(image: jax.Array) -> jax.Array:
    return widen(augment.resize(image, size=(3, 7)))


def _resized_crop(image: jax.Array, *, top: Any, left: Any, height: Any, width: Any) -> jax.Array:
    window = {"top": top, "left": left, "height": height, "width": width}
    return widen(augment.resized_crop(image, **window, size=(3, 2)))


def _pad(image: jax.Array) -> jax.Array:
    return widen(augment.pad(image, width=(1, 0, 2, 3), border=augment.borders.reflect))


def _pad_with_a_value(image: jax.Array) -> jax.Array:
    return widen(augment.pad(image, width=1, fill=2.0))


def _random_crop(key: jax.Array, image: jax.Array) -> jax.Array:
    return widen(augment.random_crop(key, image, **SHAPES))


def _random_resized_crop(key: jax.Array, image: jax.Array) -> jax.Array:
    return widen(augment.random_resized_crop(key, image, **SHAPES))


def _random_window(key: jax.Array, image: jax.Array) -> jax.Array:
    return augment.matrices.random_window(key, image, **SHAPES)


_FILL = (ValueError, r"`fill` must broadcast to shape \(3,\)", {"fill": array(np.ones(2))})
_UNEVEN = (TypeError, r"`top` must be an integer, got float32", {"top": jnp.float32(0.5)})
_NO_PAIR = (ValueError, r"`size` must be a pair \(height, width\), got 3", {"size": 3})
_PROBABILITY = outside("probability")
_XY = tuple(check(name) for name in "xy" for check in (negative, misfit))

GEOMETRY = (
    row(augment.affine, MATRICES, errors=[_FILL, _NO_PAIR]),
    row(augment.affine, MATRICES).but(inputs=(DEEP, MATRICES)),
    row(augment.affine, MATRICES).but(call=_affine_in_float32),
    row(augment.perspective, HOMOGRAPHIES, errors=[_FILL]),
    row(augment.sampling.bilinear, POINTS, POINTS).but(call=_bilinear),
    row(augment.sampling.bilinear_matmul, POINTS, POINTS).but(call=_bilinear_matmul),
    row(augment.sampling.nearest, POINTS, POINTS).but(call=_nearest),
    row(augment.elastic, jnp.full((16, 5, 4, 2), 0.3)),
    row(augment.rotate, degrees=23.0, off={"degrees": 0.0}, errors=[misfit("degrees")]),
    row(augment.translate, x=0.7, y=-0.3, off={"x": 0.0, "y": 0.0}, errors=[misfit("x")]),
    row(augment.scale, x=1.3, y=0.9, off={"x": 1.0, "y": 1.0}, errors=[misfit("y")]),
    row(augment.shear, x=0.3, y=-0.2, off={"x": 0.0, "y": 0.0}, errors=[misfit("x")]),
    row(augment.flip_left_right),
    row(augment.flip_up_down),
    row(augment.rot90, errors=[(TypeError, r"`turns` must be an integer", {"turns": 1.5})]).but(
        inputs=(SQUARE,), options={"turns": 1}
    ),
    row(augment.crop, errors=[_size(), _UNEVEN]).but(
        call=_crop, options={"top": 0, "left": 0, **SHAPES}
    ),
    row(augment.center_crop, errors=[_size()]).but(call=_center_crop, options=SHAPES),
    row(augment.resize, errors=[_NO_PAIR]).but(call=_resize, options=SHAPES),
    row(
        augment.resized_crop,
        top=0.3,
        left=0.2,
        height=3.7,
        width=2.9,
        errors=[misfit("top"), _NO_PAIR],
    ).but(call=_resized_crop, options=SHAPES),
    row(
        augment.pad, errors=[(ValueError, r"`width` .*zero or positive", {"width": (1, -1, 0, 0)})]
    ).but(call=_pad, options={"width": 1}),
    row(augment.pad).but(call=_pad_with_a_value),
)
RANDOM_GEOMETRY = (
    random(augment.matrices.random_rotation, degrees=15.0, off={}, errors=[negative("degrees")]),
    random(augment.matrices.random_translation, x=2.0, y=1.0, off={}, errors=_XY),
    random(augment.matrices.random_scaling, x=0.3, y=0.2, off={}, errors=_XY),
    random(augment.matrices.random_shearing, x=0.3, y=0.2, off={}, errors=_XY),
    random(augment.matrices.random_reflection, probability=0.5, off={}, errors=[_PROBABILITY]),
    random(
        augment.matrices.random_quadrilateral,
        distortion=0.4,
        off={},
        errors=[outside("distortion")],
    ),
    random(
        augment.matrices.random_window,
        errors=[(ValueError, r"`scale` must be zero or positive, got -1", {"scale": (-1.0, 1.0)})],
    ).but(call=_random_window, options=SHAPES),
    random(augment.random_rotate, degrees=15.0, errors=[negative("degrees")]),
    random(augment.random_translate, x=2.0, y=1.0, errors=_XY),
    random(augment.random_scale, x=0.3, y=0.2, errors=_XY),
    random(augment.random_shear, x=0.3, y=0.2, errors=_XY),
    random(
        augment.random_affine,
        degrees=15.0,
        shift=1.0,
        scale=0.25,
        shear=0.15,
        errors=[negative(name) for name in ("degrees", "shift", "shear")],
    ),
    random(augment.random_perspective, distortion=0.4, errors=[outside("distortion")]),
    random(
        augment.random_elastic,
        strength=1.5,
        sigma=1.2,
        off={"strength": 0.0},
        errors=[negative("strength"), negative("sigma")],
    ).but(options={"radius": 2}),
    random(augment.random_flip_left_right, probability=0.5, errors=[_PROBABILITY]),
    random(augment.random_flip_up_down, probability=0.5, errors=[_PROBABILITY]),
    random(augment.random_rot90).but(inputs=(KEY, SQUARE)),
    random(augment.random_crop, errors=[_size()]).but(call=_random_crop, options=SHAPES),
    random(augment.random_resized_crop, errors=[_NO_PAIR]).but(
        call=_random_resized_crop, options=SHAPES
    ),
)
_FACTOR = (negative("factor"), misfit("factor"))
_AMOUNT = (negative("amount"), misfit("amount"))
COLOR = (
    row(augment.brightness, factor=1.1, off={"factor": 1.0}, errors=_FACTOR),
    row(augment.contrast, factor=1.1, off={"factor": 1.0}, errors=_FACTOR),
    row(augment.saturation, factor=1.1, off={"factor": 1.0}, errors=_FACTOR),
    row(augment.hue, shift=0.27, off={"shift": 0.0}, errors=[misfit("shift")]),
    row(augment.gamma, gamma=1.3, off={"gamma": 1.0}, errors=[negative("gamma")]),
    row(augment.grayscale),
    row(augment.invert),
    row(augment.solarize, threshold=0.51, errors=[misfit("threshold")]),
    row(
        augment.normalize,
        mean=0.4,
        stddev=0.3,
        errors=[(ValueError, r"`stddev` must be positive, got -1\.0", {"stddev": -1.0})],
    ),
    row(augment.autocontrast).but(inputs=(STRETCHED,)),
    row(augment.equalize),
    row(augment.posterize, bits=3.0, off={"bits": 8.0}, errors=[outside("bits", 9.5)]),
    row(augment.sharpness, factor=1.1, off={"factor": 1.0}, errors=_FACTOR),
    row(augment.gaussian_blur, sigma=0.9, off={"sigma": 0.0}, errors=[negative("sigma")]).but(
        options={"radius": 2}
    ),
    row(
        augment.color_jitter,
        brightness=1.1,
        contrast=0.9,
        saturation=1.1,
        # A hue has kinks wherever two channels meet; it has a row of its own.
        off={"brightness": 1.0, "contrast": 1.0, "saturation": 1.0},
        errors=[negative(name) for name in ("brightness", "contrast", "saturation")],
    ),
    random(augment.random_brightness, amount=0.1, errors=_AMOUNT),
    random(augment.random_contrast, amount=0.1, errors=_AMOUNT),
    random(augment.random_saturation, amount=0.1, errors=_AMOUNT),
    # A turn so small that no hue of the images comes near a kink, a multiple of 60 degrees.
    random(augment.random_hue, shift=0.025, errors=[negative("shift")]),
    random(augment.random_gamma, amount=0.3, errors=_AMOUNT),
    random(augment.random_grayscale, probability=0.5, errors=[_PROBABILITY]),
    random(augment.random_invert, probability=0.5, errors=[_PROBABILITY]),
    random(
        augment.random_solarize,
        threshold=0.51,
        probability=0.5,
        off={"probability": 0.0},
        errors=[_PROBABILITY],
    ),
    random(
        augment.random_posterize,
        bits=3.0,
        probability=0.5,
        off={"probability": 0.0},
        errors=[_PROBABILITY],
    ),
    random(augment.random_sharpness, amount=0.1, errors=_AMOUNT),
    random(augment.random_gaussian_blur).but(options={"sigma": (0.3, 0.9), "radius": 2}),
    random(
        augment.random_color_jitter,
        brightness=0.1,
        contrast=0.1,
        saturation=0.1,
        errors=[negative(name) for name in ("brightness", "contrast", "saturation")],
    ),
)
_BOX = {"row": 2.2, "column": 1.3, "height": 2.1, "width": 1.9}
ERASE = (
    row(augment.cutout, **_BOX, errors=[negative("height"), misfit("row")]),
    row(augment.grid_mask, spacing=3.3, share=0.4, off={"share": 0.0}, errors=[outside("share")]),
    random(augment.random_cutout, height=2.3, width=1.7, errors=[negative("height")]),
    random(
        augment.random_erasing, probability=0.5, off={"probability": 0.0}, errors=[_PROBABILITY]
    ),
    random(augment.random_grid_mask, share=0.4, off={"share": 0.0}, errors=[outside("share")]).but(
        options={"spacing": (2.0, 4.0)}
    ),
)
LABELS = array(np.arange(16) % 7 - 1)
CLASSES = {"num_classes": 7}


def _mixup(x: jax.Array, labels: jax.Array, *, share: Any) -> Any:
    return augment.mixup(x, labels, jnp.flip(x, 1), labels % 3, share=share, num_classes=7)


def _mixed_images(x: jax.Array, labels: jax.Array, *, share: Any) -> Any:
    return _mixup(x, labels, share=share).x


def _cutmix(x: jax.Array, labels: jax.Array, *, share: Any) -> Any:
    options = {"center": (2.1, 1.3), "num_classes": 7}
    return augment.cutmix(x, labels, jnp.flip(x, 1), labels % 3, share=share, **options)


def _cut_images(x: jax.Array, labels: jax.Array, *, share: Any) -> Any:
    return _cutmix(x, labels, share=share).x


def _random_mixup(key: jax.Array, x: jax.Array, labels: jax.Array) -> Any:
    return augment.random_mixup(key, x, labels, alpha=0.8, **CLASSES)


def _random_cutmix(key: jax.Array, x: jax.Array, labels: jax.Array) -> Any:
    return augment.random_cutmix(key, x, labels, alpha=0.8, **CLASSES)


_NO_CLASSES = (ValueError, r"`num_classes` must be given", {"num_classes": None})
_SHARE = (outside("share"), misfit("share"))
_ALPHA = (negative("alpha"), misfit("alpha"), _NO_CLASSES)
_OTHER = {"other": IMAGES, "other_labels": LABELS, **CLASSES}
MIX = (
    row(augment.mixup, LABELS, share=0.7, errors=_SHARE).but(call=_mixup, options=_OTHER),
    row(augment.mixup, LABELS, share=0.7, off={"share": 1.0}).but(call=_mixed_images),
    row(augment.cutmix, LABELS, share=0.7, errors=_SHARE).but(
        call=_cutmix, options=_OTHER | {"center": (2.1, 1.3)}
    ),
    row(augment.cutmix, LABELS, share=0.7, off={"share": 1.0}).but(call=_cut_images),
    row(augment.random_mixup, errors=_ALPHA).but(
        inputs=(KEY, IMAGES, LABELS), call=_random_mixup, options={"alpha": 0.8, **CLASSES}
    ),
    row(augment.random_cutmix, errors=_ALPHA).but(
        inputs=(KEY, IMAGES, LABELS), call=_random_cutmix, options={"alpha": 0.8, **CLASSES}
    ),
)
_FEW = {"operations": (augment.operations.ROTATE, augment.operations.BRIGHTNESS)}
_PAIRS = (
    (augment.Step(_FEW["operations"][0], 0.5, 3), augment.Step(_FEW["operations"][1], 0.7, 4)),
    (augment.Step(_FEW["operations"][1], 0.9, 2),),
)


def _no(name: str) -> Any:
    return (ValueError, rf"`{name}` must contain at least one", {name: ()})


POLICIES = (
    random(augment.rand_augment, magnitude=4.0, errors=[outside("magnitude", 30.5)]).but(
        options={**_FEW, "sample": augment.sampling.bilinear}
    ),
    random(augment.trivial_augment, errors=[_no("operations")]).but(
        options={**_FEW, "sample": augment.sampling.bilinear}
    ),
    random(augment.auto_augment, errors=[_no("policy")]).but(
        options={"policy": _PAIRS, "sample": augment.sampling.bilinear}
    ),
    random(augment.aug_mix, severity=3.0, off={}, errors=[outside("severity", 11.0)]).but(
        options={**_FEW, "width": 2, "depth": (1, 2)}
    ),
)
CORNERS = jnp.tile(jnp.array([[0.5, 0.6, 2.3, 3.1]]), (16, 2, 1)) + IMAGES[:, :2, 0, :1]
FOLLOWING = (
    row(augment.keypoints).but(inputs=(CORNERS[..., :2], MATRICES)),
    row(augment.boxes).but(inputs=(CORNERS, MATRICES)),
)
# Functions that move pixels take labels too; their tests show that they keep the dtype.
OF_LABELS = {case.function for case in (*GEOMETRY, *RANDOM_GEOMETRY, *ERASE)}
OF_LABELS |= {augment.cutmix, augment.random_cutmix}
OF_LABELS -= {augment.sampling.bilinear, augment.sampling.bilinear_matmul}
FUNCTIONS = (
    *GEOMETRY,
    *RANDOM_GEOMETRY,
    *COLOR,
    *ERASE,
    *MIX,
    *POLICIES,
    *(one.but(options={"image_size": (5, 4)}) for one in FOLLOWING),
)
