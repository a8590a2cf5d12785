"""Values: noise, scales and warped magnitudes, against NumPy, SciPy and the normal distribution."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import interpolate, stats

from jaxreg import augment
from jaxreg.augment import series
from tests.augment.helpers import assert_distribution, assert_independent, assert_rounded_once
from tests.augment.series.helpers import (
    KEY,
    X,
    assert_each_has_its_draw_and_padding_counts_for_nothing,
    assert_each_is,
    assert_short_empty_and_narrow_series_are_kept,
    drawn,
)
from tests.helpers import assert_rate, few

RANDOM = {
    "jitter": partial(series.random_jitter, stddev=0.5),
    "scaling": partial(series.random_scaling, stddev=0.5),
    "magnitude_warp": partial(series.random_magnitude_warp, stddev=0.5, knots=5),
}


def magnitude_warp(x, factors):
    knots = np.linspace(0, max(len(x) - 1, 1), len(factors))
    return x * interpolate.CubicSpline(knots, factors)(np.arange(len(x)))


def test_each_channel_has_its_scale():
    factor = np.float32([[0.5, 2.0], [1.0, 1.0], [-1.0, 3.0]])
    assert_each_is(series.scaling, lambda x, factor: x * factor, {"factor": factor})


def test_magnitudes_follow_scipys_splines():
    assert_each_is(series.magnitude_warp, magnitude_warp, {"factors": X[:, :5] ** 2})


def test_ones_keep_every_bit_and_narrow_series_are_rounded_once():
    odd = np.where(X > 0, -0.0, 1e-40).astype(np.float32)
    run = jax.jit(
        lambda x, ones: (
            series.scaling(x, factor=ones[0]),
            series.magnitude_warp(x, factors=ones),
        )
    )
    for same in run(odd, np.ones((4, 2), np.float32)):
        assert np.asarray(same).tobytes() == odd.tobytes()
    assert_rounded_once(lambda x: series.scaling(x, factor=np.float32([0.3, 1.7])), X)
    assert_rounded_once(lambda x: series.magnitude_warp(x, factors=X[0, :4]), X)


def test_scales_are_normal_and_one_for_each_channel():
    y = np.asarray(drawn(np.ones((4000, 3, 2), np.float32), name="scaling", stddev=0.1))
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    assert_distribution(y[:, 0], stats.norm(1, 0.1))
    assert_independent(y[:, 0, 0], y[:, 0, 1])


def test_knots_of_magnitudes_and_noise_are_normal():
    curve = drawn(np.ones((2000, 9, 2), np.float32), name="magnitude_warp", stddev=0.1, knots=5)
    knots = np.asarray(curve)[:, ::2]
    assert_distribution(knots, stats.norm(1, 0.1))
    assert_independent(knots[:, 0], knots[:, 1])
    assert_independent(knots[..., 0], knots[..., 1])
    noise = np.asarray(drawn(np.ones((200, 9, 2), np.float32), name="jitter", stddev=0.3))
    assert_distribution(noise, stats.norm(1, 0.3))
    assert_independent(noise[:, 1:], noise[:, :-1])


@few("name", RANDOM)
def test_short_empty_and_narrow_series(name):
    assert_short_empty_and_narrow_series_are_kept(RANDOM[name], alone_stays=False)


@pytest.mark.parametrize("name", RANDOM)
def test_each_example_has_a_draw_of_its_own_and_padding_counts_for_nothing(name):
    assert_each_has_its_draw_and_padding_counts_for_nothing(RANDOM[name])


def test_gradients_at_strength_0_are_finite():
    @jax.jit
    @partial(jax.grad, argnums=(0, 1))
    def gradients(x, stddev):
        jittered = series.random_jitter(KEY, x, stddev=stddev)
        scaled = series.random_scaling(KEY, x, stddev=stddev)
        warped = series.random_magnitude_warp(KEY, x, stddev=stddev, knots=4)
        return jnp.sum(jittered**2 + scaled**2 + warped**2)

    for stddev in (0.0, 1e-6, 30.0):
        for gradient in gradients(X, stddev):
            assert np.isfinite(gradient).all()


def test_scales_are_decided_on_by_example():
    some = augment.with_probability(RANDOM["scaling"], probability=0.5)
    y = np.asarray(jax.jit(some)(KEY, np.ones((200, 1, 5, 2), np.float32)))
    assert_rate((y[:, 0] != 1).any(axis=(1, 2)).mean(), 0.5, 200)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: series.scaling(X[0, :, 0], factor=2.0), r"\[..., time, channels\]"),
        (lambda: series.scaling(X, factor=X[0]), r"`factor` must broadcast"),
        (lambda: series.magnitude_warp(X, factors=2.0), r"`factors` must have sh"),
        (lambda: series.magnitude_warp(X, factors=X[:, :0]), r"`factors` must have sh"),
        (lambda: series.random_jitter(KEY, X, stddev=-1.0), r"`stddev` must be zero or positive"),
        (lambda: series.random_scaling(KEY, X, stddev=np.ones(3)), r"`stddev` must be a single"),
        (
            lambda: series.random_magnitude_warp(KEY, X, stddev=1.0, knots=0),
            r"`knots` must be at least 1, got 0",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call)
