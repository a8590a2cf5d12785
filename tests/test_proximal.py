"""Proximal operators by what defines them: optimality, contraction, exact zeros, exact identity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxreg import penalties, proximal

DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16]
THRESHOLDS = [0.0, 1e-3, 0.5, 2.0]
# A value whose copy to another dtype and back, or whose product with one, would not be itself.
HARD_TO_KEEP = [0.0, -0.0, 1.0, -1.0, 1e-30, np.inf, -np.inf, np.nan]

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: jnp.dtype(d).name)
every_threshold = pytest.mark.parametrize("threshold", THRESHOLDS)


@jax.jit
def soft_threshold(w, threshold):
    return proximal.l1(w, threshold=threshold)


def weights(seed=0, shape=(400,), scale=1.5):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def bits(x):
    """Integers that tell every bit pattern apart, the sign of zero and NaN included."""
    x = np.asarray(x)
    return x.view(f"uint{8 * x.dtype.itemsize}")


def float64(x):
    return np.asarray(x, np.float64)


@every_dtype
@every_threshold
def test_zero_lies_in_the_subdifferential_of_the_objective(dtype, threshold):
    # v minimizes |v - w|^2 / 2 + t |v|_1 if and only if 0 is in v - w + t * subdifferential |v|.
    w = jnp.asarray(weights(), dtype)
    v = float64(soft_threshold(w, threshold=threshold))
    residual, t = float64(w) - v, float(np.float32(threshold))
    rounding = 2 * float(jnp.finfo(dtype).eps) * (np.abs(float64(w)) + t)
    at_zero = v == 0
    assert (np.abs(residual[at_zero]) <= t + rounding[at_zero]).all()
    gap = residual[~at_zero] - t * np.sign(v[~at_zero])
    assert (np.abs(gap) <= rounding[~at_zero]).all()


def test_no_point_nearby_has_a_lower_objective():
    w, t = weights(shape=(50,)), 0.7
    v = float64(soft_threshold(jnp.asarray(w), threshold=t))

    def objective(u):
        return 0.5 * (u - w) ** 2 + t * np.abs(u)

    for step in (1e-1, 1e-2, 1e-3):
        for candidate in (v + step, v - step, 0 * v, w):
            assert (objective(v) <= objective(candidate) + 1e-6).all()


@every_threshold
def test_firmly_nonexpansive(threshold):
    # |p(x) - p(y)|^2 <= <p(x) - p(y), x - y>, which bounds the Lipschitz constant by 1 too.
    for seed in range(20):
        x, y = weights(2 * seed, scale=1.0 + seed), weights(2 * seed + 1)
        p = [float64(soft_threshold(jnp.asarray(w), threshold=threshold)) for w in (x, y)]
        moved, apart = p[0] - p[1], float64(x) - float64(y)
        assert moved @ moved <= moved @ apart + 1e-5 * (apart @ apart)
        assert np.abs(moved).max() <= np.abs(apart).max() * (1 + 1e-6)


@every_threshold
def test_moreau_decomposition(threshold):
    # w - prox is the projection on the dual ball, |.|_inf <= t.
    w = weights()
    v = float64(soft_threshold(jnp.asarray(w), threshold=threshold))
    np.testing.assert_allclose(w - v, np.clip(w, -threshold, threshold), atol=1e-6)


def test_moreau_envelope_has_the_residual_as_its_gradient():
    w, t = jnp.asarray(weights()), 0.7

    def envelope(w):
        v = soft_threshold(w, threshold=t)
        return penalties.l2(v - w) + t * penalties.l1(v)

    residual = w - soft_threshold(w, threshold=t)
    np.testing.assert_allclose(jax.grad(envelope)(w), residual, atol=1e-6)


@every_dtype
def test_weights_within_the_threshold_are_exactly_zero(dtype):
    below = 0.5 * (1 - float(jnp.finfo(dtype).eps))
    w = jnp.asarray([0.5, -0.5, below, -below, 1e-7, 0.0, -0.0, 0.51, -0.51], dtype)
    v = soft_threshold(w, threshold=0.5)
    np.testing.assert_array_equal(v[:7], np.zeros(7))
    assert (v[7:] != 0).all()
    np.testing.assert_array_equal(bits(v[:7]), np.zeros(7))  # No negative zero either.
    assert v.dtype == dtype


@every_dtype
def test_the_narrow_result_is_the_exact_one_rounded_once(dtype):
    # A threshold that rounds when cast to the narrow dtype: 0.3 is 0.30078125 in bfloat16.
    w, t = jnp.asarray(weights(scale=3), dtype), np.float64(np.float32(0.3))
    exact = np.sign(float64(w)) * np.maximum(np.abs(float64(w)) - t, 0)
    rounded = jnp.asarray(exact.astype(np.float32)).astype(dtype)
    np.testing.assert_array_equal(soft_threshold(w, threshold=0.3), rounded)


def test_signs_are_kept_and_sizes_shrink():
    w = weights()
    v = np.asarray(soft_threshold(jnp.asarray(w), threshold=0.5))
    assert (v * w >= 0).all()
    assert (np.abs(v) <= np.abs(w)).all()


def test_array_thresholds_act_elementwise():
    w = jnp.array([[3.0, 3.0, -3.0], [1.0, -1.0, 1.0]])
    columns = soft_threshold(w, threshold=jnp.array([0.0, 1.0, 2.0]))
    np.testing.assert_array_equal(columns, [[3, 2, -1], [1, 0, 0]])
    rows = soft_threshold(w, threshold=jnp.array([[2.0], [0.5]]))
    np.testing.assert_array_equal(rows, [[1, 1, -1], [0.5, -0.5, 0.5]])
    numpy = soft_threshold(w, threshold=np.array([0.0, 1.0, 2.0], np.float32))
    np.testing.assert_array_equal(numpy, columns)


def test_negative_elements_of_a_threshold_act_as_zero():
    w = jnp.array([3.0, -0.0, -3.0, jnp.nan])
    same = soft_threshold(w, threshold=-1.0)
    np.testing.assert_array_equal(bits(same), bits(w))
    mixed = soft_threshold(jnp.array([3.0, -3.0]), threshold=jnp.array([-1.0, 1.0]))
    np.testing.assert_array_equal(mixed, [3.0, -2.0])


@every_dtype
@pytest.mark.parametrize("wrap", [float, jnp.float32], ids=["number", "array"])
@pytest.mark.parametrize("jit", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_threshold_zero_is_the_identity_to_the_bit(dtype, wrap, jit):
    smallest = jnp.finfo(dtype).smallest_subnormal
    w = jnp.concatenate([jnp.asarray(HARD_TO_KEEP, dtype), jnp.array([smallest, -smallest], dtype)])
    v = jit(lambda w: proximal.l1(w, threshold=wrap(0)))(w)
    np.testing.assert_array_equal(bits(v), bits(w))


def test_infinite_and_missing_values():
    v = soft_threshold(jnp.array([jnp.inf, -jnp.inf]), threshold=1.0)
    np.testing.assert_array_equal(v, [jnp.inf, -jnp.inf])
    everything = soft_threshold(jnp.array([1e30, -1.0, 0.0]), threshold=jnp.inf)
    np.testing.assert_array_equal(everything, np.zeros(3))
    # A diverged weight must not turn into a healthy zero.
    assert np.isnan(soft_threshold(jnp.array([jnp.nan]), threshold=1.0)).all()


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3, 4)], ids=str)
def test_any_shape(shape):
    w = weights(shape=shape)
    v = soft_threshold(jnp.asarray(w), threshold=0.5)
    want = np.sign(w) * np.maximum(np.abs(w) - np.float32(0.5), 0)
    assert v.shape == shape
    np.testing.assert_allclose(v, want, rtol=1e-6)


def test_gradients_are_one_outside_the_threshold_and_zero_inside():
    w = jnp.array([2.0, -2.0, 0.3, -0.3, 0.0])
    slope = jax.grad(lambda w: soft_threshold(w, threshold=0.5).sum())(w)
    np.testing.assert_array_equal(slope, [1, 1, 0, 0, 0])
    by_threshold = jax.jacfwd(lambda t: soft_threshold(w, threshold=t))(jnp.float32(0.5))
    np.testing.assert_array_equal(by_threshold, [-1, 1, 0, 0, 0])


def test_complex_weights_shrink_along_their_phase():
    w = jnp.array([3.0 + 4.0j, 0.3 + 0.4j, 0.0j], jnp.complex64)
    v = soft_threshold(w, threshold=1.0)
    assert v.dtype == jnp.complex64
    np.testing.assert_allclose(v, [2.4 + 3.2j, 0, 0], rtol=1e-6)


def test_float64():
    with jax.enable_x64(True):
        w = np.random.default_rng(0).normal(0, 1, 100)
        v = soft_threshold(jnp.asarray(w), threshold=0.1)
        assert v.dtype == jnp.float64
        want = np.sign(w) * np.maximum(np.abs(w) - 0.1, 0)
        np.testing.assert_allclose(v, want, rtol=1e-14, atol=1e-17)


def minimizes(prox, penalty, w, dtype, **strengths):
    """Whether no step along an axis or at random lowers the objective of the operator."""
    v = float64(prox(jnp.asarray(w, dtype), threshold=0.5, **strengths))
    w = float64(jnp.asarray(w, dtype))

    def objective(u):
        return (u - w) ** 2 / 2 + 0.5 * penalty(u)

    steps = [s * d for s in (1e-1, 1e-2, 1e-3) for d in (1, -1)]
    candidates = [*(v + s for s in steps), 0 * v, w]
    slack = float(jnp.finfo(dtype).eps) ** 2 * (1 + w**2)
    return all((objective(v) <= objective(u) + slack).all() for u in candidates)


@every_dtype
def test_l2_and_elastic_net_minimize_their_objectives(dtype):
    w = weights(shape=(50,))
    assert minimizes(proximal.l2, lambda u: u**2 / 2, w, dtype)

    def penalty(u):
        return 0.6 * np.abs(u) + 0.8 * u**2 / 2

    assert minimizes(proximal.elastic_net, penalty, w, dtype, l1=0.6, l2=0.8)


@every_dtype
def test_zero_lies_in_the_subdifferential_of_the_elastic_net(dtype):
    # v - w + t * (l1 * subdifferential |v| + l2 * v), with v and w exact in float64.
    w, t, l1, l2 = jnp.asarray(weights(), dtype), 0.5, 0.75, 1.5
    v = float64(proximal.elastic_net(w, l1=l1, l2=l2, threshold=t))
    residual = float64(w) - v - t * l2 * v
    rounding = 2 * float(jnp.finfo(dtype).eps) * (np.abs(float64(w)) + t)
    at_zero = v == 0
    assert 0 < at_zero.sum() < 400
    assert (np.abs(residual[at_zero]) <= t * l1 + rounding[at_zero]).all()
    assert (np.abs(residual - t * l1 * np.sign(v))[~at_zero] <= rounding[~at_zero]).all()


def test_the_envelope_of_the_elastic_net_has_the_residual_as_its_gradient():
    w, t, strengths = jnp.asarray(weights()), 0.7, {"l1": 0.6, "l2": 0.8}

    def envelope(w):
        v = proximal.elastic_net(w, threshold=t, **strengths)
        return penalties.l2(v - w) + t * penalties.elastic_net(v, **strengths)

    residual = w - proximal.elastic_net(w, threshold=t, **strengths)
    np.testing.assert_allclose(jax.grad(envelope)(w), residual, atol=1e-6)


def test_the_elastic_net_joins_l1_and_l2():
    w = jnp.asarray(weights())
    both = proximal.elastic_net(w, l1=0.6, l2=0.8, threshold=0.5)
    in_turn = proximal.l2(proximal.l1(w, threshold=0.3), threshold=0.4)
    np.testing.assert_allclose(both, in_turn, rtol=1e-6)
    only = proximal.elastic_net(w, l1=1.0, l2=0.0, threshold=0.5)
    np.testing.assert_array_equal(only, proximal.l1(w, threshold=0.5))
    only = proximal.elastic_net(w, l1=0.0, l2=1.0, threshold=0.5)
    np.testing.assert_array_equal(only, proximal.l2(w, threshold=0.5))


@pytest.mark.parametrize("strengths", [(0, 0, 1), (0, 0, np.inf), (np.inf, np.inf, 0)], ids=str)
def test_an_elastic_net_of_nothing_is_the_identity_to_the_bit(strengths):
    w = jnp.asarray(HARD_TO_KEEP, jnp.float32)
    l1, l2, threshold = map(float, strengths)
    same = proximal.elastic_net(w, l1=l1, l2=l2, threshold=threshold)
    np.testing.assert_array_equal(bits(same), bits(w))


def test_infinite_thresholds_leave_zeros():
    w = jnp.array([1e30, -1.0, 0.0])
    for prox in (
        proximal.l2,
        lambda w, threshold: proximal.elastic_net(w, l1=1.0, l2=0.0, threshold=threshold),
        lambda w, threshold: proximal.elastic_net(w, l1=0.0, l2=1.0, threshold=threshold),
    ):
        np.testing.assert_array_equal(prox(w, threshold=jnp.inf), np.zeros(3))


def test_thresholds_and_weights_of_the_elastic_net_may_be_arrays():
    w = jnp.array([[3.0, 3.0, -3.0], [1.0, -1.0, 1.0]])
    v = proximal.elastic_net(
        w,
        l1=jnp.array([0.0, 1.0, -2.0]),
        l2=jnp.array([[1.0], [0.0]]),
        threshold=jnp.array([1.0, 2.0, 1.0]),
    )
    np.testing.assert_allclose(v, [[1.5, 1 / 3, -1.5], [1, 0, 1]], rtol=1e-6)
    halved = proximal.l2(w, threshold=jnp.array([[0.0], [1.0]]))
    np.testing.assert_array_equal(halved, [[3, 3, -3], [0.5, -0.5, 0.5]])


def test_complex_weights_shrink_along_their_phase_in_the_elastic_net():
    w = jnp.array([3.0 + 4.0j, 0.3 + 0.4j], jnp.complex64)
    v = proximal.elastic_net(w, l1=1.0, l2=1.0, threshold=1.0)
    np.testing.assert_allclose(v, [1.2 + 1.6j, 0], rtol=1e-6)


@pytest.mark.parametrize("threshold", [-1e-9, -1, np.float32(-2), -np.inf, np.nan])
def test_a_negative_threshold_raises(threshold):
    with pytest.raises(ValueError, match=r"`threshold` must be zero or positive, got"):
        proximal.l1(jnp.ones(2), threshold=threshold)


def test_integer_weights_raise():
    with pytest.raises(TypeError, match=r"`w` must have a floating-point dtype, got int32"):
        proximal.l1(jnp.arange(3), threshold=1.0)
    with pytest.raises(TypeError, match=r"`w` must be an array, got float"):
        proximal.l1(1.0, threshold=1.0)


def test_the_derivative_for_complex_weights_turns_with_them():
    direction = np.array([1 + 2j, 2 - 1j, 1j])

    def value(w):
        return jnp.real(proximal.l1(w, threshold=0.5) * direction).sum()

    with jax.enable_x64(True):
        w = jnp.array([3 + 4j, -1 + 0.5j, 0.1 + 0.2j])
        check_grads(value, (w,), order=1, modes=("fwd", "rev"))
        assert np.isfinite(jax.grad(value)(jnp.zeros_like(w))).all()
