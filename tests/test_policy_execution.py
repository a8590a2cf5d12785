"""How policies are carried out: what is computed where, on which devices, and how often traced."""

import collections
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxreg import augment
from jaxreg.augment import operations

KEY = jax.random.key(91)
IMAGES = 0.5 + 0.4 * jnp.sin(jnp.arange(40.0 * 6 * 5 * 3)).reshape(40, 6, 5, 3)


def counting(counts, name, value):
    """An operation that fills an image with a value, and counts each example that it gets."""

    def function(image, strength):
        jax.debug.callback(lambda size: counts.update({name: int(size)}), strength.size)
        return jnp.full_like(image, value)

    return operations.Operation(function)


def test_a_processor_computes_what_is_chosen_and_no_more():
    counts = collections.Counter()
    chosen = [counting(counts, name, name / 8) for name in range(1, 5)]
    run = jax.jit(lambda key, x: augment.rand_augment(key, x, operations=chosen, number=1))
    processor = jax.devices("cpu")[0]
    y = jax.block_until_ready(run(*jax.device_put((KEY, IMAGES), processor)))
    jax.effects_barrier()
    values, numbers = np.unique(y[:, 0, 0, 0], return_counts=True)
    assert counts == dict(zip((8 * values).astype(int).tolist(), numbers.tolist(), strict=True))
    assert len(counts) == 4
    assert counts.total() == len(IMAGES)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_devices_have_no_loop_over_examples(platform):
    def lowered(platform):
        chosen = (operations.ROTATE, operations.SHARPNESS, operations.COLOR)
        run = jax.jit(partial(augment.rand_augment, operations=chosen))
        return jax.export.export(run, platforms=[platform])(KEY, IMAGES).mlir_module()

    assert "stablehlo.while" in lowered("cpu")
    assert "stablehlo.while" not in lowered(platform)


@pytest.mark.slow
def test_a_replicated_image_may_have_draws_of_each_device():
    mesh = jax.make_mesh((4,), ("device",), axis_types=(AxisType.Auto,))

    def own(image):
        key = jax.random.fold_in(KEY, jax.lax.axis_index("device"))
        return augment.rand_augment(key, image, magnitude=20)

    image = IMAGES[:3]
    spread = jax.shard_map(
        own, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec("device")
    )
    y = jax.jit(spread)(image)
    for device, part in enumerate(jnp.split(y, 4)):
        key = jax.random.fold_in(KEY, device)
        np.testing.assert_allclose(
            part, jax.jit(augment.rand_augment)(key, image, magnitude=20), atol=2e-6
        )
    assert len({part.tobytes() for part in np.split(np.asarray(y), 4)}) == 4


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_a_mesh_of_one_device_is_as_good_as_none(kind):
    expected = jax.jit(augment.rand_augment)(KEY, IMAGES)
    mesh = jax.make_mesh((1,), ("device",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        placed = jax.device_put(IMAGES, NamedSharding(mesh, PartitionSpec("device")))
        y = jax.jit(augment.rand_augment)(KEY, placed)
    np.testing.assert_allclose(y, expected, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("varying", ["image", "magnitude", "fill"])
def test_what_differs_between_devices_may_be_any_argument(varying):
    """With operations that look at none of it."""
    mesh = jax.make_mesh((4,), ("device",), axis_types=(AxisType.Auto,))
    blank = operations.Operation(lambda image, strength: jnp.zeros(image.shape, image.dtype))

    def own(image):
        index = jax.lax.axis_index("device").astype(jnp.float32)
        image = image * (1 + index) / 8 if varying == "image" else image
        options = {"magnitude": 1 + index} if varying == "magnitude" else {}
        options |= {"fill": index / 8} if varying == "fill" else {}
        return augment.rand_augment(
            KEY, image, operations=[blank, operations.INVERT], number=1, **options
        )

    spread = jax.shard_map(
        own, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec("device")
    )
    y = jax.jit(spread)(IMAGES).reshape(4, *IMAGES.shape)
    blank_ones = (np.asarray(y) == 0).all(axis=(0, 2, 3, 4))
    assert 0 < blank_ones.sum() < len(IMAGES)
    scale = (
        np.arange(1, 5).reshape(4, 1, 1, 1, 1) / 8
        if varying == "image"
        else np.ones((4, 1, 1, 1, 1))
    )
    expected = 1 - scale * np.asarray(IMAGES)
    np.testing.assert_allclose(y[:, ~blank_ones], expected[:, ~blank_ones], atol=1e-6)


def test_operations_that_cannot_be_hashed_are_named():
    class Unhashable:
        __hash__ = None

        def __call__(self, image, strength):
            return image

    with pytest.raises(TypeError, match=r"`operations` must hold functions that can be hashed"):
        augment.rand_augment(KEY, IMAGES, operations=[operations.Operation(Unhashable())])


def test_without_jit_a_policy_is_traced_once_though_its_ranges_change():
    traces = []

    def function(image, strength):
        traces.append(strength.shape)
        return augment.brightness(image, factor=1 + strength)

    seen = []
    for key, high in zip(jax.random.split(KEY, 3), (0.1, 0.05, 0.02), strict=True):
        light = operations.Operation(function, high=high)
        y = augment.rand_augment(key, IMAGES, operations=[light], magnitude=30, number=1)
        np.testing.assert_allclose(y, (1 + high) * IMAGES, rtol=1e-6)
        seen.append(len(traces))
    assert seen[0] > 0
    assert seen == [seen[0]] * 3


@pytest.mark.slow
def test_one_image_alone_is_that_of_a_batch_of_one():
    run = jax.jit(augment.rand_augment)
    for key in jax.random.split(KEY, 8):
        np.testing.assert_allclose(run(key, IMAGES[0]), run(key, IMAGES[:1])[0], atol=1e-6)
    assert run(KEY, IMAGES[:0]).shape == (0, *IMAGES.shape[1:])
    y = run(KEY, IMAGES.reshape(5, 8, *IMAGES.shape[1:]))
    np.testing.assert_allclose(y.reshape(IMAGES.shape), run(KEY, IMAGES), atol=1e-6)


def test_a_traced_magnitude_beyond_the_last_is_the_last():
    run = jax.jit(lambda magnitude: augment.rand_augment(KEY, IMAGES, magnitude=magnitude))
    np.testing.assert_array_equal(run(45.0), run(30.0))
    np.testing.assert_array_equal(run(-3.0), run(0.0))
