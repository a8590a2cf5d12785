"""Noise on embeddings and their interpolation, against the formulas and the distributions."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jaxreg.augment import text

KEY = jax.random.key(120)
RNG = np.random.default_rng(3)
X, OTHER = RNG.normal(size=(2, 5, 6, 4)).astype(np.float32)
WHERE = np.arange(6) < np.array([[6], [4], [1], [0], [3]])


def test_noise_is_uniform_within_the_limit_of_each_length():
    x = jnp.zeros((2000, 6, 4))
    where = jnp.tile(jnp.asarray(WHERE), (400, 1))
    noise = np.asarray(text.embedding_noise(KEY, x, alpha=5.0, where=where))
    for row, length in enumerate((6, 4, 1, 0, 3)):
        own = noise[row::5]
        assert not own[:, length:].any()
        if length:
            drawn = own[:, :length].ravel()
            limit = 5 / np.sqrt(length * 4)
            uniform = stats.uniform(-limit, 2 * limit)
            assert stats.kstest(drawn, uniform.cdf).pvalue > 1e-6
            assert stats.kstest(1.3 * drawn, uniform.cdf).pvalue < 1e-6  # The control.
            norms = np.linalg.norm(own.reshape(400, -1), axis=1)
            assert abs(np.mean(norms**2) - 25 / 3) < 5 * np.std(norms**2) / np.sqrt(400)
    whole = text.embedding_noise(KEY, x[:, :5], alpha=5.0)
    assert abs(float(jnp.abs(whole).max()) / (5 / np.sqrt(20)) - 1) < 1e-3


def test_interpolation_is_the_average_at_the_tokens_that_count():
    share = RNG.random((5, 6)).astype(np.float32)
    y = text.embedding_interpolation(X, OTHER, share=share, where=WHERE)
    kept = np.where(WHERE, share, 1)[..., None].astype(np.float64)
    np.testing.assert_allclose(y, kept * X + (1 - kept) * OTHER, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(y)[~WHERE], X[~WHERE])
    np.testing.assert_array_equal(text.embedding_interpolation(X, OTHER, share=1.0), X)
    np.testing.assert_array_equal(text.embedding_interpolation(X, OTHER, share=0.0), OTHER)


def test_random_shares_are_uniform_and_one_for_each_token():
    x, other = jnp.zeros((500, 6, 4)), jnp.ones((500, 6, 4))
    y = np.asarray(text.random_embedding_interpolation(KEY, x, other, amount=0.4))
    assert (np.ptp(y, axis=-1) == 0).all()
    shares = y[..., 0]
    assert stats.kstest(shares.ravel(), stats.uniform(0, 0.4).cdf).pvalue > 1e-6
    assert stats.kstest(shares.ravel() * 0.9, stats.uniform(0, 0.4).cdf).pvalue < 1e-6
    assert abs(np.corrcoef(shares[:, 0], shares[:, 1])[0, 1]) < 5 / np.sqrt(500)
