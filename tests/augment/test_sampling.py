"""Sampling: SciPy's interpolation by gathers and by products, borders, points that are nowhere."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxreg import augment
from jaxreg.augment import borders, sampling
from tests.augment.helpers import assert_rounded_once

RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(size=(7, 10, 3))
PLACES = RNG.uniform(-4, 13, (2, 5, 9))
WEIGHTS = RNG.normal(size=(5, 9, 3)).astype(np.float32)
SAMPLERS = [sampling.bilinear, sampling.bilinear_matmul]
BORDERS = {
    "grid-constant": None,
    "nearest": borders.edge,
    "mirror": borders.reflect,
    "grid-wrap": borders.wrap,
}
SINGLE = IMAGE.astype(np.float32)
ROWS, COLUMNS = PLACES.astype(np.float32)


def test_interpolation_is_scipys():
    with jax.enable_x64(True):
        read = jax.jit(
            lambda image, x, y: [
                [s(image, x, y, border=b, fill=0.3) for s in SAMPLERS] for b in BORDERS.values()
            ]
        )
        results = read(IMAGE, PLACES[1], PLACES[0])
    for both, mode in zip(results, BORDERS, strict=True):
        for channel in range(3):
            expected = ndimage.map_coordinates(
                IMAGE[..., channel], PLACES, order=1, mode=mode, cval=0.3
            )
            for actual in both:
                np.testing.assert_allclose(actual[..., channel], expected, rtol=0, atol=1e-12)


def test_the_nearest_pixel_is_scipys():
    read = jax.jit(
        lambda image, x, y: [
            sampling.nearest(image, x, y, border=b, fill=0.3) for b in BORDERS.values()
        ]
    )
    for y, mode in zip(read(SINGLE, COLUMNS, ROWS), BORDERS, strict=True):
        for channel in range(3):
            expected = ndimage.map_coordinates(
                SINGLE[..., channel], PLACES, order=0, mode=mode, cval=0.3
            )
            np.testing.assert_array_equal(y[..., channel], np.float32(expected))


def test_halves_between_pixels_go_up():
    index, inside = jax.jit(lambda p: sampling.nearest_index(p, 4, None))(
        np.array([-0.6, -0.5, 0.49, 0.5, 3.4, 3.5], np.float32)
    )
    np.testing.assert_array_equal(inside, [False, True, True, True, True, False])
    np.testing.assert_array_equal(index, [0, 0, 0, 1, 3, 3])


@pytest.mark.parametrize("mode", ["grid-constant", "mirror"])
def test_values_and_gradients_of_products_are_those_of_gathers(mode):
    """Between the pixels, on them, and nowhere; for the image, the places and the filling."""
    x = COLUMNS.copy()
    y = ROWS.copy()
    x[0, :4] = [2.0, -1.0, 9.0, np.nan]
    y[0, :4] = [3.0, 0.0, 6.0, 1.5]
    fill = np.array([0.1, -2.0, 0.7], np.float32)

    @jax.jit
    def run(image, x, y, fill):
        def total(arguments, sample):
            image, x, y, fill = arguments
            value = sample(image, x, y, fill=fill, border=BORDERS[mode])
            return jnp.sum(WEIGHTS * value), value

        both = partial(jax.value_and_grad, has_aux=True)
        return [both(partial(total, sample=s))((image, x, y, fill)) for s in SAMPLERS]

    results = run(SINGLE, x, y, fill)
    (_, value), gradient = results[0]
    (_, other), slope = results[1]
    np.testing.assert_allclose(other, value, rtol=0, atol=5e-7)
    np.testing.assert_array_equal(other[0, 0], SINGLE[3, 2])
    for one, same in zip(gradient, slope, strict=True):
        np.testing.assert_allclose(same, one, rtol=1e-5, atol=2e-6)


def test_with_a_border_nothing_is_filled():
    read = jax.jit(
        lambda *a: [s(*a, fill=jnp.nan, border=borders.edge) for s in (*SAMPLERS, sampling.nearest)]
    )
    for y in read(SINGLE, COLUMNS, ROWS):
        assert np.isfinite(y).all()


def test_coordinates_that_are_nowhere_read_the_filling():
    image = np.ones((3, 3, 1), np.float32)
    nowhere = np.array([[np.nan, np.inf, -np.inf, 1e20, -1e20]], np.float32)
    samplers = (*SAMPLERS, sampling.nearest)

    @jax.jit
    def read(image, x):
        ones = jnp.ones_like(x)
        filled = [s(image, x, ones, fill=-2.0) for s in samplers]
        return filled, [s(image, x, ones, border=borders.edge) for s in samplers]

    filled, repeated = read(image, nowhere)
    for y, same in zip(filled, repeated, strict=True):
        assert (y == -2).all()
        assert (same == 1).all()


def test_a_pixel_that_is_not_finite_spreads():
    image = np.zeros((3, 3, 2), np.float32)
    image[2, 2, 0] = np.inf
    here = np.zeros((1, 1), np.float32)
    y = jax.jit(sampling.bilinear_matmul)(image, here, here)
    np.testing.assert_array_equal(y[0, 0], [np.nan, 0])


def test_batches_of_any_rank_are_rounded_once():
    images = np.stack([[IMAGE] * 3, [IMAGE[::-1]] * 3])
    x = np.broadcast_to(COLUMNS, (2, 3, 5, 9)) + np.arange(3.0, dtype=np.float32)[:, None, None]
    y = np.broadcast_to(ROWS, x.shape)
    for sample in SAMPLERS:
        assert_rounded_once(lambda image, s=sample: s(image, x, y), images)


def test_nothing_to_read_and_nowhere_to_read():
    image = np.ones((2, 4, 4, 3), np.float32)
    points = np.ones((2, 5, 9), np.float32)
    for sample in SAMPLERS:
        none = jax.eval_shape(sample, image[:0], points[:0], points[:0])
        assert none.shape == (0, 5, 9, 3)
        for nowhere, shape in ((points[:, :0], (2, 0, 9, 3)), (points[..., :0], (2, 5, 0, 3))):
            assert jax.eval_shape(sample, image, nowhere, nowhere).shape == shape
            assert jax.jit(sample)(image, nowhere, nowhere).size == 0


def gradient_on_a_tpu(sample):
    """The program of the gradient of a rotation, lowered for a TPU."""

    def loss(images, degrees):
        return jnp.sum(
            augment.affine(images, augment.matrices.rotation(degrees), sample=sample) ** 2
        )

    program = jax.jit(jax.grad(loss, (0, 1)))
    images = jax.ShapeDtypeStruct((4, 16, 16, 3), "float32")
    degrees = np.ones(4, np.float32)
    return jax.export.export(program, platforms=["tpu"])(images, degrees).mlir_module()


def test_only_bilinear_gathers_and_products_are_as_precise_as_asked():
    gathers = gradient_on_a_tpu(sampling.bilinear)
    products = gradient_on_a_tpu(sampling.bilinear_matmul)
    assert "stablehlo.gather" in gathers
    assert "stablehlo.scatter" in gathers
    assert "stablehlo.dot_general" not in gathers
    assert "stablehlo.gather" not in products
    assert "stablehlo.scatter" not in products
    count = products.count("stablehlo.dot_general")
    assert count >= 3  # forward, and for image and weights
    assert products.count("precision = [HIGHEST, HIGHEST]") == count
    rough = partial(sampling.bilinear_matmul, precision=jax.lax.Precision.DEFAULT)
    assert "HIGHEST" not in gradient_on_a_tpu(rough)


def test_memory_is_that_of_rows():
    """The lines of all rows would be 128 images, and their gradient as much again."""

    def turned(image, degrees):
        return augment.affine(
            image, augment.matrices.rotation(degrees), sample=sampling.bilinear_matmul
        )

    def loss(image, degrees):
        return jnp.sum(turned(image, degrees) ** 2)

    image = jax.ShapeDtypeStruct((128, 128, 8), jnp.float32)
    for function, bound in ((turned, 4), (jax.value_and_grad(loss, (0, 1)), 128 / 8)):
        compiled = jax.jit(function).lower(image, 1.0).compile()
        images = compiled.memory_analysis().temp_size_in_bytes / (4 * image.size)
        assert images < bound


@pytest.mark.parametrize("sample", [*SAMPLERS, sampling.nearest])
def test_wrong_arguments_are_named(sample):
    image = np.ones((9, 12, 3), np.float32)
    points = np.ones((2, 2), np.float32)
    for arguments, message in (
        ((image, points[0], points), r"`x` must be of shape"),
        ((image, points, points[None]), r"`y` must be of shape"),
        ((image[:0], points, points), r"`image` must have at least one pixel"),
    ):
        with pytest.raises(ValueError, match=message):
            sample(*arguments)
    with pytest.raises(ValueError, match=r"`fill` must broadcast to shape \(3,\)"):
        jax.eval_shape(partial(sample, fill=np.ones(2, np.float32)), image, points, points)
