"""Clocks: warps and windows of time, against SciPy's splines and NumPy's interpolation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, interpolate, stats

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
    ramp,
    resampled,
)
from tests.helpers import assert_rate, few

RANDOM = {
    "time_warp": partial(series.random_time_warp, stddev=0.5, knots=5),
    "window_slice": partial(series.random_window_slice, share=0.6),
    "window_warp": partial(series.random_window_warp, share=0.4),
}


def time_warp(x, log_speeds):
    knots = np.linspace(0, max(len(x) - 1, 1), len(log_speeds))
    speed = np.exp(interpolate.CubicSpline(knots, log_speeds)(np.arange(len(x))))
    passed = integrate.cumulative_trapezoid(speed, initial=0)
    return resampled(x, passed * (len(x) - 1) / passed[-1])


def window_slice(x, start, share):
    return resampled(x, start + share * np.arange(len(x)))


def window_warp(x, start, share, factor):
    last = len(x) - 1
    window = share * last
    start = np.clip(start, 0, last - window)
    sources = np.array([0, start, start + window, last])
    lasts = np.array([start, window * factor, last - start - window])
    results = np.concatenate([[0], np.cumsum(lasts)])
    return resampled(x, np.interp(np.arange(len(x)) * results[-1] / last, results, sources))


def test_speeds_follow_scipys_splines():
    assert_each_is(series.time_warp, time_warp, {"log_speeds": X[:, :6, 0]})


def test_slices_are_numpys_interpolation():
    numbers = {"start": np.float32([2.5, 3.0, 0.1]), "share": np.float32([0.7, 0.9, 0.5])}
    assert_each_is(series.window_slice, window_slice, numbers)


def test_warped_windows_are_numpys_interpolation():
    numbers = {
        "start": np.float32([9.0, 1.2, 0.3]),
        "share": np.float32([0.3, 0.5, 0.4]),
        "factor": np.float32([2.0, 0.5, 3.0]),
    }
    assert_each_is(series.window_warp, window_warp, numbers)
    numbers = {
        "start": np.float32([-2.0, 3.0, 0.0]),
        "share": np.float32([0.3, 0.9, 1.0]),
        "factor": np.float32([0.5, 4.0, 3.0]),
    }
    assert_each_is(series.window_warp, window_warp, numbers)


def test_what_does_not_warp_keeps_every_bit():
    odd = np.where(X > 0, -0.0, 1e-40).astype(np.float32)

    @jax.jit
    def run(x, zero, one):
        return (
            series.time_warp(x, log_speeds=jnp.stack([one, one, one])),
            series.window_slice(x, start=zero, share=one),
            series.window_warp(x, start=zero + 3, share=zero, factor=one + 1),
            series.window_warp(x, start=zero + 3, share=one / 2, factor=one),
        )

    for same in run(odd, np.float32(0), np.float32(1)):
        assert np.asarray(same).tobytes() == odd.tobytes()


def test_traced_numbers_beyond_their_ranges_are_cut_off():
    @jax.jit
    def run(x, share, factor):
        sliced = series.window_slice(x, start=0.5, share=share)
        return sliced, series.window_warp(x, start=2.0, share=share, factor=factor)

    sliced, warped = run(X, np.float32(1.5), np.float32(2))
    np.testing.assert_allclose(sliced[0], window_slice(X[0], 0.5, 1), atol=1e-5)
    np.testing.assert_allclose(warped[0], window_warp(X[0], 2.0, 1, 2), atol=1e-5)
    sliced, warped = run(X, np.float32(-1), np.float32(0))
    np.testing.assert_allclose(sliced[0], window_slice(X[0], 0.5, 0), atol=1e-5)
    np.testing.assert_array_equal(warped, X)
    assert np.isfinite(run(X, np.float32(0.5), np.float32(0))[1]).all()


@few("name", ["time_warp", "window_warp"])
def test_ends_stay_and_time_runs_forward(name):
    """Speeds differ by a factor of 20, over a number of steps with bad roundings."""
    strong = {
        "time_warp": partial(series.random_time_warp, stddev=1.5, knots=8),
        "window_warp": partial(series.random_window_warp, share=0.37, factors=(0.05, 20.0)),
    }
    x = ramp(200, 997)
    y = np.asarray(jax.jit(strong[name])(KEY, x))
    np.testing.assert_array_equal(y[:, [0, -1]], x[:, [0, -1]])
    assert (np.diff(y, axis=1) >= 0).all()
    assert (np.diff(y, axis=1) > 0).mean() > 0.99
    assert np.abs(y - x).max() > 100


def test_only_differences_of_logarithms_of_speeds_count():
    logs = np.float32([0.5, -1.0, 0.25])
    warp = jax.jit(lambda logs: series.time_warp(X, log_speeds=logs))
    expected = warp(logs)
    for shift in (100.0, -200.0):
        np.testing.assert_allclose(warp(logs + np.float32(shift)), expected, atol=1e-3)


def test_narrow_series_are_rounded_once():
    logs = X[0, :3, 0]
    assert_rounded_once(lambda x: series.time_warp(x, log_speeds=logs), X)
    assert_rounded_once(lambda x: series.window_warp(x, start=2.3, share=0.4, factor=2.0), X)


def test_logarithms_of_speeds_are_normal():
    """Two speeds and three steps: where the middle one is read is logistic in their difference."""
    y = np.asarray(drawn(ramp(4000, 3), name="time_warp", stddev=0.4, knots=2), np.float64)
    share = y[:, 1, 0] / 2
    assert_distribution(np.log(share / (1 - share)), stats.norm(0, 0.4 / 2**0.5))


def test_slices_lie_anywhere_with_the_same_probability():
    y = np.asarray(drawn(ramp(4000, 21), name="window_slice", share=0.7), np.float64)
    assert_distribution(y[:, 0, 0] / 20, stats.uniform(0, 0.3))
    np.testing.assert_allclose(np.diff(y[..., 0]), 0.7, atol=1e-4)
    y = drawn(ramp(4000, 21), name="window_slice", share=0.7, length=np.int32(11))
    y = np.asarray(y, np.float64)
    assert_distribution(y[:, 0, 0] / 10, stats.uniform(0, 0.3))


def test_warped_windows_lie_anywhere_with_one_of_two_factors():
    y = np.asarray(drawn(ramp(2000, 401), name="window_warp", share=0.2)[..., 0], np.float64)
    slope = np.median(np.diff(y), axis=1)
    slow = slope > 1
    assert_rate(slow.mean(), 0.5, 2000)
    np.testing.assert_allclose(slope, np.where(slow, 1.2, 0.9), atol=1e-3)
    begins = (abs(np.diff(y) - slope[:, None]) > 0.01).argmax(axis=1) * slope
    assert_distribution(begins / 400, stats.uniform(0, 0.8))
    assert_independent(begins, slow)


@few("name", RANDOM)
def test_short_empty_and_narrow_series(name):
    assert_short_empty_and_narrow_series_are_kept(RANDOM[name], alone_stays=True)


@pytest.mark.parametrize("name", RANDOM)
def test_each_example_has_a_draw_of_its_own_and_padding_counts_for_nothing(name):
    assert_each_has_its_draw_and_padding_counts_for_nothing(RANDOM[name])


def test_gradients_at_strength_0_are_finite():
    @jax.jit
    @partial(jax.grad, argnums=(0, 1))
    def gradients(x, stddev):
        return jnp.sum(series.random_time_warp(KEY, x, stddev=stddev, knots=4) ** 2)

    for stddev in (0.0, 1e-6, 30.0):
        for gradient in gradients(X, stddev):
            assert np.isfinite(gradient).all()


def test_warps_are_chained():
    both = jax.jit(augment.sequence(RANDOM["time_warp"], RANDOM["window_slice"]))
    y = np.asarray(both(KEY, ramp(3, 13)))
    assert y.shape == (3, 13, 1)
    assert (np.diff(y, axis=1) > 0).all()
    assert np.ptp(y, axis=1).max() <= 12 * 0.6 * 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: series.time_warp(X, log_speeds=2.0), r"`log_speeds` must have sh"),
        (lambda: series.time_warp(X, log_speeds=X[:, :0, 0]), r"`log_speeds` must have sh"),
        (lambda: series.time_warp(X, log_speeds=X[:2, :3, 0]), r"`log_speeds` must broadcast"),
        (lambda: series.window_slice(X, start=0.0, share=-0.5), r"`share` must be .*got -0\.5"),
        (lambda: series.window_slice(X[0, 0], start=0.0, share=0.5), r"\[..., time, channels\]"),
        (lambda: series.random_window_slice(KEY, X, share=1.5), r"`share` must be .*got 1\.5"),
        (
            lambda: series.window_warp(X, start=0.0, share=0.5, factor=-1.0),
            r"`factor` must be positive, got -1\.0",
        ),
        (
            lambda: series.random_window_warp(KEY, X, share=0.5, factors=(1.0,)),
            r"`factors` must be a pair",
        ),
        (
            lambda: series.random_window_warp(KEY, X, share=0.5, factors=(1.0, 0.0)),
            r"`factors` must be positive, got 0\.0",
        ),
        (
            lambda: series.random_time_warp(KEY, X, stddev=0.5, knots=0),
            r"`knots` must be at least 1, got 0",
        ),
        (
            lambda: series.window_slice(X, start=0.0, share=0.5, length=-1),
            r"`length` must be zero or positive, got -1",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call)


def test_lengths_count_steps():
    with pytest.raises(TypeError, match=r"`length` must be an integer, got dtype float"):
        series.window_slice(X, start=0.0, share=0.5, length=2.0)
