"""Noise on embeddings and their interpolation, against the formulas and the distributions."""

import jax
import numpy as np
import pytest
from scipy import stats

from jaxreg.augment import text
from tests.augment.helpers import (
    KEY,
    assert_distribution,
    assert_independent,
    assert_rounded_once,
)

RNG = np.random.default_rng(3)
X, OTHER = RNG.normal(size=(2, 5, 6, 4)).astype(np.float32)
LENGTHS = (6, 4, 1, 0, 3)
WHERE = np.arange(6) < np.array(LENGTHS)[:, None]
SHARE = RNG.random((5, 6)).astype(np.float32)


def test_noise_is_uniform_within_the_limit_of_each_length():
    x = np.zeros((2000, 6, 4), np.float32)
    where = np.tile(WHERE, (400, 1))
    run = jax.jit(
        lambda x, where: (
            text.embedding_noise(KEY, x, alpha=5.0, where=where),
            text.embedding_noise(KEY, x, alpha=5.0),
        )
    )
    noise, whole = jax.device_get(run(x, where))
    for row, length in enumerate(LENGTHS):
        own = noise[row::5]
        assert not own[:, length:].any()
        if not length:
            continue
        drawn = own[:, :length].ravel()
        limit = 5 / np.sqrt(length * 4)
        uniform = stats.uniform(-limit, 2 * limit)
        assert_distribution(drawn, uniform)
        assert stats.kstest(1.3 * drawn, uniform.cdf).pvalue < 1e-6  # The control.
        norms = np.linalg.norm(own.reshape(400, -1), axis=1)
        assert abs(np.mean(norms**2) - 25 / 3) < 5 * np.std(norms**2) / np.sqrt(400)
    limit = 5 / np.sqrt(24)
    assert_distribution(whole, stats.uniform(-limit, 2 * limit))
    assert_independent(whole[:, 1:], whole[:, :-1])


def test_noise_is_added_and_a_negative_strength_is_none():
    run = jax.jit(lambda x, alpha: text.embedding_noise(KEY, x, alpha=alpha, where=WHERE))
    moved = np.asarray(run(X, 5.0)) - X
    np.testing.assert_allclose(moved, np.asarray(run(0 * X, 5.0)), atol=1e-6)
    for off in (0.0, -3.0):
        np.testing.assert_array_equal(run(X, off), X)


def test_interpolation_is_the_average_at_the_tokens_that_count():
    @jax.jit
    def run(x, other, share):
        one = text.embedding_interpolation(x, other, share=1.0)
        none = text.embedding_interpolation(x, other, share=0.0)
        return text.embedding_interpolation(x, other, share=share, where=WHERE), one, none

    y, one, none = jax.device_get(run(X, OTHER, SHARE))
    kept = np.where(WHERE, SHARE, 1)[..., None].astype(np.float64)
    np.testing.assert_allclose(y, kept * X + (1 - kept) * OTHER, atol=1e-6)
    np.testing.assert_array_equal(y[~WHERE], X[~WHERE])
    np.testing.assert_array_equal(one, X)
    np.testing.assert_array_equal(none, OTHER)
    # Traced shares beyond their range are cut off.
    beyond, _, _ = run(X, OTHER, 7.0)
    np.testing.assert_array_equal(beyond, X)
    beyond, _, _ = run(X, OTHER, -7.0)
    np.testing.assert_array_equal(beyond, np.where(WHERE[..., None], OTHER, X))
    assert_rounded_once(lambda x, y: text.embedding_interpolation(x, y, share=0.3), X, OTHER)


def test_random_shares_are_uniform_and_one_for_each_token():
    x = np.zeros((500, 6, 4), np.float32)
    other = np.ones((500, 6, 4), np.float32)
    where = np.arange(6) < 5

    @jax.jit
    def run(x, other):
        mask = np.broadcast_to(where, x.shape[:2])
        return text.random_embedding_interpolation(KEY, x, other, amount=0.4, where=mask)

    y = np.asarray(run(x, other))
    assert (np.ptp(y, axis=-1) == 0).all()
    assert not y[:, 5].any()
    shares = y[:, :5, 0]
    assert_distribution(shares, stats.uniform(0, 0.4))
    assert stats.kstest(shares.ravel() * 0.9, stats.uniform(0, 0.4).cdf).pvalue < 1e-6
    assert_independent(shares[:, 0], shares[:, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: text.embedding_noise(KEY, X[0, 0], alpha=1.0),
            r"`x` must have shape \[..., l",
        ),
        (lambda: text.embedding_noise(KEY, X, alpha=-1.0), r"`alpha` must be zero or positive"),
        (lambda: text.embedding_noise(KEY, X, alpha=np.ones(5)), r"`alpha` must be a single numb"),
        (
            lambda: text.embedding_noise(KEY, X, alpha=1.0, where=WHERE[0]),
            r"`where` must have the same shape as `x\[\.\.\., 0\]`",
        ),
        (
            lambda: text.embedding_interpolation(X, OTHER[:3], share=0.5),
            r"`other` must have the same shape, .* and dtype",
        ),
        (lambda: text.embedding_interpolation(X, OTHER, share=1.5), r"`share` must be a probabil"),
        (lambda: text.embedding_interpolation(X, OTHER, share=np.ones(5)), r"`share` must broad"),
        (
            lambda: text.random_embedding_interpolation(KEY, X, OTHER, amount=1.5),
            r"`amount` must be a number in \[0, 1\], got 1\.5",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
