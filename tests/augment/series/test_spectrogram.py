"""SpecAugment: the table of the paper, bands of every width and place, time about a point."""

from functools import partial

import jax
import numpy as np
import pytest
from scipy import stats

from jaxreg.augment import series
from tests.augment.helpers import assert_as_likely, assert_distribution, assert_independent
from tests.augment.series.helpers import (
    KEY,
    X,
    assert_each_has_its_draw_and_padding_counts_for_nothing,
    assert_short_empty_and_narrow_series_are_kept,
    drawn,
    ramp,
)

POLICY = series.SpecPolicy(3.0, 1, 1, 4, 1, 0.5)
ONES = np.ones((6000, 9, 4), np.float32)
random_spec_augment = partial(series.random_spec_augment, policy=POLICY)
masked = partial(drawn, name="spec_augment")


def test_the_policies_are_the_published_ones():
    """Table 1 of the paper."""
    fields = (
        "warp",
        "frequency_width",
        "time_width",
        "time_share",
        "frequency_masks",
        "time_masks",
    )
    table = {
        series.LIBRISPEECH_BASIC: (80, 27, 100, 1.0, 1, 1),
        series.LIBRISPEECH_DOUBLE: (80, 27, 100, 1.0, 2, 2),
        series.SWITCHBOARD_MILD: (40, 15, 70, 0.2, 2, 2),
        series.SWITCHBOARD_STRONG: (40, 27, 70, 0.2, 2, 2),
    }
    for policy, numbers in table.items():
        assert tuple(getattr(policy, name) for name in fields) == numbers
    assert series.SpecPolicy(1, 2, 3, 4, 5).time_share == 1


def test_bands_of_frequencies_are_of_every_width_and_place():
    only = series.SpecPolicy(0, 2, 1, 0, 0)
    y = np.asarray(masked(ONES, policy=only, fill=-1.0))
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    erased = y[:, 0] == -1
    widths = erased.sum(axis=1)
    assert_as_likely(widths[:, None], 3)
    assert_as_likely(erased[widths == 2], 3)
    assert_as_likely(erased[widths == 1], 4)


def test_spans_of_time_have_no_more_than_their_share_of_the_steps_that_count():
    """Half of 7 steps are 3 whole ones; and no span is wider than the bound."""

    @jax.jit
    def run(x, time_width, time_share):
        policy = series.SpecPolicy(0, 0, 0, time_width, 1, time_share)
        return series.random_spec_augment(KEY, x, policy=policy, length=np.int32(7))

    for width, share, widest in ((9, 0.5, 3), (2, 1.0, 2)):
        erased = np.asarray(run(ONES, width, share)) == 0
        assert (erased.all(axis=2) == erased.any(axis=2)).all()
        spans = erased.any(axis=2)
        widths = spans.sum(axis=1)
        assert_as_likely(widths[:, None], widest + 1)
        assert not spans[:, 7:].any()
        assert_as_likely(spans[widths == widest], 8 - widest)


def test_spans_and_bands_are_drawn_by_themselves():
    two = series.SpecPolicy(0, 0, 0, 5, 2)
    y = np.asarray(masked(np.ones((4000, 20, 3), np.float32), policy=two))
    erased = y[..., 0] == 0
    begins = np.diff(np.pad(erased, ((0, 0), (1, 0))).astype(int), axis=1) == 1
    assert set(begins.sum(axis=1)) == {0, 1, 2}
    assert erased.sum(axis=1).max() == 10
    both = series.SpecPolicy(0, 3, 1, 3, 1)
    erased = np.asarray(masked(ONES, policy=both)) == 0
    channels = erased.all(1).sum(1)
    steps = erased.all(2).sum(1)
    assert_independent(channels, steps)


def test_time_is_warped_about_one_point():
    """Two straight lines that meet where a point within W of no end has moved by at most W."""
    only = series.SpecPolicy(8.0, 0, 0, 0, 0)
    y = np.asarray(masked(ramp(2000, 101), policy=only))[..., 0]
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
    assert_independent(moved - source, source)


def test_a_warp_is_at_most_half_of_the_steps_that_count():
    only = series.SpecPolicy(80.0, 0, 0, 0, 0)
    y = np.asarray(masked(ramp(2000, 21), policy=only, length=np.int32(11)))[..., 0]
    np.testing.assert_array_equal(y[:, 10:], ramp(2000, 21)[:, 10:, 0])
    assert (np.diff(y, axis=1) >= -1e-4).all()
    # The middle of 11 steps, the only point that is W from both ends, moves by any distance.
    before, after = y[:, 1] - y[:, 0], y[:, 10] - y[:, 9]
    sure = (before < 3) & (after < 3)
    moved = np.where(before > 1, 5 / before, 10 - 5 / after)
    assert_distribution(moved[sure & (abs(moved - 5) < 3)], stats.uniform(2, 6))


def test_a_policy_of_nothing_keeps_every_bit():
    odd = np.where(X > 0, -0.0, 1e-40).astype(np.float32)

    @jax.jit
    def run(x, zero):
        policy = series.SpecPolicy(zero, zero, 2, zero, 2, zero)
        return series.random_spec_augment(KEY, x, policy=policy)

    assert np.asarray(run(odd, np.float32(0))).tobytes() == odd.tobytes()


def test_short_empty_and_narrow_series():
    assert_short_empty_and_narrow_series_are_kept(random_spec_augment, alone_stays=False)


def test_each_example_has_a_draw_of_its_own_and_padding_counts_for_nothing():
    assert_each_has_its_draw_and_padding_counts_for_nothing(random_spec_augment)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"warp": -1.0}, ValueError, r"`warp` must be zero or positive, got -1\.0"),
        ({"time_width": -1}, ValueError, r"`time_width` must be zero or positive, got -1"),
        (
            {"frequency_width": np.ones(2)},
            ValueError,
            r"`frequency_width` must be a single number",
        ),
        ({"time_share": 2.0}, ValueError, r"`time_share` must be a probability in \[0, 1\], got 2"),
        ({"time_masks": 1.5}, TypeError, r"`time_masks` must be an integer, got float 1\.5"),
        ({"frequency_masks": -1}, ValueError, r"`frequency_masks` must be at least 0, got -1"),
    ],
)
def test_wrong_policies_are_named(options, kind, message):
    with pytest.raises(kind, match=message):
        series.random_spec_augment(KEY, X, policy=POLICY._replace(**options))


def test_a_filling_of_another_shape_is_named():
    with pytest.raises(ValueError, match=r"`fill` must broadcast to shape \(3, 13, 2\)"):
        series.random_spec_augment(KEY, X, policy=POLICY, fill=np.ones(3))
