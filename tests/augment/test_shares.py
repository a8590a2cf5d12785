"""Shares have the Beta and the Dirichlet distribution, from the smallest parameters to infinity."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jaxreg import augment
from jaxreg.augment._shares import dirichlet
from tests.augment.helpers import KEY, assert_distribution

NUMBER = 20_000
X = np.zeros((NUMBER, 1, 1, 1))
ALPHAS = (0.01, 0.2, 0.5, 1.0, 4.0, 100.0)


class Below:
    """A distribution of the numbers below a bound."""

    def __init__(self, distribution, bound):
        self.distribution, self.bound = distribution, bound

    def cdf(self, x):
        return self.distribution.cdf(x) / self.distribution.cdf(self.bound)


def test_shares_are_beta_distributed():
    with jax.enable_x64(True):
        draw = jax.jit(lambda x, alpha: augment.partners.share_per_example(KEY, x, alpha))
        for alpha in ALPHAS:
            share = np.asarray(draw(X, alpha))
            assert share.shape == (NUMBER,)
            # Near 1 float64 cannot tell shares of a small parameter apart; they are symmetric.
            low = share[share < 0.5]
            assert abs(len(low) - NUMBER / 2) < 5 * (NUMBER / 4) ** 0.5
            assert_distribution(low, Below(stats.beta(alpha, alpha), 0.5))
            high = 1 - share[(share > 0.5) & (share < 1 - 1e-9)]
            if alpha > 0.3:
                assert_distribution(high, Below(stats.beta(alpha, alpha), 0.5))
            # The control: the largest of a share and its rest, which some libraries mix by.
            larger = np.maximum(share, 1 - share)
            assert stats.kstest(larger, stats.beta(alpha, alpha).cdf).pvalue < 1e-6


def test_limits_of_the_parameter():
    draw = jax.jit(lambda x, alpha: augment.partners.share_per_example(KEY, x, alpha))
    x = X[:100].astype(np.float32)
    for alpha, expected in (
        (0.0, {1}),
        (-1.0, {1}),
        (np.inf, {0.5}),
        (1e30, {0.5}),
        (1e-7, {0, 1}),
    ):
        share = np.asarray(draw(x, alpha))
        assert share.dtype == np.float32
        assert set(share) == expected
    assert draw(x.astype(jnp.bfloat16), 0.3).dtype == np.float32


def test_gradients_of_alpha_are_finite_and_those_of_the_mean_square():
    """The mean of a squared share is 1/4 + 1 / (8 alpha + 4)."""

    @jax.jit
    @jax.grad
    def slope(alpha):
        return jnp.mean(augment.partners.share_per_example(KEY, jnp.zeros((NUMBER, 1)), alpha) ** 2)

    for alpha in (0.0, 1e-30, 1e-3, 1e6, 1e30, np.inf):
        assert np.isfinite(slope(alpha))
    for alpha in (0.5, 1.0, 10.0):
        np.testing.assert_allclose(slope(alpha), -8 / (8 * alpha + 4) ** 2, rtol=0.1)


def test_weights_of_chains_are_dirichlet_distributed():
    with jax.enable_x64(True):
        draw = jax.jit(lambda x, alpha: dirichlet(KEY, x, alpha, 3))
        for alpha in (0.1, 1.0, 7.0):
            weights = np.asarray(draw(X, alpha))
            np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-12)
            for one in weights.T:
                assert_distribution(one[one < 0.9], Below(stats.beta(alpha, 2 * alpha), 0.9))
            np.testing.assert_allclose(np.corrcoef(weights.T)[0, 1:], -0.5, atol=0.03)
        np.testing.assert_allclose(draw(X, np.inf), np.full((NUMBER, 3), 1 / 3))
        assert np.mean(np.max(draw(X, 0.0), axis=-1) == 1) > 0.999
