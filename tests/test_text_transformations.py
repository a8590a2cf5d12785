"""All functions of token ids under jit, vmap, scan, sharding and export, and what all keep."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxreg.augment import text
from tests.test_text import KEY, SPECIAL, TABLE
from tests.test_text_rewriting import longer

pytestmark = pytest.mark.slow

BERT = text.Replacement(mask_id=3, vocabulary_size=40)


def moved(key, tokens, where):
    return tokens + jax.random.randint(key, (), 1, 9).astype(tokens.dtype), where


FUNCTIONS = {
    "synonym_replacement": partial(text.synonym_replacement, neighbours=TABLE, protected=SPECIAL),
    "random_insertion": partial(text.random_insertion, neighbours=TABLE, protected=SPECIAL),
    "random_deletion": partial(text.random_deletion, pad_id=0, protected=SPECIAL),
    "random_swap": partial(text.random_swap, protected=SPECIAL),
    "token_masking": partial(text.token_masking, replacement=BERT, protected=SPECIAL),
    "span_masking": partial(text.span_masking, replacement=BERT, protected=SPECIAL),
    "paraphrase": lambda key, tokens, *, rate, where: text.paraphrase(
        key, tokens, function=longer, probability=rate, pad_id=0, where=where
    ),
    "back_translation": lambda key, tokens, *, rate, where: text.back_translation(
        key, tokens, forward=moved, backward=longer, probability=rate, pad_id=0, where=where
    ),
}
by_name = pytest.mark.parametrize("name", FUNCTIONS)


def batch(number=16, length=8, dtype=jnp.int32):
    """Rows of all lengths from none, between a start and an end, with padding around them."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(90, 99, (number, length))
    for row in range(number):
        words = rng.integers(4, 9, row % (length + 1))
        words[:1], words[-1:] = (1, 2) if row % 3 else (words[:1], words[-1:])
        start = (length - len(words)) // 2 * (row % 2)
        tokens[row, start : start + len(words)] = words
    return jnp.asarray(tokens, dtype), jnp.asarray(tokens < 90)


def call(name):
    return lambda key, tokens, where, rate: FUNCTIONS[name](key, tokens, rate=rate, where=where)


def assert_same(actual, expected):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@by_name
def test_transformations(name):
    tokens, where = batch()
    function = call(name)
    traces = []

    @jax.jit
    def compiled(key, tokens, where, rate):
        traces.append(1)
        return function(key, tokens, where, rate)

    expected = compiled(KEY, tokens, where, 0.4)
    assert_same(function(KEY, tokens, where, 0.4), expected)
    assert_same(compiled(KEY, tokens, where, jnp.float32(0.4)), expected)
    # Beyond its range a rate that is traced is clipped.
    assert_same(compiled(KEY, tokens, where, 7.0), compiled(KEY, tokens, where, 1.0))
    for off in (0.0, -3.0):
        same = compiled(KEY, tokens, where, off)
        np.testing.assert_array_equal(jax.tree.leaves(same)[0], tokens)
        if isinstance(same, text.Edited):
            np.testing.assert_array_equal(same.where, where)
    assert len(traces) <= 2
    keys = jax.random.split(KEY, 3)
    each = jax.jit(lambda key, tokens, where: compiled(key, tokens, where, 0.4))
    one_by_one = [each(keys[i], tokens[i], where[i]) for i in (6, 7, 8) for i in (i - 6,)]
    rows = tokens[:3], where[:3]
    mapped = jax.jit(jax.vmap(each))(keys, *rows)
    assert_same(mapped, jax.tree.map(lambda *parts: jnp.stack(parts), *one_by_one))
    scanned = jax.jit(lambda *a: jax.lax.scan(lambda c, one: (c, each(*one)), None, a)[1])
    assert_same(scanned(keys, *rows), mapped)


@by_name
def test_keys_and_promotion_and_lowering(name):
    tokens, where = batch()
    function = jax.jit(call(name))
    result = function(KEY, tokens, where, 0.5)
    other = function(jax.random.key(61), tokens, where, 0.5)
    assert (jax.tree.leaves(result)[0] != jax.tree.leaves(other)[0]).any()
    assert_same(function(jax.random.key_data(KEY), tokens, where, 0.5), result)
    fresh = call(name)
    with jax.debug_key_reuse(True):
        jax.block_until_ready(jax.jit(fresh)(jax.random.key(7), tokens, where, 0.5))
    arguments = KEY, tokens, where, jnp.float32(0.5)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        jax.eval_shape(fresh, *arguments)
        for dtype in (jnp.int16, jnp.uint8, jnp.uint32):
            shaped = jax.eval_shape(fresh, KEY, tokens.astype(dtype), where, 0.5)
            assert jax.tree.leaves(shaped)[0].dtype == dtype
        with jax.enable_x64(True):
            shaped = jax.eval_shape(fresh, KEY, tokens.astype(jnp.int64), where, 0.5)
            assert jax.tree.leaves(shaped)[0].dtype == jnp.int64
    lowered = export.export(jax.jit(fresh), platforms=("cpu", "cuda", "tpu"))(*arguments)
    assert "callback" not in lowered.mlir_module()


@by_name
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
def test_eight_devices(name, kind):
    tokens, where = batch()
    function = call(name)
    expected = jax.jit(function)(KEY, tokens, where, 0.5)
    mesh = jax.make_mesh((8,), ("device",), axis_types=(kind,))
    specs = [PartitionSpec("device"), PartitionSpec(None, "device")]
    with jax.set_mesh(mesh):
        for spec in specs[: 1 + (kind == AxisType.Explicit)]:
            sharded = (jax.device_put(a, NamedSharding(mesh, spec)) for a in (tokens, where))
            y = jax.jit(function)(KEY, *sharded, 0.5)
            assert_same(y, expected)
            if spec == specs[0]:
                first = jax.tree.leaves(y)[0]
                assert first.sharding.is_equivalent_to(NamedSharding(mesh, spec), 2)


@pytest.mark.slow
@by_name
def test_shards_with_keys_of_their_own(name):
    tokens, where = batch()
    mesh = jax.make_mesh((8,), ("device",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("device")

    def on_shard(keys, tokens, where):
        return call(name)(keys[0], tokens, where, 0.5)

    mapped = jax.shard_map(on_shard, mesh=mesh, in_specs=(spec, spec, spec), out_specs=spec)
    keys = jax.random.split(KEY, 8)
    y = jax.jit(mapped)(keys, tokens, where)
    one = jax.jit(call(name))
    parts = [
        one(keys[i], tokens[2 * i : 2 * i + 2], where[2 * i : 2 * i + 2], 0.5) for i in range(8)
    ]
    assert_same(y, jax.tree.map(lambda *p: jnp.concatenate(p), *parts))


def in_a_row(tokens, part):
    """Whether one list of ids is a part of another, in its order."""
    rest = iter(tokens)
    return all(one in rest for one in part)


@by_name
@pytest.mark.parametrize(
    "dtype", [jnp.int32, jnp.int16, jnp.uint8, jnp.uint32], ids=lambda d: d.__name__
)
def test_padding_and_special_tokens_stay(name, dtype):
    tokens, where = batch(270, 8, dtype)
    rewrites = name in ("paraphrase", "back_translation")
    for rate in (0.4, 1.0):
        result = jax.jit(call(name))(KEY, tokens, where, rate)
        y = np.asarray(jax.tree.leaves(result)[0])
        old, real = np.asarray(tokens), np.asarray(where)
        kept = np.asarray(result.where) if isinstance(result, text.Edited) else real
        assert y.dtype == dtype
        if rewrites:
            assert (kept.any(1) == real.any(1)).all()
            continue
        padding = ~real & ~kept
        np.testing.assert_array_equal(y[padding], old[padding])
        assert (kept.any(1) == real.any(1)).all()
        assert (y[kept] < 90).all()
        changes_places = isinstance(result, text.Edited)
        special = np.isin(old, SPECIAL) & real
        if not changes_places:
            np.testing.assert_array_equal(y[special], old[special])
            assert (np.isin(y, SPECIAL) & real == special).all() or name.endswith("masking")
            continue
        for new, k, before, r in zip(y, kept, old, real, strict=True):
            assert (
                new[k][np.isin(new[k], SPECIAL)].tolist()
                == before[r][np.isin(before[r], SPECIAL)].tolist()
            )
            words = before[r][~np.isin(before[r], SPECIAL)].tolist()
            if name == "random_deletion":
                assert in_a_row(before[r].tolist(), new[k].tolist())
                assert bool(words) == bool((~np.isin(new[k], SPECIAL)).any())
            elif not k[-1]:  # Nothing was cut off.
                assert in_a_row(new[k].tolist(), before[r].tolist())
