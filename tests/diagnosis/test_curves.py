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


def test_the_end_of_a_curve_is_the_median_of_its_window():
    assert _curves.end(np.array([9.0, 9.0, 1.0, 5.0, 3.0]), 0.6) == 3
