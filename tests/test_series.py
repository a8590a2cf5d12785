"""Series: SciPy's splines and NumPy's interpolation, distributions of the draws, short series."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, interpolate, stats

from jaxreg import augment
from jaxreg.augment import series
from jaxreg.augment.series import splines
from tests.helpers import assert_rate

KEY = jax.random.key(110)
X = np.random.default_rng(0).normal(size=(3, 13, 2)).astype(np.float32)
LENGTHS = (13, 7, 2)
POLICY = series.SpecPolicy(3.0, 1, 1, 4, 1, 0.5)
RANDOM = {
    "jitter": partial(series.random_jitter, stddev=0.5),
    "scaling": partial(series.random_scaling, stddev=0.5),
    "magnitude_warp": partial(series.random_magnitude_warp, stddev=0.5, knots=5),
    "time_warp": partial(series.random_time_warp, stddev=0.5, knots=5),
    "window_slice": partial(series.random_window_slice, share=0.6),
    "window_warp": partial(series.random_window_warp, share=0.4),
    "permutation": partial(series.random_permutation, segments=4),
    "random_cuts": partial(series.random_permutation, segments=4, cuts=series.random_cuts),
    "spec_augment": partial(series.random_spec_augment, policy=POLICY),
}
EACH = {
    "scaling": (series.scaling, {"factor": [[0.5, 2.0], [1.0, 1.0], [-1.0, 3.0]]}),
    "magnitude_warp": (series.magnitude_warp, {"factors": X[:, :5] ** 2}),
    "time_warp": (series.time_warp, {"log_speeds": X[:, :6, 0]}),
    "window_slice": (series.window_slice, {"start": [2.5, 3.0, 0.1], "share": [0.7, 0.9, 0.5]}),
    "window_warp": (
        series.window_warp,
        {"start": [9.0, 1.2, 0.3], "share": [0.3, 0.5, 0.4], "factor": [2.0, 0.5, 3.0]},
    ),
    "permutation": (
        series.permutation,
        {"order": np.array([[2, 0, 3, 1], [3, 2, 1, 0], [1, 0, 2, 3]])},
    ),
}


def ramp(number, time):
    """Series whose values are their times."""
    return jnp.tile(jnp.arange(float(time))[:, None], (number, 1, 1))


def scaling(x, factor):
    return x * factor


def magnitude_warp(x, factors):
    knots = np.linspace(0, max(len(x) - 1, 1), len(factors))
    return x * interpolate.CubicSpline(knots, factors)(np.arange(len(x)))


def resampled(x, position):
    return np.stack([np.interp(position, np.arange(len(x)), c) for c in x.T], axis=-1)


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
    start = min(start, last - window)
    sources = np.array([0, start, start + window, last])
    lasts = np.array([start, window * factor, last - start - window])
    results = np.concatenate([[0], np.cumsum(lasts)])
    return resampled(x, np.interp(np.arange(len(x)) * results[-1] / last, results, sources))


def permutation(x, order):
    parts = np.array_split(x, len(order))
    return np.concatenate([parts[i] for i in order])


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 9])
def test_curves_are_those_of_scipy(number):
    knots = X[0, :number].astype(np.float64)
    position = np.append(np.linspace(0, number - 1, 37), np.arange(number))
    expected = np.broadcast_to(knots[:1], (len(position), 2))
    if number > 1:
        expected = interpolate.CubicSpline(np.arange(number), knots)(position)
    actual = splines.through(jnp.float32(knots), jnp.float32(position))
    np.testing.assert_allclose(actual, expected, atol=2e-6)


@pytest.mark.parametrize("name", EACH)
def test_each_example_is_that_of_the_reference(name):
    """With all steps, and with lengths, where what follows stays to the bit."""
    function, options = EACH[name]
    arrays = {k: jnp.asarray(v) for k, v in options.items()}
    full = jax.jit(function)(X, **arrays)
    cut = jax.jit(function)(X, **arrays, length=jnp.array(LENGTHS))
    for i, length in enumerate(LENGTHS):
        own = {k: np.asarray(v[i], np.float64) for k, v in options.items()}
        if name == "permutation":
            own = {"order": options["order"][i]}
        reference = globals()[name]
        np.testing.assert_allclose(full[i], reference(X[i], **own), atol=2e-5)
        np.testing.assert_allclose(cut[i, :length], reference(X[i, :length], **own), atol=2e-5)
        np.testing.assert_array_equal(cut[i, length:], X[i, length:])


@pytest.mark.parametrize("name", ["time_warp", "window_warp"])
def test_ends_stay_and_time_runs_forward(name):
    """Where speeds differ by a factor of 20, and for as many steps as round badly."""
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
    logs = jnp.array([0.5, -1.0, 0.25])
    expected = series.time_warp(X, log_speeds=logs)
    for shift in (100.0, -200.0):
        y = series.time_warp(X, log_speeds=logs + shift)
        np.testing.assert_allclose(y, expected, atol=1e-3)


SHAPES = ((2, 0, 3), (2, 1, 3), (2, 2, 3), (0, 5, 3), (2, 5, 0), (7, 1), (2, 2, 9, 2))


@pytest.mark.parametrize("name", RANDOM)
def test_short_empty_and_narrow_series(name):
    batches = [jnp.ones(shape, jnp.bfloat16) for shape in SHAPES]
    results = jax.jit(lambda key, xs: [RANDOM[name](key, x) for x in xs])(KEY, batches)
    for x, y in zip(batches, results, strict=True):
        assert (y.shape, y.dtype) == (x.shape, jnp.bfloat16)
        assert np.isfinite(np.asarray(y, np.float32)).all()
    if name not in ("jitter", "scaling", "magnitude_warp", "spec_augment"):
        np.testing.assert_array_equal(results[1], batches[1])


@pytest.mark.parametrize("name", RANDOM)
def test_each_example_has_a_draw_of_its_own_and_padding_counts_for_nothing(name):
    x = jnp.tile(jnp.cumsum(jnp.asarray(X[0]), axis=0), (8, 1, 1))
    lengths = jnp.arange(8) + 6
    padding = jnp.arange(13)[:, None] >= lengths[:, None, None]
    function = jax.jit(RANDOM[name])
    y = function(KEY, jnp.where(padding, jnp.nan, x), length=lengths)
    padded = np.broadcast_to(padding, y.shape)
    assert np.isnan(np.asarray(y)[padded]).all()
    assert np.isfinite(np.asarray(y)[~padded]).all()
    # Windows and masks may well leave the part that two examples share.
    assert len({np.asarray(one[:6]).tobytes() for one in y}) >= 5
    again = function(KEY, jnp.where(padding, 7.0, x), length=lengths)
    np.testing.assert_array_equal(np.asarray(again)[~padded], np.asarray(y)[~padded])


@pytest.mark.parametrize("name", ["jitter", "scaling", "magnitude_warp", "time_warp"])
def test_gradients_at_strength_0_are_finite(name):
    def loss(x, stddev):
        knots = {} if name in ("jitter", "scaling") else {"knots": 4}
        return jnp.sum(getattr(series, f"random_{name}")(KEY, x, stddev=stddev, **knots) ** 2)

    gradients = jax.jit(jax.grad(loss, (0, 1)))
    for stddev in (0.0, 1e-6, 30.0):
        for gradient in gradients(jnp.asarray(X), stddev):
            assert jnp.isfinite(gradient).all()


@partial(jax.jit, static_argnames=("name", "knots", "policy", "segments"))
def drawn(x, *, name, **options):
    """What a function makes of ``x``, in one program."""
    return getattr(series, f"random_{name}")(KEY, x, **options)


def assert_distribution(sample, distribution):
    assert stats.kstest(np.asarray(sample, np.float64).ravel(), distribution.cdf).pvalue > 1e-6


def test_scales_are_normal_and_one_for_each_channel():
    y = drawn(jnp.ones((4000, 3, 2)), name="scaling", stddev=0.1)
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[:, :1], y.shape))
    assert_distribution(y[:, 0], stats.norm(1, 0.1))
    assert abs(np.corrcoef(y[:, 0].T)[0, 1]) < 5 / 4000**0.5
    curve = drawn(jnp.ones((2000, 9, 2)), name="magnitude_warp", stddev=0.1, knots=5)
    assert_distribution(curve[:, ::2], stats.norm(1, 0.1))
    noise = drawn(jnp.ones((200, 9, 2)), name="jitter", stddev=0.3)
    assert_distribution(noise, stats.norm(1, 0.3))


def test_logarithms_of_speeds_are_normal():
    """Two speeds and three steps: where the middle one is read is logistic in their difference."""
    y = drawn(ramp(4000, 3), name="time_warp", stddev=0.4, knots=2)
    share = np.asarray(y[:, 1, 0], np.float64) / 2
    assert_distribution(np.log(share / (1 - share)), stats.norm(0, 0.4 / 2**0.5))


def test_windows_lie_anywhere_with_the_same_probability():
    y = drawn(ramp(4000, 21), name="window_slice", share=0.7)
    assert_distribution(y[:, 0, 0] / 20, stats.uniform(0, 0.3))
    y = np.asarray(drawn(ramp(2000, 401), name="window_warp", share=0.2)[..., 0], np.float64)
    slope = np.median(np.diff(y), axis=1)
    slow = slope > 1
    assert_rate(slow.mean(), 0.5, 2000)
    np.testing.assert_allclose(slope, np.where(slow, 1.2, 0.9), atol=1e-3)
    begins = (abs(np.diff(y) - slope[:, None]) > 0.01).argmax(axis=1) * slope
    assert_distribution(begins / 400, stats.uniform(0, 0.8))


def assert_as_likely(rows, number):
    """The rows take this number of different values, each with the same probability."""
    counts = np.unique(np.asarray(rows), axis=0, return_counts=True)[1]
    assert len(counts) == number
    assert stats.chisquare(counts).pvalue > 1e-6


def test_orders_and_cuts_are_as_likely_as_others():
    x = ramp(6000, 3)
    assert_as_likely(drawn(x, name="permutation", segments=3)[..., 0], 6)
    counted = jnp.full(6000, 5)
    cuts = jax.jit(series.random_cuts, static_argnums=2)
    assert_as_likely(cuts(KEY, ramp(6000, 7), 3, counted), 6)


def test_cuts_of_fewer_steps_than_segments():
    for cut in (series.even_cuts, series.random_cuts):
        cut = jax.jit(cut, static_argnums=2)
        found = cut(KEY, ramp(4, 6), 5, jnp.array([0, 1, 3, 6]))
        np.testing.assert_array_equal(found[:3], [[0] * 4, [1] * 4, [1, 2, 3, 3]])
        assert (jnp.diff(found[3]) > 0).all()
    y = jax.jit(series.permutation)(ramp(1, 6), order=jnp.array([1, 2, 0]), cuts=jnp.array([1, 3]))
    np.testing.assert_array_equal(y[0, :, 0], [1, 2, 3, 4, 5, 0])


def test_the_policies_are_the_published_ones():
    """Table 1 of the paper."""
    fields = ("warp", "frequency_width", "time_width", "time_share", "frequency_masks",
              "time_masks")  # fmt: skip
    table = {
        series.LIBRISPEECH_BASIC: (80, 27, 100, 1.0, 1, 1),
        series.LIBRISPEECH_DOUBLE: (80, 27, 100, 1.0, 2, 2),
        series.SWITCHBOARD_MILD: (40, 15, 70, 0.2, 2, 2),
        series.SWITCHBOARD_STRONG: (40, 27, 70, 0.2, 2, 2),
    }
    for policy, numbers in table.items():
        assert tuple(getattr(policy, name) for name in fields) == numbers


def test_bands_are_of_every_width_and_place():
    x = jnp.ones((6000, 9, 4))
    only = series.SpecPolicy(0, 2, 1, 0, 0)
    y = drawn(x, name="spec_augment", policy=only, fill=-1.0)
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[:, :1], y.shape))
    erased = np.asarray(y[:, 0] == -1)
    widths = erased.sum(axis=1)
    assert_as_likely(widths[:, None], 3)
    assert_as_likely(erased[widths == 2], 3)
    assert_as_likely(erased[widths == 1], 4)
    # The share of the steps that count, and no wider than the bound.
    for policy, widest in ((series.SpecPolicy(0, 0, 0, 9, 1, 0.5), 3), ((0, 0, 0, 2, 1, 1.0), 2)):
        policy = series.SpecPolicy(*policy)
        y = drawn(x, name="spec_augment", policy=policy, length=jnp.int32(7))
        erased = np.asarray(y == 0)
        assert (erased.all(axis=2) == erased.any(axis=2)).all()
        widths = erased.any(axis=2).sum(axis=1)
        assert_as_likely(widths[:, None], widest + 1)
        assert not erased[:, 7:].any()
        assert erased[:, 6].any()


def test_two_bands_are_drawn_by_themselves():
    policy = series.SpecPolicy(0, 0, 0, 5, 2)
    y = drawn(jnp.ones((4000, 20, 3)), name="spec_augment", policy=policy)
    erased = np.asarray(y[..., 0] == 0)
    begins = np.diff(np.pad(erased, ((0, 0), (1, 0))).astype(int), axis=1) == 1
    assert set(begins.sum(axis=1)) == {0, 1, 2}
    assert erased.sum(axis=1).max() == 10


def test_time_is_warped_about_one_point():
    """Two straight lines that meet where a point within W of no end has moved by at most W."""
    policy = series.SpecPolicy(8.0, 0, 0, 0, 0)
    y = np.asarray(drawn(ramp(2000, 101), name="spec_augment", policy=policy))[..., 0]
    np.testing.assert_array_equal(y[:, [0, -1]], [[0, 100]] * 2000)
    before, after = (y[:, 1] - y[:, 0])[:, None], (y[:, -1] - y[:, -2])[:, None]
    step = np.arange(101)
    lines = before * step, 100 - after * (100 - step)
    error = np.minimum(*(abs(y - line) for line in lines))
    # The step between the two lines is on neither, but for a difference of the slopes.
    assert np.sort(error, axis=1)[:, :-1].max() < 1e-3
    moved = 100 * (1 - after[:, 0]) / (before - after)[:, 0]
    source = before[:, 0] * moved
    assert_distribution(source, stats.uniform(8, 84))
    assert_distribution(moved - source, stats.uniform(-8, 16))


def test_series_are_chained_and_decided_on():
    both = jax.jit(augment.sequence(RANDOM["time_warp"], RANDOM["window_slice"]))
    assert both(KEY, jnp.asarray(X)).shape == X.shape
    some = jax.jit(augment.with_probability(RANDOM["scaling"], probability=0.5))
    changed = (some(KEY, jnp.ones((200, 1, 5, 2)))[:, 0] != 1).any(axis=(1, 2))
    assert_rate(changed.mean(), 0.5, 200)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: series.scaling(jnp.ones(5), factor=2.0), ValueError, r"\[..., time, channels\]"),
        (lambda: series.magnitude_warp(X, factors=2.0), ValueError, r"`factors` must have the sh"),
        (lambda: series.time_warp(X, log_speeds=2.0), ValueError, r"`log_speeds` must have the sh"),
        (lambda: series.permutation(X, order=2), ValueError, r"`order` must have the shape"),
        (lambda: series.permutation(X, order=X[0, 0]), TypeError, r"`order` must hold integers"),
        (
            lambda: series.random_spec_augment(KEY, X, policy=POLICY._replace(warp=-1.0)),
            ValueError,
            r"`warp` must be zero or positive, got -1\.0",
        ),
        (
            lambda: series.random_spec_augment(KEY, X, policy=POLICY._replace(time_share=2.0)),
            ValueError,
            r"`time_share` must be a probability in \[0, 1\], got 2\.0",
        ),
        (
            lambda: series.random_spec_augment(KEY, X, policy=POLICY._replace(time_masks=1.5)),
            TypeError,
            r"`time_masks` must be an integer, got float 1\.5",
        ),
        (
            lambda: series.random_spec_augment(KEY, X, policy=POLICY, fill=jnp.ones(3)),
            ValueError,
            r"`fill` must broadcast to shape \(3, 13, 2\)",
        ),
    ],
)
def test_what_cannot_be_is_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
