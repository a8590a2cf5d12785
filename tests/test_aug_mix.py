"""AugMix is its formula with draws as published, and its loss is SciPy's."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from jaxreg import augment, information
from jaxreg.augment._shared import uniform

pytestmark = pytest.mark.slow

KEY = jax.random.key(90)
SCALES = augment.Operation(lambda x, s: x * (1 + s)[..., None, None, None], high=2.0)
ADDS = augment.Operation(lambda x, s: x + s[..., None, None, None], high=1.0, signed=True)


def test_aug_mix_is_its_formula():
    """The average of the paper in NumPy, from the same draws."""
    images = jnp.linspace(0.1, 0.9, 40)[:, None, None, None]
    severity, alpha, width = 5.0, 0.7, 4
    options = {"severity": severity, "alpha": alpha, "width": width}
    y = jax.jit(partial(augment.aug_mix, operations=[SCALES, ADDS], **options))(KEY, images)
    share_key, weight_key, chain_key = jax.random.split(KEY, 3)
    share = np.asarray(jax.random.beta(share_key, alpha, alpha, (40,)), np.float64)
    gamma = np.exp(np.asarray(jax.random.loggamma(weight_key, alpha, (40, width)), np.float64))
    weights = gamma / gamma.sum(-1, keepdims=True)
    copies = jnp.broadcast_to(images, (width, *images.shape))
    draw = jax.jit(lambda key: uniform(key, copies))
    u = np.asarray(images, np.float64).ravel()
    depth_key, *keys = jax.random.split(chain_key, 4)
    depth = 1 + np.floor(3 * np.asarray(draw(depth_key)))
    chains = np.broadcast_to(u, (width, 40))
    for position, step_key in enumerate(keys):
        own, level_key = jax.random.split(step_key)
        number_key, sign_key = jax.random.split(own)
        level = (0.1 + (severity - 0.1) * np.asarray(draw(level_key), np.float64)) / 10
        sign = np.where(np.asarray(draw(sign_key)) < 0.5, 1, -1)
        scales = np.asarray(draw(number_key)) < 0.5
        changed = np.where(scales, chains * (1 + 2 * level), chains + sign * level)
        chains = np.where(position < depth, changed, chains)
    mixed = (weights.T * chains).sum(0)
    np.testing.assert_allclose(y.ravel(), share * u + (1 - share) * mixed, rtol=2e-5)


def test_the_draws_of_aug_mix_have_their_distributions():
    count = augment.Operation(lambda x, s: x + 1)
    level = augment.Operation(lambda x, s: x + s[..., None, None, None], high=10.0)
    images = jnp.zeros((4000, 1, 1, 1))

    def mix(**options):
        return jax.jit(partial(augment.aug_mix, **options))(KEY, images)

    share = np.asarray(mix(width=1, depth=(1, 1), alpha=0.5, operations=[count])).ravel()
    assert stats.kstest(share, stats.beta(0.5, 0.5).cdf).pvalue > 1e-4
    # Nearly all shares are 1/2 with this alpha.
    depths = 2 * np.asarray(mix(width=1, alpha=1e9, operations=[count])).ravel()
    counts = np.bincount(np.round(depths).astype(int), minlength=4)
    np.testing.assert_allclose(depths, np.round(depths), atol=1e-3)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:]).pvalue > 1e-4
    drawn = mix(width=1, depth=(1, 1), alpha=1e9, severity=3.0, operations=[level])
    spread = stats.uniform(0.1, 2.9).cdf
    assert stats.kstest(2 * np.asarray(drawn).ravel(), spread).pvalue > 1e-4


def test_jensen_shannon_is_scipys():
    z = np.random.default_rng(2).normal(0, 3, (3, 7, 5))
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    single = jnp.asarray(z, jnp.float32)
    entropy = stats.entropy(p.mean(0), axis=-1) - stats.entropy(p, axis=-1).mean(0)
    np.testing.assert_allclose(information.jensen_shannon(single), entropy, rtol=2e-5)
    two = distance.jensenshannon(p[0], p[1], axis=-1) ** 2
    np.testing.assert_allclose(information.jensen_shannon(single[:2]), two, rtol=2e-5)


def test_jensen_shannon_at_its_edges():
    z = jnp.asarray(np.random.default_rng(3).normal(0, 3, (7, 5)), jnp.float32)
    value_and_grad = jax.jit(jax.value_and_grad(lambda z: information.jensen_shannon(z).sum()))
    value, gradient = value_and_grad(jnp.stack([z] * 3))
    assert value == 0
    np.testing.assert_allclose(gradient, 0, atol=1e-7)
    assert (information.jensen_shannon(z[None]) == 0).all()
    # Of three classes the views have one each, and none has the last.
    apart = jnp.where(jnp.eye(3, 4, dtype=bool), 0.0, -jnp.inf)[:, None]
    value, gradient = value_and_grad(apart)
    np.testing.assert_allclose(value, np.log(3), rtol=1e-6)
    assert jnp.isfinite(gradient).all()
    with pytest.raises(ValueError, match=r"`logits` must be of shape \[views, ..., num_classes\]"):
        information.jensen_shannon(z[0])
