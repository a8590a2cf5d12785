"""Divergences and entropies of categorical distributions against SciPy and torch."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxreg import information
from tests.helpers import few
from tests.information.helpers import normals, probabilities, single
from tests.normalization.helpers import assert_all_close, assert_all_finite, refuses, with_gradients

TORCH = json.loads(
    (pathlib.Path(__file__).parents[1] / "references" / "losses_torch.json").read_text()
)
KL, SYMMETRIC = information.categorical_kl, information.symmetric_kl
MEASURES = {"kl": KL, "symmetric": SYMMETRIC}
OF_ONE = {
    "kl": lambda z: KL(z, z[::-1]),
    "symmetric": lambda z: SYMMETRIC(z, z[::-1]),
    "confidence": information.confidence_penalty,
}
every_measure = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
every_function = pytest.mark.parametrize("name", OF_ONE)


@few("scale", [3.0, 0.1, 30.0])
@few("shape", [(2, 3, 7), (5,), (4, 2), (3, 1)], ids=str)
def test_categorical_measures_are_those_of_scipy(shape, scale):
    z = single(*shape, scale=scale)
    other = single(*shape, seed=1, scale=scale)
    p = probabilities(z)
    q = probabilities(other)
    forward = scipy.stats.entropy(p, q, axis=-1)
    backward = scipy.stats.entropy(q, p, axis=-1)
    found = jax.jit(
        lambda z, other: (
            KL(z, other),
            KL(other, z),
            SYMMETRIC(z, other),
            information.confidence_penalty(z),
        )
    )(z, other)
    entropy = scipy.stats.entropy(p, axis=-1)
    expected = forward, backward, (forward + backward) / 2, -entropy
    assert_all_close(found, expected, rtol=1e-5, atol=1e-6)


@few("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["categorical_kl", "symmetric_kl", "confidence_penalty"])
def test_values_and_gradients_equal_those_of_torch(name, dtype):
    keys = ("z", "other")[: 1 if name == "confidence_penalty" else 2]
    tolerance = 1e-12 if dtype == np.float64 else 2e-6
    with jax.enable_x64(dtype == np.float64):
        arrays = [np.array(TORCH[key], dtype) for key in keys]
        dy = np.ones(np.shape(TORCH[name]["value"]), dtype)
        value, gradients = with_gradients(getattr(information, name), dy, *arrays)
        assert value.dtype == dtype
        row = TORCH[name]
        expected = row["value"], *(row[key] for key in ("dp", "dq", "dz") if key in row)
        assert_all_close((value, *gradients), expected, rtol=tolerance, atol=tolerance)


def test_excluded_classes_contribute_nothing():
    """torch and Optax give NaN for 0 * inf."""
    z = single(6, 4)
    other = single(6, 4, seed=1)
    without = np.full((6, 1), -np.inf, np.float32)
    both = np.hstack([z, without]), np.hstack([other, without])

    @jax.jit
    def run(z, other):
        found = [*(jax.vjp(f, z, other) for f in MEASURES.values())]
        found.append(jax.vjp(information.confidence_penalty, z))
        ones = jnp.ones(6)
        return [value for value, _ in found], [pull(ones) for _, pull in found]

    values, gradients = run(*both)
    p = probabilities(z)
    q = probabilities(other)
    forward = scipy.stats.entropy(p, q, axis=-1)
    backward = scipy.stats.entropy(q, p, axis=-1)
    expected = forward, (forward + backward) / 2, -scipy.stats.entropy(p, axis=-1)
    assert_all_close(values, expected, rtol=1e-5)
    _, narrow = run(z, other)
    for found, want in zip(jax.tree.leaves(gradients), jax.tree.leaves(narrow), strict=True):
        np.testing.assert_allclose(found[:, :4], want, atol=1e-6)
        np.testing.assert_array_equal(found[:, 4], np.zeros(6))


def test_a_class_excluded_by_p_alone_counts_in_q():
    z = np.array([[0.3, 1.0, -np.inf], [0.0, 0.5, -np.inf]], np.float32)
    other = single(2, 3)
    expected = scipy.stats.entropy(probabilities(z), probabilities(other), axis=-1)
    np.testing.assert_allclose(jax.jit(KL)(z, other), expected, rtol=1e-5)


@every_function
def test_nan_is_not_hidden(name):
    value = jax.jit(OF_ONE[name])(np.array([[0.0, 1.0, np.nan], [0.0, 1.0, 2.0]], np.float32))
    assert np.isnan(value[0])
    # The other row has the NaN in its second distribution.
    assert np.isnan(value[1]) or name == "confidence"


@every_measure
def test_a_class_that_q_excludes_costs_infinity_with_a_finite_gradient(measure):
    p = np.zeros((2, 3), np.float32)
    q = np.array([[0.0, 1.0, -np.inf], [0.0, 1.0, 2.0]], np.float32)
    value, gradients = with_gradients(measure, np.ones(2, "f4"), p, q)
    assert value[0] == np.inf
    assert np.isfinite(value[1])
    assert_all_finite(gradients)


def test_a_class_that_p_excludes_makes_the_symmetric_measure_infinite():
    q = np.array([[0.0, 1.0, -np.inf], [0.0, 1.0, 2.0]], np.float32)
    value = jax.jit(SYMMETRIC)(q, np.zeros((2, 3), np.float32))
    np.testing.assert_array_equal(np.isinf(value), [True, False])


@few("dtype", [jnp.bfloat16, jnp.float32, jnp.float16])
@every_function
def test_probabilities_that_underflow(name, dtype):
    z = np.array([[0.0, -1e4, 5e4], [1e4, 2.0, -6e4]]).astype(dtype)
    value, (gradient,) = with_gradients(OF_ONE[name], np.ones(2, "f4"), z)
    assert value.dtype == jnp.float32
    assert_all_finite((value, gradient))


@every_function
@few("shape", [(1, 3), (0, 3), (4, 1), (0, 1)], ids=str)
def test_an_empty_batch_a_batch_of_one_and_a_single_class(name, shape):
    z = np.full(shape, 2.0, np.float32)
    value, (gradient,) = with_gradients(OF_ONE[name], np.ones(shape[:1], "f4"), z)
    assert value.shape == shape[:1]
    assert np.isfinite(value).all()
    assert shape[1] > 1 or (np.asarray(value) == 0).all()
    np.testing.assert_allclose(gradient, np.zeros(shape), atol=1e-7)


def test_symmetric_kl_of_near_distributions_is_exact_and_positive():
    z = normals(50, 10)
    step = 1e-3 * normals(50, 10, seed=1)
    p = probabilities(z)
    q = probabilities(z + step)
    exact = ((p - q) * np.log(p / q)).sum(-1) / 2
    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.jit(SYMMETRIC)(z, z + step), exact, rtol=1e-9)
    moved = (z + step).astype(np.float32)
    z = z.astype(np.float32)
    found = jax.jit(SYMMETRIC)(z, moved)
    assert (np.asarray(found) > 0).all()
    np.testing.assert_allclose(found, exact, rtol=2e-3)


@every_measure
def test_second_derivatives_where_the_distributions_are_equal(measure):
    """There the divergence is one half of the Fisher metric, in each of its arguments."""
    z = single(4)
    p = probabilities(z)
    fisher = np.diag(p) - np.outer(p, p)
    both = jax.jit(lambda z: (jax.hessian(measure, 0)(z, z), jax.hessian(measure, 1)(z, z)))
    assert_all_close(both(z), (fisher, fisher), atol=1e-6)


@every_measure
def test_two_dtypes_are_compared_in_the_wider(measure):
    z = single(3, 4).astype(jnp.bfloat16)
    np.testing.assert_array_equal(jax.jit(measure)(z, z.astype(np.float32)), np.zeros(3))
    with jax.enable_x64(True):
        for given in ((z, z.astype(np.float64)), (z.astype(np.float64), z)):
            assert jax.eval_shape(measure, *given).dtype == jnp.float64


# Several distributions.


def test_jensen_shannon_is_the_mean_divergence_from_the_mean():
    z = single(3, 5, 4, scale=3)
    p = probabilities(z)
    expected = np.mean([scipy.stats.entropy(view, p.mean(0), axis=-1) for view in p], 0)
    run = jax.jit(information.jensen_shannon)
    np.testing.assert_allclose(run(z), expected, rtol=2e-5)
    weights = 1 + np.arange(5)[:, None] / 4
    # Along p the mean keeps its share: the slope comes from the entropies and the mean.
    log_ratio = np.log(p / p.mean(0))
    slope = p * (log_ratio - np.sum(p * log_ratio, -1, keepdims=True)) / 3 * weights
    gradient = jax.jit(jax.grad(lambda z: jnp.sum(information.jensen_shannon(z) * weights[:, 0])))
    np.testing.assert_allclose(gradient(z), slope, rtol=1e-4, atol=1e-6)


def test_jensen_shannon_of_views_that_agree_is_exactly_zero():
    z = np.repeat(single(1, 5, 4, scale=3), 3, 0)
    value, (gradient,) = with_gradients(information.jensen_shannon, np.ones(5, "f4"), z)
    np.testing.assert_array_equal(value, np.zeros(5))
    np.testing.assert_allclose(gradient, np.zeros_like(z), atol=1e-7)


def test_jensen_shannon_of_excluded_classes():
    """At most log V, where no class is shared; a class that none has does not count."""
    out = -np.inf
    apart = np.array([[[0, out, out], [0, 1, out]], [[out, 0, out], [0, 1, out]]], np.float32)
    value, (gradient,) = with_gradients(information.jensen_shannon, np.ones(2, "f4"), apart)
    np.testing.assert_allclose(value, [np.log(2), 0], rtol=1e-6)
    assert_all_finite(gradient)


# Wrong arguments.


@every_measure
def test_wrong_logits_raise(measure):
    message = r"`logits_q` must have the same shape as `logits_p`, \(2, 3\)"
    refuses(ValueError, message, measure, np.zeros((2, 3), "f4"), np.zeros((3, 2), "f4"))
    for shape in [(), (2, 0)]:
        message = r"`logits_p` .* with at least one class, got shape"
        refuses(ValueError, message, measure, np.zeros(shape, "f4"), np.zeros(shape, "f4"))
    message = r"`logits_q` must have a real dtype, got complex64"
    refuses(TypeError, message, measure, np.zeros(2, "f4"), np.zeros(2, "c8"))


def test_wrong_logits_of_one_argument_raise():
    message = r"`logits` must have .* got shape \(3, 0\)"
    refuses(ValueError, message, information.confidence_penalty, np.zeros((3, 0), "f4"))
    for shape in ((3,), (0, 3)):
        message = r"`logits` must be of shape \[views, \.\.\., num_classes\], got"
        refuses(ValueError, message, information.jensen_shannon, np.zeros(shape, "f4"))
