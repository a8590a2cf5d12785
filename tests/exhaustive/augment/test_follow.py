"""Marks, boxes and labels of images that are cropped, mirrored, turned and sheared at random."""

import jax
import numpy as np

from jaxreg import augment
from tests.augment.helpers import KEY

SIZE = (48, 64)
THERE = (40, 56)
POINTS = np.array([[30.0, 22.0], [36.5, 20.0], [33.0, 28.0]], np.float32)
NUMBER = 12


def marked(points):
    """An image of bright dots at points in pixels from the corner."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]] + 0.5
    dots = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8) for px, py in points]
    return np.stack(dots, axis=-1).astype(np.float32)


def found(image):
    """The center of mass of each channel, in pixels from the corner."""
    image = np.asarray(image, np.float64)
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]] + 0.5
    mass = image.sum(axis=(0, 1))
    return np.stack([np.tensordot(v, image, 2) / mass for v in (x, y)], axis=-1)


def geometry(images):
    keys = jax.random.split(KEY, 4)
    return augment.matrices.chain(
        augment.matrices.random_window(keys[0], images, size=THERE, scale=(0.7, 1.0)),
        augment.matrices.random_reflection(keys[1], images, probability=0.5),
        augment.matrices.random_rotation(keys[2], images, degrees=25.0),
        augment.matrices.random_shearing(keys[3], images, x=0.2, y=0.1),
    )


def test_keypoints_are_found_on_a_cropped_flipped_rotated_image():
    @jax.jit
    def run(images, points):
        matrix = geometry(images)
        marks = augment.keypoints(points, matrix, image_size=SIZE, size=THERE)
        return augment.affine(images, matrix, size=THERE), marks, matrix

    moved, expected, matrix = run(np.stack([marked(POINTS)] * NUMBER), np.stack([POINTS] * NUMBER))
    inside = 0
    for image, place in zip(moved, np.asarray(expected), strict=True):
        for channel, (x, y) in enumerate(place):
            if 12 < x < 44 and 12 < y < 28:
                inside += 1
                np.testing.assert_allclose(found(image)[channel], (x, y), atol=0.1)
    assert inside > 15
    assert (np.asarray(matrix)[:, 0, 0] < 0).any()
    assert (np.asarray(matrix)[:, 0, 0] > 0).any()


def test_boxes_hold_what_they_held():
    """The pixels of a moved box lie in the moved corners, which they touch for right angles."""
    images = np.zeros((NUMBER, *SIZE, 1), np.float32)
    images[:, 15:31, 20:44] = 1
    corners = np.tile(np.float32([20, 15, 44, 31]), (NUMBER, 1, 1))

    @jax.jit
    def run(images, corners):
        matrix = geometry(images)
        boxes = augment.boxes(corners, matrix, image_size=SIZE, size=THERE)
        return augment.affine(images, matrix, size=THERE), boxes

    moved, boxes = jax.device_get(run(images, corners))
    for image, (left, top, right, bottom) in zip(moved[..., 0] > 0.5, boxes[:, 0], strict=True):
        rows, columns = np.nonzero(image)
        assert columns.min() + 0.5 > left - 0.5
        assert columns.max() + 0.5 < right + 0.5
        assert rows.min() + 0.5 > top - 0.5
        assert rows.max() + 0.5 < bottom + 0.5
        # Rotated by at most 25 degrees and sheared, the corners are cut, the sides are reached.
        assert columns.min() < left + 6
        assert rows.max() > bottom - 6


def test_labels_of_a_threshold_are_those_of_the_thresholded_image():
    """But at its edges."""
    images = np.stack([marked(POINTS)] * 4)
    labels = (images.sum(-1) > 0.3).astype(np.uint8) * 7

    @jax.jit
    def run(images, labels):
        matrix = geometry(images)
        moved = augment.affine_labels(labels, matrix, size=THERE)
        return moved, augment.affine(images, matrix, size=THERE)

    moved, image = jax.device_get(run(images, labels))
    assert moved.dtype == np.uint8
    assert set(np.unique(moved)) == {0, 7}
    assert np.mean((moved == 7) != (image.sum(-1) > 0.3)) < 0.02
