"""Draws for each example of a batch of series."""

import jax
from scipy import stats

from jaxreg.augment.series import _draws
from tests.augment.helpers import KEY, assert_distribution
from tests.augment.series.helpers import ramp


def test_draws_have_their_distributions():
    @jax.jit
    def run(x):
        return _draws.uniform(KEY, x, 3), _draws.normal(KEY, x, 3, 2)

    uniform, normal = run(ramp(2000, 4))
    assert uniform.shape == (2000, 3)
    assert normal.shape == (2000, 3, 2)
    assert_distribution(uniform, stats.uniform)
    assert_distribution(normal, stats.norm)
