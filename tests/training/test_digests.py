"""Digests: a loaded state is exactly the saved one, or an error names the leaf."""

import hashlib
import json
import re
import struct

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from jaxreg.training import digests
from tests.training.helpers import contents, flipped, is_key, some_state

FLIPS = 200
KEYS = [
    ("threefry2x32", (0, 1)),
    ("threefry2x32", (0, 2)),
    ("rbg", (0, 1, 0, 1)),
    ("unsafe_rbg", (0, 1, 0, 1)),
]


def key(impl, *words):
    """A typed key of given words."""
    return jax.random.wrap_key_data(np.array(words, np.uint32), impl=impl)


def flip_leaf(leaf, bit):
    """The leaf with one bit turned over."""
    if is_key(leaf):
        data = flip_leaf(jax.random.key_data(leaf), bit)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    if isinstance(leaf, int):
        return leaf ^ 1 << bit
    array = np.asarray(leaf)
    return np.frombuffer(flipped(array.tobytes(), bit), array.dtype).reshape(array.shape)


def leaves_in(message):
    """The leaves that an error names."""
    return set(re.findall(r"`([^`]+)`", str(message))) - {"tree"}


def test_a_digest_is_that_of_the_dtype_the_shape_and_the_bytes():
    x = np.array([[1.5, -2.0], [3.0, 4.0]], np.float32)
    expected = hashlib.sha256(b"float32[2,2] " + struct.pack("<4f", 1.5, -2, 3, 4)).hexdigest()
    assert digests.digest({"a": {"b": (x,)}}) == {"a/b/0": f"float32[2,2] {expected}"}
    of_key = hashlib.sha256(b"key<fry>[] " + struct.pack("<2I", 0, 5)).hexdigest()
    assert digests.digest([key("threefry2x32", 0, 5)]) == {"0": f"key<fry>[] {of_key}"}
    scalars = {"i": 2**70, "f": 0.1, "b": True, "c": 1 + 2j, "s": "ä"}
    stored = {
        "i": b"int[] 1180591620717411303424",
        "f": b"float[] " + struct.pack("<d", 0.1),
        "b": b"bool[] True",
        "c": b"complex[] " + struct.pack("<dd", 1.0, 2.0),
        "s": "str[] ä".encode(),
    }
    for name, value in digests.digest(scalars).items():
        assert value.split()[1] == hashlib.sha256(stored[name]).hexdigest()


def test_how_an_array_lies_in_memory_does_not_count():
    x = np.arange(32, dtype=np.float32).reshape(8, 4)
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    alike = [
        jnp.asarray(x),
        np.asfortranarray(x),
        np.repeat(x, 2, axis=1)[:, ::2],
        x.astype(">f4"),
        jax.device_put(x, NamedSharding(mesh, PartitionSpec("a", "b"))),
        jax.device_put(x, NamedSharding(mesh, PartitionSpec(None, "a"))),
    ]
    assert len({digests.digest(leaf)[""] for leaf in [x, *alike]}) == 1
    assert digests.digest(np.arange(8)[::2]) == digests.digest(np.array([0, 2, 4, 6]))
    x16 = x.astype(ml_dtypes.bfloat16)
    assert digests.digest(jnp.asarray(x16)) == digests.digest(x16)
    assert digests.digest(np.float32(2.0)) == digests.digest(jnp.float32(2.0))


def test_what_differs_has_another_digest():
    nan = np.array([0x7FC00000, 0x7FC00001], np.uint32).view(np.float32)
    different = [
        np.float32(0.0), np.float32(-0.0), nan[0], nan[1], np.int32(0), ml_dtypes.bfloat16(0),
        np.zeros(1), np.zeros((1, 1)), np.zeros(0), np.zeros((0, 2)), 0, 0.0, -0.0, False, "0", 0j,
        *(key(impl, *words) for impl, words in KEYS), np.array([0, 1], np.uint32),
        np.zeros(2, ml_dtypes.int4), np.zeros(2, ml_dtypes.float8_e4m3fn),
        np.array(["a"]), np.array(["b"]),
    ]  # fmt: skip
    assert len({digests.digest(leaf)[""] for leaf in different}) == len(different)


def test_trees_of_the_same_names_are_one_structure():
    state = some_state()
    taken = digests.digest(state)
    digests.verify(state, json.loads(json.dumps(taken)))
    digests.verify({**state._asdict(), "moments": list(state.moments)}, taken)
    assert "nothing" not in taken
    assert {"key", "epoch", "weight/strength", "moments/0/mu/kernel"} <= taken.keys()
    boxed = nnx.State({"kernel": nnx.Param(np.ones((2, 3))), "bias": nnx.Param(np.zeros(3))})
    found = digests.digest(boxed)
    assert found.keys() == {"kernel", "bias"}
    digests.verify(nnx.to_pure_dict(boxed), found)
    digests.verify({}, {})


def test_a_flipped_bit_in_memory_is_named():
    state = some_state()
    generator = np.random.default_rng(1)
    taken = digests.digest(state)
    paths, treedef = jax.tree_util.tree_flatten_with_path(state)
    leaves, names = [leaf for _, leaf in paths], list(taken)
    for _ in range(FLIPS):
        position = generator.integers(len(leaves))
        leaf = leaves[position]
        bits = 8 * (1 if isinstance(leaf, int) else len(contents(leaf)[0]))
        changed = flip_leaf(leaf, int(generator.integers(bits)))
        others = [*leaves[:position], changed, *leaves[position + 1 :]]
        with pytest.raises(ValueError, match="differs; load an earlier checkpoint") as caught:
            digests.verify(treedef.unflatten(others), taken)
        assert leaves_in(caught.value) == {names[position]}


def test_another_structure_shape_or_dtype_is_named(tmp_path):
    w = np.ones((4, 2), np.float32)
    narrow = w.astype(ml_dtypes.bfloat16)
    saved = {"same": w, "cast": w, "grown": w, "gone": w}
    taken = digests.digest(saved)
    loaded = {"same": w, "cast": narrow, "grown": np.ones((5, 2), np.float32), "new": {"x": w}}
    with pytest.raises(ValueError, match="must match its saved digests") as caught:
        digests.verify(loaded, taken)
    assert leaves_in(caught.value) == {"cast", "grown", "gone", "new/x"}
    for words in (
        "`cast` is bfloat16[4,2] and was float32[4,2]",
        "`grown` is float32[5,2] and was float32[4,2]",
        "`gone` is missing",
        "`new/x` has no digest",
    ):
        assert words in str(caught.value)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", jax.tree.map(jnp.asarray, saved))
        checkpointer.wait_until_finished()
        target = jax.tree.map(jnp.asarray, {**saved, "cast": narrow})
        cast = checkpointer.restore(tmp_path / "state", target)  # Orbax has nothing against it.
    with pytest.raises(ValueError, match=r"`cast` is bfloat16.* was float32") as caught:
        digests.verify(cast, taken)
    assert leaves_in(caught.value) == {"cast"}


def test_digests_that_were_damaged_themselves():
    x = {"a": np.zeros(2), "b": np.ones(2)}
    taken = digests.digest(x)
    for damaged in ("", "float64[2]", 3, taken["b"], taken["a"][:-1]):
        with pytest.raises(ValueError, match="`a`") as caught:
            digests.verify(x, taken | {"a": damaged})
        assert leaves_in(caught.value) == {"a"}
    with pytest.raises(TypeError, match="`digests` must be a result of `digest`, got list"):
        digests.verify(x, [])


@pytest.mark.parametrize(
    "leaf", [np.array([None]), len, jax.ShapeDtypeStruct((2,), jnp.float32)], ids=type
)
def test_leaves_that_have_no_bytes(leaf):
    message = f"`tree` must contain .* got {type(leaf).__name__} at `a/1`; leave it out"
    with pytest.raises(TypeError, match=message):
        digests.digest({"a": [1, leaf]})


def test_two_leaves_of_one_name():
    with pytest.raises(ValueError, match="a different name, got `a/b` twice; rename one"):
        digests.digest({"a/b": 1, "a": {"b": 2}})
