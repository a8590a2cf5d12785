"""Penalties of groups and neighbors: loops in float64, torch, scikit-learn, and kinks."""

import math
from functools import partial

import jax
import numpy as np
import pytest
from sklearn.linear_model import MultiTaskLasso

from jaxreg import penalties
from tests.arrays import normal
from tests.helpers import few
from tests.penalties import helpers
from tests.penalties.helpers import TORCH, value_and_slope

PENALTIES = {
    "group_lasso": penalties.group_lasso,
    "group_lasso of rows": partial(penalties.group_lasso, axis=-1),
    "total_variation": partial(penalties.total_variation, axis=(0, 1)),
    "isotropic": partial(penalties.isotropic_total_variation, axis=(0, 1)),
}
ROOT = np.sqrt(2)
STEP = [[0.0, 0, 1], [0, 0, 1]]
# Where a penalty has no derivative: the subgradient nearest to zero.
KINKS = {
    "group_lasso": [
        ([[3.0, 0, 0], [4, 0, 0]], [[ROOT * 0.6, 0, 0], [ROOT * 0.8, 0, 0]]),
        (np.zeros((2, 3)), np.zeros((2, 3))),
    ],
    "group_lasso of rows": [([[3.0, 4], [0, 0]], [[ROOT * 0.6, ROOT * 0.8], [0, 0]])],
    "total_variation": [
        (np.ones((2, 3)), np.zeros((2, 3))),
        (STEP, [[0, -1, 1], [0, -1, 1]]),
    ],
    "isotropic": [
        (np.ones((2, 3)), np.zeros((2, 3))),
        (STEP, [[0, -1, 1], [0, -1, 1]]),
    ],
}
every_penalty = pytest.mark.parametrize("name", PENALTIES)


@every_penalty
def test_the_gradient_at_a_kink_is_the_subgradient_nearest_to_zero(name):
    for at, slope in KINKS[name]:
        helpers.assert_slope_at(PENALTIES[name], at, slope)


@pytest.mark.parametrize("name", ["group_lasso", "total_variation", "isotropic"])
def test_sizes_of_1e30_and_its_inverse_are_exact(name):
    helpers.assert_exact_at_any_size(PENALTIES[name])


@every_penalty
def test_float16_does_not_overflow(name):
    helpers.assert_wide_in_float16(PENALTIES[name])


@every_penalty
def test_a_diverged_weight_shows(name):
    helpers.assert_diverged_weights_show(PENALTIES[name])


@every_penalty
def test_empty_arrays_have_penalty_zero(name):
    helpers.assert_empty_arrays_have_penalty_zero(PENALTIES[name])


@every_penalty
def test_integers_and_booleans_raise(name):
    helpers.assert_integers_and_booleans_raise(PENALTIES[name])


@every_penalty
def test_complex_weights_count_by_their_size(name):
    helpers.assert_complex_weights_count_by_their_size(PENALTIES[name])


@pytest.mark.parametrize("name", ["group_lasso", "total_variation"])
def test_values_and_gradients_equal_torch(name):
    expected = TORCH["penalties"][name]
    with jax.enable_x64(True):
        value, slope = value_and_slope(PENALTIES[name])(np.float64(TORCH["w"]))
    np.testing.assert_allclose(value, expected["value"], rtol=1e-13)
    np.testing.assert_allclose(slope, expected["gradient"], rtol=1e-11, atol=1e-12)


# The axis, and the order of axes that brings the groups last.
GROUPS = [(None, (2, 0, 1)), (-1, (0, 1, 2)), ((1, 2), (0, 1, 2)), (0, (1, 2, 0)), ((), (0, 1, 2))]


def test_the_group_lasso_is_a_loop_over_groups():
    w = normal(2, 3, 4)

    @jax.jit
    def values(w):
        return [penalties.group_lasso(w, axis=axis) for axis, _ in GROUPS]

    for value, (axis, order) in zip(values(np.float32(w)), GROUPS, strict=True):
        axes = (0, 1) if axis is None else np.atleast_1d(np.int64(axis)) % 3
        groups = w.transpose(order).reshape(-1, math.prod(w.shape[a] for a in axes))
        expected = sum(math.sqrt(len(g)) * math.sqrt(math.fsum(g**2)) for g in groups)
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_the_group_lasso_is_the_mixed_norm_of_the_multi_task_lasso():
    # Optimality of scikit-learn's solution: its penalty lacks the root of the number of tasks.
    x = normal(40, 5)
    y = normal(40, 3, seed=1)
    alpha = 0.2
    w = MultiTaskLasso(alpha, fit_intercept=False, tol=1e-12).fit(x, y).coef_.T
    selected = (w != 0).all(axis=1)
    assert 0 < selected.sum() < 5
    with jax.enable_x64(True):
        _, slope = value_and_slope(PENALTIES["group_lasso of rows"])(w)
        slope = np.asarray(slope)
    slope = x.T @ (x @ w - y) / len(y) + alpha * slope / math.sqrt(3)
    assert np.abs(slope[selected]).max() < 1e-6
    assert np.linalg.norm(slope[~selected], axis=1).max() <= alpha


def test_total_variations_are_loops_over_neighbors():
    x = normal(2, 4, 3, 2)
    each, lengths = [], []
    for n, i, j, c in np.ndindex(x.shape):
        down = x[n, i + 1, j, c] - x[n, i, j, c] if i < 3 else 0.0
        right = x[n, i, j + 1, c] - x[n, i, j, c] if j < 2 else 0.0
        each.append(abs(down) + abs(right))
        lengths.append(math.hypot(down, right))

    @jax.jit
    def values(x):
        anisotropic = penalties.total_variation(x, axis=(1, 2))
        return anisotropic, penalties.isotropic_total_variation(x, axis=(2, -3))

    anisotropic, isotropic = values(np.float32(x))
    np.testing.assert_allclose(anisotropic, math.fsum(each), rtol=1e-6)
    np.testing.assert_allclose(isotropic, math.fsum(lengths), rtol=1e-6)


ALONG = {
    name: jax.jit(partial(getattr(penalties, name), axis=0))
    for name in ("total_variation", "isotropic_total_variation")
}
along_one_axis = pytest.mark.parametrize("name", ALONG)


@along_one_axis
def test_total_variations_of_one_axis_are_the_fused_lasso(name):
    w = normal(9)
    value = ALONG[name](np.float32(w))
    np.testing.assert_allclose(value, np.abs(np.diff(w)).sum(), rtol=1e-6)
    assert ALONG[name](np.ones(1, np.float32)) == 0


@few("name", ALONG)
def test_neighbors_in_float16_do_not_overflow(name):
    x = np.array([6e4, -6e4], np.float16)
    np.testing.assert_allclose(ALONG[name](x), 120_000, rtol=1e-6)


@along_one_axis
def test_wrong_axes_are_named(name):
    penalty = getattr(penalties, name)
    x = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"`axis` must name at least one axis, got \(\)"):
        penalty(x, axis=())
    with pytest.raises(ValueError, match=r"`axis` must lie in \[-2, 2\), got 2"):
        penalty(x, axis=(0, 2))
    with pytest.raises(ValueError, match=r"`axis` must lie in \[-2, 2\), got -3"):
        penalties.group_lasso(x, axis=-3)
