"""Patch dropout: which tokens stay, how many, and in which order."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import stats

from jaxreg import dropout
from tests.dropout.helpers import compiled, normal
from tests.helpers import few

KEY = jax.random.key(50)


def kept_number(tokens, rate, prefix=0):
    """Number of kept tokens besides the prefix, from the shapes alone."""
    x = jax.ShapeDtypeStruct((2, prefix + tokens, 3), jnp.float32)
    call = partial(dropout.patch_dropout, KEY, rate=rate, prefix=prefix)
    kept, indices = jax.eval_shape(call, x)
    assert kept.shape == (2, indices.shape[1], 3)
    return indices.shape[1] - prefix


@pytest.mark.parametrize(
    ("tokens", "rate", "number"),
    [
        (10, 0.9, 1),  # 10 * (1 - 0.9) is 0.9999999999999998
        (10, 0.7, 3),  # 3.0000000000000004
        (10, 0.3, 7),
        (10, 0.1 + 0.2, 7),  # 6.999999999999999
        (10, np.float32(0.3), 7),  # 6.99999988
        (10, np.float64(0.9), 1),
        (10, 0.95, 1),
        (10, 1, 1),
        (10, 1.0, 1),
        (10, 0.05, 9),
        (10, 0, 10),
        (196, 0.5, 98),
        (197, 0.5, 98),
        (7, 0.25, 5),
        (1, 0.5, 1),
        (4096, 0.999, 4),
    ],
)
def test_the_number_of_kept_tokens(tokens, rate, number):
    for prefix in (0, 1, 3):
        assert kept_number(tokens, rate, prefix) == number


def test_all_rates_in_hundredths_keep_what_they_say():
    for tokens, percent in itertools.product((10, 49, 100, 196), range(0, 101, 7)):
        expected = max(1, tokens * (100 - percent) // 100)
        assert kept_number(tokens, percent / 100) == expected


@few("shape", [(5, 12, 2, 3), (5, 12, 3), (5, 12)])
@few("prefix", [1, 0, 4])
def test_the_kept_tokens_are_those_of_the_indices_in_order(shape, prefix):
    x = normal(shape)
    kept, indices = compiled(dropout.patch_dropout, KEY, x, rate=0.5, prefix=prefix)
    assert indices.dtype == jnp.int32
    assert indices.shape == kept.shape[:2] == (5, prefix + (12 - prefix) // 2)
    chosen = np.asarray(indices)
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(
        chosen[:, :prefix], np.broadcast_to(np.arange(prefix), (5, prefix))
    )
    assert chosen.max() < 12
    for example in range(5):
        np.testing.assert_array_equal(kept[example], x[example, chosen[example]])


def test_the_smallest_words_stay():
    """Ties go to the first, and the words of the prefix do not count; the default is one token."""
    words = np.array([[0, 9, 5, 5, 5, 1, 7], [3, 0, 2, 4, 1, 6, 5]], np.uint32)

    def bits(_, shape, dtype):
        assert shape == (2, 7, 1)
        return jnp.asarray(words, dtype).reshape(shape)

    x = np.arange(28, dtype=np.float32).reshape(2, 7, 2)
    for prefix in ({"prefix": 1}, {}):
        _, indices = compiled(dropout.patch_dropout, KEY, x, rate=0.5, bits=bits, **prefix)
        np.testing.assert_array_equal(indices, [[0, 2, 3, 5], [0, 1, 2, 4]])


def subsets(batch, tokens, rate, prefix):
    """Index of the kept subset of each example, and the number of subsets there are."""
    x = np.ones((batch, prefix + tokens, 1), np.float32)
    _, indices = compiled(dropout.patch_dropout, KEY, x, rate=rate, prefix=prefix)
    chosen = np.asarray(indices)[:, prefix:] - prefix
    combinations = itertools.combinations(range(tokens), chosen.shape[1])
    order = {subset: i for i, subset in enumerate(combinations)}
    return np.array([order[tuple(row)] for row in chosen.tolist()]), len(order)


@few(("tokens", "rate", "prefix"), [(7, 0.3, 2), (6, 0.5, 1), (5, 0.8, 0)])
def test_all_subsets_are_equally_likely(tokens, rate, prefix):
    which, number = subsets(20_000, tokens, rate, prefix)
    assert number == math.comb(tokens, kept_number(tokens, rate))
    counts = np.bincount(which, minlength=number)
    assert stats.chisquare(counts).pvalue > 1e-6
    counts[0] += counts.sum() // 20  # The negative control: 5% more of one subset.
    assert stats.chisquare(counts).pvalue < 1e-6


def test_examples_and_keys_are_independent():
    which, number = subsets(20_000, 4, 0.5, 1)
    table = np.zeros((number, number), int)
    np.add.at(table, (which[:-1:2], which[1::2]), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-6
    draw = jax.jit(lambda key, x: dropout.patch_dropout(key, x, rate=0.5)[1])
    x = np.ones((20_000, 5, 1), np.float32)
    first, other = [np.asarray(draw(key, x)) for key in jax.random.split(KEY)]
    same = np.mean((first == other).all(axis=1))
    assert abs(same - 1 / number) <= 5 * math.sqrt(1 / number / 20_000)


@few("rate", [0, 0.01, 0.0, np.float32(0)])
@few("dtype", [jnp.float32, jnp.bfloat16])
def test_a_rate_that_drops_nothing_is_the_identity_to_the_bit(rate, dtype):
    special = np.array([0.0, -0.0, 1e-40, np.inf, np.nan, 1.5]).astype(dtype)
    x = jnp.asarray(np.resize(special, (3, 5, 2)))
    if rate:
        x = x[:, :2]  # One token besides the prefix: at least one stays.
    for kept, indices in (dropout.patch_dropout(KEY, x, rate=rate), dropout.every_patch(x)):
        assert kept is x
        positions = np.broadcast_to(np.arange(x.shape[1]), x.shape[:2])
        np.testing.assert_array_equal(indices, positions)
        assert indices.dtype == jnp.int32


def test_a_sequence_of_the_prefix_alone_and_an_empty_batch():
    x = np.ones((2, 3, 4), np.float32)
    kept, _ = compiled(dropout.patch_dropout, KEY, x, rate=0.9, prefix=3)
    np.testing.assert_array_equal(kept, x)
    empty = np.ones((0, 5, 4), np.float32)
    kept, indices = compiled(dropout.patch_dropout, KEY, empty, rate=0.5)
    assert (kept.shape, indices.shape) == ((0, 3, 4), (0, 3))


@few("dtype", [jnp.bfloat16, jnp.float32, jnp.complex64])
def test_tokens_are_not_scaled(dtype):
    kept, _ = compiled(dropout.patch_dropout, KEY, np.full((4, 9, 2), 3, dtype), rate=0.5)
    assert kept.dtype == dtype
    np.testing.assert_array_equal(np.asarray(kept).astype(np.complex64), 3)


def test_the_gradient_goes_to_the_kept_tokens():
    weight = np.arange(1, 1 + 3 * 5 * 2, dtype=np.float32).reshape(3, 5, 2)

    def total(x):
        kept, indices = dropout.patch_dropout(KEY, x, rate=0.5)
        return jnp.sum(weight * kept), indices

    gradient, indices = compiled(jax.grad(total, has_aux=True), normal((3, 9, 2)))
    expected = np.zeros((3, 9, 2), np.float32)
    for example, chosen in enumerate(np.asarray(indices)):
        expected[example, chosen] = weight[example]
    np.testing.assert_array_equal(gradient, expected)


@few("axis", [1, 0, 2])
@few("kind", [AxisType.Explicit, AxisType.Auto], ids=lambda kind: kind.name)
def test_arrays_sharded_along_any_axis(axis, kind):
    """Along the tokens the result is whole: the kept ones may be anywhere."""
    x = normal((8, 16, 8))

    @jax.jit
    def call(x):
        def total(x):
            kept, indices = dropout.patch_dropout(KEY, x, rate=0.4)
            return jnp.sum(jnp.sin(kept)), (kept, indices)

        gradient, drawn = jax.grad(total, has_aux=True)(x)
        return gradient, *drawn, *dropout.every_patch(x)

    expected = call(x)
    mesh = jax.make_mesh((8,), ("device",), axis_types=(kind,))
    names = [None if a != axis else "device" for a in range(3)]
    with jax.set_mesh(mesh):
        found = call(jax.device_put(x, NamedSharding(mesh, PartitionSpec(*names))))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    for actual, value in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(actual, value)
    np.testing.assert_array_equal(found[3], x)
    np.testing.assert_array_equal(found[4], np.broadcast_to(np.arange(16), (8, 16)))
    if kind == AxisType.Explicit:
        assert found[4].sharding.spec == PartitionSpec(*names[:2])
        names[1] = None
        assert found[1].sharding.spec == PartitionSpec(*names)
        assert found[2].sharding.spec == PartitionSpec(*names[:2])


def test_shards_of_a_batch_with_keys_of_their_own():
    mesh = jax.make_mesh((8,), ("device",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("device")

    def call(key, x):
        return dropout.patch_dropout(dropout.fold_in_axis(key, "device"), x, rate=0.5)

    mapped = jax.shard_map(call, mesh=mesh, in_specs=(PartitionSpec(), spec), out_specs=spec)
    x = normal((8, 33, 2))
    kept, indices = jax.device_get(jax.jit(mapped)(KEY, x))
    np.testing.assert_array_equal(kept, np.take_along_axis(x, indices[..., None], 1))
    assert len({row.tobytes() for row in indices}) == 8


@pytest.mark.parametrize("rate", [jnp.float32(0.5), jnp.ones(2), None, "half", [0.5]])
def test_a_rate_that_is_not_static_raises(rate):
    x = np.ones((2, 5, 1), np.float32)
    message = r"`rate` of `patch_dropout` must be a Python or NumPy number, since the shape .*, got"
    with pytest.raises(TypeError, match=message):
        dropout.patch_dropout(KEY, x, rate=rate)
    with pytest.raises(TypeError, match=message):
        jax.jit(lambda r: dropout.patch_dropout(KEY, x, rate=r))(0.5)


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        ({"rate": -0.1}, ValueError, r"`rate` must be a probability in \[0, 1\], got -0\.1"),
        ({"rate": float("nan")}, ValueError, r"`rate` .*got nan"),
        ({"prefix": -1}, ValueError, r"`prefix` must be in \[0, 5\], .*got -1"),
        ({"prefix": 6}, ValueError, r"`prefix` must be in \[0, 5\], the number of tokens"),
        ({"prefix": 1.0}, TypeError, r"`prefix` must be an integer, got float 1\.0"),
        ({"key": 3}, TypeError, "`key` must be a PRNG key, got int 3"),
    ],
)
def test_wrong_arguments_raise(wrong, kind, message):
    right = {"key": KEY, "x": np.ones((2, 5, 1), np.float32), "rate": 0.5}
    with pytest.raises(kind, match=message):
        dropout.patch_dropout(**(right | wrong))


def test_arrays_without_tokens_raise():
    for call in (dropout.every_patch, lambda x: dropout.patch_dropout(KEY, x, rate=0.5)):
        with pytest.raises(ValueError, match=r"`x` must have axes \[batch, tokens, \.\.\.\]"):
            call(np.ones(3, np.float32))
        with pytest.raises(TypeError, match=r"`x` must have a floating-point dtype, got int32"):
            call(np.ones((2, 3, 1), np.int32))
