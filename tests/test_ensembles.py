"""Ensembles against float64 NumPy, all subsets, and what MC dropout of a trained network does."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from jaxreg import dropout
from jaxreg.training import ensembles

KEYS = jax.random.split(jax.random.key(0), 64)
OFFSETS = np.array([[0.5], [0], [1], [2]])
PREDICTIONS = OFFSETS + np.random.default_rng(0).normal(1, 1, (6, 4, 3))
TARGETS = np.random.default_rng(1).normal(0, 1, (4, 3))


def as_float32(*arrays):
    return [jnp.asarray(a, jnp.float32) for a in arrays]


# Monte Carlo.


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_mean_and_variance_at_a_mean_of_3000(dtype):
    apply = lambda key: (3000 + jax.random.normal(key, (5,))).astype(dtype)  # noqa: E731
    mean, variance = jax.jit(partial(ensembles.monte_carlo, apply))(KEYS)
    samples = np.asarray(jax.vmap(apply)(KEYS), np.float64)
    assert mean.dtype == variance.dtype == jnp.float32
    np.testing.assert_allclose(mean, samples.mean(0), rtol=1e-6)
    np.testing.assert_allclose(variance, samples.var(0, ddof=1), rtol=1e-5)


def test_predictions_may_be_a_tree_and_keys_of_the_older_kind():
    def apply(key):
        y = jax.random.normal(key, (3,))
        return {"mean": y, "log_variance": (2 * y, None)}

    tree = ensembles.monte_carlo(apply, KEYS)
    older = ensembles.monte_carlo(apply, jax.random.key_data(KEYS))
    jax.tree.map(np.testing.assert_array_equal, tree, older)
    np.testing.assert_array_equal(tree.mean["log_variance"][0], 2 * tree.mean["mean"])
    np.testing.assert_array_equal(tree.variance["log_variance"][0], 4 * tree.variance["mean"])


def test_a_network_without_dropout_has_no_variance():
    mean, variance = ensembles.monte_carlo(lambda key: jnp.float32([2.5, 0.1]), KEYS)
    np.testing.assert_array_equal(mean, np.float32([2.5, 0.1]))
    np.testing.assert_array_equal(variance, [0, 0])


@pytest.mark.parametrize(
    "keys", [KEYS[:1], KEYS[0], jax.random.key_data(KEYS[0]), jax.random.key_data(KEYS[:1])]
)
def test_fewer_than_two_keys_raise(keys):
    with pytest.raises(ValueError, match=r"`keys` must hold at least 2 keys .* got shape \("):
        ensembles.monte_carlo(lambda key: jnp.ones(3), keys)


def test_classes_are_no_predictions():
    with pytest.raises(TypeError, match=r"`apply\(key\)` must have a floating-point dtype"):
        ensembles.monte_carlo(lambda key: jnp.ones(3, jnp.int32), KEYS)


def test_infinite_predictions_have_an_infinite_mean():
    apply = lambda key: jnp.array([1.0, -jnp.inf]) + jax.random.uniform(key, (2,))  # noqa: E731
    mean, variance = ensembles.monte_carlo(apply, KEYS)
    np.testing.assert_array_equal(jnp.isfinite(mean), [True, False])
    np.testing.assert_array_equal(jnp.isnan(variance), [False, True])
    assert mean[1] == -jnp.inf


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
def test_uncertainty_is_that_of_numpy(scale):
    logits = scale * jax.random.normal(jax.random.key(3), (7, 20, 5))
    p, whole, expected = uncertainty64(logits)
    result = uncertainty(logits)
    np.testing.assert_allclose(jnp.exp(result.log_probabilities), p, atol=1e-6)
    np.testing.assert_allclose(result.entropy, whole, atol=2e-6)
    np.testing.assert_allclose(result.expected_entropy, expected, atol=2e-6)
    information = whole - expected
    # Relative, though at the least scale the entropies agree in all but the last digits.
    np.testing.assert_allclose(result.mutual_information, information, rtol=5e-3, atol=1e-7)


def test_members_that_agree_are_unsure_of_the_example_alone():
    result = uncertainty(jnp.tile(jnp.array([2.0, 1.0, -3.0, 0.5]), (4, 1, 1)))
    np.testing.assert_allclose(result.mutual_information, [0], atol=1e-6)
    np.testing.assert_allclose(result.entropy, result.expected_entropy, atol=1e-6)


def test_members_that_are_sure_of_different_classes_tell_what_they_do_not_know():
    result = uncertainty(200 * jnp.eye(4)[:, None])
    np.testing.assert_allclose(result.mutual_information, [math.log(4)], rtol=1e-6)
    np.testing.assert_allclose(result.entropy, [math.log(4)], rtol=1e-6)
    np.testing.assert_allclose(result.expected_entropy, [0], atol=1e-6)


def test_excluded_classes_have_no_part_and_no_gradient():
    # Class 0 is excluded by all, class 1 by half of them.
    pair = jnp.array([[[-jnp.inf, 0.3, 1.0, 0.2]], [[-jnp.inf, -jnp.inf, 0.5, 0.1]]])
    logits = jnp.concatenate([pair, pair / 2])
    result = uncertainty(logits)
    p, whole, expected = uncertainty64(logits)
    np.testing.assert_allclose(jnp.exp(result.log_probabilities), p, atol=1e-6)
    assert result.log_probabilities[0, 0] == -jnp.inf
    np.testing.assert_allclose(result.entropy, whole, atol=1e-6)
    np.testing.assert_allclose(result.mutual_information, whole - expected, atol=1e-6)

    def total(logits):
        return sum(jnp.sum(term) for term in uncertainty(logits)[1:])

    gradient = jax.jit(jax.grad(total))(logits)
    assert jnp.isfinite(gradient).all()
    assert (gradient[logits == -jnp.inf] == 0).all()
    assert (gradient[:, :, 2] != 0).all()


@pytest.mark.parametrize("shape", [(3,), (0, 2, 3)])
def test_logits_without_members_raise(shape):
    with pytest.raises(ValueError, match=r"`logits` must have shape \[members, \.\.\., num_classe"):
        ensembles.class_uncertainty(jnp.zeros(shape))


# The error of an average.


@pytest.mark.parametrize("members", [1, 2, 7, 1000])
def test_the_two_extremes(members):
    v = jnp.float32(3.0)
    correlated = ensembles.ensemble_mse(v, v, members=members)
    np.testing.assert_allclose(correlated, 3.0, rtol=1e-6)
    np.testing.assert_allclose(ensembles.ensemble_mse(v, 0.0, members=members), 3.0 / members)


def test_members_may_be_many_numbers_and_infinity():
    members = jnp.array([1.0, 2.0, 4.0, jnp.inf])
    errors = ensembles.ensemble_mse(8.0, jnp.float32(2.0), members=members)
    np.testing.assert_allclose(errors, [8, 5, 3.5, 2])
    assert ensembles.ensemble_mse(jnp.bfloat16(8), 2.0, members=np.int64(4)).dtype == jnp.bfloat16
    # What is traced and no number of members counts as one.
    np.testing.assert_array_equal(ensembles.ensemble_mse(8.0, 2.0, members=jnp.float32(0)), 8)


def test_moments_are_means_over_members_and_pairs():
    errors = PREDICTIONS - TARGETS
    v = np.mean(errors**2)
    c = np.mean([np.mean(a * b) for a, b in itertools.permutations(errors, 2)])
    moments = ensembles.error_moments(*as_float32(PREDICTIONS, TARGETS))
    np.testing.assert_allclose(moments.variance.value, v, rtol=1e-6)
    np.testing.assert_allclose(moments.covariance.value, c, rtol=1e-6)


@pytest.mark.parametrize("members", [1, 2, 3, 6])
def test_the_prediction_is_the_mean_error_of_all_subsets(members):
    subsets = itertools.combinations(PREDICTIONS, members)
    want = np.mean([np.mean((np.mean(subset, 0) - TARGETS) ** 2) for subset in subsets])
    mse = ensembles.predicted_mse(*as_float32(PREDICTIONS, TARGETS), members=members)
    np.testing.assert_allclose(mse.value, want, rtol=1e-6)


def test_standard_errors_leave_out_each_member_in_turn():
    def estimates(errors):
        pairs = itertools.permutations(errors, 2)
        v, c = np.mean(errors**2), np.mean([np.mean(a * b) for a, b in pairs])
        return np.array([v, c, v / 4 + 3 / 4 * c])

    errors, number = PREDICTIONS - TARGETS, len(PREDICTIONS)
    without = np.array([estimates(np.delete(errors, i, 0)) for i in range(number)])
    want = np.sqrt((number - 1) / number * np.sum((without - without.mean(0)) ** 2, 0))
    predictions, targets = as_float32(PREDICTIONS, TARGETS)
    moments = ensembles.error_moments(predictions, targets)
    mse = ensembles.predicted_mse(predictions, targets, members=4)
    got = [moments.variance.standard_error, moments.covariance.standard_error, mse.standard_error]
    np.testing.assert_allclose(got, want, rtol=1e-5)
    many = ensembles.predicted_mse(predictions, targets, members=jnp.array([[1, 4, 9]]))
    assert many.value.shape == many.standard_error.shape == (1, 3)
    np.testing.assert_allclose(many.standard_error[0, 1], want[2], rtol=1e-5)
    np.testing.assert_allclose(many.standard_error[0, 0], want[0], rtol=1e-5)


def test_estimates_are_unbiased_and_their_standard_errors_right():
    # Errors 0.5 + a + b_i: V = 0.25 + 4 + 1 and C = 0.25 + 4 over draws of members alone.
    shared, runs, examples = 2.0, 1000, 3

    def estimate(key):
        apart = jax.random.normal(key, (8, examples))
        return ensembles.error_moments(0.5 + shared + apart, jnp.zeros(examples))

    moments = jax.jit(jax.vmap(estimate))(jax.random.split(jax.random.key(2), runs))
    for got, true in ((moments.variance, 7.25), (moments.covariance, 6.25)):
        spread = float(np.std(got.value, ddof=1))
        assert abs(np.mean(got.value) - true) < 4 * spread / math.sqrt(runs)
        # The jackknife estimates the square of the standard error.
        assert math.sqrt(np.mean(np.square(got.standard_error))) == pytest.approx(spread, rel=0.1)


def test_bfloat16_predictions_are_summed_in_float32():
    predictions, targets = jnp.asarray(PREDICTIONS, jnp.bfloat16), jnp.asarray(TARGETS, jnp.float16)
    wide = predictions.astype(jnp.float32), targets.astype(jnp.float32)
    jax.tree.map(
        np.testing.assert_array_equal,
        ensembles.error_moments(predictions, targets),
        ensembles.error_moments(*wide),
    )


@pytest.mark.parametrize("function", [
    ensembles.error_moments, partial(ensembles.predicted_mse, members=2)
])  # fmt: skip
def test_wrong_shapes_and_dtypes_raise(function):
    with pytest.raises(ValueError, match=r"at least 3 members and an example, got \(2, 5\)"):
        function(jnp.ones((2, 5)), jnp.ones(5))
    with pytest.raises(ValueError, match=r"at least 3 members and an example, got \(3, 0\)"):
        function(jnp.ones((3, 0)), jnp.ones(0))
    with pytest.raises(ValueError, match=r"`targets` must .* prediction, \(5, 1\), got \(5,\)"):
        function(jnp.ones((3, 5, 1)), jnp.ones(5))
    with pytest.raises(TypeError, match=r"`targets` must have a floating-point dtype, got int32"):
        function(jnp.ones((3, 5)), jnp.ones(5, jnp.int32))
    with pytest.raises(TypeError, match=r"`predictions` must have a real dtype, got complex64"):
        function(jnp.ones((3, 5), jnp.complex64), jnp.ones(5))


# MC dropout of a trained network, on rows that it has not seen.

MEMBERS = (1, 2, 4, 8, 16, 32)
GROUPS, SAMPLES = 200, 100


def network(params, key, x):
    hidden = jax.nn.relu(x @ params["a"] + params["b"])
    return dropout.dropout(key, hidden, rate=0.5) @ params["c"]


def trained(key, x, y):
    a_key, c_key, key = jax.random.split(key, 3)
    width = x.shape[1]
    params = {
        "a": jax.random.normal(a_key, (width, 32)) / math.sqrt(width),
        "b": jnp.zeros(32),
        "c": jax.random.normal(c_key, (32,)) / math.sqrt(32),
    }

    def step(params, key):
        def loss(params):
            return jnp.mean((network(params, key, x) - y) ** 2)

        return jax.tree.map(lambda w, g: w - 0.05 * g, params, jax.grad(loss)(params)), None

    return jax.lax.scan(step, params, jax.random.split(key, 400))[0]


def measured(params, key, x, y, members):
    """Mean error of averages of new samples, over independent groups, and its standard error."""
    keys = jax.random.split(key, (GROUPS, members))
    samples = jax.vmap(jax.vmap(lambda key: network(params, key, x)))(keys)
    errors = jnp.mean((jnp.mean(samples, axis=1) - y) ** 2, axis=1)
    return jnp.mean(errors), jnp.std(errors, ddof=1) / math.sqrt(GROUPS)


@jax.jit
def prediction_and_measurement(key):
    x, y = as_float32(*load_diabetes(return_X_y=True))
    x, y = x * math.sqrt(len(x)), (y - jnp.mean(y)) / jnp.std(y)
    train_key, estimate_key, *keys = jax.random.split(key, 2 + len(MEMBERS))
    params = trained(train_key, x[:200], y[:200])
    x, y = x[200:], y[200:]
    estimate_keys = jax.random.split(estimate_key, SAMPLES)
    samples = jax.vmap(lambda key: network(params, key, x))(estimate_keys)
    moments = ensembles.error_moments(samples, y)
    predicted = ensembles.predicted_mse(samples, y, members=jnp.array(MEMBERS))
    groups = [measured(params, k, x, y, n) for k, n in zip(keys, MEMBERS, strict=True)]
    return moments, predicted, jnp.array(groups).T


def test_predicted_and_measured_error_of_mc_dropout_agree_within_standard_errors():
    moments, predicted, (error, standard_error) = prediction_and_measurement(jax.random.key(0))
    together = np.hypot(predicted.standard_error, standard_error)
    np.testing.assert_array_less(abs(predicted.value - error), 3 * together)
    # The errors of a few percent tell these apart from formulas that leave one term out.
    assert (together < 0.03 * error).all()
    v, c = moments.variance.value, moments.covariance.value
    assert v > 1.1 * c  # The masks matter, and 32 of them gain nearly all there is to gain.
    k = np.array(MEMBERS)
    for wrong in (v / k, v + 0 * k, v / k + c):
        assert (abs(wrong - error) > 5 * together).sum() >= 4
