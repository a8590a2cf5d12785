"""Draws for each example: their distributions and limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxreg.augment import _draws
from tests.augment.helpers import IMAGE, KEY, assert_distribution
from tests.helpers import assert_rate

IMAGES = np.zeros((4000, 1, 1, 1), np.float32)


def test_draws_are_uniform_between_their_limits():
    @jax.jit
    def run(x):
        plain = _draws.uniform(KEY, x)
        between = _draws.between(KEY, x, -1.0, 3.0)
        symmetric = _draws.symmetric(KEY, x, jnp.float32(2.5))
        return plain, between, symmetric, _draws.decide(KEY, x, 0.3)

    plain, between, symmetric, decided = run(IMAGES)
    assert plain.shape == (4000,)
    assert_distribution(plain, stats.uniform)
    assert_distribution(between, stats.uniform(-1, 4))
    assert_distribution(symmetric, stats.uniform(-2.5, 5))
    assert decided.shape == IMAGES.shape
    assert_rate(np.mean(decided), 0.3, 4000)


def test_limits_that_are_traced_are_at_least_0():
    limit = jax.jit(lambda value, x: _draws.limit(value, "v", x))
    assert limit(-3.0, IMAGE) == 0
    assert limit(3.0, IMAGE) == 3
    assert limit(3.0, IMAGE).dtype == np.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _draws.limit(np.inf, "v", IMAGE), r"`v` must be finite, got inf"),
        (lambda: _draws.limits(0.5, "v", IMAGE), r"`v` must be a pair .* got 0\.5"),
        (lambda: _draws.limits((1, 2, 3), "v", IMAGE), r"`v` must be a pair"),
        (
            lambda: _draws.positive_limits((0.0, 1.0), "v", IMAGE),
            r"`v` must be positive, got 0\.0",
        ),
        (lambda: _draws.limit(np.ones(2), "v", IMAGE), r"`v` must be a single number"),
        (lambda: _draws.limit(-1.0, "v", IMAGE), r"`v` must be zero or positive"),
    ],
)
def test_wrong_limits_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
