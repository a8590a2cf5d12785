"""Patch dropout: which tokens stay, how many, and in which order."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import stats

from jaxreg import dropout

KEY = jax.random.key(50)


def kept_number(tokens, rate, prefix=0):
    x = jnp.ones((2, prefix + tokens, 3))
    kept, indices = dropout.patch_dropout(KEY, x, rate=rate, prefix=prefix)
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
@pytest.mark.slow
def test_the_number_of_kept_tokens(tokens, rate, number):
    for prefix in (0, 1, 3):
        assert kept_number(tokens, rate, prefix) == number


def test_all_rates_in_hundredths_keep_what_they_say():
    for tokens, percent in itertools.product((10, 49, 100, 196), range(0, 101, 7)):
        expected = max(1, tokens * (100 - percent) // 100)
        x = jax.ShapeDtypeStruct((1, tokens, 1), jnp.float32)
        kept, _ = jax.eval_shape(
            lambda x, rate=percent / 100: dropout.patch_dropout(KEY, x, rate=rate, prefix=0), x
        )
        assert kept.shape[1] == expected


@pytest.mark.parametrize("shape", [(5, 12), (5, 12, 3), (5, 12, 2, 3)])
@pytest.mark.parametrize("prefix", [0, 1, 4])
def test_the_kept_tokens_are_those_of_the_indices_in_order(shape, prefix):
    x = jax.random.normal(KEY, shape)
    kept, indices = dropout.patch_dropout(jax.random.key(1), x, rate=0.5, prefix=prefix)
    assert indices.dtype == jnp.int32
    assert indices.shape == kept.shape[:2] == (5, prefix + (12 - prefix) // 2)
    chosen = np.asarray(indices)
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(
        chosen[:, :prefix], np.broadcast_to(np.arange(prefix), (5, prefix))
    )
    assert chosen.max() < 12
    for example in range(5):
        np.testing.assert_array_equal(kept[example], np.asarray(x)[example, chosen[example]])


def test_the_smallest_words_stay():
    """Ties go to the first, and the words of the prefix do not count."""
    words = np.array([[0, 9, 5, 5, 5, 1, 7], [3, 0, 2, 4, 1, 6, 5]], np.uint32)

    def bits(_, shape, dtype):
        return jnp.asarray(words, dtype).reshape(shape)

    x = jnp.arange(28.0).reshape(2, 7, 2)
    _, indices = dropout.patch_dropout(KEY, x, rate=0.5, prefix=1, bits=bits)
    np.testing.assert_array_equal(indices, [[0, 2, 3, 5], [0, 1, 2, 4]])


def subsets(batch, tokens, rate, prefix):
    """Index of the kept subset of each example, and the number of subsets there are."""
    x = jnp.ones((batch, prefix + tokens, 1))
    _, indices = jax.jit(lambda k: dropout.patch_dropout(k, x, rate=rate, prefix=prefix))(KEY)
    chosen = np.asarray(indices)[:, prefix:] - prefix
    order = {
        subset: i for i, subset in enumerate(itertools.combinations(range(tokens), chosen.shape[1]))
    }
    return np.array([order[tuple(row)] for row in chosen.tolist()]), len(order)


@pytest.mark.parametrize(("tokens", "rate", "prefix"), [(6, 0.5, 1), (5, 0.8, 0), (7, 0.3, 2)])
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
    x = jnp.ones((20_000, 5, 1))
    _, other = dropout.patch_dropout(jax.random.fold_in(KEY, 1), x, rate=0.5)
    _, first = dropout.patch_dropout(KEY, x, rate=0.5)
    same = np.mean((np.asarray(first) == np.asarray(other)).all(axis=1))
    assert abs(same - 1 / number) <= 5 * math.sqrt(1 / number / 20_000)


@pytest.mark.parametrize("rate", [0, 0.0, np.float32(0), 0.01])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_rate_that_drops_nothing_is_the_identity_to_the_bit(rate, dtype):
    x = jnp.resize(jnp.array([0.0, -0.0, 1e-40, jnp.inf, jnp.nan, 1.5], dtype), (3, 5, 2))
    if rate:
        x = x[:, :2]  # One token besides the prefix: at least one stays.
    for kept, indices in (dropout.patch_dropout(KEY, x, rate=rate), dropout.every_patch(x)):
        assert kept is x
        positions = np.broadcast_to(np.arange(x.shape[1]), x.shape[:2])
        np.testing.assert_array_equal(indices, positions)
        assert indices.dtype == jnp.int32


def test_a_sequence_of_the_prefix_alone_and_an_empty_batch():
    x = jnp.ones((2, 3, 4))
    kept, _ = dropout.patch_dropout(KEY, x, rate=0.9, prefix=3)
    np.testing.assert_array_equal(kept, x)
    kept, indices = dropout.patch_dropout(KEY, jnp.ones((0, 5, 4)), rate=0.5)
    assert (kept.shape, indices.shape) == ((0, 3, 4), (0, 3))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64])
def test_tokens_are_not_scaled(dtype):
    kept, _ = dropout.patch_dropout(KEY, jnp.full((4, 9, 2), 3, dtype), rate=0.5)
    assert kept.dtype == dtype
    np.testing.assert_array_equal(kept.astype(jnp.complex64), 3)


def test_the_gradient_goes_to_the_kept_tokens():
    x = jax.random.normal(KEY, (3, 9, 2))
    weight = jnp.arange(1.0, 1 + 3 * 5 * 2).reshape(3, 5, 2)

    def total(x):
        kept, indices = dropout.patch_dropout(KEY, x, rate=0.5)
        return jnp.sum(weight * kept), indices

    gradient, indices = jax.grad(total, has_aux=True)(x)
    expected = np.zeros(x.shape, np.float32)
    for example, chosen in enumerate(np.asarray(indices)):
        expected[example, chosen] = weight[example]
    np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
def test_arrays_sharded_along_any_axis(axis, kind):
    """Along the tokens the result is whole: the kept ones stand anywhere."""
    x = jax.random.normal(KEY, (8, 16, 8))

    def call(x):
        kept, indices = dropout.patch_dropout(KEY, x, rate=0.4)
        return jnp.sin(kept), indices

    def gradient(x):
        return jax.grad(lambda x: jnp.sum(call(x)[0]))(x)

    expected, gradient_expected = jax.jit(call)(x), jax.jit(gradient)(x)
    mesh = jax.make_mesh((8,), ("device",), axis_types=(kind,))
    names = [None if a != axis else "device" for a in range(3)]
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec(*names)))
        kept, indices = jax.jit(call)(sharded)
        back = jax.jit(gradient)(sharded)
        everything, positions = jax.jit(dropout.every_patch)(sharded)
    np.testing.assert_allclose(kept, expected[0], rtol=1e-6)
    np.testing.assert_array_equal(indices, expected[1])
    np.testing.assert_allclose(back, gradient_expected, rtol=1e-6)
    np.testing.assert_array_equal(everything, x)
    np.testing.assert_array_equal(positions, np.broadcast_to(np.arange(16), (8, 16)))
    if kind == AxisType.Explicit:
        names[1] = None
        assert kept.sharding.spec == PartitionSpec(*names)
        assert indices.sharding.spec == PartitionSpec(*names[:2])


def test_shards_of_a_batch_with_keys_of_their_own():
    mesh = jax.make_mesh((8,), ("device",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("device")

    def call(key, x):
        return dropout.patch_dropout(dropout.fold_in_axis(key, "device"), x, rate=0.5)

    mapped = jax.shard_map(call, mesh=mesh, in_specs=(PartitionSpec(), spec), out_specs=spec)
    x = jax.random.normal(KEY, (8, 33, 2))
    kept, indices = jax.jit(mapped)(KEY, x)
    np.testing.assert_array_equal(kept, np.take_along_axis(np.asarray(x), indices[..., None], 1))
    assert len({row.tobytes() for row in np.asarray(indices)}) == 8


@pytest.mark.parametrize("rate", [jnp.float32(0.5), jnp.ones(2), None, "half", [0.5]])
def test_a_rate_that_is_not_static_raises(rate):
    message = r"`rate` of `patch_dropout` must be a Python or NumPy number, got .*is a shape"
    with pytest.raises(TypeError, match=message):
        dropout.patch_dropout(KEY, jnp.ones((2, 5, 1)), rate=rate)
    with pytest.raises(TypeError, match=message):
        jax.jit(lambda r: dropout.patch_dropout(KEY, jnp.ones((2, 5, 1)), rate=r))(0.5)


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        ({"rate": -0.1}, ValueError, r"`rate` must be a probability in \[0, 1\], got -0\.1"),
        ({"rate": float("nan")}, ValueError, r"`rate` .*got nan"),
        ({"prefix": -1}, ValueError, r"`prefix` must be in \[0, 5\], .*got -1"),
        ({"prefix": 6}, ValueError, r"`prefix` must be in \[0, 5\], the number of tokens"),
        ({"prefix": 1.0}, TypeError, r"`prefix` must be an integer, got float 1\.0"),
    ],
)
def test_wrong_arguments_raise(wrong, kind, message):
    with pytest.raises(kind, match=message):
        dropout.patch_dropout(KEY, jnp.ones((2, 5, 1)), **{"rate": 0.5, **wrong})


def test_arrays_without_tokens_raise():
    for call in (dropout.every_patch, lambda x: dropout.patch_dropout(KEY, x, rate=0.5)):
        with pytest.raises(ValueError, match=r"`x` must have the axes \[batch, tokens, \.\.\.\]"):
            call(jnp.ones(3))
        with pytest.raises(TypeError, match=r"`x` must have a floating-point dtype, got int32"):
            call(jnp.ones((2, 3, 1), jnp.int32))
