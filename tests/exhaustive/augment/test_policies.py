"""Whole policies: PIL at every magnitude, finite gradients, eight devices, draws of AugMix."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import stats

from jaxreg import augment
from jaxreg.augment import operations
from tests.augment.helpers import FLOAT, LEVELS, different
from tests.augment.policies import PILS, RANGES, WIDE, excess

KEY = jax.random.key(90)  # Of whose four signs some differ.
POLICIES = {
    "rand_augment": augment.rand_augment,
    "trivial_augment": augment.trivial_augment,
    "auto_augment": partial(augment.auto_augment, policy=augment.IMAGENET_POLICY),
    "aug_mix": augment.aug_mix,
}
COLLECTIVES = ("all-gather(", "all-reduce(", "all-to-all(", "collective-permute(")


@pytest.mark.parametrize("name", PILS)
def test_policies_of_one_operation_are_pils_at_all_published_magnitudes(name):
    published = getattr(operations, name.upper())
    images = np.stack([FLOAT] * 4)

    @jax.jit
    def at_all(high, magnitudes):
        only = [published._replace(high=high)]
        return jax.vmap(
            lambda m: augment.rand_augment(KEY, images, magnitude=m, operations=only, number=1)
        )(magnitudes)

    low, high = RANGES.get(name, (0, 0))
    signs = (1, -1) if published.signed else (1,)
    for top in dict.fromkeys([high, WIDE.get(name, high)]):
        y = np.asarray(at_all(top, np.arange(31, dtype=np.float32)))
        directions = set()
        for magnitude, at_one in enumerate(y):
            strength = low + (top - low) * magnitude / 30
            for example in at_one:
                errors = [excess(example, name, sign * strength) for sign in signs]
                assert min(errors) < 1, (magnitude, errors)
                directions.add(int(np.argmin(errors)))
        assert len(directions) == len(signs)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("channels", [1, 3])
def test_whole_policies_keep_the_range_with_finite_gradients(name, channels):
    """On black, gray and white images and on one of all kinds of levels, none square."""
    plain = np.stack([np.full((6, 5, channels), v) for v in (0.0, 0.5, 1.0)] * 8)
    images = np.concatenate([plain, [LEVELS[:6, :5, :channels] / 255] * 96]).astype(np.float32)

    @jax.jit
    def run(images):
        y, pullback = jax.vjp(partial(POLICIES[name], KEY), images)
        return y, pullback(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))[0]

    y, gradient = jax.device_get(run(images))
    assert ((y >= 0) & (y <= 1)).all()
    assert np.isfinite(gradient).all()
    assert (gradient != 0).any()
    # The same image 96 times: each has draws of its own, of which some agree.
    assert different(y[24:]) > 12


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_policies_are_the_same_on_eight_devices(kind):
    images = 0.5 + 0.4 * jnp.sin(jnp.arange(16.0 * 8 * 6 * 3)).reshape(16, 8, 6, 3)
    mesh = jax.make_mesh((8,), ("device",), axis_types=(kind,))
    for policy in (augment.rand_augment, augment.auto_augment):
        expected = jax.jit(policy)(KEY, images)
        with jax.set_mesh(mesh):
            sharded = jax.device_put(images, NamedSharding(mesh, PartitionSpec("device")))
            compiled = jax.jit(policy).lower(KEY, sharded).compile()
            y = compiled(KEY, sharded)
        np.testing.assert_allclose(y, expected, atol=2e-6)
        for collective in COLLECTIVES:
            assert collective not in compiled.as_text()


def test_the_draws_of_aug_mix_have_their_distributions():
    """Channels that tell how many operations there were, the level of the last one, and a 1."""

    def write(image, strength):
        level = jnp.broadcast_to(strength[..., None, None], image.shape[:-1])
        return jnp.stack([image[..., 0] + 1, level, jnp.ones_like(level)], axis=-1)

    @jax.jit
    def run(images, alpha):
        tell = [augment.Operation(write, high=10.0)]
        return augment.aug_mix(KEY, images, width=1, alpha=alpha, operations=tell)

    images = np.zeros((4000, 1, 1, 3), np.float32)
    share = np.asarray(run(images, 0.5), np.float64)[..., 2].ravel()
    assert stats.kstest(share, stats.beta(0.5, 0.5).cdf).pvalue > 1e-4
    # Nearly all shares are 1/2 with this alpha.
    told = 2 * np.asarray(run(images, 1e9), np.float64).reshape(4000, 3)
    depths, levels = told[:, 0], told[:, 1]
    counts = np.bincount(np.round(depths).astype(int), minlength=4)
    np.testing.assert_allclose(depths, np.round(depths), atol=1e-3)
    assert counts[0] == 0
    assert len(counts) == 4
    assert stats.chisquare(counts[1:]).pvalue > 1e-4
    # The default severity is 3.
    assert stats.kstest(levels, stats.uniform(0.1, 2.9).cdf).pvalue > 1e-4
