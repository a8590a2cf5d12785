"""The numerics core and the argument checks that every family shares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import _checks
from jaxreg._numerics import mean_of, safe_norm, strength, weighted, widen


def float64_norm(x, axis):
    return np.sqrt(np.sum(np.abs(np.asarray(x).astype(np.complex128)) ** 2, axis, keepdims=True))


@pytest.mark.parametrize(
    ("dtype", "axis"),
    [("float32", (0, 2)), ("bfloat16", None), ("float16", -1), ("complex64", 0)],
)
def test_safe_norm_is_the_norm(dtype, axis):
    draws = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    x = jnp.asarray((draws[0] + 1j * draws[1] if dtype == "complex64" else draws[0]).astype(dtype))
    norm = jax.jit(lambda x: safe_norm(x, axis=axis))(x)
    assert norm.dtype == jnp.float32
    np.testing.assert_allclose(norm, float64_norm(x, axis), rtol=1e-6)


@pytest.mark.parametrize("size", [1e-45, 3e-30, 1e-20, 1.0, 1e20, 1e38])
def test_safe_norm_of_any_magnitude(size):
    """The plain norm of 3e-30 is 0 in float32, and that of 1e20 is infinite."""
    x = jnp.asarray(np.array([3, 4], np.float64) * size / 4, jnp.float32)
    norm = np.asarray(jax.jit(lambda x: safe_norm(x, axis=None))(x), np.float64)
    expected = float64_norm(x, None)
    if size < float(jnp.finfo(jnp.float32).tiny):
        assert np.isfinite(norm).all()
    else:
        np.testing.assert_allclose(norm, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_safe_norm_does_not_overflow_in_low_precision(dtype):
    """Clipping by the norm in float16 turns gradients of 300 into zeros."""
    x = jnp.full((300, 300), 300, dtype)
    np.testing.assert_allclose(safe_norm(x, axis=None), 300.0 * 300, rtol=1e-2)


@pytest.mark.parametrize("shape", [(3,), (2, 2)])
def test_safe_norm_at_zero_has_zero_derivatives(shape):
    """``jax.grad(jnp.linalg.norm)`` is NaN at zero."""

    def norm(x):
        return safe_norm(x, axis=None).sum()

    zero = jnp.zeros(shape)
    assert norm(zero) == 0
    for derivative in (jax.grad, jax.jacfwd, jax.hessian):
        np.testing.assert_array_equal(jax.jit(derivative(norm))(zero), 0)


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1.0, 1e30])
def test_the_gradient_of_safe_norm_is_the_unit_vector(size):
    x = jnp.array([3.0, -4.0, 0.0]) * size
    gradient = jax.jit(jax.grad(lambda x: safe_norm(x, axis=None).sum()))(x)
    np.testing.assert_allclose(gradient, [0.6, -0.8, 0.0], rtol=1e-6)


def test_the_hessian_of_safe_norm():
    """It is (I - u u^T) / |x| for the unit vector u."""
    hessian = jax.jit(jax.hessian(lambda x: safe_norm(x, axis=None).sum()))(jnp.array([3.0, 4.0]))
    unit = np.array([0.6, 0.8])
    np.testing.assert_allclose(hessian, (np.eye(2) - np.outer(unit, unit)) / 5, atol=1e-6)


def test_one_zero_vector_does_not_spoil_the_others():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    gradient = jax.jit(jax.grad(lambda x: safe_norm(x, axis=-1).sum()))(x)
    np.testing.assert_allclose(gradient, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)


def test_safe_norm_of_nonfinite_vectors():
    assert jnp.isinf(safe_norm(jnp.array([1.0, -jnp.inf]), axis=None)).all()
    assert jnp.isnan(safe_norm(jnp.array([1.0, jnp.nan]), axis=None)).all()


@pytest.mark.parametrize(("shape", "axis"), [((0,), None), ((2, 0), 1), ((0, 2), 0), ((0, 2), 1)])
def test_safe_norm_of_empty_arrays(shape, axis):
    norm = jax.jit(lambda x: safe_norm(x, axis=axis))(jnp.zeros(shape))
    assert norm.shape == float64_norm(np.zeros(shape), axis).shape
    np.testing.assert_array_equal(norm, 0)
    gradient = jax.jit(jax.grad(lambda x: safe_norm(x, axis=axis).sum()))(jnp.zeros(shape))
    assert gradient.shape == shape


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
    assert widen(jnp.ones(2, dtype)).dtype == wide
    assert strength(0.1, jnp.ones(2, dtype)).dtype == jnp.float32


def test_a_strength_is_not_rounded_to_the_array():
    assert strength(0.1, jnp.ones(2, jnp.bfloat16)) == np.float32(0.1)
    assert strength(np.float64(0.1), jnp.ones(2, jnp.float16)) == np.float32(0.1)


STATIC = [1, 1.0, True, np.float64(1), np.array(1.0), np.int32(1)]
NOT_STATIC = [jnp.float32(1), np.array([1.0]), "1", None, 1j]


@pytest.mark.parametrize("value", STATIC, ids=repr)
def test_numbers_on_the_host_are_static(value):
    assert _checks.is_static(value)
    assert not _checks.is_static_zero(value)
    assert _checks.is_static_zero(value - value if not isinstance(value, bool) else False)


@pytest.mark.parametrize("value", NOT_STATIC, ids=repr)
def test_arrays_are_not_static(value):
    assert not _checks.is_static(value)


def test_a_zero_on_the_device_is_not_read():
    assert not _checks.is_static_zero(jnp.zeros(()))


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(1), True, np.array(0.0)])
def test_rates_in_range_pass(value):
    _checks.check_rate(value)


@pytest.mark.parametrize("value", [-1e-9, 1 + 1e-9, float("nan"), float("inf"), 2, np.float64(-1)])
def test_rates_out_of_range_raise(value):
    with pytest.raises(ValueError, match=r"`p` must be a probability in \[0, 1\], got .*"):
        _checks.check_rate(value, "p")


@pytest.mark.parametrize("value", [-1, -1e-9, float("nan"), -float("inf")])
def test_negative_strengths_raise(value):
    with pytest.raises(ValueError, match=rf"`weight` must be zero or positive, got {value}\."):
        _checks.check_nonnegative(value, "weight")


def test_an_infinite_strength_passes():
    _checks.check_nonnegative(float("inf"), "weight")


@pytest.mark.parametrize("value", [jnp.float32(-1), jnp.float32(jnp.nan)])
def test_checks_do_not_read_arrays(value):
    _checks.check_rate(value)
    _checks.check_nonnegative(value, "weight")


@pytest.mark.parametrize("shape", [(2,), (3, 4), (2, 1, 4), (4, 1)])
def test_strengths_that_would_enlarge_the_result_raise(shape):
    message = r"`threshold` must broadcast to shape \(2, 4\), got shape"
    with pytest.raises(ValueError, match=message):
        _checks.check_broadcasts(jnp.ones(shape), "threshold", (2, 4))


def test_several_rates_raise():
    with pytest.raises(ValueError, match=r"`rate` must be a single number, got shape \(2,\)"):
        _checks.check_rate(jnp.ones(2))


def test_checks_do_not_read_tracers():
    jax.jit(lambda r: _checks.check_rate(r))(jnp.float32(7))


@pytest.mark.parametrize("check", [_checks.check_floating, _checks.check_integer])
def test_a_list_is_not_an_array(check):
    with pytest.raises(TypeError, match=r"`w` must be an array, got list; pass jnp\.asarray"):
        check([1.0], "w")


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bool_])
def test_class_ids_must_be_integers(dtype):
    with pytest.raises(TypeError, match="`labels` must hold integer class ids, got dtype"):
        _checks.check_integer(jnp.ones(2, dtype), "labels")


def test_numpy_arrays_pass_the_dtype_checks():
    _checks.check_floating(np.ones(2), "x")
    _checks.check_integer(np.arange(2), "labels")


@pytest.mark.parametrize(
    ("axis", "expected"), [(0, (0,)), (-1, (2,)), ((2, 0), (0, 2)), ((-1, -3), (0, 2)), ((), ())]
)
def test_axes_become_sorted_and_positive(axis, expected):
    assert _checks.canonical_axes(axis, 3) == expected


@pytest.mark.parametrize(
    ("axis", "message"),
    [(3, r"`axis` must lie in \[-3, 3\), got 3"), (-4, "got -4"), ((0, -3), "each axis once")],
)
def test_wrong_axes_raise(axis, message):
    with pytest.raises(ValueError, match=message):
        _checks.canonical_axes(axis, 3)


def test_weighted_is_the_product_but_zero_times_infinity_is_zero():
    weight = jnp.array([0.0, 0.0, 0.0, 2.0, 2.0, 0.5])
    x = jnp.array([jnp.inf, jnp.nan, 3.0, -jnp.inf, jnp.nan, 3.0])
    np.testing.assert_array_equal(weighted(weight, x), [0, 0, 0, -np.inf, np.nan, 1.5])
    of_weight, of_x = jax.grad(lambda w, x: weighted(w, x).sum(), (0, 1))(weight, x)
    np.testing.assert_array_equal(of_weight[:3], [0, 0, 3])
    np.testing.assert_array_equal(of_x, weight)


def test_mean_of_what_counts():
    x = jnp.array([[jnp.nan, 2.0], [4.0, 6.0]])
    value, gradient = jax.value_and_grad(mean_of)(x, jnp.array([[False, True], [True, False]]))
    assert value == 3
    np.testing.assert_array_equal(gradient, [[0, 0.5], [0.5, 0]])
    value, gradient = jax.value_and_grad(mean_of)(x, jnp.zeros((2, 2), bool))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros((2, 2)))
