"""Partners are permutations, the same on any mesh; shares have the Beta distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import stats

from jaxreg import augment
from tests.augment.helpers import KEY, assert_as_likely, assert_distribution

ORDER = np.arange(16, dtype=np.int32)
X = np.sin(np.arange(1.0, 16 * 3 + 1, dtype=np.float32)).reshape(16, 3)
PARTNERS = {
    "shuffled": augment.shuffled,
    "reversal": augment.reversal,
    "within": augment.within(4),
}
GROUPS = ORDER.reshape(4, 4)[:, ::-1].ravel()


def test_partners_are_permutations_the_same_for_all_arrays():
    @jax.jit
    def run(order, x):
        return [(partners(KEY, order), partners(KEY, x)) for partners in PARTNERS.values()]

    shuffled, reversal, within = run(ORDER, X)
    for order, x in (shuffled, reversal, within):
        np.testing.assert_array_equal(np.sort(order), ORDER)
        np.testing.assert_array_equal(x, X[np.asarray(order)])
    np.testing.assert_array_equal(reversal[0], ORDER[::-1])
    np.testing.assert_array_equal(within[0], GROUPS)


def test_all_orders_are_as_likely():
    keys = jax.random.split(KEY, 6000)
    orders = jax.jit(jax.vmap(lambda key: augment.shuffled(key, jnp.arange(3))))(keys)
    assert_as_likely(orders, 6)


@jax.jit
def in_pairs(order):
    """Partners where a group lies on one of eight devices, each of which holds two examples."""
    choices = augment.shuffled, augment.reversal, augment.within(2)
    return [partners(KEY, order) for partners in choices]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_partners_are_the_same_on_eight_devices(kind):
    mesh = jax.make_mesh((8,), ("device",), axis_types=(kind,))
    expected = in_pairs(ORDER)
    with jax.set_mesh(mesh):
        sharding = NamedSharding(mesh, PartitionSpec("device"))
        results = in_pairs(jax.device_put(ORDER, sharding))
    for one, other in zip(results, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        if kind == AxisType.Explicit:
            assert one.sharding.is_equivalent_to(sharding, 1)


def test_shares_are_beta_distributed():
    x = np.zeros((6000, 1))
    with jax.enable_x64(True):  # In float32 one in fifty of Beta(0.2, 0.2) is 1.
        draw = jax.jit(lambda x, alpha: augment.share_of_example(KEY, x, alpha))
        for alpha in (0.2, 1.0, 4.0):
            share = np.asarray(draw(x, alpha))
            assert share.shape == (6000,)
            assert len(np.unique(share)) > 5000
            assert_distribution(share, stats.beta(alpha, alpha))
            # The control: the largest of a share and its rest, which some libraries mix by.
            larger = np.maximum(share, 1 - share)
            assert stats.kstest(larger, stats.beta(alpha, alpha).cdf).pvalue < 1e-6
        np.testing.assert_array_equal(draw(x, 0.0), np.ones(6000))


def test_shares_are_one_for_each_example_or_one_for_all():
    keys = jax.random.split(KEY, 3000)

    @jax.jit
    def run(x, alpha):
        return jax.vmap(lambda key: augment.share_of_batch(key, x, alpha))(keys)

    of_batches = run(X, jnp.float32(1.0))
    assert of_batches.shape == (3000,)
    assert of_batches.dtype == np.float32
    assert_distribution(of_batches, stats.uniform)
    np.testing.assert_array_equal(run(X, jnp.float32(0.0)), np.ones(3000))
    each = jax.eval_shape(augment.share_of_example, KEY, X, 1.0)
    assert (each.shape, each.dtype) == ((16,), np.float32)


def test_gradients_of_alpha_are_finite():
    slope = jax.jit(jax.grad(lambda alpha: jnp.sum(augment.share_of_example(KEY, X, alpha) ** 2)))
    for alpha in (0.0, 1e-3, 0.5, 10.0):
        assert np.isfinite(slope(alpha))


def test_a_size_that_does_not_divide_the_batch_is_named():
    for size in (3, 0, -1):
        with pytest.raises(ValueError, match=rf"`size` must divide the batch of 16, got {size}"):
            augment.within(size)(KEY, X)
    with pytest.raises(TypeError, match=r"`size` must be an integer"):
        augment.within(2.0)
