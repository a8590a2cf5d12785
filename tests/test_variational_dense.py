"""The layer with Gaussian weights: its noise, and what is left of it in evaluation."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import dropout

KEY = jax.random.key(42)
DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16]


def layer(dtype=jnp.float32, inputs=6, outputs=4):
    """Inputs for three examples, means and logarithms of variances, biases."""
    keys = jax.random.split(jax.random.key(41), 4)
    x = jax.random.normal(keys[0], (3, inputs)).astype(dtype)
    kernel = jax.random.normal(keys[1], (inputs, outputs)) / 2
    log_variance = jax.random.uniform(keys[2], (inputs, outputs), minval=-4, maxval=0)
    return x, kernel, log_variance, jax.random.normal(keys[3], (outputs,))


def wide(*arrays):
    return tuple(np.asarray(a, np.float64) for a in arrays)


def assert_moments(samples, mean, stddev):
    """Means and standard deviations along the first axis, within five standard errors."""
    samples, n = np.asarray(samples, np.float64), len(samples)
    np.testing.assert_array_less(abs(samples.mean(0) - mean), 5 * stddev / math.sqrt(n) + 1e-6)
    np.testing.assert_array_less(abs(samples.std(0) - stddev), 5 * stddev / math.sqrt(2 * n) + 1e-6)


def test_moments_are_those_of_a_layer_with_sampled_weights():
    x, kernel, log_variance, bias = layer()
    keys = jax.random.split(KEY, 2**15)
    samples = jax.vmap(
        lambda key: dropout.variational_dense(key, x, kernel, log_variance, bias=bias)
    )(keys)
    inputs, means, log_sigma2, offset = wide(x, kernel, log_variance, bias)
    generator = np.random.default_rng(0)
    shape = (2**15, *means.shape)
    weights = generator.normal(means, np.exp(log_sigma2 / 2), shape)
    reference = np.einsum("ni,sij->snj", inputs, weights) + offset
    mean, stddev = reference.mean(0), reference.std(0)
    error = stddev * math.sqrt(2 / len(keys))  # The reference has an error of its own.
    samples = np.asarray(samples, np.float64)
    np.testing.assert_array_less(abs(samples.mean(0) - mean), 5 * error)
    np.testing.assert_array_less(abs(samples.std(0) - stddev), 5 * error / math.sqrt(2))


def test_moments_are_those_of_the_equation():
    x, kernel, log_variance, bias = layer()
    keys = jax.random.split(KEY, 2**15)
    samples = jax.vmap(
        lambda key: dropout.variational_dense(key, x, kernel, log_variance, bias=bias)
    )(keys)
    inputs, means, log_sigma2, offset = wide(x, kernel, log_variance, bias)
    variance = inputs**2 @ np.exp(log_sigma2)
    assert_moments(samples, inputs @ means + offset, np.sqrt(variance))


def test_examples_and_outputs_have_noise_of_their_own():
    x, kernel, log_variance, _ = layer()
    x = jnp.broadcast_to(x[0], x.shape)
    keys = jax.random.split(KEY, 2**13)
    draw = jax.vmap(lambda key: dropout.variational_dense(key, x, kernel, log_variance))
    samples = np.asarray(draw(keys)).reshape(len(keys), -1)
    correlation = np.corrcoef(samples.T) - np.eye(samples.shape[1])
    assert abs(correlation).max() <= 5 / math.sqrt(len(keys))


def test_gradients_are_those_of_the_equation_for_the_noise_drawn():
    x, kernel, log_variance, bias = layer()

    def total(x, kernel, log_variance, bias):
        y = dropout.variational_dense(KEY, x, kernel, log_variance, bias=bias)
        return jnp.sum(jnp.sin(y)), y

    arguments = (x, kernel, log_variance, bias)
    gradients, y = jax.grad(total, (0, 1, 2, 3), has_aux=True)(*arguments)
    x, kernel, log_variance, bias, y = wide(*arguments, y)
    sigma2, dy = np.exp(log_variance), np.cos(y)
    stddev = np.sqrt(x**2 @ sigma2)
    noise = (y - x @ kernel - bias) / stddev
    dvariance = dy * noise / (2 * stddev)
    expected = (
        dy @ kernel.T + 2 * x * (dvariance @ sigma2.T),
        x.T @ dy,
        (x**2).T @ dvariance * sigma2,
        dy.sum(0),
    )
    for actual, reference in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(actual, reference, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_leading_axes(dtype):
    x, kernel, log_variance, bias = layer(dtype)
    for shape in ((6,), (3, 6), (2, 5, 6), (0, 6)):
        inputs = jnp.resize(x, shape)
        with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
            arguments = (inputs, kernel, log_variance)
            y = jax.eval_shape(partial(dropout.variational_dense, bias=bias), KEY, *arguments)
            inference = partial(dropout.variational_dense_inference, bias=bias)
            mean = jax.eval_shape(inference, *arguments)
        assert y.shape == mean.shape == (*shape[:-1], 4)
        assert y.dtype == mean.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_inputs_of_zero_have_no_noise_and_finite_gradients(dtype):
    x, kernel, log_variance, bias = layer(dtype)
    x = x.at[1].set(0)

    def total(x, kernel, log_variance):
        y = dropout.variational_dense(KEY, x, kernel, log_variance, bias=bias)
        return jnp.sum(y.astype(jnp.float32) ** 2), y

    gradients, y = jax.grad(total, (0, 1, 2), has_aux=True)(x, kernel, log_variance)
    np.testing.assert_array_equal(y[1], bias.astype(dtype))
    assert all(np.isfinite(*wide(g)).all() for g in gradients)


@pytest.mark.parametrize("log_variance", [-np.inf, -1e3, 1e3, np.inf])
def test_values_and_gradients_are_finite_at_the_ends(log_variance):
    x, kernel, _, _ = layer()
    x = x.at[0].set(0)

    def total(*arguments):
        return jnp.sum(dropout.variational_dense(KEY, *arguments))

    arguments = (x, kernel, jnp.full(kernel.shape, log_variance))
    values = jax.value_and_grad(total, (0, 1, 2))(*arguments)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values))
    if log_variance < 0:
        y = dropout.variational_dense(KEY, *arguments)
        np.testing.assert_allclose(y, x @ kernel, rtol=1e-5, atol=1e-6)


def test_nan_is_not_taken_for_no_noise():
    y = dropout.variational_dense(KEY, jnp.ones(6), jnp.ones((6, 4)), jnp.float32(jnp.nan))
    assert jnp.isnan(y).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_has_the_noise_of_float32(dtype):
    """Large inputs and small variances: float16 holds neither the squares nor the variances."""
    x = 300 * layer(dtype, inputs=64)[0]
    low, full = (
        wide(dropout.variational_dense(KEY, a, jnp.zeros((64, 50)), -18.0))[0]
        for a in (x, x.astype(jnp.float32))
    )
    assert abs(full).max() > 0.3
    np.testing.assert_allclose(low, full, rtol=2 * float(jnp.finfo(dtype).eps))


def test_sums_are_accumulated_in_float32():
    """A sum of 257 ones is no number of bfloat16."""
    x, zeros = jnp.ones((1, 257), jnp.bfloat16), jnp.zeros((257, 1000))
    bias = jnp.full(1000, -256.0)
    means = dropout.variational_dense_inference(x, 1 + zeros, -30.0, bias=bias)
    np.testing.assert_array_equal(np.asarray(means, np.float32), 1)
    low = dropout.variational_dense(KEY, x, zeros, 0.0)
    full = dropout.variational_dense(KEY, x.astype(jnp.float32), zeros, 0.0)
    np.testing.assert_array_equal(low, full.astype(jnp.bfloat16))


def test_the_backward_pass_holds_the_variances_of_the_outputs():
    x, kernel, log_variance = jnp.ones((128, 64)), jnp.ones((64, 32)), jnp.zeros((64, 32))
    pull = jax.vjp(
        lambda *arguments: dropout.variational_dense(KEY, *arguments), x, kernel, log_variance
    )[1]
    sizes = sorted(leaf.size for leaf in jax.tree.leaves(pull) if leaf.size > 1)
    assert sizes == sorted([128 * 64, 64 * 32, 64 * 32, 128 * 32])


def test_the_backward_pass_has_the_matrix_products_it_needs():
    """Four gradients of two products; none is computed a second time."""
    x, kernel, log_variance = jnp.ones((128, 64)), jnp.ones((64, 32)), jnp.zeros((64, 32))

    def total(*arguments):
        return jnp.sum(dropout.variational_dense(KEY, *arguments) ** 2)

    compiled = jax.jit(jax.grad(total, (0, 1, 2))).lower(x, kernel, log_variance).compile()
    assert len([line for line in compiled.as_text().splitlines() if " dot(" in line]) == 6


@pytest.mark.parametrize("name", ["random", "inference"])
def test_wrong_arguments_raise(name):
    def call(x, kernel, log_variance=0.0):
        if name == "random":
            return dropout.variational_dense(KEY, x, kernel, log_variance)
        return dropout.variational_dense_inference(x, kernel, log_variance)

    for x, kernel in (((2, 3), (4, 5)), ((2, 3), (3,)), ((2, 3), (2, 3, 4)), ((), (1, 2))):
        with pytest.raises(ValueError, match=r"`kernel` .* \[in, out\] and `x` \[\.\.\., in\]"):
            call(jnp.ones(x), jnp.ones(kernel))
    with pytest.raises(ValueError, match=r"`log_variance` must broadcast .*\(3, 4\).*\(3,\)"):
        call(jnp.ones((2, 3)), jnp.ones((3, 4)), jnp.ones(3))
    with pytest.raises(ValueError, match=r"`log_variance` must be a number, got nan; -inf is no"):
        call(jnp.ones((2, 3)), jnp.ones((3, 4)), float("nan"))
    with pytest.raises(TypeError, match=r"`kernel` must have a floating-point dtype"):
        call(jnp.ones((2, 3)), jnp.ones((3, 4), jnp.int32))
    with pytest.raises(TypeError, match=r"`x` must have a real dtype, got complex64"):
        call(jnp.ones((2, 3), jnp.complex64), jnp.ones((3, 4)))


@pytest.mark.parametrize("threshold", [3.0, 0.5, -1.0])
def test_noisy_weights_become_zero(threshold):
    _, kernel, log_variance, _ = layer(inputs=50)
    theta, log_sigma2 = wide(kernel, log_variance)
    noisy = np.exp(log_sigma2) > math.exp(threshold) * theta**2
    assert 0 < noisy.mean() < 1
    for wrap in (float, jnp.float32):
        pruned = dropout.variational_prune(kernel, log_variance, threshold=wrap(threshold))
        np.testing.assert_array_equal(pruned, np.where(noisy, 0, kernel))


def test_the_default_is_three():
    kernel = jnp.exp(-jnp.array([2.98, 3.02]) / 2)
    pruned = dropout.variational_prune(kernel, 0.0)
    np.testing.assert_array_equal(pruned, [kernel[0], 0])
    x = jnp.ones(2)
    mean = dropout.variational_dense_inference(x, kernel[:, None], 0.0)
    np.testing.assert_array_equal(mean, kernel[:1])


def test_a_weight_at_the_threshold_stays():
    kernel = jnp.ones(3)
    log_alpha = dropout.variational_log_alpha(kernel, 2.0)
    pruned = dropout.variational_prune(kernel, 2.0, threshold=log_alpha[0])
    np.testing.assert_array_equal(pruned, kernel)


def test_low_precision_weights_are_compared_in_float32():
    """In bfloat16 a logarithm of 2.99 and one of 3.01 are both 3."""
    log_variance = jnp.array([2.995, 3.004])
    pruned = dropout.variational_prune(jnp.ones(2, jnp.bfloat16), log_variance)
    np.testing.assert_array_equal(np.asarray(pruned, np.float32), [1, 0])


def test_inference_is_the_product_with_pruned_weights():
    x, kernel, log_variance, bias = layer(inputs=50)
    pruned = dropout.variational_prune(kernel, log_variance, threshold=0.5)
    actual = dropout.variational_dense_inference(x, kernel, log_variance, bias=bias, threshold=0.5)
    x, pruned, bias = wide(x, pruned, bias)
    np.testing.assert_allclose(actual, x @ pruned + bias, rtol=1e-5, atol=1e-5)


def test_gradients_go_to_the_weights_that_stay():
    kernel = jnp.array([[2.0], [0.01]])
    gradient = jax.grad(
        lambda k: jnp.sum(dropout.variational_dense_inference(jnp.ones(2), k, -1.0))
    )(kernel)
    np.testing.assert_array_equal(gradient, [[1], [0]])


def test_a_sparse_problem_is_solved_sparsely():
    """Two of eight inputs matter; what training leaves of the other weights is noise."""
    x = jax.random.normal(jax.random.key(1), (256, 8))
    y = x[:, :1] - 2 * x[:, 1:2]
    optimizer = optax.adam(optax.cosine_decay_schedule(0.02, 2000))
    params = (jnp.full((8, 1), 0.1), jnp.full((8, 1), -5.0))

    def loss(params, key):
        prediction = dropout.variational_dense(key, x, *params)
        divergence = dropout.variational_dropout_kl(dropout.variational_log_alpha(*params))
        return jnp.mean((prediction - y) ** 2) / (2 * 0.1**2) + divergence / len(x)

    def step(carry, key):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, key), state)
        return (optax.apply_updates(params, updates), state), None

    start = (params, optimizer.init(params))
    (params, _), _ = jax.lax.scan(step, start, jax.random.split(KEY, 2000))
    pruned = np.asarray(dropout.variational_prune(*params))[:, 0]
    np.testing.assert_allclose(pruned[:2], [1, -2], atol=0.1)
    np.testing.assert_array_equal(pruned[2:], 0)
