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
    weights = jnp.float32(RNG.normal(size=(5, 9, 3)))
    image, fill = jnp.float32(IMAGE), jnp.array([0.1, -2.0, 0.7])

    def total(sample, image, x, y, fill):
        return jnp.sum(weights * sample(image, x, y, fill=fill, border=border))

    for argument in range(1, 5):
        results = [jax.grad(total, argument)(s, image, x, y, fill) for s in SAMPLERS]
        np.testing.assert_allclose(*results, rtol=1e-5, atol=2e-6)
    values = [sample(image, x, y, fill=fill, border=border) for sample in SAMPLERS]
    np.testing.assert_allclose(*values, rtol=0, atol=5e-7)
    np.testing.assert_array_equal(values[1][0, 0], image[3, 2])


def test_batches_of_any_rank_and_narrow_dtypes():
    images = jnp.asarray(np.stack([[IMAGE] * 3, [IMAGE[::-1]] * 3]), jnp.bfloat16)
    x, y = (jnp.broadcast_to(jnp.float32(p), (2, 3, 5, 9)) for p in PLACES[::-1])
    x = x + jnp.arange(3.0)[:, None, None]
    results = [sample(images, x, y) for sample in SAMPLERS]
    assert results[1].dtype == jnp.bfloat16
    np.testing.assert_array_equal(*(np.asarray(r, np.float32) for r in results))
    empty = augment.bilinear_matmul(images[:, :0], x[:, :0], y[:, :0])
    assert empty.shape == (2, 0, 5, 9, 3)


@pytest.mark.parametrize("sample", SAMPLERS)
def test_only_the_gathers_gather(sample):
    """Neither in the program of a TPU nor, as scatters, in that of its gradient."""
    images = jnp.ones((4, 16, 16, 3))

    def loss(images, degrees):
        matrix = augment.rotation(degrees)
        return jnp.sum(augment.affine(images, matrix, sample=sample) ** 2)

    program = jax.jit(jax.grad(loss, (0, 1)))
    text = jax.export.export(program, platforms=["tpu"])(images, jnp.ones(4)).mlir_module()
    gathers = text.count("stablehlo.gather") + text.count("stablehlo.scatter")
    assert (gathers > 0) == (sample is augment.bilinear)
    assert text.count("stablehlo.dot_general") == text.count("precision = [HIGHEST, HIGHEST]")


def test_memory_is_that_of_rows():
    """All pixels at once would take 64 MB for an image, and 64 MB more for its gradient."""

    def loss(image, degrees):
        turned = augment.affine(image, augment.rotation(degrees), sample=augment.bilinear_matmul)
        return jnp.sum(turned**2)

    image = jax.ShapeDtypeStruct((128, 128, 8), jnp.float32)
    compiled = jax.jit(jax.value_and_grad(loss)).lower(image, 1.0).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 8 * image.size * 4


def test_a_policy_takes_it():
    images = jnp.float32(RNG.uniform(size=(4, 8, 8, 3)))
    policy = partial(
        augment.rand_augment, operations=(augment.operations.ROTATE,), number=1, magnitude=9
    )
    drawn = [policy(jax.random.key(0), images, sample=sample) for sample in SAMPLERS]
    np.testing.assert_allclose(*drawn, rtol=0, atol=1e-6)
    assert (abs(drawn[0] - images).max(axis=(1, 2, 3)) > 0.01).all()
