"""Ensembles against float64 NumPy, all subsets, and what MC dropout of a trained network does."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxreg.training import ensembles
from tests.helpers import few

WORDS = np.random.default_rng(0).integers(0, 2**32, (64, 2), dtype=np.uint32)
KEYS = jax.random.wrap_key_data(WORDS)
OFFSETS = np.array([[0.5], [0], [1], [2]])
PREDICTIONS = OFFSETS + np.random.default_rng(0).normal(1, 1, (6, 4, 3))
TARGETS = np.random.default_rng(1).normal(0, 1, (4, 3))


def as_float32(*arrays):
    return [np.asarray(a, np.float32) for a in arrays]


# Monte Carlo.


@few("dtype", [jnp.float32, jnp.bfloat16])
def test_mean_and_variance_at_a_mean_of_3000(dtype):
    def apply(key):
        return (3000 + jax.random.normal(key, (5,))).astype(dtype)

    @jax.jit
    def both(keys):
        return ensembles.monte_carlo(apply, keys), jax.vmap(apply)(keys)

    (mean, variance), samples = both(KEYS)
    samples = np.asarray(samples, np.float64)
    assert mean.dtype == variance.dtype == jnp.float32
    np.testing.assert_allclose(mean, samples.mean(0), rtol=1e-6)
    np.testing.assert_allclose(variance, samples.var(0, ddof=1), rtol=1e-5)


def test_predictions_may_be_a_tree_and_keys_of_the_older_kind():
    def apply(key):
        y = jax.random.normal(key, (3,))
        return {"mean": y, "log_var": (2 * y, None)}

    monte_carlo = jax.jit(partial(ensembles.monte_carlo, apply))
    tree = monte_carlo(KEYS)
    older = monte_carlo(WORDS)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), tree, older)
    np.testing.assert_allclose(tree.mean["log_var"][0], 2 * tree.mean["mean"], rtol=1e-6)
    np.testing.assert_allclose(tree.variance["log_var"][0], 4 * tree.variance["mean"], 1e-6)


def test_two_keys_are_enough():
    def apply(key):
        return jax.random.uniform(key, (3,))

    @jax.jit
    def both(keys):
        return ensembles.monte_carlo(apply, keys), jax.vmap(apply)(keys)

    (mean, variance), samples = both(jax.random.wrap_key_data(WORDS[:2]))
    np.testing.assert_allclose(mean, np.mean(samples, 0), rtol=1e-6)
    np.testing.assert_allclose(variance, np.diff(samples, axis=0)[0] ** 2 / 2, rtol=1e-5)


def test_a_network_without_dropout_has_no_variance():
    @jax.jit
    def constant(keys):
        return ensembles.monte_carlo(lambda key: jnp.float32([2.5, 0.1]), keys)

    mean, variance = constant(KEYS)
    np.testing.assert_array_equal(mean, np.float32([2.5, 0.1]))
    np.testing.assert_array_equal(variance, [0, 0])


@pytest.mark.parametrize(
    "keys",
    [jax.random.wrap_key_data(WORDS[:1]), jax.random.wrap_key_data(WORDS[0]), WORDS[0], WORDS[:1]],
    ids=str,
)
def test_fewer_than_two_keys_raise(keys):
    with pytest.raises(ValueError, match=r"`keys` must contain at least 2 keys .* got shape \("):
        ensembles.monte_carlo(lambda key: np.ones(3), keys)


def test_classes_are_no_predictions():
    with pytest.raises(TypeError, match=r"`apply\(key\)` must have a floating-point dtype"):
        jax.jit(lambda keys: ensembles.monte_carlo(lambda key: jnp.ones(3, jnp.int32), keys))(KEYS)


def test_infinite_predictions_have_an_infinite_mean():
    @jax.jit
    def infinite(keys):
        return ensembles.monte_carlo(
            lambda key: jnp.array([1.0, -jnp.inf]) + jax.random.uniform(key, (2,)), keys
        )

    mean, variance = infinite(KEYS)
    np.testing.assert_array_equal(np.isfinite(mean), [True, False])
    np.testing.assert_array_equal(np.isnan(variance), [False, True])
    assert mean[1] == -np.inf


# Uncertainty of classes.

uncertainty = jax.jit(ensembles.class_uncertainty)


def uncertainty64(logits):
    """Probabilities, entropy of their mean, mean of their entropies."""
    z = np.asarray(logits, np.float64)
    p = np.exp(z - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)

    def entropy(p):
        return -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0), -1)

    return p.mean(0), entropy(p.mean(0)), entropy(p).mean(0)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_uncertainty_is_the_one_of_numpy(scale):
    logits = np.float32(scale * np.random.default_rng(3).normal(size=(7, 20, 5)))
    p, whole, expected = uncertainty64(logits)
    result = uncertainty(logits)
    np.testing.assert_allclose(np.exp(result.log_probabilities), p, atol=1e-6)
    np.testing.assert_allclose(result.entropy, whole, atol=2e-6)
    np.testing.assert_allclose(result.expected_entropy, expected, atol=2e-6)
    information = whole - expected
    # Relative, though at the least scale the entropies agree in all but the last digits.
    np.testing.assert_allclose(result.mutual_information, information, rtol=5e-3, atol=1e-7)


def test_members_that_agree_are_unsure_of_the_example_alone():
    result = uncertainty(np.tile(np.float32([2.0, 1.0, -3.0, 0.5]), (4, 1, 1)))
    np.testing.assert_allclose(result.mutual_information, [0], atol=1e-6)
    np.testing.assert_allclose(result.entropy, result.expected_entropy, atol=1e-6)


def test_members_that_are_sure_of_different_classes_tell_what_they_do_not_know():
    result = uncertainty(200 * np.eye(4, dtype=np.float32)[:, None])
    np.testing.assert_allclose(result.mutual_information, [math.log(4)], rtol=1e-6)
    np.testing.assert_allclose(result.entropy, [math.log(4)], rtol=1e-6)
    np.testing.assert_allclose(result.expected_entropy, [0], atol=1e-6)


def test_excluded_classes_have_no_part_and_no_gradient():
    # Class 0 is excluded by all, class 1 by half of them.
    pair = np.float32([[[-np.inf, 0.3, 1.0, 0.2]], [[-np.inf, -np.inf, 0.5, 0.1]]])
    logits = np.concatenate([pair, pair / 2])
    result = uncertainty(logits)
    p, whole, expected = uncertainty64(logits)
    np.testing.assert_allclose(np.exp(result.log_probabilities), p, atol=1e-6)
    assert result.log_probabilities[0, 0] == -np.inf
    np.testing.assert_allclose(result.entropy, whole, atol=1e-6)
    np.testing.assert_allclose(result.mutual_information, whole - expected, atol=1e-6)

    def total(logits):
        return sum(jnp.sum(term) for term in uncertainty(logits)[1:])

    gradient = np.asarray(jax.jit(jax.grad(total))(logits))
    assert np.isfinite(gradient).all()
    assert (gradient[logits == -np.inf] == 0).all()
    assert (gradient[:, :, 2] != 0).all()


@pytest.mark.parametrize("shape", [(3,), (0, 2, 3)])
def test_logits_without_members_raise(shape):
    with pytest.raises(ValueError, match=r"`logits` must have shape \[members, \.\.\., num_classe"):
        ensembles.class_uncertainty(np.zeros(shape, np.float32))


# The error of an average.


MEMBERS = np.float32([1, 2, 7, 1000, np.inf, 0])
ensemble_mse = jax.jit(ensembles.ensemble_mse)


def test_the_error_goes_from_one_member_to_the_covariance():
    # What is traced and no number of members counts as one.
    k = np.array([1, 2, 7, 1000, 1e300, 1])
    for v, c in ((3.0, 3.0), (3.0, 0.0), (8.0, 2.0)):
        errors = ensemble_mse(np.float32(v), np.float32(c), members=MEMBERS)
        np.testing.assert_allclose(errors, v / k + (k - 1) / k * c, rtol=1e-6, atol=1e-30)
    first = ensemble_mse(np.float32(3.0), np.float32(np.inf), members=MEMBERS)
    np.testing.assert_array_equal(first[:5], [3, *[np.inf] * 4])


def test_members_may_be_a_python_number():
    @jax.jit
    def errors(v, c):
        return [ensembles.ensemble_mse(v, c, members=k) for k in (1, 2, np.int64(4), math.inf)]

    np.testing.assert_allclose(errors(np.float32(8), np.float32(2)), [8, 5, 3.5, 2])
    narrow = jax.jit(lambda v: ensembles.ensemble_mse(v, 2.0, members=np.int64(3)))
    error = narrow(ml_dtypes.bfloat16(8))
    assert error.dtype == jnp.bfloat16
    assert error == ml_dtypes.bfloat16(4)


error_moments = jax.jit(ensembles.error_moments)
predicted_mse = jax.jit(ensembles.predicted_mse)


def test_moments_are_means_over_members_and_pairs():
    errors = PREDICTIONS - TARGETS
    v = np.mean(errors**2)
    c = np.mean([np.mean(a * b) for a, b in itertools.permutations(errors, 2)])
    moments = error_moments(*as_float32(PREDICTIONS, TARGETS))
    np.testing.assert_allclose(moments.variance.value, v, rtol=1e-6)
    np.testing.assert_allclose(moments.covariance.value, c, rtol=1e-6)


@pytest.mark.parametrize("members", [1, 2, 3, 6])
def test_the_prediction_is_the_mean_error_of_all_subsets(members):
    subsets = itertools.combinations(PREDICTIONS, members)
    want = np.mean([np.mean((np.mean(subset, 0) - TARGETS) ** 2) for subset in subsets])
    mse = predicted_mse(*as_float32(PREDICTIONS, TARGETS), members=np.float32(members))
    np.testing.assert_allclose(mse.value, want, rtol=1e-6)


def test_standard_errors_leave_out_each_member_in_turn():
    def estimates(errors):
        pairs = itertools.permutations(errors, 2)
        v = np.mean(errors**2)
        c = np.mean([np.mean(a * b) for a, b in pairs])
        return np.array([v, c, v / 4 + 3 / 4 * c])

    errors, number = PREDICTIONS - TARGETS, len(PREDICTIONS)
    without = np.array([estimates(np.delete(errors, i, 0)) for i in range(number)])
    want = np.sqrt((number - 1) / number * np.sum((without - without.mean(0)) ** 2, 0))
    predictions, targets = as_float32(PREDICTIONS, TARGETS)
    moments = error_moments(predictions, targets)
    mse = jax.jit(partial(ensembles.predicted_mse, members=4))(predictions, targets)
    got = [moments.variance.standard_error, moments.covariance.standard_error, mse.standard_error]
    np.testing.assert_allclose(got, want, rtol=1e-5)
    many = predicted_mse(predictions, targets, members=np.array([[1, 4, 9]], np.int32))
    assert many.value.shape == many.standard_error.shape == (1, 3)
    np.testing.assert_allclose(many.standard_error[0, 1], want[2], rtol=1e-5)
    np.testing.assert_allclose(many.standard_error[0, 0], want[0], rtol=1e-5)


def test_estimates_are_unbiased_and_their_standard_errors_right():
    # Errors 0.5 + a + b_i: V = 0.25 + 4 + 1 and C = 0.25 + 4 over draws of members alone.
    shared, runs, examples = 2.0, 1000, 3

    def estimate(key):
        apart = jax.random.normal(key, (8, examples))
        return ensembles.error_moments(0.5 + shared + apart, jnp.zeros(examples))

    words = np.random.default_rng(2).integers(0, 2**32, (runs, 2), dtype=np.uint32)
    moments = jax.jit(jax.vmap(estimate))(jax.random.wrap_key_data(words))
    for got, true in ((moments.variance, 7.25), (moments.covariance, 6.25)):
        spread = float(np.std(got.value, ddof=1))
        assert abs(np.mean(got.value) - true) < 4 * spread / math.sqrt(runs)
        # The jackknife estimates the square of the standard error.
        assert math.sqrt(np.mean(np.square(got.standard_error))) == pytest.approx(spread, rel=0.1)


def test_bfloat16_predictions_are_summed_in_float32():
    predictions = PREDICTIONS.astype(ml_dtypes.bfloat16)
    targets = TARGETS.astype(np.float16)
    moments = error_moments(predictions, targets)
    wide = error_moments(predictions.astype(np.float32), targets.astype(np.float32))
    for got, want in zip(jax.tree.leaves(moments), jax.tree.leaves(wide), strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("function", [
    ensembles.error_moments, partial(ensembles.predicted_mse, members=2)
])  # fmt: skip
def test_wrong_shapes_and_dtypes_raise(function):
    with pytest.raises(ValueError, match=r"at least 3 members and 1 example, got \(2, 5\)"):
        function(np.ones((2, 5)), np.ones(5))
    with pytest.raises(ValueError, match=r"at least 3 members and 1 example, got \(3, 0\)"):
        function(np.ones((3, 0)), np.ones(0))
    with pytest.raises(ValueError, match=r"`targets` must .* prediction, \(5, 1\), got \(5,\)"):
        function(np.ones((3, 5, 1)), np.ones(5))
    with pytest.raises(TypeError, match=r"`targets` must have a floating-point dtype, got int32"):
        function(np.ones((3, 5)), np.ones(5, np.int32))
    with pytest.raises(TypeError, match=r"`predictions` must have a real dtype, got complex64"):
        function(np.ones((3, 5), np.complex64), np.ones(5))
