"""Whole pipelines: the same on eight devices, differentiable in strict modes, empty batches."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxreg import augment
from tests.augment.helpers import IMAGE, KEY

PIPELINE = augment.sequence(
    partial(augment.random_affine, degrees=15.0, shift=2.0, scale=0.2),
    augment.one_of(
        partial(augment.random_cutout, height=3, width=3),
        augment.with_probability(partial(augment.random_rotate, degrees=9.0), probability=0.5),
    ),
    partial(augment.random_color_jitter, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1),
    augment.for_each(lambda key, x: x * jax.random.uniform(key)),
)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_a_pipeline_is_the_same_on_eight_devices(kind):
    images = 0.5 + 0.4 * jnp.sin(jnp.arange(16.0 * 8 * 6 * 3)).reshape(16, 8, 6, 3)
    expected = jax.jit(PIPELINE)(KEY, images)
    mesh = jax.make_mesh((8,), ("device",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        sharded = jax.device_put(images, NamedSharding(mesh, PartitionSpec("device")))
        y = jax.jit(PIPELINE)(KEY, sharded)
        assert y.sharding.is_equivalent_to(sharded.sharding, 4)
    np.testing.assert_allclose(y, expected, atol=2e-6)


def moved_and_recolored(key, images):
    keys = jax.random.split(key, 4)
    matrix = augment.matrices.chain(
        augment.matrices.random_window(keys[0], images, size=(6, 10)),
        augment.matrices.random_rotation(keys[1], images, degrees=15.0),
    )
    images = augment.affine(images, matrix)
    images = augment.random_color_jitter(keys[2], images, contrast=0.2, hue=0.1)
    return jnp.sum(augment.random_elastic(keys[3], images, strength=1.0, sigma=1.0, radius=2))


@pytest.mark.parametrize("bits", [32, 64])
def test_gradients_in_strict_modes(bits):
    images = jax.random.uniform(jax.random.key(1), (3, 6, 10, 3))
    with (
        jax.enable_x64(bits == 64),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.check_tracer_leaks(True),
    ):
        for dtype in (jnp.float32, jnp.float64)[: bits // 32]:
            gradient = jax.jit(jax.grad(moved_and_recolored, argnums=1))
            result = gradient(jax.random.key(0), images.astype(dtype))
            assert result.dtype == dtype
            assert jnp.isfinite(result).all()


RANDOM = {
    "flip_left_right": partial(augment.random_flip_left_right, probability=0.5),
    "flip_up_down": partial(augment.random_flip_up_down, probability=0.5),
    "rot90": augment.random_rot90,
    "rotate": partial(augment.random_rotate, degrees=30.0),
    "translate": partial(augment.random_translate, x=3.0, y=3.0),
    "scale": partial(augment.random_scale, x=0.3, y=0.3),
    "shear": partial(augment.random_shear, x=0.3, y=0.3),
    "perspective": partial(augment.random_perspective, distortion=0.5),
    "crop": partial(augment.random_crop, size=(4, 5)),
    "resized_crop": partial(augment.random_resized_crop, size=(4, 5)),
    "elastic": partial(augment.random_elastic, strength=4.0, sigma=1.0, radius=3),
    "brightness": partial(augment.random_brightness, amount=0.5),
    "cutout": partial(augment.random_cutout, height=2, width=2),
    "policy": partial(augment.rand_augment, magnitude=25),
}


@pytest.mark.parametrize("name", RANDOM)
def test_each_example_has_a_draw_of_its_own_and_one_key_one_result(name):
    images = np.stack([IMAGE[:, :9]] * 16)
    y = np.asarray(jax.jit(RANDOM[name])(KEY, images))
    assert len({image.tobytes() for image in y}) >= (2 if "flip" in name else 3)
    again = np.asarray(jax.jit(RANDOM[name])(KEY, images))
    np.testing.assert_array_equal(y, again)


@pytest.mark.parametrize("name", RANDOM)
def test_an_empty_batch_stays_empty(name):
    y = jax.jit(RANDOM[name])(KEY, np.zeros((0, 9, 9, 3), np.float32))
    assert y.shape[0] == 0
