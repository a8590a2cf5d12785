"""All functions of token ids under jit, vmap, scan, sharding and export, and what all keep."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxreg.augment import text
from tests.augment.helpers import KEY
from tests.augment.text.helpers import SPECIAL, TABLE
from tests.augment.text.helpers import batch as numpy_batch

BERT = text.Replacement(mask_id=3, vocabulary_size=40)


def longer(key, tokens, where):
    """Every word twice, with a gap after it."""
    twice = jnp.stack([tokens, tokens, jnp.full_like(tokens, 77)], -1)
    there = jnp.stack([where, where, jnp.zeros_like(where)], -1)
    return twice.reshape(*tokens.shape[:-1], -1), there.reshape(*tokens.shape[:-1], -1)


def moved(key, tokens, where):
    return tokens + jax.random.randint(key, (), 1, 9).astype(tokens.dtype), where


FUNCTIONS = {
    "synonym_replacement": partial(text.synonym_replacement, neighbors=TABLE, protected=SPECIAL),
    "random_insertion": partial(text.random_insertion, neighbors=TABLE, protected=SPECIAL),
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


def batch():
    tokens, where = numpy_batch()
    return jnp.asarray(tokens), jnp.asarray(where)


def call(name):
    return lambda key, tokens, where, rate: FUNCTIONS[name](key, tokens, rate=rate, where=where)


def assert_same(actual, expected):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@by_name
def test_jit_vmap_and_scan(name):
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
    one_by_one = [each(keys[i], tokens[i], where[i]) for i in range(3)]
    rows = tokens[:3], where[:3]
    mapped = jax.jit(jax.vmap(each))(keys, *rows)
    assert_same(mapped, jax.tree.map(lambda *parts: jnp.stack(parts), *one_by_one))
    scanned = jax.jit(lambda *a: jax.lax.scan(lambda c, one: (c, each(*one)), None, a)[1])
    assert_same(scanned(keys, *rows), mapped)


@by_name
def test_keys_promotion_and_lowering(name):
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
