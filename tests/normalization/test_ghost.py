"""Ghost batch norm against a float64 loop over the ghost batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxreg import normalization
from jaxreg.normalization import BatchStats
from tests.helpers import few
from tests.normalization.helpers import (
    assert_all_close,
    assert_all_finite,
    compiled,
    draw,
    refuses,
    refuses_wrong_shapes,
    same_bits,
    start,
    with_gradients,
)
from tests.references import batch_norm as reference

STATS = BatchStats(np.array([0.5, -1.0, 2.0], "f4"), np.array([2.0, 0.5, 1.0], "f4"))


def loop(x, stats, size, mask=None, momentum=0.9, eps=reference.EPS):
    """Batch norm of each ghost batch in turn, the running statistics handed on; float64."""
    mask = np.ones(x.shape, bool) if mask is None else np.broadcast_to(mask, x.shape)
    old_mean, old_var = [np.asarray(a, np.float64) for a in stats]
    mean, var, outputs = old_mean, old_var, [np.zeros((0, *x.shape[1:]))]
    axes = tuple(range(x.ndim - 1))
    for first in range(0, len(x), size):
        part = x[first : first + size].astype(np.float64)
        new_mean, new_var, count = reference.moments(part, axes, mask[first : first + size])
        used_mean = np.where(count > 0, new_mean, old_mean)
        used_var = np.where(count > 0, new_var, old_var)
        outputs.append((part - used_mean) / np.sqrt(used_var + eps))
        mean = np.where(count > 0, momentum * mean + (1 - momentum) * new_mean, mean)
        var = np.where(count > 1, momentum * var + (1 - momentum) * new_var, var)
    return np.concatenate(outputs), (mean, var)


def ghost(x, stats=STATS, size=4, **options):
    return normalization.ghost_batch_norm(x, stats, ghost_batch_size=size, **options)


def norm(x, stats=STATS, size=4, **options):
    return compiled(ghost, x, stats, size=size, **options)


@few("size", [4, 1, 2, 3, 6, 12])
@few("shape", [(12, 5, 3), (12, 3), (12, 2, 2, 3)])
def test_each_ghost_batch_is_normalized_by_itself(shape, size):
    x = draw(*shape, mean=2)
    y, stats = norm(x, size=size, momentum=0.9)
    expected, expected_stats = loop(x, STATS, size)
    # A variance of 0 under the root multiplies the rounding of the mean by 316.
    np.testing.assert_allclose(y, expected, atol=2e-4)
    np.testing.assert_allclose(stats, expected_stats, rtol=1e-5, atol=1e-6)


@few("size", [2, 1, 4, 8])
def test_masked_ghost_batches(size):
    """One is masked out whole, one has a single element, and one misses a feature."""
    x = draw(8, 2, 3, mean=2)
    mask = np.ones((8, 2, 3), bool)
    mask[2:4] = False
    mask[4:6] = False
    mask[5, 0] = True
    mask[6:, :, 1] = False
    y, stats = norm(x, size=size, momentum=0.7, where=mask)
    expected, expected_stats = loop(x, STATS, size, mask, momentum=0.7)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=2e-4)
    np.testing.assert_allclose(stats, expected_stats, rtol=1e-5)


@few(
    "mask",
    [np.array([[1], [0]]), np.arange(8)[:, None, None] % 3 > 0, np.array([1, 0, 1])],
    ids=["positions", "examples", "features"],
)
def test_a_mask_may_have_fewer_or_shorter_axes(mask):
    x = draw(8, 2, 3, mean=2)
    full = np.broadcast_to(mask != 0, x.shape)
    y, stats = norm(x, momentum=0.9, where=mask)
    expected, expected_stats = loop(x, STATS, 4, full)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(stats, expected_stats, rtol=1e-5)


def test_one_ghost_batch_is_batch_norm():
    x = draw(8, 2, 3, mean=2)
    scale = draw(3, seed=1)
    bias = draw(3, seed=2)
    y, stats = norm(x, size=8, scale=scale, bias=bias, momentum=0.7, eps=0.1)
    expected, expected_stats = loop(x, STATS, 8, momentum=0.7, eps=0.1)
    np.testing.assert_allclose(y, expected * scale + bias, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(stats, expected_stats, rtol=1e-5)


def test_eps_and_momentum_are_those_of_batch_norm_by_default():
    x = 1e-3 * draw(8, 3)
    y, stats = norm(x)
    expected, expected_stats = loop(x, STATS, 4, momentum=0.99)
    np.testing.assert_allclose(y, expected, atol=1e-4)
    np.testing.assert_allclose(stats, expected_stats, rtol=1e-5)


def test_ghost_batches_have_an_order():
    """The last one weighs most."""
    x = draw(12, 3, mean=2)
    _, stats = norm(x, momentum=0.5)
    _, reverse = norm(x[::-1], momentum=0.5)
    np.testing.assert_allclose(reverse, loop(x[::-1], STATS, 4, momentum=0.5)[1], rtol=1e-5)
    assert np.abs(reverse.mean - stats.mean).min() > 1e-3


@few("masked", [True, False])
def test_gradients_are_those_of_the_ghost_batches(masked):
    x = draw(8, 2, 3, mean=2)
    dy = draw(8, 2, 3, seed=1)
    scale = draw(3, seed=2)
    mask = np.ones((8, 2, 1), bool)
    if masked:
        mask[[1, 2, 6], 0] = False

    def function(x, scale, bias):
        return ghost(x, scale=scale, bias=bias, where=mask if masked else None)[0]

    _, (dx, dscale, dbias) = with_gradients(function, dy, x, scale, np.zeros(3, "f4"))
    halves = [slice(0, 4), slice(4, 8)]
    parts = [reference.gradients(x[h], scale, dy[h], (0, 1), mask[h]) for h in halves]
    np.testing.assert_allclose(dx, np.concatenate([p[0] for p in parts]), atol=1e-5)
    np.testing.assert_allclose(dscale, parts[0][1] + parts[1][1], rtol=1e-4)
    np.testing.assert_allclose(dbias, parts[0][2] + parts[1][2], rtol=1e-4)


@few("shape", [(0, 3), (0, 5, 3), (4, 0, 3)])
def test_an_empty_batch_changes_nothing(shape):
    y, stats = norm(np.zeros(shape, np.float32))
    assert y.shape == shape
    assert_all_close(stats, STATS, rtol=0)


def test_an_empty_mask_changes_nothing():
    x = draw(8, 2)
    stats = BatchStats(np.array([0.3, -0.0], "f4"), np.array([2.0, 1e-3], "f4"))

    def function(x, scale, bias):
        y, new = ghost(x, stats, scale=scale, bias=bias, where=np.zeros((8, 1)))
        return jnp.sin(y), (y, new)

    ones = np.ones(2, "f4")
    _, gradients, (y, new) = with_gradients(
        function, np.ones_like(x), x, ones, 0 * ones, has_aux=True
    )
    assert same_bits(new.mean, stats.mean)
    assert same_bits(new.var, stats.var)
    assert_all_finite((y, gradients))
    np.testing.assert_allclose(y, (x - stats.mean) / np.sqrt(stats.var + reference.EPS), rtol=1e-5)


def test_ghost_batches_of_one_example_leave_the_variance():
    y, stats = norm(draw(4, 3), size=1, momentum=0.9)
    np.testing.assert_array_equal(y, 0)
    assert same_bits(stats.var, STATS.var)
    assert np.all(np.asarray(stats.mean) != STATS.mean)


@few("bad", [np.nan, np.inf])
def test_padding_does_not_leak(bad):
    mask = np.array([1, 1, 0, 1, 1, 1, 0, 0], bool)
    zeros = np.where(mask[:, None], draw(8, 3, mean=2), 0).astype(np.float32)

    def loss(x):
        y, stats = ghost(x, where=mask[:, None])
        return jnp.sum(jnp.sin(y)), (y, stats)

    run = jax.jit(jax.grad(loss, has_aux=True))
    dx, (y, stats) = run(np.where(mask[:, None], zeros, np.float32(bad)))
    dx_zeros, (y_zeros, stats_zeros) = run(zeros)
    np.testing.assert_array_equal(y, y_zeros)
    assert_all_close(stats, stats_zeros, rtol=0)
    np.testing.assert_allclose(np.asarray(dx)[mask], np.asarray(dx_zeros)[mask], rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(dx)[~mask], 0)


def test_a_large_mean_keeps_the_variance():
    x = draw(1024, 3, mean=1e4)
    y, stats = norm(x, size=256, momentum=0.0)
    expected, _ = loop(x, STATS, 256)
    np.testing.assert_allclose(stats.var, x[-256:].astype(np.float64).var(0), rtol=1e-3)
    np.testing.assert_allclose(np.std(y), 1, rtol=1e-3)
    # Half a unit in the last place of 1e4 is 5e-4.
    np.testing.assert_allclose(y, expected, atol=2e-3)


def test_large_float16_numbers_do_not_overflow():
    x = np.array([[6e4], [-6e4], [5e4], [6.5e4]], np.float16)
    y, stats = norm(x, start(), size=2, momentum=0.5)
    expected, expected_stats = loop(x, start(), 2, momentum=0.5)
    assert y.dtype == np.float16
    assert stats.mean.dtype == np.float32
    np.testing.assert_allclose(y, expected, rtol=1e-3)
    np.testing.assert_allclose(stats, expected_stats, rtol=1e-6)


def test_momentum_is_a_strength():
    """Traced, and differentiable at the ends too."""
    x = draw(12, 3, mean=2)

    @jax.jit
    def run(momentum):
        new = lambda m: ghost(x, STATS, momentum=m)[1]  # noqa: E731
        return new(momentum), jax.jacfwd(new)(momentum).mean

    for momentum in (0.0, 1.0, 0.5):
        stats, slope = run(momentum)
        np.testing.assert_allclose(stats, loop(x, STATS, 4, momentum=momentum)[1], rtol=1e-5)
        step = 1e-6
        low = loop(x, STATS, 4, momentum=momentum - step)[1][0]
        high = loop(x, STATS, 4, momentum=momentum + step)[1][0]
        np.testing.assert_allclose(slope, (high - low) / (2 * step), rtol=1e-4)


def test_every_device_has_its_own_ghost_batches_in_shard_map():
    x = draw(16, 3, mean=2)
    mesh = jax.make_mesh((4,), ("d",), (AxisType.Auto,), devices=jax.devices()[:4])

    def run(x):
        y, stats = ghost(x, momentum=0.9)
        return y, jax.tree.map(lambda a: a[None], stats)

    y, stats = compiled(jax.shard_map(run, mesh=mesh, in_specs=P("d"), out_specs=P("d")), x)
    np.testing.assert_allclose(y, loop(x, STATS, 4)[0], atol=1e-5)
    own = [loop(part, STATS, 4)[1][0] for part in np.split(x, 4)]
    np.testing.assert_allclose(stats.mean, own, rtol=1e-5)


@few("size", [2, 8])
def test_the_result_lies_where_the_batch_does(size):
    """Ghost batches on one device, and such as several devices share."""
    x = draw(16, 3, mean=2)
    mesh = jax.make_mesh((4, 2), ("d", "e"), (AxisType.Explicit,) * 2)
    with jax.set_mesh(mesh):
        placed = jax.device_put(x, NamedSharding(mesh, P(("d", "e"))))
        y, _ = norm(placed, size=size)
    assert y.sharding.spec == P(("d", "e"), None)
    np.testing.assert_allclose(y, loop(x, STATS, size)[0], atol=1e-4)


def test_a_batch_of_another_size_raises_with_the_fix():
    message = r"`ghost_batch_size` must divide the batch size, 10, got 4; pass a divisor, or"
    refuses(ValueError, message, ghost, draw(10, 3))
    padded = np.concatenate([draw(10, 3), np.zeros((2, 3), np.float32)])
    y, _ = norm(padded, where=np.arange(12)[:, None] < 10)
    np.testing.assert_allclose(y[8:10], loop(padded[8:10], STATS, 2)[0], atol=1e-5)


@pytest.mark.parametrize("size", [4.0, None, np.ones(1, int)])
def test_a_ghost_batch_size_that_is_no_integer_raises(size):
    message = "`ghost_batch_size` must be an integer, got"
    refuses(TypeError, message, ghost, draw(8, 3), size=size)


def test_wrong_arguments_raise():
    for size in (0, -4):
        message = f"`ghost_batch_size` must be positive, got {size}"
        refuses(ValueError, message, ghost, draw(8, 3), size=size)
    message = r"`x` must have axes \[batch, \*spatial, features\], got .*\(3,\)"
    refuses(ValueError, message, ghost, draw(3))
    refuses(ValueError, r"`momentum` must be .* in \[0, 1\], got 2", ghost, draw(4, 3), momentum=2)
    refuses(ValueError, "`eps` must be zero or positive, got -1", ghost, draw(4, 3), eps=-1)
    refuses(TypeError, "`x` must have a floating-point", ghost, np.ones((4, 3), np.int32))
    refuses_wrong_shapes(ghost, draw(4, 3))


def test_ddof_is_that_of_each_ghost_batch():
    x = draw(8, 3, mean=2)
    mask = np.array([1, 1, 1, 1, 0, 0, 0, 1], bool)[:, None]
    _, stats = norm(x, momentum=0.5, ddof=1, where=mask)
    # The other one has a single element, and so no variance.
    expected = (STATS.var + x[:4].astype(np.float64).var(0, ddof=1)) / 2
    np.testing.assert_allclose(stats.var, expected, rtol=1e-5)
    refuses(ValueError, "`ddof` must be zero or positive, got -1", ghost, x, ddof=-1)


def test_complex_and_narrow_statistics():
    x = (draw(8, 3, mean=2) + 1j * draw(8, 3, seed=1)) + 0
    stats = BatchStats(np.zeros(3, jnp.bfloat16), np.ones(3, jnp.bfloat16))
    y, new = norm(x, stats, momentum=0.5)
    parts = x.reshape(2, 4, 3).astype(np.complex128)
    mean = parts.mean(1)
    var = parts.var(1)
    np.testing.assert_allclose(new.mean, mean[0] / 4 + mean[1] / 2, rtol=1e-5)
    np.testing.assert_allclose(new.var, 1 / 4 + var[0] / 4 + var[1] / 2, rtol=1e-5)
    expected = (parts - mean[:, None]) / np.sqrt(var[:, None] + reference.EPS)
    np.testing.assert_allclose(y, expected.reshape(8, 3), rtol=1e-4, atol=1e-5)
    assert {a.dtype for a in new} == {np.dtype("complex64"), np.dtype("float32")}
