"""Singular values that are softened or clipped, against float64 SVDs, and exact products."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import _matrices, penalties, projections, proximal, reparam
from tests.helpers import few
from tests.normalization.helpers import assert_all_finite, compiled, draw, refuses, with_gradients

W = draw(6, 4)


def spectrum(w, function):
    """The matrix with other singular values, in float64."""
    left, values, right = np.linalg.svd(np.asarray(w, np.float64), full_matrices=False)
    return left * function(values) @ right


def softened(w, t):
    return spectrum(w, lambda s: np.maximum(s - t, 0))


def clipped(w, t):
    return spectrum(w, lambda s: np.minimum(s, t))


OPERATORS = {
    "soften": (_matrices.soften, softened),
    "clip": (partial(_matrices.clip, slack=0.0), clipped),
}
every_operator = pytest.mark.parametrize("name", OPERATORS)


def clip(w, t):
    return _matrices.clip(w, t, 0.0)


OURS = {"soften": _matrices.soften, "clip": clip}


def slope(function, w, t, dy, step=1e-6):
    """Gradients of ``sum(f(w, t) * dy)`` by central differences in float64."""
    of_w = np.zeros(w.shape)
    for index in np.ndindex(*w.shape):
        moved = np.zeros(w.shape)
        moved[index] = step
        difference = function(w + moved, t) - function(w - moved, t)
        of_w[index] = np.sum(difference * dy) / (2 * step)
    return of_w, np.sum((function(w, t + step) - function(w, t - step)) * dy) / (2 * step)


@few("t", [1.5, 0.1, 2.5])
@every_operator
def test_singular_values_and_their_derivatives(name, t):
    """Some values are above the threshold and some below, all, and none."""
    dy, (_, reference) = draw(6, 4, seed=1), OPERATORS[name]
    y, (of_w, of_t) = with_gradients(OURS[name], dy, W, np.float32(t))
    np.testing.assert_allclose(y, reference(W, t), rtol=1e-4, atol=2e-6)
    expected = slope(reference, W.astype(np.float64), t, dy)
    np.testing.assert_allclose(of_w, expected[0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(of_t, expected[1], rtol=1e-3, atol=1e-4)


@every_operator
def test_a_threshold_over_all_values(name):
    t = np.float32(100)
    y, (of_w, of_t) = with_gradients(OURS[name], W, W, t)
    expected = W if name == "clip" else np.zeros_like(W)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(of_w, expected, atol=1e-6)
    assert of_t == 0


@every_operator
def test_repeated_and_vanishing_values_have_finite_derivatives(name):
    """Derivatives of the factors alone would divide by differences of zero."""
    dy = draw(6, 4, seed=1)
    same = np.linalg.qr(W.astype(np.float64))[0].astype(np.float32)
    for w in (2 * same, np.zeros((6, 4), np.float32), W * np.float32([[1, 1, 0, 0]])):
        y, gradients = with_gradients(OURS[name], dy, w, np.float32(0.5))
        np.testing.assert_allclose(y, OPERATORS[name][1](w, 0.5), rtol=1e-4, atol=2e-6)
        assert_all_finite(gradients)
    # Of equal values the derivative turns with the factors: an isometry times 1 - t / s.
    _, (of_w, _) = with_gradients(OURS["soften"], same, 2 * same, np.float32(0.5))
    np.testing.assert_allclose(of_w, same, rtol=1e-3, atol=1e-5)


@every_operator
def test_matrices_of_any_magnitude(name):
    run = jax.jit(OURS[name])
    for size in (1e-30, 1e30):
        w = (W * size).astype(np.float32)
        t = np.float32(1.5 * size)
        expected = OPERATORS[name][1](W, 1.5)
        np.testing.assert_allclose(np.float64(run(w, t)) / size, expected, rtol=1e-4, atol=1e-5)


def test_what_is_within_the_slack_is_not_clipped():
    """The matrix is exactly unchanged, and its derivative is the identity."""
    largest = np.linalg.svd(W.astype(np.float64), compute_uv=False)[0]

    def function(w, t):
        return _matrices.clip(w, t, 0.01)

    for t, is_kept in ((largest / 1.005, True), (largest / 1.02, False)):
        y, (of_w, of_t) = with_gradients(function, W, W, np.float32(t))
        assert np.array_equal(y, W) == is_kept
        assert np.array_equal(of_w, W) == is_kept
        assert (of_t == 0) == is_kept
        np.testing.assert_allclose(y, W if is_kept else clipped(W, t), rtol=1e-4, atol=1e-5)


@every_operator
def test_nothing_stays_nothing(name):
    empty = np.zeros((3, 0), np.float32)
    y, (of_w, _) = with_gradients(OURS[name], empty, empty, np.float32(1))
    assert y.shape == of_w.shape == (3, 0)


def test_second_derivatives_are_right():
    w, dy = W[:4, :2], draw(4, 2, seed=1)

    def gradient(w):
        return jax.grad(lambda w: jnp.sum(_matrices.soften(w, jnp.float32(0.5)) * dy))(w)

    tangent = draw(4, 2, seed=2)
    found = jax.jit(lambda w, dw: jax.jvp(gradient, (w,), (dw,))[1])(w, tangent)
    wide, step = w.astype(np.float64), 1e-3
    low = slope(softened, wide - step * tangent, 0.5, dy, 1e-5)[0]
    high = slope(softened, wide + step * tangent, 0.5, dy, 1e-5)[0]
    np.testing.assert_allclose(found, (high - low) / (2 * step), rtol=2e-3, atol=1e-3)


# Kernels as matrices.


def test_kernels_are_tall_matrices_of_their_outputs():
    w = draw(2, 3, 4)
    rows = compiled(_matrices.tall_matrix, w, axis=-1)
    np.testing.assert_array_equal(rows, w.reshape(6, 4))
    # Outputs 2 and 4 against 3 others: the transpose is tall.
    moved = np.transpose(w, (1, 0, 2)).reshape(3, 8)
    np.testing.assert_array_equal(compiled(_matrices.tall_matrix, w, axis=(0, 2)), moved.T)
    square = draw(3, 3)
    np.testing.assert_array_equal(compiled(_matrices.tall_matrix, square, axis=-1), square)
    narrow = jax.eval_shape(lambda w: _matrices.tall_matrix(w, -1), np.ones((2, 3), np.float16))
    assert narrow.dtype == jnp.float32
    message = r"`w` must have at least two axes, got shape \(3,\); select kernels"
    refuses(ValueError, message, _matrices.tall_matrix, np.ones(3, "f4"), -1)


def test_zero_divided_by_anything_is_zero():
    x = np.array([0.0, 3.0, 0.0], "f4")
    by = np.array([0.0, 2.0, np.nan], "f4")
    y, (of_x, of_by) = with_gradients(_matrices.safe_divide, np.ones(3, "f4"), x, by)
    np.testing.assert_array_equal(y, [0, 1.5, 0])
    assert_all_finite((of_x, of_by[:2]))


KERNEL = jax.ShapeDtypeStruct((6, 4), jnp.float32)
FUNCTIONS = {
    "orthogonality": penalties.orthogonality,
    "spectral": penalties.spectral,
    "nuclear": penalties.nuclear,
    "proximal.nuclear": partial(proximal.nuclear, step=0.3),
    "spectral_ball": partial(projections.spectral_ball, radius=0.7),
    "spectral_norm_vector": lambda w: reparam.spectral_norm_vector(jax.random.key(0), w, steps=3),
    "decorrelation": penalties.decorrelation,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_products_and_their_derivatives_are_exact(name):
    """A TPU, left alone, multiplies in bfloat16.

    A Gram matrix from such products puts an orthonormal matrix at 7e-4 from the identity, in place
    of 3e-11, and moves a spectral norm by 4e-5.
    """
    function = FUNCTIONS[name]
    text = jax.jit(jax.value_and_grad(lambda w: jnp.sum(function(w) ** 2))).lower(KERNEL).as_text()
    lines = [line for line in text.splitlines() if "dot_general" in line]
    assert lines
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in lines), lines
