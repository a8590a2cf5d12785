"""Every penalty at its kinks and at the ends of the range: one table, in all derivatives."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import masks, penalties

PENALTIES = {
    "l1": penalties.l1,
    "l2": penalties.l2,
    "elastic_net": partial(penalties.elastic_net, l1=0.5, l2=2.0),
    "distance": lambda w: penalties.distance(w, jnp.zeros_like(w)),
    "group_lasso": penalties.group_lasso,
    "group_lasso of rows": partial(penalties.group_lasso, axis=-1),
    "total_variation": partial(penalties.total_variation, axis=(0, 1)),
    "isotropic": partial(penalties.isotropic_total_variation, axis=(0, 1)),
    "orthogonality": penalties.orthogonality,
    "spectral": penalties.spectral,
    "nuclear": penalties.nuclear,
    "decorrelation": penalties.decorrelation,
    "hard_concrete_l0": penalties.hard_concrete_l0,
}
LINEAR = ("l1", "group_lasso", "total_variation", "isotropic", "spectral", "nuclear")
CONVEX = (*LINEAR, "l2", "elastic_net", "distance", "group_lasso of rows")
COMPLEX = (
    *("l1", "l2", "elastic_net", "distance", "group_lasso", "group_lasso of rows"),
    *("total_variation", "isotropic", "orthogonality"),
)

every_penalty = pytest.mark.parametrize("name", PENALTIES)

W = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
DIAGONAL = np.diag([2.0, 2.0, 1.0])
ROOT = np.sqrt(2)

# Where a penalty has no derivative: the subgradient nearest to zero.
KINKS = [
    ("l1", [[0.0, -0.0, 3.0], [1e-30, -1e-30, 0.0]], [[0, 0, 1], [1, -1, 0]]),
    ("elastic_net", [[0.0, -2.0, -0.0], [0, 0, 1]], [[0, -4.5, 0], [0, 0, 2.5]]),
    ("distance", np.zeros((2, 3)), np.zeros((2, 3))),
    ("group_lasso", [[3.0, 0, 0], [4, 0, 0]], [[ROOT * 0.6, 0, 0], [ROOT * 0.8, 0, 0]]),
    ("group_lasso", np.zeros((2, 3)), np.zeros((2, 3))),
    ("group_lasso of rows", [[3.0, 4], [0, 0]], [[ROOT * 0.6, ROOT * 0.8], [0, 0]]),
    ("total_variation", np.ones((2, 3)), np.zeros((2, 3))),
    ("total_variation", [[0.0, 0, 1], [0, 0, 1]], [[0, -1, 1], [0, -1, 1]]),
    ("isotropic", np.ones((2, 3)), np.zeros((2, 3))),
    ("isotropic", [[0.0, 0, 1], [0, 0, 1]], [[0, -1, 1], [0, -1, 1]]),
    ("orthogonality", np.eye(3), np.zeros((3, 3))),
    ("orthogonality", np.zeros((3, 3)), np.zeros((3, 3))),
    ("orthogonality", np.eye(2, 4), np.zeros((2, 4))),
    ("spectral", np.zeros((3, 3)), np.zeros((3, 3))),
    ("spectral", np.eye(3), np.eye(3) / 3),
    ("spectral", DIAGONAL, np.diag([0.5, 0.5, 0])),
    ("spectral", -np.eye(2, 4), -np.eye(2, 4) / 2),
    ("nuclear", np.zeros((3, 3)), np.zeros((3, 3))),
    ("nuclear", np.diag([3.0, 0, -2]), np.diag([1.0, 0, -1])),
    ("nuclear", np.ones((3, 3)), np.ones((3, 3)) / 3),
    ("nuclear", np.eye(3), np.eye(3)),
    ("nuclear", np.ones((2, 4)), np.ones((2, 4)) / np.sqrt(8)),
    ("decorrelation", np.ones((2, 3)), np.zeros((2, 3))),
    ("decorrelation", np.zeros((1, 3)), np.zeros((1, 3))),
]


@cache
def derivatives(name):
    """Value, gradient, forward derivative and Hessian."""
    penalty = PENALTIES[name]

    def all_of(w, direction):
        forward = jax.jvp(penalty, (w,), (direction,))[1]
        return penalty(w), jax.grad(penalty)(w), forward, jax.hessian(penalty)(w)

    return jax.jit(all_of)


@pytest.mark.parametrize(("name", "at", "expected"), KINKS)
def test_the_gradient_at_a_kink(name, at, expected):
    at = jnp.asarray(at, jnp.float32)
    direction = jnp.cos(jnp.arange(at.size, dtype=jnp.float32)).reshape(at.shape)
    value, slope, forward, curvature = derivatives(name)(at, direction)
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(forward, jnp.sum(slope * direction), atol=1e-5)
    assert np.isfinite(value)
    assert np.isfinite(curvature).all()


@pytest.mark.parametrize(("name", "at", "slope"), [row for row in KINKS if row[0] in CONVEX])
def test_the_gradient_at_a_kink_is_a_subgradient(name, at, slope):
    at = jnp.asarray(at, jnp.float32)
    steps = jax.random.normal(jax.random.key(0), (50, *at.shape))
    raised = jax.jit(jax.vmap(PENALTIES[name]))(jnp.concatenate([at[None], at + steps]))
    assert (raised[1:] >= raised[0] + np.tensordot(steps, slope) - 1e-5).all()


@every_penalty
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=str)
def test_value_and_gradient_at_zero_are_finite(name, dtype):
    value, slope = jax.jit(jax.value_and_grad(PENALTIES[name]))(jnp.zeros((2, 3), dtype))
    assert (value.dtype, slope.dtype) == (jnp.float32, dtype)
    assert np.isfinite(value)
    assert np.isfinite(np.asarray(slope, np.float32)).all()


@pytest.mark.parametrize("name", LINEAR)
def test_sizes_of_1e30_and_its_inverse_are_exact(name):
    w = jnp.asarray(W)
    value, slope, forward, curvature = derivatives(name)(w, w)
    np.testing.assert_allclose(forward, value, rtol=1e-6)
    for exponent in (100, -100):
        factor = 2.0**exponent
        scaled = derivatives(name)(w * factor, w)
        np.testing.assert_allclose(scaled[0] / factor, value, rtol=1e-6)
        np.testing.assert_allclose(scaled[1], slope, atol=1e-5)
        np.testing.assert_allclose(scaled[3] * factor, curvature, atol=2e-5)


@pytest.mark.parametrize("name", ["l2", "elastic_net", "distance"])
def test_squares_that_overflow_leave_the_gradient(name):
    w = jnp.full((3, 2), -1e30)
    value, slope = jax.value_and_grad(PENALTIES[name])(w)
    assert value == jnp.inf
    assert np.isfinite(slope).all()
    tiny = jax.value_and_grad(PENALTIES[name])(jnp.full((3, 2), 1e-30))
    assert np.isfinite(tiny[0])
    assert np.isfinite(tiny[1]).all()


@every_penalty
def test_float16_does_not_overflow(name):
    w = jnp.asarray(W * 2e4, jnp.float16)
    expected = PENALTIES[name](w.astype(jnp.float32))
    assert np.isfinite(expected)
    np.testing.assert_allclose(PENALTIES[name](w), expected, rtol=1e-6)


@every_penalty
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_diverged_weight_shows(name, value):
    if name == "hard_concrete_l0" and value == np.inf:
        assert PENALTIES[name](jnp.array([value])) == 1
        return
    assert not np.isfinite(PENALTIES[name](jnp.asarray(W).at[1, 1].set(value)))


@every_penalty
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)], ids=str)
def test_empty_arrays_have_penalty_zero(name, shape):
    value, slope = jax.value_and_grad(PENALTIES[name])(jnp.zeros(shape))
    assert (value, slope.shape) == (0, shape)


@pytest.mark.parametrize("name", ["orthogonality", "spectral", "nuclear", "decorrelation"])
@pytest.mark.parametrize("shape", [(), (3,)], ids=str)
def test_what_is_no_matrix_raises(name, shape):
    with pytest.raises(ValueError, match=r"`[wx]` must have .* got shape"):
        PENALTIES[name](jnp.ones(shape))


@every_penalty
def test_total_takes_it_with_a_mask_and_passes_over_the_rest(name):
    params = {
        "dense": {"kernel": jnp.asarray(W), "bias": jnp.ones(3)},
        "conv": {"kernel": jnp.asarray(W, jnp.bfloat16)},
        "steps": jnp.arange(6).reshape(3, 2),
        "flags": jnp.ones((2, 2), bool),
        "key": jax.random.key(0),
        "nothing": None,
    }
    penalty = PENALTIES[name]
    expected = penalty(params["dense"]["kernel"]) + penalty(params["conv"]["kernel"])
    total = jax.jit(lambda p: penalties.total(p, penalty, mask=masks.kernels))(params)
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    assert total.dtype == jnp.float32


@every_penalty
def test_integers_and_booleans_raise(name):
    for dtype in (jnp.int32, jnp.bool):
        with pytest.raises(TypeError, match=r"must have a floating-point dtype, got (int32|bool)"):
            PENALTIES[name](jnp.ones((3, 2), dtype))


@every_penalty
def test_complex_weights_count_by_their_size_or_raise(name):
    w = jnp.asarray(W + 1j * W[::-1])
    if name not in COMPLEX:
        with pytest.raises(TypeError, match=r"must have a real dtype, got complex64"):
            PENALTIES[name](w)
        return
    value, slope = jax.value_and_grad(PENALTIES[name])(w)
    assert value.dtype == jnp.float32
    assert slope.dtype == jnp.complex64
    # Turning all phases at once changes nothing, and neither does conjugation.
    np.testing.assert_allclose(PENALTIES[name](w * jnp.exp(0.7j)), value, rtol=1e-5)
    np.testing.assert_allclose(PENALTIES[name](w.conj()), value, rtol=1e-5)
    np.testing.assert_allclose(PENALTIES[name](w.real + 0j), PENALTIES[name](w.real), rtol=1e-5)
    assert np.isfinite(jax.grad(PENALTIES[name])(jnp.zeros_like(w))).all()
