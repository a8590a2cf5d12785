"""DropBlock: the union of blocks, the rate that is met exactly, and examples by themselves."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import optimize

from jaxreg import dropout
from jaxreg.dropout import block
from tests.test_dropout import residual_bytes

KEY = jax.random.key(30)
# Maps with their block axes and blocks: odd and even sizes in one, two and three dimensions.
MAPS = [
    ((12,), (3,)),
    ((11,), (4,)),
    ((7,), (7,)),
    ((7, 7), (3, 3)),
    ((8, 8), (4, 4)),
    ((9, 6), (2, 5)),
    ((6, 5), (6, 1)),
    ((5, 5, 5), (3, 3, 3)),
    ((4, 6, 5), (2, 4, 3)),
]


def coverage(lengths, blocks):
    """Number of blocks within the map that cover each position, by trying them all."""
    covering = np.zeros(lengths, np.int64)
    for start in np.ndindex(*(n - b + 1 for n, b in zip(lengths, blocks, strict=True))):
        covering[tuple(slice(i, i + b) for i, b in zip(start, blocks, strict=True))] += 1
    return covering


def start_rate(rate, lengths, blocks):
    """The start rate at which a position is dropped with probability ``rate`` on average."""
    covering = coverage(lengths, blocks)

    def excess(gamma):
        return 1 - np.mean((1 - gamma) ** covering) - rate

    return optimize.brentq(excess, 0, 1, xtol=1e-14)


def dropped_by_blocks(words, rate, lengths, blocks):
    """Mask of ``[batch, *spatial, channels]`` that the random words of the starts lead to."""
    started = words < start_rate(rate, lengths, blocks) * 2.0**32
    mask = np.zeros((words.shape[0], *lengths, words.shape[-1]), bool)
    for n, *start, c in np.argwhere(started):
        inside = (slice(i, i + b) for i, b in zip(start, blocks, strict=True))
        mask[(n, *inside, c)] = True
    return mask


def words_of(shape):
    return np.random.default_rng(1).integers(0, 2**32, shape, np.uint32)


@pytest.mark.parametrize("rate", [0.1, 0.6])
@pytest.mark.parametrize(("lengths", "blocks"), MAPS)
def test_what_is_dropped_is_the_union_of_the_blocks_that_start(lengths, blocks, rate):
    starts = (16, *(n - b + 1 for n, b in zip(lengths, blocks, strict=True)), 3)
    words = words_of(starts)

    def bits(_, shape, dtype):
        assert shape == starts
        return jnp.asarray(words, dtype)

    x = np.random.default_rng(2).normal(size=(16, *lengths, 3)).astype(np.float32)
    y = dropout.drop_block(KEY, jnp.asarray(x), rate=rate, block_size=blocks, bits=bits)
    dropped = dropped_by_blocks(words, rate, lengths, blocks)
    assert dropped.any()
    kept = (~dropped).reshape(16, -1).sum(axis=1)
    scale = dropped[0].size / np.maximum(kept, 1).reshape(16, *[1] * (x.ndim - 1))
    np.testing.assert_allclose(y, np.where(dropped, 0, x * scale), rtol=1e-6)


@pytest.mark.parametrize(
    ("lengths", "blocks"),
    [
        *MAPS,
        ((1,), (1,)),
        ((64,), (33,)),
        ((64, 64), (1, 64)),
        ((64, 64), (32, 32)),
        ((16, 16, 16), (8, 9, 7)),
        ((64, 3, 17), (33, 2, 5)),
        ((32, 32, 32), (16, 16, 16)),
    ],
)
def test_the_start_rate_meets_the_rate_to_float32_precision(lengths, blocks):
    """Newton's steps are few and their number is fixed; here is that it suffices."""
    sizes = tuple(enumerate(blocks, start=1))
    draw = block._Draw((1, *lengths, 1), sizes)
    # One axis after the other: all starts of the largest maps would be too many to try.
    covering = functools.reduce(
        np.multiply.outer, [coverage((n,), (b,)) for n, b in zip(lengths, blocks, strict=True)]
    )
    solve = jax.jit(lambda rate: block._start_rate(rate, draw, unroll=False))
    for rate in (1e-6, 1e-3, 0.1, 0.5, 0.9, 0.99, 0.999, 1 - 2.0**-24):
        gamma = np.float64(solve(jnp.float32(rate)))
        share = -np.mean(np.expm1(covering * np.log1p(-gamma)))
        np.testing.assert_allclose(share, np.float64(np.float32(rate)), rtol=1e-6)


def test_the_paper_misses_the_rate():
    """Its start rate, a negative control, counts no overlap: 5% too little at 0.1, 10% at 0.2."""
    lengths, blocks = (14, 14), (7, 7)
    for rate, missing in ((0.1, 0.05), (0.2, 0.1)):
        gamma = rate / 7**2 * 14**2 / (14 - 7 + 1) ** 2
        share = 1 - np.mean((1 - gamma) ** coverage(lengths, blocks))
        assert share < (1 - 0.9 * missing) * rate


@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize(
    ("lengths", "blocks"),
    [((9,), (4,)), ((7, 7), (3, 3)), ((6, 5), (4, 2)), ((4, 4, 3), (2, 2, 3))],
)
def test_drops_at_the_rate(lengths, blocks, rate):
    """Maps are independent: the standard error is that of the mean of their shares."""

    @jax.jit
    def shares(key):
        y = dropout.drop_block(key, jnp.ones((1024, *lengths, 64)), rate=rate, block_size=blocks)
        return jnp.mean(y == 0, axis=tuple(range(1, 1 + len(lengths))))

    each = np.concatenate([np.ravel(shares(key)) for key in jax.random.split(KEY, 4)])
    error = abs(each.mean() - rate)
    assert error <= 5 * each.std() / math.sqrt(each.size)
    assert error <= 0.02 * rate


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_blocks_of_size_one_are_those_of_dropout(rate):
    x = jnp.ones((8, 9, 10, 4))
    y = dropout.drop_block(KEY, x, rate=rate, block_size=1)
    np.testing.assert_array_equal(y == 0, dropout.dropout(KEY, x, rate=rate) == 0)


def test_a_block_of_the_whole_map_is_spatial_dropout():
    x = jnp.ones((64, 5, 6, 16))
    y = dropout.drop_block(KEY, x, rate=0.3, block_size=(5, 6))
    np.testing.assert_array_equal(y == 0, dropout.spatial_dropout(KEY, x, rate=0.3) == 0)


def test_blocks_of_features():
    y = dropout.drop_block(KEY, jnp.ones((500, 20)), rate=0.3, block_size=4, axis=-1)
    rows = ("".join("x."[int(kept)] for kept in row) for row in np.asarray(y != 0))
    runs = [len(run) for row in rows for run in row.split(".") if run]
    assert min(runs) == 4
    assert max(runs) > 4


def test_examples_are_independent():
    """The peers scale by the count of the whole batch, so that each example moves all others."""
    x = jax.random.normal(KEY, (6, 8, 8, 3))
    call = functools.partial(dropout.drop_block, KEY, rate=0.3, block_size=3)
    y, other = call(x), call(x.at[0].set(7.0))
    np.testing.assert_array_equal(y[1:], other[1:])
    ones = np.asarray(call(jnp.ones_like(x)))
    np.testing.assert_allclose(ones.mean(axis=(1, 2, 3)), 1, rtol=1e-6)
    scales = ones.max(axis=(1, 2, 3))
    assert np.unique(scales).size == 6
    kept = (ones != 0).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(scales * kept, 1, rtol=1e-6)


def test_masks_of_examples_and_channels_are_uncorrelated():
    y = dropout.drop_block(KEY, jnp.ones((256, 6, 6, 256)), rate=0.4, block_size=3)
    share = np.asarray(jnp.mean(y == 0, axis=(1, 2)), np.float64)
    share -= share.mean()
    bound = 5 / math.sqrt(share.size)
    assert abs(np.mean(share * np.roll(share, 1, axis=0))) <= bound * share.var()
    assert abs(np.mean(share * np.roll(share, 1, axis=1))) <= bound * share.var()


def test_broadcast_axes_share_the_blocks():
    x = jnp.ones((8, 9, 9, 5))
    y = np.asarray(dropout.drop_block(KEY, x, rate=0.4, block_size=3, broadcast_axes=-1))
    np.testing.assert_array_equal(y, np.broadcast_to(y[..., :1], y.shape))
    assert not np.array_equal(y[0], y[1])
    np.testing.assert_allclose(y.mean(axis=(1, 2, 3)), 1, rtol=1e-6)
    y = np.asarray(dropout.drop_block(KEY, x, rate=0.4, block_size=3, broadcast_axes=(0, -1)))
    np.testing.assert_array_equal(y, np.broadcast_to(y[:1, ..., :1], y.shape))


def test_block_sizes_belong_to_the_axes_as_given():
    x = jnp.ones((4, 8, 9, 2))
    call = functools.partial(dropout.drop_block, KEY, x, rate=0.4)
    expected = call(block_size=(2, 5))
    np.testing.assert_array_equal(call(block_size=(5, 2), axis=(2, 1)), expected)
    np.testing.assert_array_equal(call(block_size=[2, 5], axis=[-3, -2]), expected)
    assert not np.array_equal(call(block_size=(5, 2)), expected)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.slow
def test_low_precision_rounds_once(dtype):
    x = jax.random.normal(KEY, (4, 7, 7, 8)).astype(dtype)
    y = np.asarray(dropout.drop_block(KEY, x, rate=0.3, block_size=3), np.float64)
    dropped = np.asarray(dropout.drop_block(KEY, jnp.ones_like(x), rate=0.3, block_size=3) == 0)
    kept = (~dropped).sum(axis=(1, 2, 3), keepdims=True)
    scale = (np.float32(dropped[0].size) / kept.astype(np.float32)).astype(np.float32)
    once = (np.asarray(x, np.float32) * scale).astype(dtype)
    np.testing.assert_array_equal(y, np.where(dropped, 0, np.asarray(once, np.float64)))


@pytest.mark.parametrize("wrap", [float, jnp.float32, jnp.bfloat16], ids=["float", "f32", "bf16"])
def test_rate_one_gives_zeros_and_zero_gradients(wrap):
    x = jnp.array([jnp.inf, jnp.nan, 1.0, 2.0]).reshape(1, 4, 1)

    def total(x, rate):
        y = dropout.drop_block(KEY, x, rate=rate, block_size=2)
        return jnp.sum(y), y

    gradients, y = jax.grad(total, (0, 1), has_aux=True)(x, wrap(1.0))
    np.testing.assert_array_equal(y, 0)
    np.testing.assert_array_equal(gradients[0], 0)
    assert float(gradients[1]) == 0


def test_rate_one_holds_for_every_draw():
    """The largest word, of probability 2**-32, that no sample would meet."""

    def largest(_, shape, dtype):
        return jnp.full(shape, 2**32 - 1, dtype)

    y = dropout.drop_block(KEY, jnp.ones((2, 5, 3)), rate=1.0, block_size=2, bits=largest)
    np.testing.assert_array_equal(y, 0)


def test_an_example_of_which_nothing_is_left_is_zero_with_finite_gradients():
    x = jnp.ones((64, 4, 1))
    y, pull = jax.vjp(lambda x: dropout.drop_block(KEY, x, rate=0.5, block_size=4), x)
    empty = np.asarray(y == 0).all(axis=(1, 2))
    assert 0 < empty.sum() < 64
    np.testing.assert_array_equal(np.asarray(y)[~empty], 1)
    np.testing.assert_array_equal(pull(jnp.ones_like(x))[0], y)


def test_the_gradient_is_the_scaled_mask():
    x = jax.random.normal(KEY, (3, 8, 8, 4))
    call = functools.partial(dropout.drop_block, KEY, rate=0.3, block_size=3)
    gradient = jax.grad(lambda x: jnp.sum(call(x)))(x)
    np.testing.assert_array_equal(gradient, call(jnp.ones_like(x)))


def test_a_traced_rate_is_clipped_and_nan_gives_nan():
    x = jax.random.normal(KEY, (2, 6, 6, 3))
    call = jax.jit(lambda rate: dropout.drop_block(KEY, x, rate=rate, block_size=2))
    np.testing.assert_array_equal(call(-0.5), x)
    np.testing.assert_array_equal(call(1.5), jnp.zeros_like(x))
    assert jnp.isnan(call(jnp.nan)).all()


def test_rate_zero_is_the_identity_to_the_bit_in_three_dimensions():
    special = jnp.array([0.0, -0.0, 1e-40, jnp.inf, -jnp.inf, jnp.nan])
    x = jnp.resize(special, (2, 3, 4, 5, 2))
    for rate in (0, jnp.float32(0)):
        y = jax.jit(lambda rate: dropout.drop_block(KEY, x, rate=rate, block_size=2))(rate)
        assert np.asarray(y).tobytes() == np.asarray(x).tobytes()


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_the_backward_pass_holds_the_key_only(transform):
    """A stored mask of booleans would take 4096 bytes here."""

    def pullback(x, rate):
        return jax.vjp(lambda x: dropout.drop_block(KEY, x, rate=rate, block_size=3), x)[1]

    pull = transform(pullback)(jnp.ones((4, 16, 16, 4)), 0.5)
    assert 8 <= residual_bytes(pull) <= 8 + 3 * 4
    assert (pull(jnp.ones((4, 16, 16, 4)))[0] == 0).any()


def test_a_static_rate_is_solved_by_the_compiler():
    def count(rate, *arguments):
        def call(x, *rates):
            return dropout.drop_block(KEY, x, rate=rates[0] if rates else rate, block_size=3)

        compiled = jax.jit(call).lower(jnp.ones((2, 8, 8, 4)), *arguments).compile()
        return compiled.as_text().count("exponential")

    assert count(0.1) == 0
    assert count(None, 0.1) > 0


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.slow
def test_maps_sharded_along_any_axis(axis):
    x = jax.random.normal(KEY, (8, 16, 8, 8))

    def call(x):
        return dropout.drop_block(KEY, x, rate=0.3, block_size=(3, 2))

    expected = jax.jit(call)(x)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((8,), ("device",), axis_types=(kind,))
        spec = PartitionSpec(*("device" if a == axis else None for a in range(4)))
        with jax.set_mesh(mesh):
            sharded = jax.device_put(x, NamedSharding(mesh, spec))
            y, pull = jax.jit(lambda x: jax.vjp(call, x))(sharded)
            gradient = jax.jit(lambda pull, y: pull(jnp.ones_like(y)))(pull, y)[0]
        assert y.sharding.spec == spec
        np.testing.assert_allclose(y, expected, rtol=1e-6)
        np.testing.assert_array_equal(np.asarray(gradient == 0), np.asarray(expected == 0))


@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 2, 2, 2, 2, 2)])
def test_default_axes_that_are_none_or_too_many_raise(shape):
    with pytest.raises(ValueError, match=r"`axis` must name one, two or three axes"):
        dropout.drop_block(KEY, jnp.ones(shape), rate=0.5, block_size=1)


def test_a_traced_block_size_raises():
    with pytest.raises(TypeError, match=r"`block_size` must be an integer.*cannot be an array"):
        jax.jit(lambda b: dropout.drop_block(KEY, jnp.ones((2, 4, 1)), rate=0.5, block_size=b))(2)


def test_an_empty_batch():
    x = jnp.ones((0, 4, 4, 2))
    assert dropout.drop_block(KEY, x, rate=0.5, block_size=2).shape == x.shape
