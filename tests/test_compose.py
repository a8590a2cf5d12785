"""Composition, and what follows an image: marks of a moved image are found where they should be."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxreg import augment
from tests.helpers import assert_rate

KEY = jax.random.key(80)
SIZE = (48, 64)


def marked(points):
    """An image of bright dots at points in pixels from the corner."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]] + 0.5
    dots = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8) for px, py in points]
    return jnp.asarray(np.stack(dots, axis=-1), jnp.float32)


def found(image):
    """The centre of mass of each channel, in pixels from the corner."""
    image = np.asarray(image, np.float64)
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]] + 0.5
    mass = image.sum(axis=(0, 1))
    return np.stack([np.tensordot(v, image, 2) / mass for v in (x, y)], axis=-1)


POINTS = np.array([[30.0, 22.0], [36.5, 20.0], [33.0, 28.0]])


def geometry(images):
    keys = jax.random.split(KEY, 4)
    return augment.chain(
        augment.random_window(keys[0], images, size=(40, 56), scale=(0.7, 1.0)),
        augment.random_reflection(keys[1], images, probability=0.5),
        augment.random_rotation(keys[2], images, degrees=25.0),
        augment.random_shearing(keys[3], images, x=0.2, y=0.1),
    )


@pytest.mark.slow
def test_keypoints_are_found_on_a_cropped_flipped_rotated_image():
    images = jnp.stack([marked(POINTS)] * 12)
    matrix = geometry(images)
    moved = augment.affine(images, matrix, size=(40, 56))
    points = jnp.asarray(np.stack([POINTS] * 12), jnp.float32)
    expected = augment.keypoints(points, matrix, image_size=SIZE, size=(40, 56))
    inside = 0
    for image, place in zip(moved, expected, strict=True):
        for channel, (x, y) in enumerate(place):
            if 12 < x < 44 and 12 < y < 28:
                inside += 1
                np.testing.assert_allclose(found(image)[channel], (x, y), atol=0.1)
    assert inside > 15
    assert (np.asarray(matrix)[:, 0, 0] < 0).any()
    assert (np.asarray(matrix)[:, 0, 0] > 0).any()


def test_keypoints_follow_a_perspective():
    corners = jnp.array([[-30.0, -20.0], [28.0, -23.0], [31.0, 20.0], [-29.0, 22.0]])
    matrix = augment.quadrilateral(corners, size=SIZE)
    moved = augment.perspective(marked(POINTS), matrix)
    expected = augment.keypoints(jnp.asarray(POINTS, jnp.float32), matrix, image_size=SIZE)
    np.testing.assert_allclose(found(moved), expected, atol=0.1)


def test_boxes_hold_what_they_held():
    """The pixels of a moved box lie in the moved corners, which they touch for right angles."""
    images = jnp.zeros((12, *SIZE, 1)).at[:, 15:31, 20:44].set(1.0)
    corners = jnp.tile(jnp.array([20.0, 15.0, 44.0, 31.0]), (12, 1, 1))
    matrix = geometry(images)
    moved = np.asarray(augment.affine(images, matrix, size=(40, 56)))[..., 0] > 0.5
    boxes = np.asarray(augment.boxes(corners, matrix, image_size=SIZE, size=(40, 56)))[:, 0]
    for image, (left, top, right, bottom) in zip(moved, boxes, strict=True):
        rows, columns = np.nonzero(image)
        assert columns.min() + 0.5 > left - 0.5
        assert columns.max() + 0.5 < right + 0.5
        assert rows.min() + 0.5 > top - 0.5
        assert rows.max() + 0.5 < bottom + 0.5
        # Rotated by at most 25 degrees and sheared, the corners are cut, the sides are reached.
        assert columns.min() < left + 6
        assert rows.max() > bottom - 6
    turned = augment.boxes(corners, augment.rotation(90.0), image_size=SIZE, size=SIZE[::-1])
    np.testing.assert_allclose(turned[0, 0], [15, 20, 31, 44], atol=1e-4)


def test_a_box_that_has_left_has_no_area():
    box = augment.boxes(
        jnp.array([[2.0, 3.0, 5.0, 7.0]]), augment.translation(-30.0, 0.0), image_size=(10, 10)
    )
    np.testing.assert_allclose(box, [[0, 3, 0, 7]])


@pytest.mark.slow
def test_labels_of_pixels_go_with_the_image():
    """Labels of a threshold are those of the thresholded image, but at its edges."""
    images = jnp.stack([marked(POINTS)] * 4)
    labels = (images.sum(-1) > 0.3).astype(jnp.uint8) * 7
    matrix = geometry(images)
    moved = augment.affine_labels(labels, matrix, size=(40, 56))
    assert moved.dtype == jnp.uint8
    assert set(np.unique(moved)) == {0, 7}
    expected = augment.affine(images, matrix, size=(40, 56)).sum(-1) > 0.3
    assert np.mean(np.asarray(moved == 7) != np.asarray(expected)) < 0.02
    same = augment.affine(labels[..., None].astype(jnp.float32), matrix, size=(40, 56),
                          sample=augment.nearest)  # fmt: skip
    np.testing.assert_array_equal(moved, same[..., 0])
    repeated = augment.affine_labels(
        labels[:, 20:24, 30:34], augment.translation(99.0, 0.0), border=augment.edge
    )
    np.testing.assert_array_equal(repeated[..., 0], labels[:, 20:24, 30])
    filled = augment.affine_labels(labels, augment.translation(99.0, 0.0), fill=3)
    assert (filled == 3).all()


def test_a_sequence_gives_each_its_own_key():
    images = jnp.full((50, 2, 2, 1), 0.5)
    twice = augment.sequence(*[partial(augment.random_brightness, amount=0.5)] * 2)
    y = np.asarray(twice(KEY, images))[:, 0, 0, 0] / 0.5
    # With one key for both, the square root would be a factor of at least 1/2 and at most 3/2.
    first, second = jax.random.split(KEY)
    expected = augment.random_brightness(first, images, amount=0.5)
    expected = augment.random_brightness(second, expected, amount=0.5)
    np.testing.assert_allclose(y, np.asarray(expected)[:, 0, 0, 0] / 0.5, rtol=1e-6)


def test_chances_are_met_for_each_example_and_apart_from_the_parameters():
    """augmax draws the chance and the angle from one key: its angles never are positive."""
    images = jnp.full((4000, 1, 1, 1), 0.5)
    some = augment.with_probability(partial(augment.random_brightness, amount=0.5), probability=0.3)
    y = np.asarray(some(KEY, images)).ravel()
    changed = y != 0.5
    assert_rate(changed.mean(), 0.3, 4000)
    np.testing.assert_allclose(y[changed].mean(), 0.5, atol=5 * 0.25 / 3**0.5 / 1200**0.5)
    assert y[changed].min() < 0.27
    assert y[changed].max() > 0.73


def test_one_of_some_has_the_same_chance():
    images = jnp.zeros((6000, 1, 1, 1))
    either = augment.one_of(*[lambda key, x, i=i: x + i for i in range(3)])
    y = np.asarray(either(KEY, images)).ravel()
    for i in range(3):
        assert_rate((y == i).mean(), 1 / 3, 6000)
    assert (augment.one_of(lambda key, x: x + 2)(KEY, images) == 2).all()


def test_shapes_have_to_be_kept_where_results_are_chosen_from():
    crop = partial(augment.random_crop, size=(2, 2))
    for composed in (augment.with_probability(crop, probability=0.5), augment.one_of(crop, crop)):
        with pytest.raises(ValueError, match=r"`function` must keep the shape and dtype"):
            composed(KEY, jnp.ones((3, 4, 4, 1)))


def test_for_each_maps_a_function_of_one_image():
    images = jnp.zeros((5, 2, 2, 1))
    labels = jnp.arange(5.0)
    y = augment.for_each(lambda key, x, label: x + label)(KEY, images, labels)
    np.testing.assert_array_equal(y[:, 0, 0, 0], labels)
    noisy = augment.for_each(lambda key, x: x + jax.random.uniform(key))(KEY, images)
    assert len(np.unique(noisy)) == 5


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
@pytest.mark.slow
def test_a_pipeline_is_the_same_on_eight_devices(kind):
    images = 0.5 + 0.4 * jnp.sin(jnp.arange(16.0 * 8 * 6 * 3)).reshape(16, 8, 6, 3)
    expected = jax.jit(PIPELINE)(KEY, images)
    mesh = jax.make_mesh((8,), ("device",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        sharded = jax.device_put(images, NamedSharding(mesh, PartitionSpec("device")))
        y = jax.jit(PIPELINE)(KEY, sharded)
        assert y.sharding.is_equivalent_to(sharded.sharding, 4)
    np.testing.assert_allclose(y, expected, atol=2e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: augment.affine_labels(jnp.ones(3, int), jnp.eye(3)), r"\[..., height, width\]"),
        (
            lambda: augment.keypoints(jnp.ones((2, 3)), jnp.eye(3), image_size=(2, 2)),
            r"`points`",
        ),
        (lambda: augment.boxes(jnp.ones((2, 2)), jnp.eye(3), image_size=(2, 2)), r"`corners` must"),
        (lambda: augment.with_probability(None, probability=2.0), r"`probability` must be"),
    ],
)
def test_what_cannot_be_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
