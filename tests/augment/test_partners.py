"""Partners are permutations, the same on any mesh; shares have the Beta distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import stats

from jaxreg.augment import partners
from tests.augment.helpers import KEY, assert_as_likely, assert_distribution

ORDER = np.arange(16, dtype=np.int32)
X = np.sin(np.arange(1.0, 16 * 3 + 1, dtype=np.float32)).reshape(16, 3)
PARTNERS = {
    "shuffle": partners.shuffle,
    "reverse": partners.reverse,
    "reverse_within": partners.reverse_within(4),
}
GROUPS = ORDER.reshape(4, 4)[:, ::-1].ravel()


def test_partners_are_permutations_the_same_for_all_arrays():
    @jax.jit
    def run(order, x):
        return [(choose(KEY, order), choose(KEY, x)) for choose in PARTNERS.values()]

    shuffled, backward, grouped = run(ORDER, X)
    for order, x in (shuffled, backward, grouped):
        np.testing.assert_array_equal(np.sort(order), ORDER)
        np.testing.assert_array_equal(x, X[np.asarray(order)])
    np.testing.assert_array_equal(backward[0], ORDER[::-1])
    np.testing.assert_array_equal(grouped[0], GROUPS)


def test_all_orders_are_as_likely():
    keys = jax.random.split(KEY, 6000)
    orders = jax.jit(jax.vmap(lambda key: partners.shuffle(key, jnp.arange(3))))(keys)
    assert_as_likely(orders, 6)


@jax.jit
def in_pairs(order):
    """Partners where a group lies on one of eight devices, each of which holds two examples."""
    choices = partners.shuffle, partners.reverse, partners.reverse_within(2)
    return [choose(KEY, order) for choose in choices]


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


def test_shares_are_one_for_each_example_or_one_for_all():
    keys = jax.random.split(KEY, 3000)

    @jax.jit
    def run(x, alpha):
        return jax.vmap(lambda key: partners.share_per_batch(key, x, alpha))(keys)

    of_batches = run(X, jnp.float32(1.0))
    assert of_batches.shape == (3000,)
    assert of_batches.dtype == np.float32
    assert_distribution(of_batches, stats.uniform)
    np.testing.assert_array_equal(run(X, jnp.float32(0.0)), np.ones(3000))
    each = jax.eval_shape(partners.share_per_example, KEY, X, 1.0)
    assert (each.shape, each.dtype) == ((16,), np.float32)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_reversal_gathers_nothing(kind):
    """Each device sends its examples to one other, of which it may hold an odd number."""
    mesh = jax.make_mesh((8,), ("device",), axis_types=(kind,))
    x = np.arange(24.0 * 3, dtype=np.float32).reshape(24, 3)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("device")))
        program = jax.jit(lambda x: partners.reverse(KEY, x)).lower(sharded).compile()
        np.testing.assert_array_equal(program(sharded), x[::-1])
    assert "collective-permute" in program.as_text()
    assert "all-gather" not in program.as_text()


def test_groups_may_reach_across_devices():
    """In an Explicit mesh, where an error would name a shape that the caller does not know."""
    x = np.arange(24.0 * 3, dtype=np.float32).reshape(24, 3)
    mesh = jax.make_mesh((8,), ("device",), axis_types=(AxisType.Explicit,))
    sizes = (2, 4, 24)
    run = jax.jit(lambda x: [partners.reverse_within(size)(KEY, x) for size in sizes])
    with jax.set_mesh(mesh):
        sharding = NamedSharding(mesh, PartitionSpec("device"))
        results = run(jax.device_put(x, sharding))
    for size, y in zip(sizes, results, strict=True):
        np.testing.assert_array_equal(y, x.reshape(-1, size, 3)[:, ::-1].reshape(24, 3))
        assert y.sharding.is_equivalent_to(sharding, 2)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_no_device_waits_for_others_in_a_loop(kind):
    mesh = jax.make_mesh((8,), ("device",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        x = jax.device_put(X, NamedSharding(mesh, PartitionSpec("device")))
        draw = jax.jit(lambda key, x: partners.share_per_example(key, x, 0.4) * x[:, 0])
        text = draw.lower(KEY, x).compile().as_text()
    # Where a variate was drawn again, each round of it asked all devices.
    for collective in ("all-reduce", "all-gather", "collective-permute", "all-to-all"):
        assert collective not in text


def test_a_size_that_does_not_divide_the_batch_is_named():
    for size in (3, 0, -1):
        with pytest.raises(ValueError, match=rf"`size` must divide the batch size, 16, got {size}"):
            partners.reverse_within(size)(KEY, X)
    with pytest.raises(TypeError, match=r"`size` must be an integer"):
        partners.reverse_within(2.0)
