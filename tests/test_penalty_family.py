"""What each penalty says: its equation in float64 NumPy, torch's figures, and what it is for."""

import json
import math
import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.test_util import check_grads

from jaxreg import masks, penalties

TORCH = json.loads(
    (pathlib.Path(__file__).parent / "references" / "penalties_torch.json").read_text()
)
OURS = {
    "group_lasso": penalties.group_lasso,
    "elastic_net": partial(penalties.elastic_net, l1=0.3, l2=0.7),
    "orthogonality": penalties.orthogonality,
    "spectral": penalties.spectral,
    "nuclear": penalties.nuclear,
    "decorrelation": penalties.decorrelation,
    "total_variation": partial(penalties.total_variation, axis=(0, 1)),
    "hard_concrete_l0": penalties.hard_concrete_l0,
}


def weights(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def float32(x):
    return jnp.asarray(x, jnp.float32)


@pytest.mark.parametrize("name", TORCH["penalties"])
@pytest.mark.slow
def test_values_and_gradients_equal_torch(name):
    expected, penalty = TORCH["penalties"][name], OURS[name]
    value, slope = jax.value_and_grad(penalty)(float32(TORCH["w"]))
    np.testing.assert_allclose(value, expected["value"], rtol=1e-6)
    np.testing.assert_allclose(slope, expected["gradient"], rtol=2e-5, atol=2e-6)
    with jax.enable_x64(True):
        value, slope = jax.value_and_grad(penalty)(jnp.asarray(TORCH["w"], jnp.float64))
        np.testing.assert_allclose(value, expected["value"], rtol=1e-13)
        np.testing.assert_allclose(slope, expected["gradient"], rtol=1e-11, atol=1e-12)


def test_torch_takes_another_subgradient_where_the_rank_is_deficient():
    # A swap for ones, and the identity for zeros; ours are [[.5, .5], [.5, .5]] and zeros.
    ones, zeros = (np.asarray(TORCH["kinks"][f"nuclear at {k}"]) for k in ("rank one", "zero"))
    for theirs, at in ((ones, jnp.ones((2, 2))), (zeros, jnp.zeros((2, 2)))):
        ours = jax.grad(penalties.nuclear)(at)
        assert np.linalg.norm(ours) < np.linalg.norm(theirs) - 0.1


# Elementwise.


def test_elastic_net_is_the_weighted_sum():
    w = weights(5, 4)
    expected = 0.3 * np.abs(w).sum() + 0.7 * (w**2).sum() / 2
    value = jax.jit(lambda a, b: penalties.elastic_net(float32(w), l1=a, l2=b))(0.3, 0.7)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert penalties.elastic_net(float32(w), l1=0.0, l2=1.0) == penalties.l2(float32(w))
    assert penalties.elastic_net(float32(w), l1=1.0, l2=0.0) == penalties.l1(float32(w))
    assert penalties.elastic_net(jnp.full(3, 1e30), l1=0.0, l2=0.0) == 0


def test_elastic_net_weighs_weights_by_themselves():
    w, l1, l2 = weights(5, 4), np.linspace(0, 1, 4), np.linspace(1, 0, 5)[:, None]
    expected = (l1 * np.abs(w)).sum() + (l2 * w**2).sum() / 2
    value = penalties.elastic_net(float32(w), l1=float32(l1), l2=float32(l2))
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_elastic_net_is_that_of_scikit_learn():
    # Optimality of scikit-learn's solution: 0 is a subgradient of its loss and our penalty.
    from sklearn.linear_model import ElasticNet

    x, y = weights(30, 6), weights(30, seed=1)
    alpha, ratio = 0.1, 0.4
    w = ElasticNet(alpha=alpha, l1_ratio=ratio, fit_intercept=False, tol=1e-12).fit(x, y).coef_
    assert 0 < (w == 0).sum() < 6

    def loss(w):
        penalty = penalties.elastic_net(w, l1=alpha * ratio, l2=alpha * (1 - ratio))
        return jnp.sum((y - x @ w) ** 2) / (2 * len(y)) + penalty

    with jax.enable_x64(True):
        slope = np.asarray(jax.grad(loss)(jnp.asarray(w)))
    assert np.abs(slope[w != 0]).max() < 1e-8
    assert np.abs(slope[w == 0]).max() <= alpha * ratio


def test_distance_of_one_array():
    w, start = weights(5, 4), weights(5, 4, seed=1)
    value, slopes = jax.value_and_grad(penalties.distance, (0, 1))(float32(w), float32(start))
    np.testing.assert_allclose(value, ((w - start) ** 2).sum() / 2, rtol=1e-6)
    np.testing.assert_allclose(slopes[0], w - start, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slopes[1], start - w, rtol=1e-5, atol=1e-6)


def test_distance_from_a_start_of_another_dtype():
    # In bfloat16 256 and 257 are one number.
    w, start = jnp.full(3, 256.0, jnp.bfloat16), jnp.full(3, 257.0, jnp.float32)
    with jax.numpy_dtype_promotion("strict"):
        value = penalties.distance(w, start)
    assert (float(value), value.dtype) == (1.5, jnp.float32)


def test_distance_raises_for_a_start_that_does_not_fit():
    w = jnp.ones((2, 3))
    with pytest.raises(ValueError, match=r"`start` must have the shape of `w`, \(2, 3\), got \(3"):
        penalties.distance(w, jnp.ones(3))
    with pytest.raises(TypeError, match=r"`start` must have a floating-point dtype, got int32"):
        penalties.distance(w, jnp.ones((2, 3), jnp.int32))


def test_distance_of_a_tree_that_is_fine_tuned():
    start = {"body": {"kernel": float32(weights(3, 4))}, "steps": jnp.array(7)}
    params = {"body": {"kernel": start["body"]["kernel"] + 1}, "steps": jnp.array(9)}
    total = jax.jit(lambda p: penalties.total(p, penalties.distance, masks.kernels, rest=(start,)))
    np.testing.assert_allclose(total(params), 12 / 2, rtol=1e-6)
    assert total(start) == 0
    with pytest.raises(ValueError, match=r"`rest\[0\]` must have the tree structure of `params`"):
        penalties.total(params, penalties.distance, rest=(start["body"],))


# Groups and neighbours.


def test_group_lasso_is_a_loop_over_groups():
    w = weights(2, 3, 4)
    for axis, order in ((None, (2, 0, 1)), (-1, (0, 1, 2)), ((1, 2), (0, 1, 2)), (0, (1, 2, 0))):
        axes = (0, 1) if axis is None else np.atleast_1d(axis) % 3
        groups = w.transpose(order).reshape(-1, math.prod(w.shape[a] for a in axes))
        expected = sum(math.sqrt(len(g)) * math.sqrt(math.fsum(g**2)) for g in groups)
        value = penalties.group_lasso(float32(w), axis=axis)
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_group_lasso_of_groups_of_one_is_l1():
    w = float32(weights(3, 4))
    np.testing.assert_allclose(penalties.group_lasso(w, axis=()), penalties.l1(w), rtol=1e-6)


def test_group_lasso_is_the_mixed_norm_of_the_multi_task_lasso():
    # Optimality of scikit-learn's solution: its penalty lacks the root of the number of tasks.
    from sklearn.linear_model import MultiTaskLasso

    x, y = weights(40, 5), weights(40, 3, seed=1)
    alpha = 0.2
    w = MultiTaskLasso(alpha, fit_intercept=False, tol=1e-12).fit(x, y).coef_.T
    selected = (w != 0).all(axis=1)
    assert 0 < selected.sum() < 5

    def loss(w):
        penalty = penalties.group_lasso(w, axis=-1) / math.sqrt(3)
        return jnp.sum((y - x @ w) ** 2) / (2 * len(y)) + alpha * penalty

    with jax.enable_x64(True):
        slope = np.asarray(jax.grad(loss)(jnp.asarray(w)))
    assert np.abs(slope[selected]).max() < 1e-6
    assert np.linalg.norm(slope[~selected], axis=1).max() <= alpha


def test_total_variation_is_a_loop_over_neighbours():
    x = weights(2, 4, 3, 2)
    each, lengths = [], []
    for n, i, j, c in np.ndindex(x.shape):
        down = x[n, i + 1, j, c] - x[n, i, j, c] if i < 3 else 0.0
        right = x[n, i, j + 1, c] - x[n, i, j, c] if j < 2 else 0.0
        each.append(abs(down) + abs(right))
        lengths.append(math.hypot(down, right))
    value = penalties.total_variation(float32(x), axis=(1, 2))
    np.testing.assert_allclose(value, math.fsum(each), rtol=1e-6)
    value = penalties.isotropic_total_variation(float32(x), axis=(2, -3))
    np.testing.assert_allclose(value, math.fsum(lengths), rtol=1e-6)


def test_total_variations_of_one_axis_are_the_fused_lasso():
    w = weights(9)
    for penalty in (penalties.total_variation, penalties.isotropic_total_variation):
        value = penalty(float32(w), axis=0)
        np.testing.assert_allclose(value, np.abs(np.diff(w)).sum(), rtol=1e-6)
        assert penalty(jnp.ones(1), axis=0) == 0


def test_neighbours_in_float16_do_not_overflow():
    x = jnp.array([6e4, -6e4], jnp.float16)
    np.testing.assert_allclose(penalties.total_variation(x, axis=0), 120_000, rtol=1e-6)


# Matrices.


def matrix(w, outputs):
    others = [a for a in range(w.ndim) if a not in outputs]
    rows = math.prod(w.shape[a] for a in others)
    return w.transpose(*others, *outputs).reshape(rows, -1)


LAYOUTS = [((7, 4), -1), ((4, 7), -1), ((3, 3, 2, 5), -1), ((6, 2, 4), (-2, -1)), ((2, 5, 3), 1)]
every_layout = pytest.mark.parametrize(("shape", "axis"), LAYOUTS, ids=str)


@every_layout
def test_singular_values_are_those_of_scipy(shape, axis):
    w = weights(*shape)
    values = scipy.linalg.svdvals(matrix(w, np.atleast_1d(axis) % len(shape)))
    for penalty, expected in ((penalties.spectral, values[0]), (penalties.nuclear, values.sum())):
        np.testing.assert_allclose(penalty(float32(w), axis=axis), expected, rtol=1e-6)


@every_layout
def test_orthogonality_takes_the_smaller_gram_matrix(shape, axis):
    w = weights(*shape)
    m = matrix(w, np.atleast_1d(axis) % len(shape))
    columns, rows = m.T @ m, m @ m.T
    expected = ((columns - np.eye(len(columns))) ** 2).sum()
    other = ((rows - np.eye(len(rows))) ** 2).sum()
    value = float(penalties.orthogonality(float32(w), axis=axis))
    np.testing.assert_allclose(value, min(expected, other), rtol=1e-5)
    # The double form of the paper is twice ours and a constant.
    constant = abs(len(rows) - len(columns))
    np.testing.assert_allclose(expected + other, 2 * value + constant, rtol=1e-5)


def test_orthogonality_is_zero_at_orthonormal_rows_and_columns():
    q = np.linalg.qr(weights(7, 4))[0]
    for w in (q, q.T):
        assert penalties.orthogonality(float32(w)) < 1e-11
    rotation = scipy.linalg.expm(np.array([[0, 1j], [1j, 0]]))
    assert penalties.orthogonality(jnp.asarray(rotation, jnp.complex64)) < 1e-11


def test_spectral_has_the_gradient_of_the_first_pair():
    w = weights(6, 4)
    left, _, right = np.linalg.svd(w)
    slope = jax.grad(penalties.spectral)(float32(w))
    np.testing.assert_allclose(slope, np.outer(left[:, 0], right[0]), atol=2e-6)


def test_spectral_is_exact_where_a_power_iteration_is_slow():
    # With a gap of 1 percent twenty steps of power iteration leave a third of the second vector.
    left, right = (np.linalg.qr(weights(30, 30, seed=s))[0] for s in (0, 1))
    w = left * np.r_[1.0, 0.99, np.linspace(0.5, 0, 28)] @ right
    value, slope = jax.value_and_grad(penalties.spectral)(float32(w))
    np.testing.assert_allclose(value, 1, rtol=1e-6)
    np.testing.assert_allclose(slope, np.outer(left[:, 0], right[0]), atol=1e-4)


def test_spectral_takes_the_mean_of_values_that_are_equal_up_to_rounding():
    # As those of the orthogonal initializer: the gradient of one pair would be noise.
    q = float32(2 * np.linalg.qr(weights(30, 20))[0])
    assert len(np.unique(np.linalg.svd(np.float64(q))[1])) > 1
    value, slope = jax.value_and_grad(penalties.spectral)(q)
    np.testing.assert_allclose(value, 2, rtol=1e-6)
    np.testing.assert_allclose(slope, q / 2 / 20, atol=1e-6)


def test_nuclear_pulls_to_low_rank():
    w = weights(6, 4)
    slope = jax.grad(penalties.nuclear)(float32(w))
    np.testing.assert_allclose(slope, scipy.linalg.polar(w)[0], atol=1e-5)
    low = weights(6, 2) @ weights(2, 4, seed=1)
    slope = np.asarray(jax.grad(penalties.nuclear)(float32(low)))
    np.testing.assert_allclose(np.linalg.svd(slope)[1], [1, 1, 0, 0], atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 3), (3, 5)], ids=str)
@pytest.mark.slow
def test_second_derivatives_where_singular_values_repeat(shape):
    # All singular values are 1: the nuclear norm is smooth there, and JAX's rule gives NaN.
    with jax.enable_x64(True):
        w = jnp.eye(*shape)
        check_grads(jax.jit(penalties.nuclear), (w,), order=2, modes=("fwd", "rev"))
        naive = jax.hessian(lambda w: jnp.linalg.svd(w, compute_uv=False).sum())(w)
        assert not np.isfinite(naive).all()


@pytest.mark.slow
def test_second_derivatives_along_matrices_of_one_rank():
    with jax.enable_x64(True):
        a, b = (jnp.asarray(weights(*s, seed=s[0])) for s in ((6, 2), (2, 5)))
        for penalty in (penalties.nuclear, penalties.spectral):
            product = jax.jit(lambda a, b, p=penalty: p(a @ b))
            check_grads(product, (a, b), order=2, modes=("fwd", "rev"))


def cayley(skew):
    """A rotation."""
    one = jnp.eye(len(skew))
    return jnp.linalg.solve(one - skew, one + skew)


@pytest.mark.slow
def test_the_mean_of_repeated_largest_values_has_second_derivatives():
    # Along matrices that keep the two largest values equal: rotations of one with a third one.
    with jax.enable_x64(True):
        turn = jnp.asarray(weights(2, 5, 5))
        diagonal = jnp.diag(jnp.array([2.0, 2.0, 1.0, 0.5, 0.0]))

        def value(t):
            left, right = (cayley(t * (q - q.T)) for q in turn)
            return penalties.spectral((1 + t) * left @ diagonal @ right)

        check_grads(jax.jit(value), (jnp.float64(0.1),), order=2, modes=("fwd", "rev"))


# Gates.


def test_l0_counts_the_gates():
    log_alpha = weights(6) * 3
    shift = 2 / 3 * math.log(0.1 / 1.1)
    expected = (1 / (1 + np.exp(shift - log_alpha))).sum()
    np.testing.assert_allclose(penalties.hard_concrete_l0(float32(log_alpha)), expected, rtol=1e-6)
    strengths = {"temperature": 0.5, "low": -0.2, "high": 1.5}
    expected = (1 / (1 + np.exp(0.5 * math.log(0.2 / 1.5) - log_alpha))).sum()
    value = penalties.hard_concrete_l0(float32(log_alpha), **strengths)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize("size", [1e4, 1e30, np.inf])
def test_l0_is_total(size):
    log_alpha = jnp.array([size, -size])
    value, slope = jax.value_and_grad(penalties.hard_concrete_l0)(log_alpha)
    assert value == 1
    np.testing.assert_array_equal(slope, [0, 0])
    traced = jax.jit(penalties.hard_concrete_l0)(
        jnp.zeros(2), temperature=jnp.float32(-1), low=jnp.float32(1), high=jnp.float32(0)
    )
    assert np.isfinite(traced)


# Decorrelation.


def test_decorrelation_is_that_of_numpy():
    x = weights(7, 4) + 5
    covariances = np.cov(x.T, bias=True)
    expected = (np.linalg.norm(covariances) ** 2 - np.linalg.norm(np.diag(covariances)) ** 2) / 2
    np.testing.assert_allclose(penalties.decorrelation(float32(x)), expected, rtol=1e-5)
    apart = float32(x).reshape(7, 1, 4)
    np.testing.assert_allclose(penalties.decorrelation(apart), expected, rtol=1e-5)


def test_decorrelation_does_not_lose_small_covariances_in_large_variances():
    # The difference of the two norms, 1e8 of them, would lose all digits. These are powers of two,
    # which float32 holds and whose means it computes without a rounding.
    x = np.array([[1, 1], [-1, 1], [1, -1], [-1, -1]]) * 2.0**7 + [[0, 0], [0, 2.0**-13]] * 2
    covariances = np.cov(x.T, bias=True)
    np.testing.assert_allclose(
        penalties.decorrelation(float32(x)), covariances[0, 1] ** 2, rtol=1e-6
    )


def test_decorrelation_does_not_see_means_and_single_examples():
    x = float32(weights(7, 4))
    np.testing.assert_allclose(
        penalties.decorrelation(x + 100), penalties.decorrelation(x), rtol=1e-3
    )
    assert penalties.decorrelation(x[:1]) == 0
