"""Splines through knots are SciPy's, with its ends."""

import jax
import numpy as np
from scipy import interpolate

from jaxreg.augment.series import splines
from tests.augment.series.helpers import X
from tests.helpers import few


@few("number", [5, 1, 2, 3, 4, 9])
def test_curves_are_those_of_scipy(number):
    """Between the knots and at each of them, for each of two series by itself."""
    knots = X[:2, :number].astype(np.float64)
    position = np.append(np.linspace(0, number - 1, 37), np.arange(number))
    expected = np.broadcast_to(knots[:, :1], (2, len(position), 2))
    if number > 1:
        expected = interpolate.CubicSpline(np.arange(number), knots, axis=1)(position)
    places = np.stack([position] * 2).astype(np.float32)
    actual = jax.jit(splines.through)(X[:2, :number], places)
    np.testing.assert_allclose(actual, expected, atol=3e-6)


def test_slopes_at_the_knots_are_scipys():
    for number in range(1, 10):
        slopes = splines._slopes(number)
        for i in range(number):
            unit = np.eye(number)[i]
            expected = np.zeros(1)
            if number > 1:
                expected = interpolate.CubicSpline(np.arange(number), unit)(np.arange(number), 1)
            np.testing.assert_allclose(slopes[:, i], expected, atol=1e-12)
