"""Jacobian penalties: estimates against the exact norm, closed forms, torch, and edges."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxreg import smoothness

TORCH = json.loads(
    (pathlib.Path(__file__).parent / "references" / "smoothness_torch.json").read_text()
)
ESTIMATES = [smoothness.jacobian, smoothness.jacobian_projected]
every_estimate = pytest.mark.parametrize("estimate", ESTIMATES, ids=lambda f: f.__name__)
KEY = jax.random.key(0)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def network(params, x):
    w1, w2 = params
    return jnp.tanh(x @ w1) @ w2


def small(outputs=3, batch=5):
    params = [jnp.asarray(draw(4, 6), jnp.float32), jnp.asarray(draw(6, outputs), jnp.float32)]
    return params, jnp.asarray(draw(batch, 4, seed=1), jnp.float32)


def naive(params, x):
    """The mean squared norm in float64, from the derivative of the hyperbolic tangent by hand."""
    (w1, w2), x = ([np.asarray(w, np.float64) for w in params], np.asarray(x, np.float64))
    slopes = 1 - np.tanh(x @ w1) ** 2
    rows = np.einsum("ih,nh,ho->noi", w1, slopes, w2)
    return np.mean(np.sum(rows**2, axis=(1, 2)))


@pytest.mark.parametrize("outputs", [1, 2, 4, 5, 17], ids=lambda n: f"{n} outputs")
@pytest.mark.parametrize("batch", [1, 5])
def test_exact_is_the_norm_of_the_jacobian(outputs, batch):
    """In both orders: of 4 inputs, 5 and 17 outputs are taken by columns."""
    params, x = small(outputs, batch)
    value = smoothness.jacobian_exact(lambda x: network(params, x), x)
    assert (value.shape, value.dtype) == ((), jnp.float32)
    np.testing.assert_allclose(value, naive(params, x), rtol=1e-5)


def test_exact_takes_many_rows_and_many_columns_in_a_loop():
    w = draw(20, 30)
    for matrix in (w, w.T):
        x = jnp.ones((2, len(matrix)))
        value = smoothness.jacobian_exact(lambda x, w=matrix: x @ jnp.float32(w), x)
        np.testing.assert_allclose(value, np.sum(w**2), rtol=1e-5)


def test_exact_takes_any_axes():
    w = draw(12, 6)

    def f(x):
        return (x.reshape(len(x), 12) @ jnp.float32(w)).reshape(len(x), 3, 2)

    value = smoothness.jacobian_exact(f, jnp.ones((5, 3, 4)))
    np.testing.assert_allclose(value, np.sum(w**2), rtol=1e-5)
    assert smoothness.jacobian_exact(lambda x: 3 * x, jnp.ones(7)) == 9
    assert smoothness.jacobian_exact(lambda x: x[:, :0], jnp.ones((5, 2))) == 0
    assert jax.grad(lambda x: smoothness.jacobian_exact(lambda x: 3 * x, x))(jnp.ones(1)) == 0


@pytest.mark.slow
def test_float32_stays_float32_beside_float64():
    with jax.enable_x64(True):
        x = jnp.ones((3, 2), jnp.float32)
        for penalty in EVERY:
            assert penalty(lambda x: x * x, x).dtype == jnp.float32


@pytest.mark.parametrize("outputs", [2, 5], ids=["rows", "columns"])
@pytest.mark.slow
def test_exact_differentiates_like_the_naive_jacobian(outputs):
    """First and second derivatives, of parameters and inputs, in float64, against jacrev."""
    with jax.enable_x64(True):
        params, x = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), small(outputs))

        def ours(params, x):
            return smoothness.jacobian_exact(lambda x: network(params, x), x)

        def expected(params, x):
            rows = jax.vmap(jax.jacrev(lambda x: network(params, x)))(x)
            return jnp.sum(rows**2) / len(x)

        for derivative in (jax.grad, jax.hessian):
            for argument in (0, 1):
                got, want = (jax.jit(derivative(f, argument))(params, x) for f in (ours, expected))
                for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
                    np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-12)
        # A scale in front and a power behind: the rule is linear in its cotangent.
        got = jax.grad(lambda p: (0.3 * ours(p, x)) ** 2)(params)
        want = jax.grad(lambda p: (0.3 * expected(p, x)) ** 2)(params)
        np.testing.assert_allclose(got[0], want[0], rtol=1e-10)


def test_exact_equals_torch():
    x, params = jnp.float32(TORCH["x"]), [jnp.float32(w) for w in TORCH["params"]]
    value, gradients = jax.value_and_grad(
        lambda params: smoothness.jacobian_exact(lambda x: network(params, x), x)
    )(params)
    np.testing.assert_allclose(value, TORCH["jacobian"]["value"], rtol=1e-5)
    for got, want in zip(gradients, TORCH["jacobian"]["gradients"], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def estimates(estimate, f, x, number, probes=1):
    one = jax.jit(lambda key: estimate(f, x, key=key, probes=probes))
    return np.asarray(jax.lax.map(one, jax.random.split(KEY, number)), np.float64)


@every_estimate
@pytest.mark.parametrize("probes", [1, 3])
def test_estimates_are_unbiased(estimate, probes):
    """Within 5 standard errors of the exact norm; one of 0.9 times the input is rejected."""
    params, x = small()
    exact = naive(params, x)
    for factor in (1.0, 0.9):
        values = estimates(estimate, lambda x, a=factor: a * network(params, x), x, 4000, probes)
        z = (values.mean() - exact) / (values.std() / np.sqrt(len(values)))
        assert (abs(z) < 5) == (factor == 1.0), z


@every_estimate
def test_gradients_of_estimates_are_unbiased(estimate):
    params, x = small()

    def gradient(key):
        return jax.grad(lambda w: estimate(lambda x: network([w, params[1]], x), x, key=key))(
            params[0]
        )

    drawn = np.asarray(jax.lax.map(gradient, jax.random.split(KEY, 4000)), np.float64)
    exact = jax.grad(lambda w: smoothness.jacobian_exact(lambda x: network([w, params[1]], x), x))(
        params[0]
    )
    error = drawn.std(axis=0) / np.sqrt(len(drawn))
    assert np.all(abs(drawn.mean(axis=0) - exact) < 5 * error)


def gaussian_rows(f, x, *, key, probes=1):
    """Reverse-mode projections that are not of unit length, to compare with."""
    assert probes == 1
    y, pull_back = jax.vjp(f, x)
    return jnp.sum(pull_back(jax.random.normal(key, y.shape))[0] ** 2) / len(x)


@pytest.mark.parametrize("kind", ["one large row", "orthogonal rows", "random"])
def test_variances_are_those_the_docstring_states(kind, record_property):
    """Forward Gaussian and reverse Gaussian alike; unit projections (C - r) / (C + 2) of that."""
    outputs, inputs = 4, 6
    w = {
        "one large row": np.outer([1, 0, 0, 0], np.ones(6)),
        "orthogonal rows": np.eye(4, 6),
        "random": draw(4, 6),
    }[kind]
    gram = w @ w.T
    gaussian = 2 * np.sum(gram**2)
    rank = np.trace(gram) ** 2 / np.sum(gram**2)
    share = (outputs - rank) / (outputs + 2)
    expected = {
        smoothness.jacobian: gaussian,
        gaussian_rows: gaussian,
        smoothness.jacobian_projected: share * gaussian,
    }
    for estimate, variance in expected.items():
        f = lambda x: x @ jnp.float32(w).T  # noqa: E731
        values = estimates(estimate, f, jnp.ones((1, inputs)), 20_000)
        record_property(f"variance of {estimate.__name__}, {kind}", float(values.var()))
        # The variance of a variance, from the fourth moment.
        spread = np.sqrt(np.var((values - values.mean()) ** 2) / len(values))
        assert abs(values.var() - variance) < 5 * spread + 1e-6, (estimate.__name__, kind)


@every_estimate
def test_more_probes_divide_the_variance(estimate):
    params, x = small()
    f = lambda x: network(params, x)  # noqa: E731
    ratio = estimates(estimate, f, x, 4000).var() / estimates(estimate, f, x, 4000, 4).var()
    assert 3.4 < ratio < 4.7  # The standard error of the ratio is about 0.13.


@every_estimate
def test_every_example_has_directions_of_its_own(estimate):
    """Sixteen identical examples have a sixteenth of the variance of one."""
    params, x = small(3, 1)
    f = lambda x: network(params, x)  # noqa: E731
    many = estimates(estimate, f, jnp.repeat(x, 16, axis=0), 4000)
    assert 13 < estimates(estimate, f, x, 4000).var() / many.var() < 19


def test_projections_of_one_output_are_exact():
    """Row 6 of the failure modes asks for one class, too: one pass, whatever the key."""
    params, x = small(1)
    for f in (lambda x: network(params, x), lambda x: network(params, x)[:, 0]):
        exact = smoothness.jacobian_exact(f, x)
        assert np.allclose(smoothness.jacobian_projected(f, x, key=KEY), exact, rtol=1e-6)
        assert np.allclose(exact, naive(params, x), rtol=1e-5)


EVERY = [
    lambda f, x: smoothness.jacobian(f, x, key=KEY, probes=2),
    lambda f, x: smoothness.jacobian_projected(f, x, key=KEY, probes=2),
    smoothness.jacobian_exact,
]
every = pytest.mark.parametrize("penalty", EVERY, ids=["jacobian", "projected", "exact"])


@every
@pytest.mark.parametrize(
    "dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda d: d.__name__
)
@pytest.mark.slow
def test_a_function_that_does_not_change_costs_nothing(penalty, dtype):
    """Rows 1, 2 and 6 of the failure modes: zero weights have finite first and second gradients."""
    x = jnp.ones((3, 4), dtype)

    def value(w):
        return penalty(lambda x: jax.nn.relu(x @ w), x)

    w = jnp.zeros((4, 2), dtype)
    assert value(w) == 0
    assert value(w).dtype == jnp.float32
    assert np.array_equal(jax.grad(value)(w), np.zeros((4, 2)))
    assert np.isfinite(np.asarray(jax.jit(jax.hessian(value))(w), np.float32)).all()


@every
def test_narrow_dtypes_sum_wide(penalty):
    # Squares of 300 overflow float16; a bfloat16 sum of ones stops at 256.
    for dtype, slope in ((jnp.float16, 300.0), (jnp.bfloat16, 1.0)):
        value = penalty(lambda x, a=slope: jnp.asarray(a, x.dtype) * x, jnp.ones((2000, 1), dtype))
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, slope**2, rtol=0.15)


@every
def test_an_empty_batch_costs_nothing(penalty):
    assert penalty(lambda x: x * x, jnp.zeros((0, 4))) == 0


@every
def test_identical_examples_count_like_one(penalty):
    params, x = small(3, 1)
    if penalty is smoothness.jacobian_exact:
        many = penalty(lambda x: network(params, x), jnp.repeat(x, 8, axis=0))
        np.testing.assert_allclose(many, penalty(lambda x: network(params, x), x), rtol=1e-6)


@every
@pytest.mark.slow
def test_functions_may_close_over_keys_and_modules(penalty):
    """Dropout with one key, mapped over keys; an NNX module that changes between calls."""
    x = jnp.ones((3, 4))
    w = jnp.asarray(draw(4, 2), jnp.float32)

    def of_key(key):
        return penalty(lambda x: (x * jax.random.bernoulli(key, 0.5, x.shape)) @ w, x)

    keys = jax.random.split(KEY, 3)
    looped = [of_key(key) for key in keys]
    np.testing.assert_allclose(jax.vmap(of_key)(keys), looped, rtol=1e-5)
    model = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
    before = penalty(model, x)
    model.kernel[...] = 2 * model.kernel[...]
    np.testing.assert_allclose(penalty(model, x), 4 * before, rtol=1e-5)
    gradient = nnx.grad(lambda model: penalty(model, x))(model)["kernel"]
    assert np.abs(gradient[...]).min() > 0


@pytest.mark.parametrize("shape", [(12, 3), (3, 12)], ids=["rows", "columns"])
def test_exact_takes_the_order_with_fewer_passes(shape):
    """One product for the value, and one for each of three rows or three columns."""
    w = jnp.ones(shape)
    program = jax.make_jaxpr(lambda x: smoothness.jacobian_exact(lambda x: x @ w, x))
    assert str(program(jnp.ones((5, shape[0])))).count("dot_general") == 1 + 3


def test_the_gradient_of_exact_counts_no_more_products_than_it_needs():
    """Per output two products pull back, two push forward, and two are gradients of kernels.

    Reversing the reverse pass would need as many, but with convolutions that XLA has no fast code
    for; not sharing the reverse pass would need one more. The first layer's inputs need none.
    """
    params, x = small(3, 16)
    f = jax.jit(jax.grad(lambda p: smoothness.jacobian_exact(lambda x: network(p, x), x)))
    products = f.lower(params).compile().as_text().count(" dot(")
    assert products <= 2 + 3 + 3 * 6


def test_batch_norm_in_training_breaks_the_meaning():
    """The examples mix: an invariant function of the batch mean has cross terms that all count."""
    x = jnp.asarray(draw(4, 1), jnp.float32)

    def centered(x):
        return x - x.mean(axis=0)

    own = np.mean([(1 - 1 / 4) ** 2] * 4)
    assert not np.allclose(smoothness.jacobian_exact(centered, x), own)


@every
def test_wrong_functions_are_named(penalty):
    x = jnp.ones((3, 4))
    with pytest.raises(ValueError, match=r"`f` must return one row for each of the 3.*\(\)"):
        penalty(lambda x: jnp.sum(x), x)
    with pytest.raises(TypeError, match=r"`f` must return one array, got tuple"):
        penalty(lambda x: (x, x), x)
    with pytest.raises(TypeError, match=r"`f` must return floating-point numbers, got int32"):
        penalty(lambda x: jnp.argmax(x, axis=-1).astype(jnp.int32), x)
    with pytest.raises(ValueError, match=r"`x` must have the axes \[batch, \.\.\.\]"):
        penalty(lambda x: x, jnp.float32(3))
    with pytest.raises(TypeError, match=r"`x` must have a real dtype, got complex64"):
        penalty(lambda x: x, x.astype(jnp.complex64))


@every_estimate
def test_wrong_probes_and_keys_are_named(estimate):
    x = jnp.ones((3, 4))
    with pytest.raises(ValueError, match=r"`probes` must be at least 1, got 0"):
        estimate(jnp.sin, x, key=KEY, probes=0)
    with pytest.raises(TypeError, match=r"`probes` must be an integer, got float 1\.0"):
        estimate(jnp.sin, x, key=KEY, probes=1.0)
    with pytest.raises(TypeError, match=r"`key` must be a PRNG key, got int 0"):
        estimate(jnp.sin, x, key=0)
