"""Ghost batch norm against a float64 loop over the ghost batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxreg import normalization
from jaxreg.normalization import BatchStats
from tests.references import batch_norm as reference

STATS = BatchStats(jnp.array([0.5, -1.0, 2.0]), jnp.array([2.0, 0.5, 1.0]))


def draw(*shape, seed=0, mean=0.0):
    return np.random.default_rng(seed).normal(mean, 1, shape).astype(np.float32)


def loop(x, stats, size, mask=None, momentum=0.9, eps=reference.EPS):
    """Batch norm of each ghost batch in turn, the running statistics handed on; float64."""
    mask = np.ones(x.shape, bool) if mask is None else np.broadcast_to(mask, x.shape)
    start = [np.asarray(a, np.float64) for a in stats]
    (mean, var), outputs = start, []
    axes = tuple(range(x.ndim - 1))
    for first in range(0, len(x), size):
        part = x[first : first + size].astype(np.float64)
        new_mean, new_var, count = reference.moments(part, axes, mask[first : first + size])
        used = [np.where(count > 0, a, b) for a, b in zip((new_mean, new_var), start, strict=True)]
        outputs.append((part - used[0]) / np.sqrt(used[1] + eps))
        mean = np.where(count > 0, momentum * mean + (1 - momentum) * new_mean, mean)
        var = np.where(count > 1, momentum * var + (1 - momentum) * new_var, var)
    return np.concatenate([np.zeros((0, *x.shape[1:])), *outputs]), (mean, var)


def norm(x, stats=STATS, size=4, **options):
    return normalization.ghost_batch_norm(x, stats, ghost_batch_size=size, **options)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 12])
@pytest.mark.parametrize("shape", [(12, 3), (12, 5, 3), (12, 2, 2, 3)])
def test_each_ghost_batch_is_normalized_by_itself(shape, size):
    x = draw(*shape, mean=2)
    y, stats = jax.jit(lambda x: norm(x, size=size, momentum=0.9))(x)
    expected, expected_stats = loop(x, STATS, size)
    # A variance of 0 under the root multiplies the rounding of the mean by 316.
    np.testing.assert_allclose(y, expected, atol=2e-4)
    np.testing.assert_allclose(stats, expected_stats, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
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


@pytest.mark.parametrize(
    "mask", [np.arange(8) % 3 > 0, np.array([[1, 0]]), np.array([[[1, 0, 1]]])]
)
def test_a_mask_may_have_fewer_or_shorter_axes(mask):
    x = draw(8, 2, 3, mean=2)
    full = (mask != 0).reshape(mask.shape + (1,) * (3 - mask.ndim))
    y, stats = norm(x, momentum=0.9, where=mask)
    expected, expected_stats = loop(x, STATS, 4, full)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(stats, expected_stats, rtol=1e-5)


def test_one_ghost_batch_is_batch_norm():
    x, scale, bias = draw(8, 2, 3, mean=2), jnp.array([0.5, 1.0, 2.0]), jnp.array([-1.0, 0.0, 1.0])
    options = {"scale": scale, "bias": bias, "momentum": 0.7, "eps": 0.1}
    ghost = norm(x, size=8, **options)
    plain = normalization.batch_norm(x, STATS, **options)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), ghost, plain)


def test_steps_of_batch_norm_in_their_order():
    """Each half by :func:`batch_norm`, whose result a small batch would have had."""
    x, stats, outputs = draw(12, 3, mean=2), STATS, []
    for part in np.split(x, 3):
        y, stats = normalization.batch_norm(part, stats, momentum=0.5)
        outputs.append(y)
    y, ghost_stats = norm(x, momentum=0.5)
    np.testing.assert_allclose(y, np.concatenate(outputs), atol=1e-5)
    np.testing.assert_allclose(ghost_stats, stats, rtol=1e-5)
    _, reverse = norm(x[::-1], momentum=0.5)
    assert np.abs(reverse.mean - stats.mean).min() > 1e-3


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_those_of_the_ghost_batches(masked):
    x, dy, scale = draw(8, 2, 3, mean=2), draw(8, 2, 3, seed=1), draw(3, seed=2)
    mask = np.ones((8, 2, 1), bool)
    if masked:
        mask[[1, 2, 6], 0] = False

    def loss(x, scale, bias):
        where = mask if masked else None
        return jnp.sum(norm(x, scale=scale, bias=bias, where=where)[0] * dy)

    dx, dscale, dbias = jax.jit(jax.grad(loss, (0, 1, 2)))(x, scale, jnp.zeros(3))
    halves = [slice(0, 4), slice(4, 8)]
    parts = [reference.gradients(x[h], scale, dy[h], (0, 1), mask[h]) for h in halves]
    np.testing.assert_allclose(dx, np.concatenate([p[0] for p in parts]), atol=1e-5)
    np.testing.assert_allclose(dscale, parts[0][1] + parts[1][1], rtol=1e-4)
    np.testing.assert_allclose(dbias, parts[0][2] + parts[1][2], rtol=1e-4)


@pytest.mark.parametrize("shape", [(0, 3), (0, 5, 3), (4, 0, 3)])
def test_an_empty_batch_changes_nothing(shape):
    y, stats = norm(jnp.zeros(shape))
    assert y.shape == shape
    jax.tree.map(np.testing.assert_array_equal, stats, STATS)


def test_an_empty_mask_changes_nothing():
    x, stats = draw(8, 2), BatchStats(jnp.array([0.3, -0.0]), jnp.array([2.0, 1e-3]))

    def loss(x, scale, bias):
        y, new = norm(x, stats, scale=scale, bias=bias, where=jnp.zeros(8))
        return jnp.sum(jnp.sin(y)), (y, new)

    run = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))
    (_, (y, new)), gradients = run(x, jnp.ones(2), jnp.zeros(2))
    for ours, old in zip(new, stats, strict=True):
        np.testing.assert_array_equal(np.asarray(ours).view("u4"), np.asarray(old).view("u4"))
    assert all(jnp.isfinite(a).all() for a in (y, *gradients))
    np.testing.assert_allclose(y, (x - stats.mean) / np.sqrt(stats.var + reference.EPS), rtol=1e-5)


def test_ghost_batches_of_one_example_leave_the_variance():
    y, stats = norm(draw(4, 3), size=1, momentum=0.9)
    np.testing.assert_array_equal(y, 0)
    np.testing.assert_array_equal(stats.var, STATS.var)
    assert np.all(stats.mean != STATS.mean)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_padding_does_not_leak(bad):
    mask = np.array([1, 1, 0, 1, 1, 1, 0, 0], bool)
    zeros = np.where(mask[:, None], draw(8, 3, mean=2), 0).astype(np.float32)

    def loss(x):
        y, stats = norm(x, where=mask)
        return jnp.sum(jnp.sin(y)), (y, stats)

    run = jax.jit(jax.grad(loss, has_aux=True))
    dx, (y, stats) = run(np.where(mask[:, None], zeros, np.float32(bad)))
    dx_zeros, (y_zeros, stats_zeros) = run(zeros)
    np.testing.assert_array_equal(y, y_zeros)
    jax.tree.map(np.testing.assert_array_equal, stats, stats_zeros)
    np.testing.assert_allclose(dx[mask], dx_zeros[mask], rtol=1e-6)
    np.testing.assert_array_equal(dx[~mask], 0)


def test_a_large_mean_keeps_the_variance():
    x = draw(1024, 3, mean=1e4)
    y, stats = norm(x, size=256, momentum=0.0)
    expected, _ = loop(x, STATS, 256)
    np.testing.assert_allclose(stats.var, x[-256:].astype(np.float64).var(0), rtol=1e-3)
    np.testing.assert_allclose(np.std(y), 1, rtol=1e-3)
    # Half a unit in the last place of 1e4 is 5e-4.
    np.testing.assert_allclose(y, expected, atol=2e-3)


def test_large_float16_numbers_do_not_overflow():
    x = jnp.array([[6e4], [-6e4], [5e4], [6.5e4]], jnp.float16)
    start = normalization.init_stats(1)
    y, stats = norm(x, start, size=2, momentum=0.5)
    expected, expected_stats = loop(np.asarray(x), start, 2, momentum=0.5)
    assert y.dtype == jnp.float16
    np.testing.assert_allclose(y, expected, rtol=1e-3)
    np.testing.assert_allclose(stats, expected_stats, rtol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 1.0, 0.5])
def test_momentum_is_a_strength(momentum):
    """Traced, and differentiable at the ends too."""
    x = draw(12, 3, mean=2)
    _, (mean, var) = loop(x, STATS, 4, momentum=momentum)
    new = lambda m: norm(x, momentum=m)[1]  # noqa: E731
    np.testing.assert_allclose(jax.jit(new)(momentum), (mean, var), rtol=1e-5)
    slope = jax.jacfwd(new)(momentum).mean
    step = 1e-6
    low, high = (loop(x, STATS, 4, momentum=momentum + d)[1][0] for d in (-step, step))
    np.testing.assert_allclose(slope, (high - low) / (2 * step), rtol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("spec", [P("d"), P(None, "d"), P(("d", "e"))])
@pytest.mark.slow
def test_ghost_batches_across_devices_of_an_explicit_mesh(size, spec):
    """Some lie on one device, some on several; the result lies where the input does."""
    x, mask = jnp.asarray(draw(16, 8, mean=2)), jnp.arange(16) % 5 > 0
    stats = normalization.init_stats(8)

    @jax.jit
    def run(x, mask):
        dx = jax.grad(lambda x: jnp.sum(jnp.sin(norm(x, stats, size, where=mask)[0])))(x)
        return *norm(x, stats, size, where=mask), dx

    expected = run(x, mask)
    mesh = jax.make_mesh((4, 2), ("d", "e"), (AxisType.Explicit,) * 2)
    with jax.set_mesh(mesh):
        sharding = NamedSharding(mesh, spec)
        rows = NamedSharding(mesh, P(spec[0]))
        actual = run(jax.device_put(x, sharding), jax.device_put(mask, rows))
    assert actual[0].sharding.spec == P(*spec, *[None] * (2 - len(spec)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), actual, expected)


def test_every_device_has_its_own_ghost_batches_in_shard_map():
    x = draw(16, 3, mean=2)
    mesh = jax.make_mesh((4,), ("d",), (AxisType.Auto,), devices=jax.devices()[:4])

    def run(x):
        y, stats = norm(x, momentum=0.9)
        return y, jax.tree.map(lambda a: a[None], stats)

    y, stats = jax.jit(jax.shard_map(run, mesh=mesh, in_specs=P("d"), out_specs=P("d")))(x)
    np.testing.assert_allclose(y, loop(x, STATS, 4)[0], atol=1e-5)
    own = [loop(part, STATS, 4)[1][0] for part in np.split(x, 4)]
    np.testing.assert_allclose(stats.mean, own, rtol=1e-5)


def test_a_batch_of_another_size_raises_with_the_fix():
    message = r"`ghost_batch_size` must divide the batch, got 4 for 10 examples; take a divisor, or"
    with pytest.raises(ValueError, match=message):
        norm(draw(10, 3))
    padded = np.concatenate([draw(10, 3), np.zeros((2, 3), np.float32)])
    y, _ = norm(padded, where=np.arange(12) < 10)
    np.testing.assert_allclose(y[8:10], loop(padded[8:10], STATS, 2)[0], atol=1e-5)


def test_a_single_axis_raises():
    with pytest.raises(
        ValueError, match=r"`x` must be \[batch, \*spatial, features\], got .*\(3,\)"
    ):
        norm(draw(3))


@pytest.mark.parametrize("size", [jnp.int32(4), 4.0, None])
def test_a_ghost_batch_size_that_is_no_integer_raises(size):
    with pytest.raises(TypeError, match=r"`ghost_batch_size` must be an integer, got"):
        norm(draw(8, 3), size=size)


@pytest.mark.parametrize("name", ["mean", "var", "scale", "bias"])
def test_a_wrong_shape_raises(name):
    arrays = {key: jnp.ones(3) for key in ("mean", "var", "scale", "bias")} | {name: jnp.ones(2)}
    stats = BatchStats(arrays.pop("mean"), arrays.pop("var"))
    message = rf"`{name}` must have the shape of the feature axes, \(3,\), got \(2,\)"
    with pytest.raises(ValueError, match=message):
        norm(draw(4, 3), stats, **arrays)
