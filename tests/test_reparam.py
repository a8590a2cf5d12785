"""Weight norm, spectral norm and weight standardization of kernels as arrays."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx as fnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxreg import reparam, testing
from jaxreg._paths import path_names

KEY = jax.random.key(4)
DTYPES = ("float32", "bfloat16", "float16")
ROUNDING = {"float32": 1e-6, "bfloat16": 8e-3, "float16": 1e-3}
# Kernels of Dense, Conv, a transposed ConvTranspose, and a projection of attention.
KERNELS = [((6, 5), -1), ((3, 2, 4, 5), -1), ((3, 2, 5, 4), 2), ((8, 2, 3), (1, 2)), ((7,), ())]
every_kernel = pytest.mark.parametrize(("shape", "axis"), KERNELS, ids=str)
vector = jax.jit(reparam.spectral_norm_vector, static_argnames=("steps", "axis"))
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def draw(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0.3, 1, shape), jnp.float32)


def wide(a):
    return np.asarray(a).astype(np.float64)


def matrix(w, axis):
    """The kernel as ``[outputs, everything else]``, in float64."""
    axes = [a % w.ndim for a in (axis if isinstance(axis, tuple) else (axis,))]
    moved = np.moveaxis(wide(w), axes, range(len(axes)))
    outputs = int(np.prod(moved.shape[: len(axes)]))
    return moved.reshape(outputs, -1)


def total(function, *arguments):
    """Scalar with a weight of its own for every element of a result."""
    y = function(*arguments)
    weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
    return jnp.sum(weights * y.astype(jnp.float32))


@every_kernel
@every_dtype
def test_weight_norm_gives_lengths_and_keeps_directions(shape, axis, dtype):
    v = draw(shape).astype(dtype)
    norms = reparam.weight_norm_scale(v, axis=axis)
    assert norms.dtype == jnp.float32
    rows = matrix(v, axis)
    np.testing.assert_allclose(np.ravel(norms), np.linalg.norm(rows, axis=1), rtol=1e-6)
    scale = jnp.linspace(-1, 2, norms.size).reshape(norms.shape)
    w = reparam.weight_norm(v, scale=scale, axis=axis)
    assert (w.shape, w.dtype) == (v.shape, v.dtype)
    expected = rows / np.linalg.norm(rows, axis=1, keepdims=True) * np.ravel(scale)[:, None]
    np.testing.assert_allclose(matrix(w, axis), expected, rtol=2 * ROUNDING[dtype], atol=0)


@every_kernel
@every_dtype
def test_the_first_scale_changes_nothing(shape, axis, dtype):
    """Flax starts at a scale of 1, which changes the weights (flax#4138)."""
    v = draw(shape).astype(dtype)
    scale = reparam.weight_norm_scale(v, axis=axis)
    w = reparam.weight_norm(v, scale=scale, axis=axis)
    rtol = 5e-7 if dtype == "float32" else 0  # The roundings of float32 vanish in narrow dtypes.
    np.testing.assert_allclose(wide(w), wide(v), rtol=rtol)


def test_the_gradient_of_weight_norm_is_that_of_the_paper():
    """Salimans and Kingma, equation 3."""
    v, scale = draw((6, 5)), jnp.linspace(0.5, 2, 5)
    of_w = np.cos(np.arange(30.0)).reshape(6, 5)
    of_v, of_scale = jax.grad(
        lambda v, g: total(lambda v: reparam.weight_norm(v, scale=g), v), (0, 1)
    )(v, scale)
    v, g = wide(v), wide(scale)
    norm = np.linalg.norm(v, axis=0)
    expected = np.sum(of_w * v, axis=0) / norm
    np.testing.assert_allclose(of_scale, expected, rtol=1e-5)
    expected = g / norm * of_w - g * expected / norm**2 * v
    np.testing.assert_allclose(of_v, expected, rtol=1e-4, atol=1e-6)


@every_dtype
def test_row_4_a_zero_column_stays_zero_without_a_gradient(dtype):
    """torch and Equinox: NaN out and a NaN gradient. Flax: a gradient of 2e6, in float16 NaN."""
    v = draw((6, 5)).at[:, 2].set(0).astype(dtype)
    scale = jnp.full(5, 2.0)

    def function(v, scale):
        return reparam.weight_norm(v, scale=scale)

    w = function(v, scale)
    np.testing.assert_array_equal(wide(w)[:, 2], 0)
    of_v, of_scale = jax.grad(partial(total, function), (0, 1))(v, scale)
    np.testing.assert_array_equal(wide(of_v)[:, 2], 0)
    assert of_scale[2] == 0
    others = np.delete(np.arange(5), 2)
    np.testing.assert_allclose(np.linalg.norm(wide(w)[:, others], axis=0), 2, rtol=ROUNDING[dtype])
    assert np.all(np.isfinite(wide(of_v)))
    assert np.all(wide(of_v)[:, others] != 0)


def test_a_column_that_is_not_finite_is_not_hidden():
    """Zeros in its place would let a training go on that has diverged."""
    v = draw((4, 3)).at[1, 2].set(jnp.nan)
    w = reparam.weight_norm(v, scale=jnp.ones(3))
    np.testing.assert_array_equal(np.isnan(w), [[False, False, True]] * 4)


@pytest.mark.slow
def test_row_8_float16_kernels_of_200():
    """Flax: the norm overflows in float16, and the output is 0 in place of 2."""
    v = jnp.full((400, 3), 200, jnp.float16)
    w = reparam.weight_norm(v, scale=jnp.full(3, 40.0))
    np.testing.assert_allclose(wide(w), 2, rtol=1e-3)
    flax = nn.WeightNorm(nn.Dense(3, use_bias=False, param_dtype="float16"), param_dtype="float16")
    x = jnp.ones((1, 400), jnp.float16)
    variables = flax.init(KEY, x)
    variables["params"]["layer_instance"]["kernel"] = v
    np.testing.assert_array_equal(flax.apply(variables, x), 0)

    u = reparam.spectral_norm_vector(KEY, v)
    normalized, _ = reparam.spectral_norm(v, u)
    np.testing.assert_allclose(np.linalg.norm(wide(normalized), ord=2), 1, rtol=1e-3)
    standard = reparam.weight_standardization(v * jnp.where(jnp.arange(400) % 2, 1, -1)[:, None])
    np.testing.assert_allclose(abs(wide(standard)), 1, rtol=1e-3)


FUNCTIONS = {
    "weight_norm": lambda w: reparam.weight_norm(w, scale=1.0),
    "weight_norm-own_scale": lambda w: reparam.weight_norm(w, scale=reparam.weight_norm_scale(w)),
    "spectral_norm": lambda w: reparam.spectral_norm(w, jnp.full(5, 5**-0.5))[0],
    "spectral_norm-0": lambda w: reparam.spectral_norm(w, jnp.full(5, 5**-0.5), steps=0)[0],
    "spectral_norm_sigma": lambda w: reparam.spectral_norm_sigma(w, jnp.full(5, 5**-0.5)),
    "weight_standardization": reparam.weight_standardization,
}


@pytest.mark.parametrize("size", [0, 1e-30, 1e30])
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
@every_dtype
def test_values_and_gradients_are_finite_at_any_magnitude(function, dtype, size):
    if dtype == "float16" and size > 1:
        size = 6e4 / 3  # as large as it gets
    w = (draw((6, 5)) * size).astype(dtype)
    value, gradient = jax.value_and_grad(partial(total, function))(w)
    assert np.isfinite(value)
    assert np.all(np.isfinite(wide(gradient)))


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_normalized_weights_do_not_depend_on_the_magnitude(size):
    w = draw((6, 5))
    for name in ("weight_norm", "spectral_norm", "spectral_norm-0"):
        function = FUNCTIONS[name]
        gradient = jax.grad(partial(total, function))
        np.testing.assert_allclose(function(w * size), function(w), rtol=1e-5)
        np.testing.assert_allclose(
            wide(gradient(w * size)) * size, gradient(w), rtol=1e-4, atol=1e-6
        )
    if size > 1:
        expected = reparam.weight_standardization(w)
        np.testing.assert_allclose(reparam.weight_standardization(w * size), expected, rtol=1e-5)


def power_iteration(w, u, steps):
    """The algorithm in float64 on ``[outputs, everything else]``."""
    for _ in range(steps):
        v = w.T @ u / np.linalg.norm(w.T @ u)
        u = w @ v / np.linalg.norm(w @ v)
    return u, np.linalg.norm(w.T @ u)


@every_kernel
@every_dtype
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.slow
def test_spectral_norm_is_power_iteration(shape, axis, dtype, steps):
    w = draw(shape).astype(dtype)
    u = reparam.spectral_norm_vector(KEY, w, steps=0, axis=axis)
    assert u.dtype == jnp.float32
    np.testing.assert_allclose(np.sum(wide(u) ** 2), 1, rtol=1e-6)
    expected_u, sigma = power_iteration(matrix(w, axis), np.ravel(wide(u)), steps)
    normalized, new = reparam.spectral_norm(w, u, steps=steps, axis=axis)
    assert (normalized.dtype, new.shape, new.dtype) == (w.dtype, u.shape, u.dtype)
    np.testing.assert_allclose(np.ravel(new), expected_u, rtol=1e-4, atol=1e-6)
    estimate = reparam.spectral_norm_sigma(w, new, axis=axis)
    np.testing.assert_allclose(estimate, sigma, rtol=1e-6)
    np.testing.assert_allclose(wide(normalized), wide(w) / sigma, rtol=2 * ROUNDING[dtype])


SHAPES = [(64, 64), (784, 128), (256, 10), (128, 1), (3, 3, 3, 64), (3, 3, 64, 128), (512, 512)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("magnitude", [1, 1e30, 1e-30])
@pytest.mark.slow
def test_sigma_against_the_singular_value_decomposition(shape, magnitude):
    """After the 15 steps of initialization; power iteration is 1 to 2% off with these kernels."""
    for seed in range(3):
        w = draw(shape, seed) - 0.3
        exact = np.linalg.svd(matrix(w, -1), compute_uv=False)[0] * magnitude
        reached = reparam.spectral_norm_sigma(w * magnitude, vector(KEY, w * magnitude))
        np.testing.assert_allclose(reached, exact, rtol=1e-3)
        assert reached <= exact * (1 + 1e-6)


def test_sigma_of_a_large_kernel():
    """Without orthogonal blocks it is 2e-4 off in float32."""
    w = draw((1024, 1024)) - 0.3
    exact = np.linalg.svd(matrix(w, -1), compute_uv=False)[0]
    np.testing.assert_allclose(reparam.spectral_norm_sigma(w, vector(KEY, w)), exact, rtol=1e-4)


def test_sigma_of_power_iteration_is_further_off():
    """The control of the test above, and what 300 steps of training on one weight come to."""
    w = draw((256, 256)) - 0.3
    exact = np.linalg.svd(matrix(w, -1), compute_uv=False)[0]
    u = vector(KEY, w, steps=0)
    iterated = [reparam.spectral_norm(w, u, steps=steps)[1] for steps in (15, 300)]
    reached = [reparam.spectral_norm_sigma(w, u) for u in iterated]
    assert reached[0] < exact * (1 - 5e-3)
    np.testing.assert_allclose(reached[1], exact, rtol=1e-3)


@pytest.mark.parametrize("bad", [0.0, jnp.nan, jnp.inf])
def test_the_first_vector_of_a_bad_weight_is_random(bad):
    w = jnp.full((6, 5), bad)
    np.testing.assert_array_equal(
        reparam.spectral_norm_vector(KEY, w), reparam.spectral_norm_vector(KEY, 0 * draw((6, 5)))
    )
    np.testing.assert_allclose(np.linalg.norm(vector(KEY, w)), 1, rtol=1e-6)
    assert np.abs(vector(KEY, w) - vector(jax.random.key(99), w)).max() > 0.1


def test_row_5_spectral_norm_recovers_after_a_weight_of_zeros():
    """Flax: ``u`` becomes 0 for ever, and nothing is normalized; torch and Equinox: never finite
    again; Haiku: NaN, and stores zeros.
    """
    w = draw((6, 5))
    u = reparam.spectral_norm_vector(KEY, w)
    zero, kept = reparam.spectral_norm(jnp.zeros_like(w), u)
    np.testing.assert_array_equal(zero, 0)
    np.testing.assert_array_equal(kept, u)
    gradient = jax.grad(lambda w: total(lambda w: reparam.spectral_norm(w, u)[0], w))(zero)
    np.testing.assert_allclose(gradient, np.cos(np.arange(30.0)).reshape(6, 5), rtol=1e-5)
    good, _ = reparam.spectral_norm(w, kept)
    np.testing.assert_allclose(np.linalg.norm(wide(good), ord=2), 1, rtol=1e-3)

    flax = nn.SpectralNorm(nn.Dense(5, use_bias=False))
    x = jnp.eye(6)
    variables = flax.init(KEY, x, update_stats=False)
    apply = jax.jit(partial(flax.apply, update_stats=True, mutable=["batch_stats"]))
    for kernel in (jnp.zeros((6, 5)), *[7 * w] * 60):
        variables["params"]["layer_instance"]["kernel"] = kernel
        y, updated = apply(variables, x)
        variables = {**variables, **updated}
    np.testing.assert_array_equal(y, 7 * w)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_weight_that_is_not_finite_does_not_spoil_the_vector(bad):
    w = draw((6, 5))
    u = reparam.spectral_norm_vector(KEY, w)
    _, kept = reparam.spectral_norm(w.at[2, 3].set(bad), u, steps=3)
    np.testing.assert_array_equal(kept, u)


def test_a_vector_that_is_orthogonal_to_all_weights_starts_again():
    """As after pruning all that it looked at. The rows of the weight add up to zero besides."""
    w = jnp.zeros((4, 3)).at[:, 1:].set(draw((4, 2))).at[3].set(0)
    w = w - jnp.zeros((4, 3)).at[:3, 1:].set(w[:3, 1:].mean(axis=0))
    u = jnp.array([1.0, 0.0, 0.0])
    normalized, new = reparam.spectral_norm(w, u)
    assert new[0] == 0
    for _ in range(30):
        normalized, new = reparam.spectral_norm(w, new)
    np.testing.assert_allclose(np.linalg.norm(wide(normalized), ord=2), 1, rtol=1e-5)


def test_evaluation_uses_the_weight_that_training_used_last():
    w = draw((3, 3, 4, 6))
    u = reparam.spectral_norm_vector(KEY, w, steps=2)
    trained, u = reparam.spectral_norm(w, u, steps=2)
    evaluated, same = reparam.spectral_norm(w, u, steps=0)
    np.testing.assert_array_equal(same, u)
    np.testing.assert_array_equal(evaluated, trained)


def test_the_gradient_of_spectral_norm_is_that_of_the_paper():
    """Miyato et al., equations 9 to 12, with the vectors as constants; none reaches ``u``."""
    w = draw((6, 5))
    u = reparam.spectral_norm_vector(KEY, w, steps=1)

    def function(w, u):
        return reparam.spectral_norm(w, u, steps=2)[0]

    of_w, of_u = jax.grad(partial(total, function), (0, 1))(w, u)
    np.testing.assert_array_equal(of_u, 0)
    rows, slope = matrix(w, -1), np.cos(np.arange(30.0)).reshape(6, 5).T
    u, sigma = power_iteration(rows, wide(u), 2)
    v = rows.T @ u / sigma
    expected = (slope - np.sum(slope * rows / sigma) * np.outer(u, v)) / sigma
    np.testing.assert_allclose(of_w, expected.T, rtol=1e-4, atol=1e-5)


# The derivative of an iteration that is held constant is not that of finite differences.
ITERATED = {
    f"{axis}-{name}": check
    for axis, size in ((-1, 8), (0, 16))
    for name, check in testing.contract(
        partial(reparam.spectral_norm, steps=2, axis=axis),
        (draw((16, 8)), jnp.full(size, size**-0.5)),
    ).items()
    if name.endswith("[float32]")  # Narrow dtypes are in test_contract.py.
}


@pytest.mark.parametrize("cell", ITERATED)
@pytest.mark.slow
def test_the_contract_with_steps(cell):
    ITERATED[cell]()


@every_dtype
@every_kernel
def test_weight_standardization_is_mean_0_and_variance_1(shape, axis, dtype):
    w = (5 + draw(shape)).astype(dtype)
    standard = reparam.weight_standardization(w, eps=0.5, axis=axis)
    assert (standard.shape, standard.dtype) == (w.shape, w.dtype)
    rows = matrix(w, axis)
    expected = rows - rows.mean(axis=1, keepdims=True)
    expected /= np.sqrt(rows.var(axis=1, keepdims=True) + 0.5)
    np.testing.assert_allclose(matrix(standard, axis), expected, rtol=1e-2, atol=ROUNDING[dtype])


def test_weight_standardization_at_the_edges():
    constant = jnp.full((6, 5), 3.0)
    for eps in (0.0, 1e-8):
        np.testing.assert_array_equal(reparam.weight_standardization(constant, eps=eps), 0)
    gradient = jax.grad(partial(total, partial(reparam.weight_standardization, eps=0.0)))(constant)
    np.testing.assert_array_equal(gradient, 0)
    # One pass over squares would have lost the variance.
    far = reparam.weight_standardization(1e4 + draw((4000, 3)))
    np.testing.assert_allclose(np.std(wide(far), axis=0), 1, rtol=1e-3)
    small = reparam.weight_standardization(0.01 * draw((4000, 3)))
    np.testing.assert_allclose(np.std(wide(small), axis=0), 1, rtol=1e-4)


@every_kernel
def test_the_scale_of_brock_keeps_the_variance(shape, axis):
    w = draw(shape)
    scale = reparam.weight_standardization_scale(w, axis=axis)
    assert scale.shape == reparam.weight_norm_scale(w, axis=axis).shape
    standard = matrix(reparam.weight_standardization(w, scale=scale, axis=axis), axis)
    # Of independent inputs with variance 1.
    np.testing.assert_allclose(np.sum(standard**2, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.ravel(scale), standard.shape[1] ** -0.5, rtol=1e-6)


MODELS = {
    "linen": lambda: nn.MultiHeadDotProductAttention(2).init(KEY, jnp.ones((1, 3, 8)))["params"],
    "nnx": lambda: fnx.state(
        fnx.MultiHeadAttention(2, 8, decode=False, rngs=fnx.Rngs(0)), fnx.Param
    ),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_output_axes_of_attention(model):
    found = {
        path_names(path)[-2]: reparam.output_axes(path_names(path), w)
        for path, w in jax.tree_util.tree_leaves_with_path(jax.eval_shape(model))
        if path_names(path)[-1] == "kernel"
    }
    assert found == {"query": (-2, -1), "key": (-2, -1), "value": (-2, -1), "out": -1}


def test_the_output_axes_of_others():
    assert reparam.output_axes(("query", "kernel"), jnp.ones((4, 4))) == -1
    assert reparam.output_axes(("kernel",), jnp.ones((3, 4, 4))) == -1
    assert reparam.output_axes(("query", "dense", "kernel"), jnp.ones((3, 4, 4))) == -1


SHARDED = [
    ((16, 8), -1, PartitionSpec("a", None)),
    ((16, 8), -1, PartitionSpec(None, "b")),
    ((16, 8), -1, PartitionSpec("a", "b")),
    ((3, 3, 8, 16), -1, PartitionSpec(None, None, "a", "b")),
    ((8, 4, 6), (1, 2), PartitionSpec("a", "b", None)),
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda k: k.name)
@pytest.mark.parametrize(("shape", "axis", "spec"), SHARDED, ids=str)
def test_kernels_may_be_sharded(shape, axis, spec, kind):
    def run(w, u):
        scale = reparam.weight_norm_scale(w, axis=axis)
        normalized, u = reparam.spectral_norm(w, u, steps=3, axis=axis)
        standard = reparam.weight_standardization(w, axis=axis)
        return reparam.weight_norm(w, scale=scale**2, axis=axis), normalized, standard, u

    def both(w, u):
        results, pullback = jax.vjp(run, w, u)
        return results, pullback(jax.tree.map(jnp.ones_like, results))[0]

    w = draw(shape)
    u = vector(KEY, w, axis=axis, steps=1)
    expected = jax.jit(both)(w, u)
    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(kind,) * 2)
    with jax.set_mesh(mesh):
        w = jax.device_put(w, NamedSharding(mesh, spec))
        u = jax.device_put(u, NamedSharding(mesh, PartitionSpec()))
        first = vector(KEY, w, axis=axis, steps=1)
        actual = jax.jit(both)(w, u)
        assert actual[0][1].sharding.spec == w.sharding.spec or kind is AxisType.Auto
        assert actual[0][3].sharding.is_fully_replicated or kind is AxisType.Auto
    np.testing.assert_allclose(first, u, rtol=1e-5, atol=1e-6)
    for a, e in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=2e-6)
