"""Jacobian penalties: float64, torch, estimates against the exact norm, passes, and edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import smoothness
from tests.arrays import NARROW, assert_derivatives, assert_finite, float64, normal
from tests.helpers import few, first_of
from tests.smoothness.helpers import (
    TORCH_PARAMS,
    TORCH_X,
    assert_equals_torch,
    network,
    slope_by_differences,
    small,
    squared_norm,
)

KEY = jax.random.key(0)
ESTIMATES = [smoothness.jacobian, smoothness.jacobian_projected]
every_estimate = pytest.mark.parametrize("estimate", ESTIMATES, ids=lambda f: f.__name__)
PENALTIES = {
    "jacobian": lambda f, x: smoothness.jacobian(f, x, key=KEY, probes=2),
    "projected": lambda f, x: smoothness.jacobian_projected(f, x, key=KEY, probes=2),
    "exact": smoothness.jacobian_exact,
}
every_penalty = pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)


def exact(params, x):
    return smoothness.jacobian_exact(lambda x: network(params, x), x)


# The exact norm.


@few("outputs", [2, 5, 1, 4, 17], ids=lambda n: f"{n} outputs")
@few("batch", [5, 1])
def test_exact_is_the_norm_of_the_jacobian(outputs, batch):
    """In both orders: of 4 inputs, 5 and 17 outputs are taken by columns."""
    params, x = small(outputs, batch)
    value = jax.jit(exact)(params, x)
    assert (value.shape, value.dtype) == ((), np.float32)
    np.testing.assert_allclose(value, squared_norm(params, x), rtol=1e-5)


@pytest.mark.parametrize("shape", [(20, 30), (30, 20)], ids=["columns", "rows"])
def test_exact_takes_many_passes_in_a_loop(shape):
    w = normal(*shape)
    x = normal(2, shape[0], seed=1)
    value = jax.jit(lambda x: smoothness.jacobian_exact(lambda x: x @ np.float32(w), x))
    np.testing.assert_allclose(value(np.float32(x)), np.sum(w**2), rtol=1e-5)
    assert_derivatives(
        lambda w, x: smoothness.jacobian_exact(lambda x: jnp.tanh(x @ w), x), w / 9, x
    )


def test_exact_takes_any_axes():
    w = normal(12, 6)

    def f(x):
        return (x.reshape(len(x), 12) @ np.float32(w)).reshape(len(x), 3, 2)

    @jax.jit
    def values():
        triple = lambda x: smoothness.jacobian_exact(lambda x: 3 * x, x)  # noqa: E731
        return (
            smoothness.jacobian_exact(f, jnp.ones((5, 3, 4))),
            triple(jnp.ones(7)),
            smoothness.jacobian_exact(lambda x: x[:, :0], jnp.ones((5, 2))),
            jax.grad(triple)(jnp.ones(1))[0],
        )

    np.testing.assert_allclose(values(), [np.sum(w**2), 9, 0, 0], rtol=1e-5)


@first_of("outputs", [2, 5], ids=["rows", "columns"])
def test_exact_has_first_and_second_derivatives(outputs):
    (w1, w2), x = small(outputs, 3)
    point = [float64(w) for w in (w1, w2, x)]

    def value(w1, w2, x):
        # With a scale in front and a power behind: the rule is linear in its cotangent.
        return (0.3 * exact([w1, w2], x)) ** 2

    assert_derivatives(value, *point)
    assert_derivatives(value, *point, order=2, rtol=1e-5)


def test_exact_equals_torch():
    measured = jax.jit(jax.value_and_grad(exact))(TORCH_PARAMS, TORCH_X)
    assert_equals_torch(measured, "jacobian")


@pytest.mark.parametrize("shape", [(12, 3), (3, 12)], ids=["rows", "columns"])
def test_exact_takes_the_order_with_fewer_passes(shape):
    """One product for the value, and one for each of three rows or three columns."""
    w = np.ones(shape, np.float32)
    program = jax.make_jaxpr(lambda x: smoothness.jacobian_exact(lambda x: x @ w, x))
    assert str(program(np.ones((5, shape[0]), np.float32))).count("dot_general") == 1 + 3


@pytest.mark.parametrize("passes", [16, 17])
def test_more_than_sixteen_passes_are_a_loop(passes):
    f = lambda x: jnp.sin(x)  # noqa: E731
    penalties = [
        (smoothness.jacobian_exact, (3, passes)),
        (lambda f, x: smoothness.jacobian(f, x, key=KEY, probes=passes), (3, 4)),
        (lambda f, x: smoothness.jacobian_projected(f, x, key=KEY, probes=passes), (3, 4)),
    ]
    for penalty, shape in penalties:
        program = jax.make_jaxpr(lambda x, penalty=penalty: penalty(f, x))(np.ones(shape))
        loops = [e for e in program.jaxpr.eqns if e.primitive.name == "scan"]
        assert len(loops) == (passes > 16)


def test_the_gradient_of_exact_counts_no_more_products_than_it_needs():
    """Per output two products pull back, two push forward, and two are gradients of kernels.

    Reversing the reverse pass would need as many, but with convolutions that XLA has no fast code
    for; not sharing the reverse pass would need one more. The first layer's inputs need none.
    """
    params, x = small(3, 16)
    f = jax.jit(jax.grad(lambda p: exact(p, x)))
    products = f.lower(params).compile().as_text().count(" dot(")
    assert products <= 2 + 3 + 3 * 6


# Estimates.


def drawn(estimate, f, x, number, **options):
    one = lambda key: estimate(f, x, key=key, **options)  # noqa: E731
    return jax.vmap(one)(jax.random.split(KEY, number))


@every_estimate
@pytest.mark.parametrize(("probes", "number"), [(3, 4000), (17, 700)], ids=["3", "17"])
def test_estimates_are_unbiased(estimate, probes, number):
    """Within 5 standard errors of the exact norm; the norm of 0.9 times the function is not."""
    params, x = small()
    program = jax.jit(
        lambda x: drawn(estimate, lambda x: network(params, x), x, number, probes=probes)
    )
    values = float64(program(x))
    error = values.std() / np.sqrt(len(values))
    norm = squared_norm(params, x)
    assert abs(values.mean() - norm) < 5 * error
    assert abs(values.mean() - 0.81 * norm) > 5 * error


@every_estimate
def test_gradients_of_estimates_are_unbiased(estimate):
    (w1, w2), x = small()

    @jax.jit
    def gradients(w1):
        value = lambda w, key: estimate(lambda x: network([w, w2], x), x, key=key)  # noqa: E731
        return jax.vmap(lambda key: jax.grad(value)(w1, key))(jax.random.split(KEY, 4000))

    slopes = float64(gradients(w1))
    error = slopes.std(axis=0) / np.sqrt(len(slopes))
    want = slope_by_differences(lambda w: squared_norm([w, w2], x), w1)
    assert (abs(slopes.mean(axis=0) - want) < 5 * error).all()
    assert not (abs(slopes.mean(axis=0) - 0.81 * want) < 5 * error).all()


ROWS = {
    "random": normal(4, 6),
    "one large row": np.outer([1, 0, 0, 0], np.ones(6)),
    "orthogonal rows": np.eye(4, 6),
}


@few("kind", ROWS)
def test_variances_are_those_the_docstring_states(kind):
    """Gaussian directions of inputs, and unit projections with (C - r) / (C + 2) of that."""
    w = ROWS[kind]
    gram = w @ w.T
    gaussian = 2 * np.sum(gram**2)
    rank = np.trace(gram) ** 2 / np.sum(gram**2)
    expected = [gaussian, (4 - rank) / (4 + 2) * gaussian]

    @jax.jit
    def values(x):
        return [drawn(estimate, lambda x: x @ np.float32(w).T, x, 20_000) for estimate in ESTIMATES]

    for sample, variance in zip(values(np.ones((1, 6), np.float32)), expected, strict=True):
        sample = float64(sample)
        # The variance of a variance, from the fourth moment.
        spread = np.sqrt(np.var((sample - sample.mean()) ** 2) / len(sample))
        assert abs(sample.var() - variance) < 5 * spread + 1e-6


@every_estimate
def test_probes_and_examples_have_directions_of_their_own(estimate):
    """Four probes have a fourth of the variance of one, sixteen equal examples a sixteenth."""
    params, x = small(3, 1)
    f = lambda x: network(params, x)  # noqa: E731

    @jax.jit
    def values(x):
        repeated = jnp.repeat(x, 16, axis=0)
        return (
            drawn(estimate, f, x, 4000),
            drawn(estimate, f, x, 4000, probes=4),
            drawn(estimate, f, repeated, 4000),
        )

    one, probes, many = [float64(sample).var() for sample in values(x)]
    assert 3.4 < one / probes < 4.7  # The standard error of the ratio is about 0.13.
    assert 13 < one / many < 19


def test_projections_of_one_output_are_exact():
    """One pass is enough, whatever the key, and whether the output has an axis or not."""
    params, x = small(1)

    @jax.jit
    def values(x):
        functions = (lambda x: network(params, x), lambda x: network(params, x)[:, 0])
        return [
            (smoothness.jacobian_projected(f, x, key=KEY), smoothness.jacobian_exact(f, x))
            for f in functions
        ]

    np.testing.assert_allclose(values(x), np.full((2, 2), squared_norm(params, x)), rtol=1e-5)


def test_projections_serve_functions_without_a_forward_derivative():
    @jax.custom_vjp
    def f(x):
        return x.sum(axis=1)

    f.defvjp(lambda x: (f(x), x), lambda x, g: (2 * g[:, None] + 0 * x,))
    value = jax.jit(lambda x: smoothness.jacobian_projected(f, x, key=KEY))
    np.testing.assert_allclose(value(np.ones((5, 3), np.float32)), 12.0, rtol=1e-6)


# All three.


@every_penalty
@few("dtype", [np.dtype("float32"), *NARROW], ids=str)
def test_a_function_that_does_not_change_costs_nothing(penalty, dtype):
    """Zero weights have finite first and second gradients."""
    x = np.ones((3, 4), dtype)

    def value(w):
        return penalty(lambda x: jax.nn.relu(x @ w), x)

    @jax.jit
    def derivatives(w):
        return value(w), jax.grad(value)(w), jax.hessian(value)(w)

    cost, slope, curvature = derivatives(np.zeros((4, 2), dtype))
    assert (cost, cost.dtype) == (0, np.float32)
    np.testing.assert_array_equal(np.float32(slope), 0)
    assert_finite(curvature)


@every_penalty
def test_narrow_dtypes_are_summed_wide(penalty):
    # Squares of 300 overflow float16; a bfloat16 sum of ones stops at 256.
    for dtype, slope in ((np.float16, 300.0), (jnp.bfloat16, 1.0)):
        program = jax.jit(lambda x, a=slope: penalty(lambda x: jnp.asarray(a, x.dtype) * x, x))
        value = program(np.ones((2000, 1), dtype))
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, slope**2, rtol=0.15)


def test_float32_stays_float32_beside_float64():
    with jax.enable_x64(True):
        x = jax.ShapeDtypeStruct((3, 2), np.float32)
        for penalty in PENALTIES.values():
            value = jax.eval_shape(lambda x, p=penalty: p(lambda x: x * x, x), x)
            assert value.dtype == np.float32


@every_penalty
def test_an_empty_batch_costs_nothing(penalty):
    assert jax.jit(lambda x: penalty(lambda x: x * x, x))(np.zeros((0, 4), np.float32)) == 0


def test_identical_examples_count_like_one():
    params, x = small(3, 1)
    for examples in (x, np.repeat(x, 8, axis=0)):
        value = jax.jit(exact)(params, examples)
        np.testing.assert_allclose(value, squared_norm(params, x), rtol=1e-5)


@every_penalty
def test_wrong_functions_are_named(penalty):
    x = np.ones((3, 4), np.float32)

    def trace(f, x=x):
        return jax.eval_shape(lambda x: penalty(f, x), x)

    with pytest.raises(ValueError, match=r"`f` must return one row for each of the 3.*\(\)"):
        trace(lambda x: jnp.sum(x))
    with pytest.raises(TypeError, match=r"`f` must return one array, got tuple"):
        trace(lambda x: (x, x))
    with pytest.raises(TypeError, match=r"`f` must return floating-point numbers, got int32"):
        trace(lambda x: jnp.argmax(x, axis=-1).astype(np.int32))
    with pytest.raises(ValueError, match=r"`x` must have axes \[batch, \.\.\.\]"):
        trace(lambda x: x, np.float32(3))
    with pytest.raises(TypeError, match=r"`x` must have a real dtype, got complex64"):
        trace(lambda x: x, x.astype(np.complex64))


@every_estimate
def test_wrong_probes_and_keys_are_named(estimate):
    x = np.ones((3, 4), np.float32)
    with pytest.raises(ValueError, match=r"`probes` must be at least 1, got 0"):
        estimate(jnp.sin, x, key=KEY, probes=0)
    with pytest.raises(TypeError, match=r"`probes` must be an integer, got float 1\.0"):
        estimate(jnp.sin, x, key=KEY, probes=1.0)
    with pytest.raises(TypeError, match=r"`key` must be a PRNG key, got int 0"):
        estimate(jnp.sin, x, key=0)
