"""Digests: what was loaded is what was saved, to the bit, or an error names the leaf."""

import hashlib
import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from jaxreg.training import digests
from tests.flips import contents, flipped, is_key, some_state

FLIPS = 200
ROOT = Path(__file__).parent.parent


def flip_leaf(leaf, bit):
    """The leaf with one bit turned over."""
    if is_key(leaf):
        data = flip_leaf(jax.random.key_data(leaf), bit)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    if isinstance(leaf, int):
        return leaf ^ 1 << bit
    array = np.asarray(leaf)
    return np.frombuffer(flipped(array.tobytes(), bit), array.dtype).reshape(array.shape)


def named(message):
    """The leaves that an error names."""
    return set(re.findall(r"`([^`]+)`", str(message))) - {"tree"}


def test_a_digest_is_that_of_the_dtype_the_shape_and_the_bytes():
    x = np.array([[1.5, -2.0], [3.0, 4.0]], np.float32)
    expected = hashlib.sha256(b"float32[2,2] " + struct.pack("<4f", 1.5, -2, 3, 4)).hexdigest()
    assert digests.digest({"a": {"b": (x,)}}) == {"a/b/0": f"float32[2,2] {expected}"}
    key = hashlib.sha256(b"key<fry>[] " + struct.pack("<2I", 0, 5)).hexdigest()
    assert digests.digest([jax.random.key(5)]) == {"0": f"key<fry>[] {key}"}
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
    x16 = jnp.asarray(x, jnp.bfloat16)
    assert digests.digest(x16) == digests.digest(np.asarray(x16))
    assert digests.digest(np.float32(2.0)) == digests.digest(jnp.float32(2.0))


def test_what_differs_has_another_digest():
    nan = np.array([0x7FC00000, 0x7FC00001], np.uint32).view(np.float32)
    different = [
        np.float32(0.0), np.float32(-0.0), nan[0], nan[1], np.int32(0), jnp.bfloat16(0),
        np.zeros(1), np.zeros((1, 1)), np.zeros(0), np.zeros((0, 2)), 0, 0.0, -0.0, False, "0", 0j,
        jax.random.key(1), jax.random.key(2), jax.random.key_data(jax.random.key(1)),
        jax.random.key(1, impl="rbg"), jax.random.key(1, impl="unsafe_rbg"),
        jnp.zeros(2, jnp.int4), jnp.zeros(2, jnp.float8_e4m3fn), np.array(["a"]), np.array(["b"]),
    ]  # fmt: skip
    assert len({digests.digest(leaf)[""] for leaf in different}) == len(different)


def test_trees_of_the_same_names_are_one_structure():
    state = some_state()
    taken = digests.digest(state)
    digests.verify(state, json.loads(json.dumps(taken)))
    digests.verify({**state._asdict(), "opt_state": list(state.opt_state)}, taken)
    assert "nothing" not in taken
    assert {"key", "epoch", "weight/strength", "opt_state/0/mu/kernel"} <= taken.keys()
    layer = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    boxed = digests.digest(nnx.state(layer))
    assert boxed.keys() == {"kernel", "bias"}
    digests.verify(nnx.to_pure_dict(nnx.state(layer)), boxed)
    digests.verify({}, {})


def test_row_73_a_flipped_bit_in_memory():
    state, generator = some_state(), np.random.default_rng(1)
    taken = digests.digest(state)
    paths, treedef = jax.tree_util.tree_flatten_with_path(state)
    leaves, names = [leaf for _, leaf in paths], list(taken)
    for _ in range(FLIPS):
        position = generator.integers(len(leaves))
        leaf = leaves[position]
        bits = 8 * (1 if isinstance(leaf, int) else len(contents(leaf)[0]))
        changed = flip_leaf(leaf, int(generator.integers(bits)))
        others = [*leaves[:position], changed, *leaves[position + 1 :]]
        with pytest.raises(ValueError, match="differs; load a state saved earlier") as caught:
            digests.verify(treedef.unflatten(others), taken)
        assert named(caught.value) == {names[position]}


@pytest.mark.slow
def test_row_73_a_flipped_bit_on_disk():
    command = [sys.executable, "-W", "error", "-m", "tests.flips", str(FLIPS)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    print(counts)
    assert not counts["silent"]
    assert not counts["false alarm"]
    assert counts["orbax"] + counts["digest"] == FLIPS
    # Orbax alone does not see them, and what nothing reads harms nothing.
    assert counts["digest"] > FLIPS / 2
    assert counts["harmless"] < FLIPS


def test_row_74_another_structure_shape_or_dtype(tmp_path):
    w = jnp.ones((4, 2))
    saved = {"same": w, "cast": w, "grown": w, "gone": w}
    taken = digests.digest(saved)
    loaded = {"same": w, "cast": w.astype(jnp.bfloat16), "grown": jnp.ones((5, 2)), "new": {"x": w}}
    with pytest.raises(ValueError, match="must have the given digests") as caught:
        digests.verify(loaded, taken)
    assert named(caught.value) == {"cast", "grown", "gone", "new/x"}
    for words in (
        "`cast` is bfloat16[4,2] and was float32[4,2]",
        "`grown` is float32[5,2] and was float32[4,2]",
        "`gone` is missing",
        "`new/x` has no digest",
    ):
        assert words in str(caught.value)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", saved)
        checkpointer.wait_until_finished()
        target = {**saved, "cast": w.astype(jnp.bfloat16)}
        cast = checkpointer.restore(tmp_path / "state", target)  # Orbax has nothing against it.
    with pytest.raises(ValueError, match=r"`cast` is bfloat16.* was float32") as caught:
        digests.verify(cast, taken)
    assert named(caught.value) == {"cast"}


def test_digests_that_were_damaged_themselves():
    x = {"a": np.zeros(2), "b": np.ones(2)}
    taken = digests.digest(x)
    for damaged in ("", "float64[2]", 3, taken["b"], taken["a"][:-1]):
        with pytest.raises(ValueError, match="`a`") as caught:
            digests.verify(x, taken | {"a": damaged})
        assert named(caught.value) == {"a"}
    with pytest.raises(TypeError, match="`digests` must be a mapping from `digest`, got list"):
        digests.verify(x, [])


@pytest.mark.parametrize(
    "leaf", [np.array([None]), len, jax.ShapeDtypeStruct((2,), jnp.float32)], ids=type
)
def test_leaves_that_have_no_bytes(leaf):
    message = f"`tree` must hold arrays, .* got {type(leaf).__name__} at `a/1`; leave it out"
    with pytest.raises(TypeError, match=message):
        digests.digest({"a": [1, leaf]})


def test_two_leaves_of_one_name():
    with pytest.raises(ValueError, match="a name of its own, got `a/b` twice; rename one"):
        digests.digest({"a/b": 1, "a": {"b": 2}})
