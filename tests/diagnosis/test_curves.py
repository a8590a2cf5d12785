"""Windows at the end of a curve."""

import numpy as np
import pytest

from jaxreg.diagnosis import _curves


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(100, 0.1, 10), (35, 0.1, 4), (31, 0.1, 4), (20, 0.1, 3), (2, 0.5, 2), (10, 1.0, 10)],
)
def test_a_window_is_a_share_rounded_up_of_at_least_three_epochs(count, share, expected):
    assert _curves.window(count, share) == expected


def test_a_run_that_was_never_finite_makes_the_mean_of_runs_diverge():
    curves = np.array([[1.0, np.nan], [0.5, np.nan], [0.25, np.nan]])
    assert not np.isfinite(_curves.read({"train_loss": curves}).train_loss).any()


def test_a_mean_over_runs_that_were_measured_in_turns_is_a_plain_one():
    curves = [[1.0, None], [None, 0.5], [0.25, None]]
    assert _curves.read({"train_loss": curves}).train_loss.tolist() == [1.0, 0.5, 0.25]


def test_the_end_of_a_curve_is_the_median_of_its_window():
    assert _curves.end(np.array([9.0, 9.0, 1.0, 5.0, 3.0]), 0.6) == 3
