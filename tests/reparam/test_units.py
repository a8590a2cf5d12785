"""Weight norm and weight standardization of kernels, against float64 NumPy and torch."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import reparam
from tests.helpers import few
from tests.normalization.helpers import assert_all_finite, compiled, refuses, with_gradients
from tests.reparam.helpers import DTYPES, KERNELS, ROUNDING, SLOPE, kernel, matrix, wide

TORCH = json.loads(
    (pathlib.Path(__file__).parents[1] / "references" / "reparam_torch.json").read_text()
)
every_kernel = few(("shape", "axis"), KERNELS, ids=str)
every_dtype = few("dtype", DTYPES)


@every_kernel
@every_dtype
def test_weight_norm_gives_lengths_and_keeps_directions(shape, axis, dtype):
    """Its own lengths change nothing: Flax starts at 1, which changes weights (flax#4138)."""
    v = kernel(*shape, dtype=dtype)
    rows = matrix(v, axis)
    lengths = np.linalg.norm(rows, axis=1)

    @jax.jit
    def run(v):
        norms = reparam.weight_norm_scale(v, axis=axis)
        scale = jnp.linspace(-1, 2, norms.size).reshape(norms.shape)
        scaled = reparam.weight_norm(v, scale=scale, axis=axis)
        return norms, scaled, reparam.weight_norm(v, scale=norms, axis=axis)

    norms, w, same = run(v)
    assert norms.dtype == jnp.float32
    assert (w.shape, w.dtype) == (v.shape, v.dtype)
    np.testing.assert_allclose(np.ravel(norms), lengths, rtol=1e-6)
    scale = np.linspace(-1, 2, lengths.size)
    expected = rows * (scale / lengths)[:, None]
    np.testing.assert_allclose(matrix(w, axis), expected, rtol=2 * ROUNDING[dtype], atol=1e-7)
    rtol = 5e-7 if dtype == "float32" else 0  # The roundings of float32 vanish in narrow dtypes.
    np.testing.assert_allclose(wide(same), wide(v), rtol=rtol)


def test_one_number_is_the_length_of_all():
    w = compiled(reparam.weight_norm, kernel(6, 5), scale=2.0)
    np.testing.assert_allclose(np.linalg.norm(wide(w), axis=0), 2, rtol=1e-6)


def test_the_gradient_of_weight_norm_is_that_of_the_paper():
    """Salimans and Kingma, equation 3."""
    v = kernel(6, 5)
    scale = np.linspace(0.5, 2, 5, dtype=np.float32)

    def function(v, scale):
        return reparam.weight_norm(v, scale=scale)

    _, (of_v, of_scale) = with_gradients(function, SLOPE, v, scale)
    v = wide(v)
    g = wide(scale)
    norm = np.linalg.norm(v, axis=0)
    expected = np.sum(SLOPE * v, axis=0) / norm
    np.testing.assert_allclose(of_scale, expected, rtol=1e-5)
    expected = g / norm * SLOPE - g * expected / norm**2 * v
    np.testing.assert_allclose(of_v, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("row", TORCH["rows"], ids=lambda row: row["layer"])
def test_weight_norm_equals_torch(row):
    given = {k: np.asarray(a, np.float32) for k, a in row["weight_norm"].items()}
    lengths = compiled(reparam.weight_norm_scale, given["v"])
    np.testing.assert_allclose(lengths, given["lengths"], rtol=1e-6)

    def function(v, scale):
        return reparam.weight_norm(v, scale=scale)

    w, (of_v, of_scale) = with_gradients(function, given["weights"], given["v"], given["scale"])
    np.testing.assert_allclose(w, given["w"], rtol=2e-6)
    np.testing.assert_allclose(of_v, given["gradient_of_v"], rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(of_scale, given["gradient_of_scale"], rtol=1e-5, atol=1e-6)


@every_dtype
def test_a_zero_column_stays_zero_without_a_gradient(dtype):
    """torch and Equinox: NaN out and a NaN gradient. Flax: a gradient of 2e6, in float16 NaN."""
    v = kernel(6, 5)
    v[:, 2] = 0
    v = v.astype(dtype)
    scale = np.full(5, 2.0, np.float32)
    slope = SLOPE.astype(dtype)

    def function(v, scale):
        return reparam.weight_norm(v, scale=scale)

    w, (of_v, of_scale) = with_gradients(function, slope, v, scale)
    np.testing.assert_array_equal(wide(w)[:, 2], 0)
    np.testing.assert_array_equal(wide(of_v)[:, 2], 0)
    assert of_scale[2] == 0
    others = np.delete(np.arange(5), 2)
    np.testing.assert_allclose(np.linalg.norm(wide(w)[:, others], axis=0), 2, rtol=ROUNDING[dtype])
    assert_all_finite(of_v)
    assert np.all(wide(of_v)[:, others] != 0)


def test_a_column_that_is_not_finite_is_not_hidden():
    """Zeros in its place would let a training go on that has diverged."""
    v = kernel(4, 3)
    v[1, 2] = np.nan
    w = compiled(reparam.weight_norm, v, scale=np.ones(3, "f4"))
    np.testing.assert_array_equal(np.isnan(w), [[False, False, True]] * 4)


def test_large_float16_kernels():
    """Flax: the norm of 400 times 200 overflows in float16, and the output is 0 in place of 2."""
    v = np.full((400, 3), 200, np.float16)
    w = compiled(reparam.weight_norm, v, scale=np.full(3, 40.0, "f4"))
    np.testing.assert_allclose(wide(w), 2, rtol=1e-3)
    signs = np.where(np.arange(400) % 2, 1, -1)[:, None].astype(np.float16)
    standard = compiled(reparam.weight_standardization, v * signs)
    np.testing.assert_allclose(abs(wide(standard)), 1, rtol=1e-3)


FUNCTIONS = {
    "weight_norm": lambda w: reparam.weight_norm(w, scale=1.0),
    "weight_norm-own_scale": lambda w: reparam.weight_norm(w, scale=reparam.weight_norm_scale(w)),
    "weight_standardization": reparam.weight_standardization,
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
@every_dtype
def test_values_and_gradients_are_finite_at_any_magnitude(function, dtype):
    largest = 6e4 / 3 if dtype == "float16" else 1e30  # as large as it gets
    run = jax.jit(lambda w: jax.value_and_grad(lambda w: jnp.sum(SLOPE * function(w)))(w))
    for size in (0, 1e-30, largest):
        assert_all_finite(run((kernel(6, 5) * size).astype(dtype)))


def test_normalized_weights_do_not_depend_on_the_magnitude():
    w = kernel(6, 5)

    @jax.jit
    def run(w):
        y, pull = jax.vjp(FUNCTIONS["weight_norm"], w)
        return y, pull(SLOPE)[0], reparam.weight_standardization(w)

    unit = wide(w) / np.linalg.norm(wide(w), axis=0)
    slope = SLOPE - unit * np.sum(SLOPE * unit, axis=0)
    slope /= np.linalg.norm(wide(w), axis=0)
    for size in (1e-30, 1e30):
        y, gradient, standard = run((w * size).astype(np.float32))
        np.testing.assert_allclose(y, unit, rtol=1e-5)
        np.testing.assert_allclose(wide(gradient) * size, slope, rtol=1e-4, atol=1e-6)
    expected = (w - w.mean(0)) / w.std(0)
    np.testing.assert_allclose(standard, expected, rtol=1e-5)


@every_dtype
@every_kernel
def test_weight_standardization_is_mean_0_and_variance_1(shape, axis, dtype):
    w = (5 + kernel(*shape)).astype(dtype)
    rows = matrix(w, axis)
    scale = np.linspace(-1, 2, len(rows), dtype=np.float32)
    outputs = [shape[a] for a in (axis if isinstance(axis, tuple) else (axis,))]
    options = {"scale": scale.reshape(outputs), "eps": 0.5, "axis": axis}
    standard = compiled(reparam.weight_standardization, w, **options)
    assert (standard.shape, standard.dtype) == (w.shape, w.dtype)
    expected = rows - rows.mean(axis=1, keepdims=True)
    expected *= (scale / np.sqrt(rows.var(axis=1) + 0.5))[:, None]
    rtol = 1e-4 if dtype == "float32" else 1e-2
    np.testing.assert_allclose(matrix(standard, axis), expected, rtol=rtol, atol=ROUNDING[dtype])


def test_the_gradient_of_weight_standardization():
    w = kernel(6, 5)
    scale = np.linspace(0.5, 2, 5, dtype=np.float32)

    def function(w, scale):
        return reparam.weight_standardization(w, scale=scale, eps=0.5)

    _, (of_w, of_scale) = with_gradients(function, SLOPE, 3 * w, scale)
    wide_w = 3 * wide(w)
    root = np.sqrt(wide_w.var(0) + 0.5)
    normal = (wide_w - wide_w.mean(0)) / root
    np.testing.assert_allclose(of_scale, np.sum(SLOPE * normal, 0), rtol=1e-4, atol=1e-5)
    through = SLOPE - SLOPE.mean(0) - normal * np.mean(SLOPE * normal, 0)
    np.testing.assert_allclose(of_w, scale / root * through, rtol=1e-4, atol=1e-5)


def test_eps_is_that_of_bit_by_default():
    w = np.array([[1e-4], [-1e-4]], np.float32)
    standard = compiled(reparam.weight_standardization, w)
    np.testing.assert_allclose(standard, [[0.5**0.5], [-(0.5**0.5)]], rtol=1e-5)


@few("eps", [0.0, 1e-8])
def test_constant_weights_become_zero(eps):
    def function(w):
        return reparam.weight_standardization(w, eps=eps)

    y, (gradient,) = with_gradients(function, SLOPE, np.full((6, 5), 3.0, np.float32))
    assert_all_finite(gradient)
    # The rounding of the mean, 1e-7, is divided by the root of eps.
    np.testing.assert_allclose(y, 0, atol=0 if eps == 0 else 3e-3)
    if eps == 0:
        np.testing.assert_array_equal(gradient, 0)


def test_standardization_is_right_far_from_zero_and_for_small_weights():
    """One pass over squares would have lost the variance."""
    run = jax.jit(reparam.weight_standardization)
    np.testing.assert_allclose(np.std(wide(run(1e4 + kernel(4000, 3))), axis=0), 1, rtol=1e-3)
    np.testing.assert_allclose(np.std(wide(run(0.01 * kernel(4000, 3))), axis=0), 1, rtol=1e-4)


@every_kernel
def test_the_scale_of_brock_keeps_the_variance_of_independent_inputs(shape, axis):
    w = kernel(*shape)

    @jax.jit
    def run(w):
        scale = reparam.weight_standardization_scale(w, axis=axis)
        return scale, reparam.weight_standardization(w, scale=scale, axis=axis)

    scale, standard = run(w)
    standard = matrix(standard, axis)
    outputs = axis if isinstance(axis, tuple) else (axis,)
    assert scale.shape == tuple(shape[a] for a in outputs)
    assert scale.dtype == jnp.float32
    np.testing.assert_allclose(np.sum(standard**2, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.ravel(scale), standard.shape[1] ** -0.5, rtol=1e-6)


def test_wrong_arguments_raise():
    integers = np.ones((2, 3), np.int32)
    w = kernel(2, 3)

    def weight_norm(v, **options):
        return reparam.weight_norm(v, **({"scale": 1.0} | options))

    for function, name in (
        (weight_norm, "v"),
        (reparam.weight_norm_scale, "v"),
        (reparam.weight_standardization, "w"),
        (reparam.weight_standardization_scale, "w"),
    ):
        refuses(TypeError, f"`{name}` must have a floating-point dtype", function, integers)
        refuses(ValueError, r"`axis` must lie in \[-2, 2\), got 2", function, w, axis=2)
    for function in (weight_norm, reparam.weight_standardization):
        message = r"`scale` must broadcast to shape \(3,\), got shape \(2,\)"
        refuses(ValueError, message, function, w, scale=np.ones(2, "f4"))
    message = "`eps` must be zero or positive, got -1"
    refuses(ValueError, message, reparam.weight_standardization, w, eps=-1)
