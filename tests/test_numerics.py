"""The numerics core: wide accumulation, one rounding, norms and means without NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxreg import _numerics
from jaxreg._numerics import as_strength, safe_norm, widen
from tests.helpers import few
from tests.normalization.helpers import with_gradients


def float64_norm(x, axis):
    return np.sqrt(np.sum(np.abs(np.asarray(x).astype(np.complex128)) ** 2, axis, keepdims=True))


def norm_of_all(x):
    return safe_norm(x, axis=None)


@few(
    ("dtype", "axis"),
    [("complex64", 0), ("float32", (0, 2)), (jnp.bfloat16, None), ("float16", -1)],
)
def test_safe_norm_is_the_norm(dtype, axis):
    draws = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    x = (draws[0] + 1j * draws[1] if dtype == "complex64" else draws[0]).astype(dtype)
    norm = jax.jit(lambda x: safe_norm(x, axis=axis))(x)
    assert norm.dtype == jnp.float32
    np.testing.assert_allclose(norm, float64_norm(x, axis), rtol=1e-6)


def test_safe_norm_of_any_magnitude():
    """The plain norm of 3e-30 is 0 in float32, and the norm of 1e20 is infinite."""
    run = jax.jit(norm_of_all)
    for size in (3e-30, 1e-20, 1.0, 1e20, 1e38):
        x = (np.array([3, 4]) * size / 4).astype(np.float32)
        np.testing.assert_allclose(run(x), float64_norm(x, None), rtol=1e-6)
    assert np.isfinite(run(np.array([1e-45, 1e-45], np.float32)))


@few("dtype", [np.float16, jnp.bfloat16])
def test_safe_norm_does_not_overflow_in_low_precision(dtype):
    """Clipping by the norm in float16 turns gradients of 300 into zeros."""
    x = np.full((300, 300), 300, dtype)
    np.testing.assert_allclose(jax.jit(norm_of_all)(x), 300.0 * 300, rtol=1e-2)


@few("shape", [(2, 2), (3,)])
def test_safe_norm_at_zero_has_zero_derivatives(shape):
    """``jax.grad(jnp.linalg.norm)`` is NaN at zero."""

    def norm(x):
        return norm_of_all(x).sum()

    @jax.jit
    def run(x):
        return norm(x), [d(norm)(x) for d in (jax.grad, jax.jacfwd, jax.hessian)]

    value, derivatives = run(np.zeros(shape, np.float32))
    assert value == 0
    for derivative in derivatives:
        np.testing.assert_array_equal(derivative, 0)


def test_the_gradient_of_safe_norm_is_the_unit_vector():
    run = jax.jit(jax.grad(lambda x: norm_of_all(x).sum()))
    for size in (1e-30, 1e-3, 1.0, 1e30):
        x = (np.array([3.0, -4.0, 0.0]) * size).astype(np.float32)
        np.testing.assert_allclose(run(x), [0.6, -0.8, 0.0], rtol=1e-6)


def test_the_hessian_of_safe_norm():
    """It is (I - u u^T) / |x| for the unit vector u."""
    hessian = jax.jit(jax.hessian(lambda x: norm_of_all(x).sum()))(np.array([3.0, 4.0], "f4"))
    unit = np.array([0.6, 0.8])
    np.testing.assert_allclose(hessian, (np.eye(2) - np.outer(unit, unit)) / 5, atol=1e-6)


def test_one_zero_vector_does_not_spoil_the_others():
    x = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    gradient = jax.jit(jax.grad(lambda x: safe_norm(x, axis=-1).sum()))(x)
    np.testing.assert_allclose(gradient, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)


def test_safe_norm_of_nonfinite_vectors():
    run = jax.jit(norm_of_all)
    assert np.isinf(run(np.array([1.0, -np.inf], np.float32))).all()
    assert np.isnan(run(np.array([1.0, np.nan], np.float32))).all()


@few(("shape", "axis"), [((2, 0), 1), ((0,), None), ((0, 2), 0), ((0, 2), 1)])
def test_norms_of_empty_arrays(shape, axis):
    x = np.zeros(shape, np.float32)
    dy = np.ones(float64_norm(x, axis).shape, np.float32)
    norm, (gradient,) = with_gradients(lambda x: safe_norm(x, axis=axis), dy, x)
    assert norm.shape == dy.shape
    np.testing.assert_array_equal(norm, 0)
    assert gradient.shape == shape
    assert jax.eval_shape(lambda x: _numerics.unit(x, axis=axis), x).shape == shape


def test_unit_vectors_and_their_derivatives_at_any_magnitude():
    """At zero both are zero."""
    weights = np.array([0.5, -1.0, 2.0], np.float32)

    @jax.jit
    def run(x):
        y, pull = jax.vjp(lambda x: _numerics.unit(x, axis=-1), x)
        return y, pull(weights)[0]

    for size in (1e-30, 1.0, 1e30):
        x = (np.array([3.0, -4.0, 1.0]) * size).astype(np.float32)
        y, gradient = run(x)
        unit = np.array([3.0, -4.0, 1.0]) / 26**0.5
        np.testing.assert_allclose(y, unit, rtol=1e-6)
        slope = (weights - unit * np.sum(unit * weights)) / 26**0.5
        np.testing.assert_allclose(np.float64(gradient) * size, slope, rtol=1e-5)
    np.testing.assert_array_equal(run(np.zeros(3, np.float32)), np.zeros((2, 3)))
    narrow = jax.eval_shape(lambda x: _numerics.unit(x, axis=0), np.ones(3, np.float16))
    assert narrow.dtype == jnp.float32


def test_the_peak_may_be_divided_by():
    """It and its inverse are no subnormal numbers; of zeros, and with infinities, it is one."""
    run = jax.jit(lambda x: _numerics.peak(x, axis=-1))
    tiny = float(np.finfo(np.float32).tiny)
    given = [[-3.0, 2.0], [0.0, 0.0], [1.2e-38, 0.0], [3e38, 1.0], [np.inf, 1.0], [np.nan, 1.0]]
    expected = [[3.0], [1.0], [2 * tiny], [1 / (2 * tiny)], [1.0], [1.0]]
    np.testing.assert_array_equal(run(np.array(given, np.float32)), np.float32(expected))
    gradient = jax.jit(jax.grad(lambda x: _numerics.peak(x, axis=None).sum()))
    np.testing.assert_array_equal(gradient(np.array([3.0, 1.0], np.float32)), 0)


# Dtypes and strengths.


@pytest.mark.parametrize(
    ("dtype", "wide"),
    [
        (jnp.float16, jnp.float32),
        (jnp.bfloat16, jnp.float32),
        (jnp.float32, jnp.float32),
        (jnp.complex64, jnp.complex64),
    ],
)
def test_computation_is_in_float32_or_wider(dtype, wide):
    x = jax.ShapeDtypeStruct((2,), dtype)
    assert jax.eval_shape(widen, x).dtype == _numerics.wide_dtype(dtype) == wide
    assert jax.eval_shape(lambda x: as_strength(0.1, x), x).dtype == jnp.float32
    assert _numerics.real_dtype(x) == jnp.float32


def test_computation_in_float64_stays_there():
    with jax.enable_x64(True):
        for dtype, real in ((np.float64, np.float64), (np.complex128, np.float64)):
            x = jax.ShapeDtypeStruct((2,), dtype)
            assert jax.eval_shape(widen, x).dtype == dtype
            assert _numerics.real_dtype(x) == real


def test_a_strength_is_not_rounded_to_the_array():
    assert as_strength(0.1, np.ones(2, jnp.bfloat16)) == np.float32(0.1)
    assert as_strength(np.float64(0.1), np.ones(2, np.float16)) == np.float32(0.1)


def test_numpy_arrays_become_those_of_jax():
    """Their sums would be NumPy's."""
    assert isinstance(widen(np.ones(2, np.float32)), jax.Array)


def test_one_number_is_aligned_as_it_is_and_several_like_the_array():
    x = np.zeros((2, 3), np.float16)
    assert jax.eval_shape(lambda x: _numerics.align(0.5, x), x).shape == ()
    found = jax.jit(_numerics.align)(np.array([[1.0], [2.0]], np.float32), x)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, [[1, 1, 1], [2, 2, 2]])
    mesh = jax.make_mesh((2,), ("d",), (AxisType.Explicit,), devices=jax.devices()[:2])
    with jax.set_mesh(mesh):
        placed = jax.device_put(x, NamedSharding(mesh, P("d")))
        found = jax.jit(_numerics.align)(np.ones(3, np.float32), placed)
    assert found.sharding.spec == P("d", None)


def test_weighted_is_the_product_but_zero_times_infinity_is_zero():
    weight = np.array([0.0, 0.0, 0.0, 2.0, 2.0, 0.5], np.float32)
    x = np.array([np.inf, np.nan, 3.0, -np.inf, np.nan, 3.0], np.float32)
    y, (of_weight, of_x) = with_gradients(_numerics.weigh, np.ones(6, "f4"), weight, x)
    np.testing.assert_array_equal(y, [0, 0, 0, -np.inf, np.nan, 1.5])
    np.testing.assert_array_equal(of_weight[:3], [0, 0, 3])
    np.testing.assert_array_equal(of_x, weight)


def test_squares_of_complex_numbers_are_real():
    found = jax.jit(_numerics.square)(np.array([3 + 4j], np.complex64))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, [25])


def numbers_and_halves(dtype):
    """Numbers of a narrow dtype, what is halfway between them and next to that, and odd ones."""
    bits = np.arange(2 ** jnp.finfo(dtype).bits)
    own = bits.astype(np.uint8 if len(bits) == 256 else np.uint16).view(dtype).astype(np.float32)
    own = np.unique(own[np.isfinite(own)])
    halves = own[1:] / 2 + own[:-1] / 2
    near = [np.nextafter(halves, np.float32(end)) for end in (-np.inf, np.inf)]
    odd = np.float32([np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-30, 0.0])
    # Beyond the largest bfloat16 is infinity.
    with np.errstate(over="ignore"):
        beyond = own[-1:] * np.float32(1.04)
    return np.concatenate([own, halves, *near, odd, beyond])


@few("dtype", [jnp.float8_e4m3fn, jnp.float8_e5m2, jnp.float8_e4m3fnuz, np.float16, jnp.bfloat16])
def test_rounding_is_the_cast_there_and_back(dtype):
    """By ml_dtypes; within a program, where XLA leaves out a cast there and back."""
    x = numbers_and_halves(np.dtype(dtype))
    with np.errstate(over="ignore"):
        want = x.astype(dtype).astype(np.float32)
    found = jax.jit(lambda x: _numerics.round_to(x, dtype))(x)
    np.testing.assert_array_equal(found, want)


def test_the_inverse_root_is_zero_at_zero_and_at_infinity():
    x = np.array([0.0, np.inf, 4.0, 1e-30, -1.0], np.float32)
    y, (dx,) = with_gradients(_numerics.inverse_root, np.ones(5, "f4"), x)
    np.testing.assert_allclose(y, [0, 0, 0.5, 1e15, 0], rtol=1e-6)
    np.testing.assert_allclose(dx[:3], [0, 0, -1 / 16], rtol=1e-6)
    assert np.isfinite(dx[4])
