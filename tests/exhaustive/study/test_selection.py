"""Coverage of the interval of a paired difference."""

import numpy as np
import pytest

from jaxreg.study import selection


@pytest.mark.parametrize(("seeds", "low", "high"), [(16, 0.016, 0.084), (8, 0.0, 0.09)])
def test_the_interval_leaves_out_no_difference_as_often_as_it_says(seeds, low, high):
    """Of 1000 differences that are pure noise 5 % look real, give or take 5 standard errors."""
    noise = np.random.default_rng(0).normal(size=(1000, seeds))
    intervals = [selection.paired_difference(row, np.zeros(seeds)) for row in noise]
    missed = np.mean([not found.low <= 0 <= found.high for found in intervals])
    assert low < missed < high
