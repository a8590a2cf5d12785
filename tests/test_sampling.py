"""Bilinear reading by products of matrices, for devices where gathers are slow."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxreg import augment

RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(size=(7, 10, 3))
PLACES = RNG.uniform(-4, 13, (2, 5, 9))
WEIGHTS = RNG.normal(size=(5, 9, 3))
SAMPLERS = [augment.bilinear, augment.bilinear_matmul]


@pytest.mark.parametrize(
    ("border", "mode"),
    [
        (None, "grid-constant"),
        (augment.edge, "nearest"),
        (augment.reflect, "mirror"),
        (augment.wrap, "grid-wrap"),
    ],
)
def test_it_is_scipys_interpolation(border, mode):
    with jax.enable_x64(True):
        image, (y, x) = jnp.asarray(IMAGE), jnp.asarray(PLACES)
        actual = augment.bilinear_matmul(image, x, y, border=border, fill=0.3)
        for channel in range(3):
            expected = ndimage.map_coordinates(
                IMAGE[..., channel], PLACES, order=1, mode=mode, cval=0.3
            )
            np.testing.assert_allclose(actual[..., channel], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("border", [None, augment.reflect])
def test_values_and_gradients_are_those_of_the_gathers(border):
    """Between the pixels, on them, and nowhere; for the image, the places and the filling."""
    x = jnp.float32(PLACES[1]).at[0, :4].set(jnp.array([2.0, -1.0, 9.0, jnp.nan]))
    y = jnp.float32(PLACES[0]).at[0, :4].set(jnp.array([3.0, 0.0, 6.0, 1.5]))
    image, fill = jnp.float32(IMAGE), jnp.array([0.1, -2.0, 0.7])

    def total(sample, image, x, y, fill):
        return jnp.sum(WEIGHTS.astype(np.float32) * sample(image, x, y, fill=fill, border=border))

    for argument in range(1, 5):
        results = [jax.grad(total, argument)(s, image, x, y, fill) for s in SAMPLERS]
        np.testing.assert_allclose(*results, rtol=1e-5, atol=2e-6)
    values = [sample(image, x, y, fill=fill, border=border) for sample in SAMPLERS]
    np.testing.assert_allclose(*values, rtol=0, atol=5e-7)
    np.testing.assert_array_equal(values[1][0, 0], image[3, 2])


def test_with_a_border_nothing_is_filled():
    x, y = jnp.float32(PLACES[1]), jnp.float32(PLACES[0])
    image = jnp.float32(IMAGE)
    results = [s(image, x, y, fill=jnp.nan, border=augment.edge) for s in SAMPLERS]
    np.testing.assert_allclose(*results, rtol=0, atol=5e-7)


def test_a_pixel_that_is_not_finite_spreads():
    image = jnp.zeros((3, 3, 2)).at[2, 2, 0].set(jnp.inf)
    y = augment.bilinear_matmul(image, jnp.zeros((1, 1)), jnp.zeros((1, 1)))
    np.testing.assert_array_equal(y[0, 0], [jnp.nan, 0])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_batches_of_any_rank_in_narrow_dtypes(dtype):
    images = jnp.asarray(np.stack([[IMAGE] * 3, [IMAGE[::-1]] * 3]), dtype)
    x, y = (jnp.broadcast_to(jnp.float32(p), (2, 3, 5, 9)) for p in PLACES[::-1])
    x = x + jnp.arange(3.0)[:, None, None]
    results = [sample(images, x, y) for sample in SAMPLERS]
    assert results[1].dtype == dtype
    one_step = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(*(np.asarray(r, np.float32) for r in results), rtol=one_step)


def test_nothing_to_read_and_nowhere_to_read():
    image, points = jnp.ones((2, 4, 4, 3)), jnp.ones((2, 5, 9))
    assert augment.bilinear_matmul(image[:0], points[:0], points[:0]).shape == (0, 5, 9, 3)
    no_rows, no_columns = points[:, :0], points[..., :0]
    assert augment.bilinear_matmul(image, no_rows, no_rows).shape == (2, 0, 9, 3)
    assert augment.bilinear_matmul(image, no_columns, no_columns).shape == (2, 5, 0, 3)


def gradient_on_a_tpu(sample):
    """The program of the gradient of a rotation, lowered for a TPU."""

    def loss(images, degrees):
        return jnp.sum(augment.affine(images, augment.rotation(degrees), sample=sample) ** 2)

    program = jax.jit(jax.grad(loss, (0, 1)))
    arguments = jnp.ones((4, 16, 16, 3)), jnp.ones(4)
    return jax.export.export(program, platforms=["tpu"])(*arguments).mlir_module()


def test_only_bilinear_gathers():
    gathers, products = (gradient_on_a_tpu(sample) for sample in SAMPLERS)
    assert "stablehlo.gather" in gathers
    assert "stablehlo.scatter" in gathers
    assert "stablehlo.dot_general" not in gathers
    assert "stablehlo.gather" not in products
    assert "stablehlo.scatter" not in products
    assert products.count("stablehlo.dot_general") >= 3  # forward, and for image and weights


def test_products_are_as_precise_as_asked():
    program = gradient_on_a_tpu(augment.bilinear_matmul)
    count = program.count("stablehlo.dot_general")
    assert program.count("precision = [HIGHEST, HIGHEST]") == count
    rough = partial(augment.bilinear_matmul, precision=jax.lax.Precision.DEFAULT)
    assert "HIGHEST" not in gradient_on_a_tpu(rough)


def test_memory_is_that_of_rows():
    """The lines of all rows would be 128 images, and their gradient as much again."""

    def turned(image, degrees):
        return augment.affine(image, augment.rotation(degrees), sample=augment.bilinear_matmul)

    def loss(image, degrees):
        return jnp.sum(turned(image, degrees) ** 2)

    image = jax.ShapeDtypeStruct((128, 128, 8), jnp.float32)
    for function, bound in ((turned, 4), (jax.value_and_grad(loss, (0, 1)), 128 / 8)):
        compiled = jax.jit(function).lower(image, 1.0).compile()
        images = compiled.memory_analysis().temp_size_in_bytes / (4 * image.size)
        print(images)
        assert images < bound


def test_a_policy_takes_it():
    images = jnp.stack([jnp.float32(IMAGE)] * 4)
    policy = partial(
        augment.rand_augment, operations=(augment.operations.ROTATE,), number=1, magnitude=9
    )
    drawn = [policy(jax.random.key(0), images, sample=sample) for sample in SAMPLERS]
    np.testing.assert_allclose(*drawn, rtol=0, atol=1e-6)
    assert (abs(drawn[0] - images).max(axis=(1, 2, 3)) > 0.01).all()
