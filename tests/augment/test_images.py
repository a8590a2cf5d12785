"""Images as arguments: labels and NumPy arrays, strengths and choices by example, and checks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import augment
from jaxreg.augment import _images, _mixing
from tests import cases
from tests.augment.helpers import IMAGE, KEY, assert_rounded_once
from tests.helpers import first_of

NESTED = np.zeros((2, 3, 4, 5, 1), np.float32)


def test_numbers_are_aligned_with_the_last_leading_axes():
    @jax.jit
    def run(x, inner, all_of, one):
        values = (inner, all_of, one)
        return [_images.per_example(value, "v", x) for value in values]

    inner = np.arange(3, dtype=np.float32)
    all_of = np.arange(6, dtype=np.float32).reshape(2, 3)
    shaped, full, single = run(NESTED, inner, all_of, 7.0)
    np.testing.assert_array_equal(shaped, inner.reshape(1, 3, 1, 1, 1))
    np.testing.assert_array_equal(full, all_of.reshape(2, 3, 1, 1, 1))
    assert single.shape == ()
    column = jax.eval_shape(lambda x: _images.per_example(np.ones((2, 1)), "v", x), NESTED)
    assert column.shape == (2, 1, 1, 1, 1)


def test_choices_and_averages_are_by_example():
    @jax.jit
    def run(x, condition, share):
        picked = _images.select(_images.append_axes(condition), x, -x)
        return picked, _mixing.average(x, -x, _images.append_axes(share))

    images = np.stack([IMAGE] * 3)
    condition = np.array([True, False, True])
    share = np.float32([0, 0.25, 1])
    picked, averaged = run(images, condition, share)
    np.testing.assert_array_equal(picked, np.stack([IMAGE, -IMAGE, IMAGE]))
    np.testing.assert_allclose(averaged, np.stack([-IMAGE, -0.5 * IMAGE, IMAGE]), atol=1e-6)
    assert_rounded_once(lambda x, y: _mixing.average(x, y, jnp.float32(0.3)), IMAGE, 1 - IMAGE)


RIGHT = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 1]], np.float32)
TILTED = np.array([[0.9, 0.1, 1], [-0.1, 1, 0], [0.02, 0.01, 1]], np.float32)
SHIFTS = 2 * np.sin(np.arange(8 * 8 * 2, dtype=np.float32)).reshape(8, 8, 2)


def warps(x, fill, **sample):
    """Functions that read between pixels, for floats, or for labels with another sampler."""
    return [
        augment.affine(x, RIGHT @ TILTED, fill=fill, **sample),
        augment.perspective(x, TILTED, size=(7, 9), fill=fill, **sample),
        augment.affine(x, TILTED, border=augment.borders.edge, **sample),
        augment.elastic(x, SHIFTS, fill=fill, **sample),
    ]


def members(x, fill):
    """The other geometry, each with all that it takes."""
    return [
        augment.rotate(x, degrees=33.0, fill=fill),
        augment.translate(x, x=1.4, y=-2.0, fill=fill),
        augment.scale(x, x=1.3, y=0.7, fill=fill),
        augment.shear(x, x=0.3, y=0.1, fill=fill),
        augment.random_rotate(KEY, x, degrees=40.0, fill=fill),
        augment.random_affine(KEY, x, degrees=30.0, shift=2.0, scale=0.3, shear=0.2, fill=fill),
        augment.random_perspective(KEY, x, distortion=0.6, fill=fill),
        augment.random_elastic(KEY, x, strength=9.0, sigma=1.0, radius=2, fill=fill),
    ]


def moves(x, fill):
    """Functions that read whole pixels, from labels and floats alike."""
    either = augment.one_of(lambda key, x: x, lambda key, x: augment.flip_up_down(x))
    return [
        augment.random_flip_left_right(KEY, x, probability=0.5),
        augment.random_rot90(KEY, x),
        augment.random_crop(KEY, x, size=(5, 6)),
        augment.center_crop(x, size=(3, 4)),
        augment.pad(x, width=(1, 0, 2, 1), fill=fill),
        augment.pad(x, width=2, border=augment.borders.reflect),
        augment.random_cutout(KEY, x, height=3, width=2, fill=fill),
        augment.random_erasing(KEY, x, probability=1.0, fill=fill),
        augment.random_grid_mask(KEY, x, spacing=(3.0, 4.0), share=0.5, fill=fill),
        augment.sequence(either, augment.with_probability(either, probability=0.5))(KEY, x),
    ]


@first_of("lead", [(3,), (), (2, 3)], ids=str)
@first_of("dtype", ["uint8", "bool", "int16", "int32"])
def test_labels_go_through_all_of_the_geometry(dtype, lead):
    """As floats that are read at the nearest pixels do, in their own dtype; NumPy arrays, too."""
    number, fill = (2, 1) if dtype == "bool" else (5, 9)
    whole = np.random.default_rng(0).integers(0, number, (*lead, 8, 8, 1))
    labels = whole.astype(dtype)
    floats = whole.astype(np.float32)

    @jax.jit
    def run():
        same = [*warps(labels, fill), *moves(labels, fill)]
        expected = [*warps(floats, fill, sample=augment.sampling.nearest), *moves(floats, fill)]
        sizes = (augment.resize(labels, size=(5, 11)), augment.resize(labels, size=(16, 16)))
        crop = augment.random_resized_crop(KEY, labels, size=(5, 7))
        return same, expected, [*members(labels, fill), *sizes, crop]

    same, expected, others = run()
    for y, floats in zip(same, expected, strict=True):
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, floats)
    for y in others:
        assert y.dtype == dtype
        assert set(np.unique(y)) <= {*np.unique(labels), fill}
        assert y.shape[:-3] == lead
    np.testing.assert_array_equal(others[-2], labels.repeat(2, -3).repeat(2, -2))


@pytest.mark.exhaustive
def test_rows_take_numpy_arrays_of_64_bits():
    """JAX has 32 bits: inputs are converted first, and give the results of JAX's arrays."""
    keys = jax.dtypes.prng_key
    rows = [row for row in cases.FUNCTIONS if row.name.startswith("augment.")]
    assert len(rows) > 100
    for row in rows:
        inputs = [a if jnp.issubdtype(a.dtype, keys) else np.asarray(a) for a in row.inputs]
        wide = {np.dtype("float32"): np.float64, np.dtype("int32"): np.int64}
        inputs = [a.astype(wide.get(a.dtype, a.dtype)) if a.ndim else a for a in inputs]
        bound = partial(row.bound, **row.strengths)
        y = jax.eval_shape(lambda bound=bound, own=inputs: bound(*own))
        same = jax.eval_shape(lambda bound=bound, own=row.inputs: bound(*own))
        assert jax.tree.map(str, y) == jax.tree.map(str, same), row.name


@pytest.mark.parametrize(
    ("kind", "call", "message"),
    [
        (
            ValueError,
            lambda: _images.as_pixels(np.zeros((2, 8, 8), np.int32)),
            r"`image` of int32 must have at most 4 channels, .*image\[\.\.\., None\]",
        ),
        (ValueError, lambda: _images.as_pixels(np.zeros((8, 8), bool)), r"add an axis of one"),
        (TypeError, lambda: _images.as_pixels(1j * IMAGE), r"`image` must have a real dtype"),
        (TypeError, lambda: _images.as_pixels([[1]]), r"`image` must be an array, got list"),
        (TypeError, lambda: _images.as_image(np.uint8(IMAGE)), r"augment\.to_float\(image\)"),
        (
            TypeError,
            lambda: _images.as_image(np.int32(IMAGE), "x"),
            r"`x` must have a floating-po",
        ),
        (ValueError, lambda: _images.as_image(IMAGE[0]), r"\[..., height, width, channels\], got"),
        (ValueError, lambda: _images.check_size((2,)), r"`size` must be a pair"),
        (ValueError, lambda: _images.check_size((2, 0)), r"`size` must be positive"),
        (TypeError, lambda: _images.check_size((2, 1.5)), r"`size` must be an integer"),
        (ValueError, lambda: _images.check_fits((10, 12), IMAGE), r"at most the 9 x 12 pixels"),
        (ValueError, lambda: _images.check_fits((9, 13), IMAGE), r"at most the 9 x 12 pixels"),
        (ValueError, lambda: _images.per_example(np.ones(2), "v", NESTED), r"`v` must broadcast"),
        (ValueError, lambda: _mixing.check_partner(IMAGE, IMAGE[:3], "o"), r"`o` must have the s"),
        (
            ValueError,
            lambda: _mixing.check_partner(IMAGE, np.float64(IMAGE), "o"),
            r"`o` must have the same shape, .* and dtype as the array",
        ),
        (ValueError, lambda: _images.check_result(IMAGE[:3], IMAGE), r"keep the shape and dtype"),
        (ValueError, lambda: _images.check_result(np.float64(IMAGE), IMAGE), r"keep the shape"),
    ],
)
def test_wrong_arguments_are_named(kind, call, message):
    with pytest.raises(kind, match=message):
        call()


def test_an_image_just_fits():
    _images.check_fits((9, 12), IMAGE)
    assert _images.check_size([3, 4]) == (3, 4)
    assert _images.check_result(IMAGE, IMAGE) is IMAGE
