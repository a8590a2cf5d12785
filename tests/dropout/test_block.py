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
from tests.dropout.helpers import assert_same_bits, compiled, normal
from tests.helpers import always, few, residual_bytes

KEY = jax.random.key(30)
# Maps with their block axes and blocks: odd and even sizes in one, two and three dimensions.
MAPS = [
    ((9, 6), (2, 5)),
    ((12,), (3,)),
    ((7,), (7,)),
    ((4, 6, 5), (2, 4, 3)),
    ((6, 5), (6, 1)),
    ((11,), (4,)),
    ((7, 7), (3, 3)),
    ((8, 8), (4, 4)),
    ((5, 5, 5), (3, 3, 3)),
]
LARGE_MAPS = [
    ((1,), (1,)),
    ((64,), (33,)),
    ((64, 64), (1, 64)),
    ((64, 64), (32, 32)),
    ((16, 16, 16), (8, 9, 7)),
    ((64, 3, 17), (33, 2, 5)),
    ((32, 32, 32), (16, 16, 16)),
]
call = functools.partial(compiled, dropout.drop_block, KEY)


def ones(*shape):
    return np.ones(shape, np.float32)


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


@pytest.mark.parametrize(("lengths", "blocks"), MAPS[:4])
def test_what_is_dropped_is_the_union_of_the_blocks_that_start(lengths, blocks):
    assert_union(lengths, blocks)


@few(("lengths", "blocks"), MAPS[4:])
def test_what_is_dropped_from_other_maps_is_the_union_of_blocks_too(lengths, blocks):
    assert_union(lengths, blocks)


def assert_union(lengths, blocks):
    """For a static and a traced rate: the values, and the gradient, which is the scaled mask."""
    starts = (16, *(n - b + 1 for n, b in zip(lengths, blocks, strict=True)), 3)
    words = np.random.default_rng(1).integers(0, 2**32, starts, np.uint32)

    def bits(_, shape, dtype):
        assert shape == starts
        return jnp.asarray(words, dtype)

    @jax.jit
    def draw(x, traced):
        def of(x, rate):
            return dropout.drop_block(KEY, x, rate=rate, block_size=blocks, bits=bits)

        y, pull = jax.vjp(lambda x: of(x, traced), x)
        return y, pull(x)[0], of(x, 0.1)

    x = normal((16, *lengths, 3), seed=2)
    for rate in (0.1, 0.6):
        dropped = dropped_by_blocks(words, rate, lengths, blocks)
        assert dropped.any()
        kept = (~dropped).reshape(16, -1).sum(axis=1)
        scale = dropped[0].size / np.maximum(kept, 1).reshape(16, *[1] * (x.ndim - 1))
        y, gradient, static = draw(x, rate)
        np.testing.assert_allclose(y, np.where(dropped, 0, x * scale), rtol=1e-6)
        np.testing.assert_array_equal(gradient, y)
        if rate == 0.1:
            np.testing.assert_array_equal(static, y)


@few(("lengths", "blocks"), [((64, 3, 17), (33, 2, 5)), *MAPS, *LARGE_MAPS])
def test_the_start_rate_meets_the_rate_to_float32_precision(lengths, blocks):
    """Newton's steps are few and their number is fixed; here is that it suffices."""
    sizes = tuple(enumerate(blocks, start=1))
    draw = block._Mask((1, *lengths, 1), sizes)
    # One axis after the other: all starts of the largest maps would be too many to try.
    covering = functools.reduce(
        np.multiply.outer, [coverage((n,), (b,)) for n, b in zip(lengths, blocks, strict=True)]
    )

    @jax.jit
    def solve(rate):
        return [block._start_rate(rate, draw, unroll=unroll) for unroll in (False, True)]

    for rate in (1e-6, 1e-3, 0.1, 0.5, 0.9, 0.99, 0.999, 1 - 2.0**-24):
        for gamma in np.asarray(solve(np.float32(rate)), np.float64):
            share = -np.mean(np.expm1(covering * np.log1p(-gamma)))
            np.testing.assert_allclose(share, np.float64(np.float32(rate)), rtol=1e-6)


def test_the_paper_misses_the_rate():
    """Its start rate, a negative control, counts no overlap: 5% too little at 0.1, 10% at 0.2."""
    lengths = (14, 14)
    blocks = (7, 7)
    for rate, missing in ((0.1, 0.05), (0.2, 0.1)):
        gamma = rate / 7**2 * 14**2 / (14 - 7 + 1) ** 2
        share = 1 - np.mean((1 - gamma) ** coverage(lengths, blocks))
        assert share < (1 - 0.9 * missing) * rate


@few("rate", [0.1, 0.5])
@few(
    ("lengths", "blocks"),
    [((6, 5), (4, 2)), ((9,), (4,)), ((7, 7), (3, 3)), ((4, 4, 3), (2, 2, 3))],
)
def test_drops_at_the_rate(lengths, blocks, rate):
    """Maps are independent, so the standard error is the mean share's."""

    @jax.jit
    def shares(key):
        x = jnp.ones((1024, *lengths, 64))
        y = dropout.drop_block(key, x, rate=rate, block_size=blocks)
        return jnp.mean(y == 0, axis=tuple(range(1, 1 + len(lengths))))

    each = np.concatenate([np.ravel(shares(key)) for key in jax.random.split(KEY, 4)])
    error = abs(each.mean() - rate)
    assert error <= 5 * each.std() / math.sqrt(each.size)
    assert error <= 0.02 * rate


@few("rate", [0.3, 0.02])
def test_blocks_of_one_element_or_of_a_whole_map_are_other_techniques(rate):
    @jax.jit
    def pairs(x):
        drop = functools.partial(dropout.drop_block, KEY, x, rate=rate)
        return (
            (drop(block_size=1), dropout.dropout(KEY, x, rate=rate)),
            (drop(block_size=(5, 6)), dropout.spatial_dropout(KEY, x, rate=rate)),
        )

    for blocks, other in pairs(ones(64, 5, 6, 16)):
        np.testing.assert_array_equal(blocks == 0, other == 0)


def test_blocks_of_features():
    y = np.asarray(call(ones(500, 20), rate=0.3, block_size=4, axis=-1))
    rows = ("".join("x."[int(kept)] for kept in row) for row in y != 0)
    runs = [len(run) for row in rows for run in row.split(".") if run]
    assert min(runs) == 4
    assert max(runs) > 4


def test_examples_are_independent():
    """The peers scale by the count of the whole batch, so that each example moves all others."""
    x = normal((6, 8, 8, 3))
    other = x.copy()
    other[0] = 7
    draw = jax.jit(functools.partial(dropout.drop_block, KEY, rate=0.3, block_size=3))
    np.testing.assert_array_equal(draw(x)[1:], draw(other)[1:])
    mask = np.asarray(draw(np.ones_like(x)))
    np.testing.assert_allclose(mask.mean(axis=(1, 2, 3)), 1, rtol=1e-6)
    scales = mask.max(axis=(1, 2, 3))
    assert np.unique(scales).size == 6
    np.testing.assert_allclose(scales * (mask != 0).mean(axis=(1, 2, 3)), 1, rtol=1e-6)


def test_masks_of_examples_and_channels_are_uncorrelated():
    y = np.asarray(call(ones(256, 6, 6, 256), rate=0.4, block_size=3))
    share = np.mean(y == 0, axis=(1, 2))
    share -= share.mean()
    bound = 5 / math.sqrt(share.size)
    assert abs(np.mean(share * np.roll(share, 1, axis=0))) <= bound * share.var()
    assert abs(np.mean(share * np.roll(share, 1, axis=1))) <= bound * share.var()


def test_broadcast_axes_share_the_blocks():
    x = ones(8, 9, 9, 5)
    y = np.asarray(call(x, rate=0.4, block_size=3, broadcast_axes=-1))
    np.testing.assert_array_equal(y, np.broadcast_to(y[..., :1], y.shape))
    assert not np.array_equal(y[0], y[1])
    np.testing.assert_allclose(y.mean(axis=(1, 2, 3)), 1, rtol=1e-6)
    y = np.asarray(call(x, rate=0.4, block_size=3, broadcast_axes=(0, -1)))
    np.testing.assert_array_equal(y, np.broadcast_to(y[:1, ..., :1], y.shape))


def test_block_sizes_belong_to_the_axes_as_given():
    x = ones(4, 8, 9, 2)
    expected = call(x, rate=0.4, block_size=(2, 5))
    other_order = call(x, rate=0.4, block_size=(5, 2), axis=(2, 1))
    np.testing.assert_array_equal(other_order, expected)
    negative = call(x, rate=0.4, block_size=[2, 5], axis=[-3, -2])
    np.testing.assert_array_equal(negative, expected)
    assert not np.array_equal(call(x, rate=0.4, block_size=(5, 2)), expected)


@few("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_rounds_once(dtype):
    x = normal((4, 7, 7, 8), dtype)
    y = np.asarray(call(x, rate=0.3, block_size=3))
    dropped = np.asarray(call(np.ones_like(x), rate=0.3, block_size=3) == 0)
    kept = (~dropped).sum(axis=(1, 2, 3), keepdims=True)
    scale = (np.float32(dropped[0].size) / kept.astype(np.float32)).astype(np.float32)
    once = (np.asarray(x, np.float32) * scale).astype(dtype)
    assert y.dtype == dtype
    np.testing.assert_array_equal(
        y.astype(np.float32), np.where(dropped, 0, once.astype(np.float32))
    )


@few("wrap", [float, jnp.float32, jnp.bfloat16], ids=["float", "f32", "bf16"])
def test_rate_one_gives_zeros_and_zero_gradients(wrap):
    """For the largest word too, of probability 2**-32, that no sample would meet."""
    x = np.array([np.inf, np.nan, 1.0, 2.0], np.float32).reshape(1, 4, 1)

    def total(x, rate):
        drop = functools.partial(dropout.drop_block, KEY, x, rate=rate, block_size=2)
        y = jnp.stack([drop(), drop(bits=always(2**32 - 1))])
        return jnp.sum(y), y

    traced = compiled(jax.grad(total, (0, 1), has_aux=True), x, wrap(1.0))
    static = compiled(jax.grad(total, has_aux=True), x, rate=wrap(1.0))
    for leaf in jax.tree.leaves([traced, static]):
        np.testing.assert_array_equal(leaf, 0)


def test_an_example_of_which_nothing_is_left_is_zero_with_finite_gradients():
    def pulled(x):
        y, pull = jax.vjp(lambda x: dropout.drop_block(KEY, x, rate=0.5, block_size=4), x)
        return y, pull(jnp.ones_like(x))[0]

    y, gradient = compiled(pulled, ones(64, 4, 1))
    empty = np.asarray(y == 0).all(axis=(1, 2))
    assert 0 < empty.sum() < 64
    np.testing.assert_array_equal(np.asarray(y)[~empty], 1)
    np.testing.assert_array_equal(gradient, y)


def test_a_traced_rate_is_clipped_and_nan_gives_nan():
    x = normal((2, 6, 6, 3))
    draw = jax.jit(lambda rate: dropout.drop_block(KEY, x, rate=rate, block_size=2))
    np.testing.assert_array_equal(draw(-0.5), x)
    np.testing.assert_array_equal(draw(1.5), np.zeros_like(x))
    assert np.isnan(draw(np.nan)).all()


def test_rate_zero_is_the_identity_to_the_bit_in_three_dimensions():
    special = np.array([0.0, -0.0, 1e-40, np.inf, -np.inf, np.nan], np.float32)
    x = np.resize(special, (2, 3, 4, 5, 2))
    for rate in (0, jnp.float32(0)):
        assert_same_bits(call(x, rate=rate, block_size=2), x)


def test_the_backward_pass_holds_the_key_only():
    """A stored mask of booleans would take 4096 bytes here."""

    def pullback(x, rate):
        return jax.vjp(lambda x: dropout.drop_block(KEY, x, rate=rate, block_size=3), x)[1]

    x = ones(4, 16, 16, 4)
    pull = jax.jit(pullback)(x, 0.5)
    assert 8 <= residual_bytes(pull) <= 8 + 3 * 4
    assert (jax.jit(lambda pull, y: pull(y))(pull, x)[0] == 0).any()


def test_a_static_rate_is_solved_by_the_compiler():
    def count(rate, *arguments):
        def draw(x, *rates):
            return dropout.drop_block(KEY, x, rate=rates[0] if rates else rate, block_size=3)

        program = jax.jit(draw).lower(ones(2, 8, 8, 4), *arguments).compile()
        return program.as_text().count("exponential")

    assert count(0.1) == 0
    assert count(None, 0.1) > 0


@pytest.mark.exhaustive
@few("axis", [1, 0, 2, 3])
@few("kind", [AxisType.Explicit, AxisType.Auto], ids=lambda kind: kind.name)
def test_maps_sharded_along_any_axis(axis, kind):
    x = normal((8, 16, 8, 8))

    @jax.jit
    def pulled(x):
        drop = functools.partial(dropout.drop_block, KEY, rate=0.3, block_size=(3, 2))
        y, pull = jax.vjp(drop, x)
        return y, pull(jnp.ones_like(y))[0]

    expected = pulled(x)[0]
    mesh = jax.make_mesh((8,), ("device",), axis_types=(kind,))
    spec = PartitionSpec(*("device" if a == axis else None for a in range(4)))
    with jax.set_mesh(mesh):
        y, gradient = pulled(jax.device_put(x, NamedSharding(mesh, spec)))
    if kind == AxisType.Explicit:
        assert y.sharding.spec == spec
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(gradient == 0), np.asarray(expected == 0))


@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 2, 2, 2, 2, 2)])
def test_default_axes_that_are_none_or_too_many_raise(shape):
    with pytest.raises(ValueError, match=r"`axis` must name one to three axes"):
        dropout.drop_block(KEY, ones(*shape), rate=0.5, block_size=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"axis": 0}, r"`axis` must name .* not the batch axis 0, got \(0,\)"),
        ({"axis": (0, 1)}, r"`axis` must name .* not the batch axis 0, got \(0, 1\)"),
        ({"block_size": 0}, r"`block_size` must be in \[1, 4\], the length of axis 1 .*got 0"),
        ({"block_size": 6}, r"`block_size` must be in \[1, 4\], the length of axis 1 .*got 6"),
        ({"block_size": (4, 6)}, r"`block_size` must be in \[1, 5\], the length of axis 2"),
        ({"block_size": (2,)}, r"`block_size` must be .* one per block axis, 2 in all, got \(2,\)"),
        ({"broadcast_axes": 1}, r"`broadcast_axes` must not contain the block axis 1, got 1"),
        ({"broadcast_axes": (0, 2)}, r"`broadcast_axes` must not contain the block axis 2"),
        ({"rate": 1.5}, r"`rate` must be a probability in \[0, 1\], got 1\.5"),
    ],
)
def test_wrong_axes_blocks_and_rates_raise(wrong, message):
    with pytest.raises(ValueError, match=message):
        dropout.drop_block(KEY, ones(2, 4, 5, 1), **{"rate": 0.5, "block_size": 2, **wrong})


def test_a_traced_block_size_raises():
    with pytest.raises(TypeError, match=r"`block_size` must be an integer.*cannot be an array"):
        jax.jit(lambda b: dropout.drop_block(KEY, ones(2, 4, 1), rate=0.5, block_size=b))(2)


def test_an_empty_batch():
    x = ones(0, 4, 4, 2)
    assert call(x, rate=0.5, block_size=2).shape == x.shape
