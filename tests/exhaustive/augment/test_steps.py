"""Steps of policies under ``shard_map``: draws and arguments that differ between devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from jaxreg import augment
from jaxreg.augment import operations

KEY = jax.random.key(91)
IMAGES = 0.5 + 0.4 * jnp.sin(jnp.arange(40.0 * 6 * 5 * 3)).reshape(40, 6, 5, 3)


def spread(function):
    """A function that runs on four devices, whose results are one after the other."""
    mesh = jax.make_mesh((4,), ("device",), axis_types=(AxisType.Auto,))
    specs = {"in_specs": PartitionSpec(), "out_specs": PartitionSpec("device")}
    return jax.jit(jax.shard_map(function, mesh=mesh, **specs))


def test_a_replicated_image_may_have_draws_of_each_device():
    def own(image):
        key = jax.random.fold_in(KEY, jax.lax.axis_index("device"))
        return augment.rand_augment(key, image, magnitude=20)

    image = IMAGES[:3]
    y = spread(own)(image)
    for device, part in enumerate(jnp.split(y, 4)):
        key = jax.random.fold_in(KEY, device)
        np.testing.assert_allclose(
            part, jax.jit(augment.rand_augment)(key, image, magnitude=20), atol=2e-6
        )
    assert len({part.tobytes() for part in np.split(np.asarray(y), 4)}) == 4


@pytest.mark.parametrize("varying", ["image", "magnitude", "fill"])
def test_any_argument_may_differ_between_devices(varying):
    """With operations that look at none of it."""
    blank = operations.Operation(lambda image, strength: jnp.zeros(image.shape, image.dtype))

    def own(image):
        index = jax.lax.axis_index("device").astype(jnp.float32)
        image = image * (1 + index) / 8 if varying == "image" else image
        options = {"magnitude": 1 + index} if varying == "magnitude" else {}
        options |= {"fill": index / 8} if varying == "fill" else {}
        return augment.rand_augment(
            KEY, image, operations=[blank, operations.INVERT], number=1, **options
        )

    y = np.asarray(spread(own)(IMAGES)).reshape(4, *IMAGES.shape)
    blank_ones = (y == 0).all(axis=(0, 2, 3, 4))
    assert 0 < blank_ones.sum() < len(IMAGES)
    scale = np.ones((4, 1, 1, 1, 1))
    if varying == "image":
        scale = np.arange(1, 5).reshape(4, 1, 1, 1, 1) / 8
    expected = 1 - scale * np.asarray(IMAGES)
    np.testing.assert_allclose(y[:, ~blank_ones], expected[:, ~blank_ones], atol=1e-6)


def test_one_image_alone_is_that_of_a_batch_of_one_in_a_whole_policy():
    run = jax.jit(augment.rand_augment)
    for key in jax.random.split(KEY, 8):
        np.testing.assert_allclose(run(key, IMAGES[0]), run(key, IMAGES[:1])[0], atol=1e-6)
    assert run(KEY, IMAGES[:0]).shape == (0, *IMAGES.shape[1:])
    y = run(KEY, IMAGES.reshape(5, 8, *IMAGES.shape[1:]))
    np.testing.assert_allclose(y.reshape(IMAGES.shape), run(KEY, IMAGES), atol=1e-6)
