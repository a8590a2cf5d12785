"""Marks, boxes and labels follow an image: they are found at the right places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import augment

SIZE = (48, 64)
THERE = (40, 56)
POINTS = np.array([[30.0, 22.0], [36.5, 20.0], [33.0, 28.0]], np.float32)
# Mirrored or not, turned, sheared, scaled and moved, about the center of the image.
MATRICES = np.array(
    [
        [[1.1, 0.3, 2.0], [-0.25, 1.0, -1.5], [0, 0, 1]],
        [[-0.9, 0.2, -2.0], [0.15, 1.1, 2.5], [0, 0, 1]],
    ],
    np.float32,
)
TURN = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], np.float32)  # of 90 degrees
AWAY = np.array([[1, 0, -99], [0, 1, 0], [0, 0, 1]], np.float32)
TILTED = np.array([[0.9, 0.05, 1], [-0.08, 0.95, -2], [0.003, -0.002, 1]], np.float32)


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


def moved(points, matrix, here=SIZE, there=SIZE):
    """Points in pixels from the corner, in NumPy."""
    centered = np.concatenate([points - np.array(here[::-1]) / 2, np.ones((len(points), 1))], 1)
    x, y, w = np.asarray(matrix, np.float64) @ centered.T
    return np.stack([x / w, y / w], axis=-1) + np.array(there[::-1]) / 2


def test_keypoints_are_found_on_a_moved_image():
    @jax.jit
    def run(images, points, matrices):
        marks = augment.keypoints(points, matrices, image_size=SIZE, size=THERE)
        return augment.affine(images, matrices, size=THERE), marks

    number = len(MATRICES)
    images, marks = run(np.stack([marked(POINTS)] * number), np.stack([POINTS] * number), MATRICES)
    for image, place, matrix in zip(images, marks, MATRICES, strict=True):
        np.testing.assert_allclose(found(image), place, atol=0.1)
        np.testing.assert_allclose(place, moved(POINTS, matrix, SIZE, THERE), atol=1e-4)


def test_keypoints_follow_a_perspective():
    @jax.jit
    def run(image, points):
        marks = augment.keypoints(points, TILTED, image_size=SIZE)
        return augment.perspective(image, TILTED), marks

    image, marks = run(marked(POINTS), POINTS)
    np.testing.assert_allclose(marks, moved(POINTS, TILTED), atol=1e-4)
    np.testing.assert_allclose(found(image), marks, atol=0.1)


def test_boxes_hold_what_they_held():
    corners = np.array([[20.0, 15.0, 44.0, 31.0], [2.0, 3.0, 30.0, 20.0]], np.float32)
    boxes = jax.jit(lambda c, m: augment.boxes(c, m, image_size=SIZE, size=THERE))
    number = len(MATRICES)
    for matrix, found in zip(MATRICES, boxes(np.stack([corners] * number), MATRICES), strict=True):
        for (left, top, right, bottom), box in zip(corners, found, strict=True):
            sides = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
            x, y = moved(sides, matrix, SIZE, THERE).T
            x = np.clip(x, 0, THERE[1])
            y = np.clip(y, 0, THERE[0])
            np.testing.assert_allclose(box, [x.min(), y.min(), x.max(), y.max()], atol=1e-4)


def test_boxes_follow_a_perspective_up_to_its_horizon():
    """Around the points of their sides that lie before it, of which NumPy moves very many."""
    horizon = TILTED.copy()
    horizon[2] = [0.04, 0.01, 1]  # Behind are the points with 0.04 x + 0.01 y < -1.
    corners = np.array([[20.0, 15.0, 44.0, 31.0], [2.0, 3.0, 40.0, 20.0]], np.float32)
    share = np.linspace(0, 1, 20_001)[:, None]

    @jax.jit
    def run(matrix):
        boxes = augment.boxes(corners, matrix, image_size=SIZE)
        return boxes, augment.keypoints(corners[1:, :2], matrix, image_size=SIZE)

    for matrix in (TILTED, horizon):
        boxes, behind = run(matrix)
        for (left, top, right, bottom), box in zip(corners, boxes, strict=True):
            turn = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
            sides = [a + share * (b - a) for a, b in zip(turn, np.roll(turn, 1, 0), strict=True)]
            points = np.concatenate(sides)
            seen = (points - np.array(SIZE[::-1]) / 2) @ matrix[2, :2] > -1 + 1e-4
            x, y = moved(points[seen], matrix).clip(0, SIZE[::-1]).T
            np.testing.assert_allclose(box, [x.min(), y.min(), x.max(), y.max()], atol=0.05)
    assert np.isnan(behind).all()
    nowhere, _ = run(np.diag(np.float32([1, 1, -1])))
    np.testing.assert_array_equal(nowhere, np.zeros((2, 4)))


def test_labels_follow_a_perspective():
    labels = (marked(POINTS).sum(-1) > 0.3) * np.int16(7)

    @jax.jit
    def run():
        floats = labels[..., None].astype(np.float32)
        options = {"sample": augment.sampling.nearest, "fill": 3.0}
        return (
            augment.affine_labels(labels, TILTED, fill=3),
            augment.perspective(floats, TILTED, **options),
            augment.affine_labels(labels > 0, TILTED),
        )

    followed, expected, masks = run()
    assert followed.dtype == np.int16
    assert masks.dtype == bool
    np.testing.assert_array_equal(followed, expected[..., 0])
    np.testing.assert_array_equal(masks, np.asarray(followed) == 7)


def test_a_mirror_is_torchvisions_of_boxes_and_half_a_pixel_off_that_of_indices():
    """Points count from the corner; albumentations and kornia count pixels, and have W - 1 - x."""
    mirror = np.diag(np.float32([-1, 1, 1]))
    points = np.float32([[10.5, 3.5]])  # The middle of pixel 10 of row 3.
    flipped = jax.jit(lambda p: augment.keypoints(p, mirror, image_size=SIZE))(points)
    np.testing.assert_allclose(flipped, [[SIZE[1] - 10.5, 3.5]])
    indices = points - 0.5
    np.testing.assert_allclose(flipped - 0.5, [[SIZE[1] - 1 - indices[0, 0], 3]])


def test_a_turned_box_touches_its_pixels_and_one_that_has_left_has_no_area():
    image = np.zeros((*SIZE, 1), np.float32)
    image[15:31, 20:44] = 1
    corners = np.array([[20.0, 15.0, 44.0, 31.0]], np.float32)

    @jax.jit
    def run(image, corners):
        turned = augment.boxes(corners, TURN, image_size=SIZE, size=SIZE[::-1])
        away = augment.boxes(corners, AWAY, image_size=SIZE)
        return augment.affine(image, TURN, size=SIZE[::-1]), turned, away

    pixels, turned, away = run(image, corners)
    rows, columns = np.nonzero(np.asarray(pixels)[..., 0] > 0.5)
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(turned[0], expected, atol=1e-4)
    np.testing.assert_allclose(turned[0], [15, 20, 31, 44], atol=1e-4)
    np.testing.assert_allclose(away[0], [0, 15, 0, 31], atol=1e-4)


def test_labels_of_pixels_go_with_the_image():
    """They are what the nearest pixels of an image of the labels are, in their own dtype."""
    labels = ((marked(POINTS).sum(-1) > 0.3) * 7).astype(np.uint8)
    labels = np.stack([labels, labels[::-1]])

    @jax.jit
    def run(labels, images):
        moved = augment.affine_labels(labels, MATRICES, size=THERE)
        same = augment.affine(images, MATRICES, size=THERE, sample=augment.sampling.nearest)
        return moved, same, augment.affine_labels(labels, AWAY, fill=3)

    moved, same, filled = run(labels, labels[..., None].astype(np.float32))
    assert moved.dtype == np.uint8
    assert set(np.unique(moved)) == {0, 7}
    np.testing.assert_array_equal(moved, same[..., 0])
    assert (filled == 3).all()


def test_labels_at_the_border_may_be_repeated():
    labels = np.arange(12).reshape(3, 4)
    right = np.array([[1, 0, 99], [0, 1, 1], [0, 0, 1]], np.float32)
    repeated = jax.jit(lambda x: augment.affine_labels(x, right, border=augment.borders.edge))(
        labels
    )
    np.testing.assert_array_equal(repeated, np.repeat([[0], [0], [4]], 4, axis=1))


def test_dtypes_of_places_are_kept():
    points = np.ones((2, 2), np.float16)
    corners = np.ones((2, 4), np.float16)
    sizes = {"image_size": SIZE}
    for y, shape in (
        (jax.eval_shape(lambda p: augment.keypoints(p, TURN, **sizes), points), (2, 2)),
        (jax.eval_shape(lambda c: augment.boxes(c, TURN, **sizes), corners), (2, 4)),
    ):
        assert (y.shape, y.dtype) == (shape, jnp.float16)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: augment.affine_labels(np.ones(3, int), TURN), r"\[..., height, width\]"),
        (lambda: augment.affine_labels(np.ones((0, 3), int), TURN), r"not empty, got \(0, 3\)"),
        (lambda: augment.keypoints(np.ones((2, 3)), TURN, image_size=(2, 2)), r"`points` must be"),
        (lambda: augment.keypoints(np.ones(2), TURN, image_size=(2, 2)), r"`points` must be"),
        (lambda: augment.boxes(np.ones((2, 2)), TURN, image_size=(2, 2)), r"`corners` must"),
        (lambda: augment.boxes(np.ones(4), TURN, image_size=(2, 2)), r"`corners` must"),
        (lambda: augment.boxes(np.ones((2, 4)), TURN, image_size=(2, 0)), r"`image_size` must be"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
