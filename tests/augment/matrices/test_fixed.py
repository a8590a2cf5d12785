"""Matrices: their entries in NumPy, products that compose, corners that go where they should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.augment import matrices
from jaxreg.augment.matrices import fixed

CORNERS = np.array([[-5.0, -3.5], [4.0, -4.0], [5.5, 3.0], [-4.5, 4.5]], np.float32)
# The corners of an image of 9 by 12 pixels, in the order of those above.
OWN = np.array([[-6, -4.5, 1], [6, -4.5, 1], [6, 4.5, 1], [-6, 4.5, 1]])


def test_entries_are_those_of_the_formulas():
    a = np.array([33.0, -70.0], np.float32)
    b = np.array([1.5, -0.25], np.float32)

    @jax.jit
    def built(a, b):
        named = (matrices.translation, matrices.scaling, matrices.shearing)
        return matrices.rotation(a), [matrix(a, b) for matrix in named]

    rotation, (translation, scaling, shearing) = built(a, b)
    for i in range(2):
        angle = np.deg2rad(a[i].astype(np.float64))
        # Counterclockwise to the eye, where y points down: the right goes up.
        expected = [[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0]]
        np.testing.assert_allclose(rotation[i], [*expected, [0, 0, 1]], atol=1e-6)
        np.testing.assert_array_equal(translation[i], [[1, 0, a[i]], [0, 1, b[i]], [0, 0, 1]])
        np.testing.assert_array_equal(scaling[i], [[a[i], 0, 0], [0, b[i], 0], [0, 0, 1]])
        np.testing.assert_array_equal(shearing[i], [[1, a[i], 0], [b[i], 1, 0], [0, 0, 1]])


def test_a_window_covers_the_result():
    """Its corners, in pixels from the center of the image, go to those of the result."""
    top = np.array([1.0, 2.5], np.float32)
    left = np.array([3.0, 0.5], np.float32)
    height = np.array([6.0, 5.0], np.float32)
    width = np.array([8.0, 4.0], np.float32)
    window = jax.jit(lambda *w: matrices.window(*w, image_size=(9, 12), size=(11, 13)))
    matrix = np.asarray(window(top, left, height, width))
    for one, y, x, h, w in zip(matrix, top, left, height, width, strict=True):
        corners = np.array([[x - 6, y - 4.5, 1], [x + w - 6, y + h - 4.5, 1]])
        expected = [[-6.5, -5.5, 1], [6.5, 5.5, 1]]
        np.testing.assert_allclose(corners @ one.T, expected, atol=1e-5)
        assert one[0, 1] == one[1, 0] == 0


def test_a_quadrilateral_moves_the_corners_there():
    other = CORNERS[::-1] * np.float32(0.7) + np.float32(0.3)
    call = jax.jit(lambda corners: matrices.quadrilateral(corners, size=(9, 12)))
    for matrix, corners in zip(call(np.stack([CORNERS, other])), (CORNERS, other), strict=True):
        moved = OWN @ np.asarray(matrix, np.float64).T
        np.testing.assert_allclose(moved[:, :2] / moved[:, 2:], corners, atol=1e-5)
        assert matrix[2, 2] == 1


def test_a_chain_is_a_product_from_the_right():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 4, 3, 3)).astype(np.float32)
    third = rng.normal(size=(3, 3)).astype(np.float32)
    chained = jax.jit(matrices.chain)(first, second, third)
    expected = np.matmul(third, np.matmul(second, first, dtype=np.float64))
    np.testing.assert_allclose(chained, expected, atol=1e-5)
    np.testing.assert_array_equal(matrices.chain(third), third)


def test_the_adjugate_is_the_inverse_times_the_determinant():
    matrix = np.random.default_rng(1).normal(size=(5, 3, 3))
    expected = np.linalg.inv(matrix) * np.linalg.det(matrix)[:, None, None]
    actual = jax.jit(fixed.adjugate)(matrix.astype(np.float32))
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_points_are_moved_in_homogeneous_coordinates():
    matrix = np.random.default_rng(1).normal(size=(5, 3, 3)).astype(np.float32)
    x, y = np.random.default_rng(2).normal(size=(2, 5, 2, 4)).astype(np.float32)
    points = np.stack([x, y, np.ones_like(x)])
    expected = np.einsum("nij,jnab->inab", matrix, points)
    np.testing.assert_allclose(jax.jit(fixed.move_points)(matrix, x, y), expected, atol=1e-5)


def test_entries_are_of_single_precision_unless_an_array_is_double():
    with jax.enable_x64(True):
        double = np.float64([1.5, 2.0])
        half = np.float16([0.5, 1.5])
        # Integers and Python numbers do not widen.
        for arguments, dtype in (
            ((double, 1), jnp.float64),
            ((half, 0.5), jnp.float32),
            ((half, double), jnp.float64),
            ((0.5, 3), jnp.float32),
            ((np.int32([1, 2]), 0.5), jnp.float32),
        ):
            shape = np.broadcast_shapes(*map(np.shape, arguments))
            for matrix in (
                matrices.translation,
                matrices.scaling,
                matrices.shearing,
            ):
                y = jax.eval_shape(lambda m=matrix, a=arguments: m(*a))
                assert (y.shape, y.dtype) == ((*shape, 3, 3), dtype)
        precise = matrices.rotation(np.float64(1e-9) * np.ones(1))
        np.testing.assert_allclose(precise[0, 0, 1], np.deg2rad(1e-9), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: matrices.quadrilateral(np.ones((3, 2)), size=(2, 2)),
            r"`corners` must be",
        ),
        (lambda: matrices.quadrilateral(CORNERS, size=2), r"`size` must be a pair"),
        (
            lambda: matrices.window(0, 0, 1, 1, image_size=(0, 2), size=(2, 2)),
            r"`image_size` must be positive, got \(0, 2\)",
        ),
        (
            lambda: matrices.window(0, 0, 1, 1, image_size=(2, 2), size=(2, 0)),
            r"`size` must be positive, got \(2, 0\)",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
