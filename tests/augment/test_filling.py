"""Fills are numbers that the dtype holds, wherever one is taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import augment
from jaxreg.augment._filling import filling
from tests.augment.helpers import KEY

MOVE = np.array([[1, 0, 2], [0, 1, 0], [0, 0, 1]], np.float32)
LABELS = np.ones((2, 4, 4, 1), np.uint8)
TAKERS = {
    "affine": lambda x, fill: augment.affine(x, MOVE, fill=fill),
    "perspective": lambda x, fill: augment.perspective(x, MOVE, fill=fill),
    "nearest": lambda x, fill: augment.sampling.nearest(x, *np.full((2, 2, 1, 1), 9.0), fill=fill),
    "rotate": lambda x, fill: augment.rotate(x, degrees=9.0, fill=fill),
    "translate": lambda x, fill: augment.translate(x, x=1, y=1, fill=fill),
    "scale": lambda x, fill: augment.scale(x, x=0.5, y=1, fill=fill),
    "shear": lambda x, fill: augment.shear(x, x=0.5, y=0, fill=fill),
    "elastic": lambda x, fill: augment.elastic(x, np.float32([9, 9]), fill=fill),
    "pad": lambda x, fill: augment.pad(x, width=1, fill=fill),
    "cutout": lambda x, fill: augment.cutout(x, row=1, column=1, height=1, width=1, fill=fill),
    "grid_mask": lambda x, fill: augment.grid_mask(x, spacing=2, share=0.5, fill=fill),
    "affine_labels": lambda x, fill: augment.affine_labels(x[..., 0], MOVE, fill=fill),
    "with a border": lambda x, fill: augment.affine(
        x, MOVE, fill=fill, border=augment.borders.edge
    ),
    "random_rotate": lambda x, fill: augment.random_rotate(KEY, x, degrees=9.0, fill=fill),
    "random_elastic": lambda x, fill: augment.random_elastic(
        KEY, x, strength=1.0, sigma=1.0, radius=1, fill=fill
    ),
    "random_erasing": lambda x, fill: augment.random_erasing(KEY, x, probability=1, fill=fill),
}
OF_FLOATS = {
    "bilinear": lambda x, fill: augment.sampling.bilinear(x, *np.ones((2, 2, 1, 1)), fill=fill),
    "bilinear_matmul": lambda x, fill: augment.sampling.bilinear_matmul(
        x, *np.ones((2, 2, 1, 1)), fill=fill
    ),
    "rand_augment": lambda x, fill: augment.rand_augment(KEY, x, fill=fill),
    "trivial_augment": lambda x, fill: augment.trivial_augment(KEY, x, fill=fill),
    "auto_augment": lambda x, fill: augment.auto_augment(KEY, x, fill=fill),
    "aug_mix": lambda x, fill: augment.aug_mix(KEY, x, fill=fill),
}


def shaped(take, image, fill):
    """The shape of a result, without a program for the code before the check."""
    return jax.eval_shape(lambda image: take(image, fill), image)


@pytest.mark.parametrize("name", TAKERS)
def test_a_fill_that_does_not_fit_is_named(name):
    take = TAKERS[name]
    for fill in (300, -1, 0.5, np.nan, np.inf, np.int64(256), np.float32([0.5])):
        with pytest.raises(ValueError, match=r"`fill` must be a number that uint8 can represent"):
            shaped(take, LABELS, fill)
    with pytest.raises(ValueError, match=r"`fill` must be a number that bool can represent, got 2"):
        shaped(take, LABELS.astype(bool), 2)
    with pytest.raises(TypeError, match=r"`fill` must contain integers for an image of uint8"):
        shaped(take, LABELS, jnp.ones(()))


@pytest.mark.parametrize("name", {**TAKERS, **OF_FLOATS})
def test_a_fill_that_becomes_infinite_or_is_no_number_is_named(name):
    take = {**TAKERS, **OF_FLOATS}[name]
    image = np.ones((2, 4, 4, 1), np.float16)
    if name != "affine_labels":
        with pytest.raises(
            ValueError, match=r"`fill` must be a number that float16 can represent, got 1000000"
        ):
            shaped(take, image, 1e6)
    for fill in ("a", 1j):
        with pytest.raises(TypeError, match=r"`fill` must be a real number"):
            shaped(take, LABELS if name == "affine_labels" else image, fill)


def test_fills_that_fit_are_kept():
    """Numbers, arrays and sequences; traced ones beyond the range are at its end."""

    @jax.jit
    def run(fill, wide):
        images = {"uint8": jnp.uint8(LABELS), "int16": jnp.int16(LABELS), "bool": LABELS > 0}
        found = [filling(fill, image, (1,)) for image in images.values()]
        one = jnp.uint8(LABELS)
        return found, filling(wide, one, (1,)), filling(255.0, one, (1,)), filling((7,), one, (1,))

    found, wide, whole, several = run(jnp.int32(1), jnp.int32([300]))
    assert [(one.dtype, one) for one in found] == [("uint8", 1), ("int16", 1), ("bool", True)]
    assert (wide.dtype, wide[0]) == ("uint8", 255)
    assert (whole.dtype, whole) == ("uint8", 255)
    np.testing.assert_array_equal(several, [7])
    low = jax.jit(lambda fill: filling(fill, jnp.uint16(LABELS), ()))(jnp.int8(-3))
    assert (low.dtype, low) == ("uint16", 0)
    floats = jax.jit(lambda: filling(float("nan"), jnp.float16(LABELS), ()))()
    assert floats.dtype == np.float32
    assert np.isnan(floats)
