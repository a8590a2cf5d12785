"""Steps of policies: their order, what each device computes, and the number of traces."""

import collections
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import ndimage

from jaxreg import augment
from jaxreg.augment import operations, steps
from tests.augment.helpers import FLOAT, KEY
from tests.helpers import few

IMAGES = 0.5 + 0.4 * np.sin(np.arange(40.0 * 6 * 5 * 3, dtype=np.float32)).reshape(40, 6, 5, 3)
TURN = operations.ROTATE._replace(signed=False)
SHIFT = operations.TRANSLATE_X._replace(signed=False)
LIGHT = operations.BRIGHTNESS._replace(signed=False)


def turned(image, pixels=0):
    """Turned by 10 degrees and then moved, filled with 0.3, by SciPy."""
    cos = np.cos(np.deg2rad(10))
    sin = np.sin(np.deg2rad(10))
    back = np.array([[cos, sin], [-sin, cos]])  # rows first
    center = (np.array(image.shape[:2]) - 1) / 2
    offset = center - back @ (center + np.array([0, pixels]))
    channels = [
        ndimage.affine_transform(c, back, offset, order=1, mode="grid-constant", cval=0.3)
        for c in np.moveaxis(image, -1, 0)
    ]
    return np.stack(channels, axis=-1)


def lit(image):
    return np.clip(1.3 * image, 0, 1)


@few("steps", [(TURN, LIGHT), (LIGHT, TURN), (TURN, SHIFT), (LIGHT, TURN, LIGHT)])
def test_steps_come_in_order_and_two_geometries_are_one(steps):
    policy = [[augment.Step(one, 1.0, 3) for one in steps]]
    options = {"policy": policy, "fill": 0.3, "sample": augment.sampling.bilinear}
    y = jax.jit(partial(augment.auto_augment, **options))(KEY, FLOAT[None])
    expected = FLOAT.astype(np.float64)
    if SHIFT in steps:
        expected = turned(expected, pixels=int(150 / 331 / 3 * 18))
    else:
        for one in steps:
            expected = turned(expected) if one is TURN else lit(expected)
    np.testing.assert_allclose(y[0], expected, atol=1e-5)


def test_strengths_run_from_low_to_high_and_end_there():
    ranges = [
        augment.Operation(None, low=-2.0, high=4.0, signed=signed) for signed in (False, True)
    ]

    @jax.jit
    def strengths(x, level, sign):
        return steps.choose(x, ranges, jnp.zeros(4, jnp.int32), level, sign).strengths

    level = np.float32([0, 0.25, 1.5, -0.5])
    sign = np.float32([1, -1, -1, 1])
    plain, signed = strengths(IMAGES[:4], level, sign)
    np.testing.assert_allclose(plain, [-2, -0.5, 4, -2], atol=1e-6)
    np.testing.assert_allclose(signed, [-2, 0.5, -4, -2], atol=1e-6)


def test_all_steps_at_once_are_those_in_turn():
    """A batch of a mesh runs every operation on all examples, and selects."""
    policy = [
        [augment.Step(TURN, 0.5, 3), augment.Step(LIGHT, 0.5, 3)],
        [augment.Step(LIGHT, 0.5, 9), augment.Step(SHIFT, 0.5, 6)],
    ]
    run = jax.jit(partial(augment.auto_augment, policy=policy, sample=augment.sampling.bilinear))
    expected = run(KEY, IMAGES)
    mesh = jax.make_mesh((8,), ("device",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        sharded = jax.device_put(IMAGES, NamedSharding(mesh, PartitionSpec("device")))
        y = run(KEY, sharded)
    np.testing.assert_allclose(y, expected, atol=2e-6)
    assert 4 < (abs(np.asarray(y) - IMAGES).max((1, 2, 3)) > 1e-3).sum() < 40


def counting(counts, name, value):
    """An operation that fills an image with a value, and counts each example that it gets."""

    def function(image, strength):
        jax.debug.callback(lambda size: counts.update({name: int(size)}), strength.size)
        return jnp.full_like(image, value)

    return operations.Operation(function)


def test_the_cpu_computes_only_what_is_chosen():
    counts = collections.Counter()
    chosen = [counting(counts, name, name / 8) for name in range(1, 5)]
    run = jax.jit(lambda key, x: augment.rand_augment(key, x, operations=chosen, number=1))
    cpu = jax.devices("cpu")[0]
    y = jax.block_until_ready(run(*jax.device_put((KEY, IMAGES), cpu)))
    jax.effects_barrier()
    values, numbers = np.unique(np.asarray(y)[:, 0, 0, 0], return_counts=True)
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


@pytest.mark.exhaustive
def test_a_mesh_of_one_device_is_as_good_as_none():
    few_of = (operations.ROTATE, operations.COLOR)
    run = jax.jit(partial(augment.rand_augment, operations=few_of, number=1))
    expected = run(KEY, IMAGES)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((1,), ("device",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            placed = jax.device_put(IMAGES, NamedSharding(mesh, PartitionSpec("device")))
            y = run(KEY, placed)
        np.testing.assert_allclose(y, expected, atol=2e-6)


def test_operations_that_cannot_be_hashed_are_named():
    class Unhashable:
        __hash__ = None  # pyright: ignore[reportAssignmentType]

        def __call__(self, image, strength):
            return image

    unhashable = partial(augment.rand_augment, operations=[operations.Operation(Unhashable())])
    with pytest.raises(TypeError, match=r"`operations` must contain hashable functions"):
        jax.eval_shape(unhashable, KEY, IMAGES)


# Its subject is a call without jit, each of whose operations is a program.
@pytest.mark.programs(48)
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


@pytest.mark.exhaustive
def test_one_image_alone_is_that_of_a_batch_of_one():
    few_of = (operations.ROTATE, operations.INVERT)

    @jax.jit
    def run(images):
        mix = partial(augment.rand_augment, KEY, operations=few_of, number=1)
        turn = partial(mix, operations=few_of[:1])
        nested = turn(images.reshape(5, 8, *images.shape[1:]))
        return mix(images[0]), mix(images[:1])[0], nested, turn(images)

    alone, of_one, nested, flat = run(IMAGES)
    np.testing.assert_allclose(alone, of_one, atol=1e-6)
    np.testing.assert_allclose(np.reshape(nested, IMAGES.shape), flat, atol=1e-6)
    none = partial(augment.rand_augment, operations=few_of)
    assert jax.eval_shape(none, KEY, IMAGES[:0]).shape == (0, 6, 5, 3)


def test_operations_may_read_by_products():
    policy = partial(augment.rand_augment, operations=(operations.ROTATE,), number=1, magnitude=9)
    samplers = augment.sampling.bilinear, augment.sampling.bilinear_matmul
    one, other = jax.jit(lambda x: [policy(KEY, x, sample=s) for s in samplers])(IMAGES[:4])
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    assert (abs(np.asarray(one) - IMAGES[:4]).max(axis=(1, 2, 3)) > 0.01).all()
