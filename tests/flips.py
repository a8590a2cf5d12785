"""Flips bits of a checkpoint on disk, one at a time, and counts who notices.

``python -m tests.flips 200`` goes on until 200 were noticed and prints the counts. It is a process
of its own: where one array cannot be read, Orbax abandons the reads of the others, and the garbage
collector warns of them in whatever test runs then.
"""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp

from jaxreg.training import digests, early_stopping, plateau


class State(NamedTuple):
    """A state of a training."""

    params: Any
    opt_state: Any
    stopping: Any
    weight: Any
    key: Any
    epoch: Any
    nothing: Any


def some_state():
    """Leaves of many kinds; the large ones become files of their own on disk."""
    draw = np.random.default_rng(0).normal
    params = {
        "kernel": jnp.asarray(draw(size=(64, 32)), jnp.float32),
        "small": jnp.asarray(draw(size=600), jnp.bfloat16),
        "table": np.arange(12, dtype=np.int16).reshape(3, 4),
    }
    return State(
        params=params,
        opt_state=optax.adam(1e-3).init(params),
        stopping=early_stopping.init(params),
        weight=plateau.init(0.5),
        key=jax.random.split(jax.random.key(3, impl="rbg"), 2),
        epoch=7,
        nothing=None,
    )


def is_key(leaf):
    """Whether a leaf holds typed keys."""
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def contents(tree):
    """The bytes of every leaf."""
    return [
        np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf).tobytes()
        for leaf in jax.tree.leaves(tree)
    ]


def flipped(data, bit):
    """Bytes with one bit turned over."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def outcome(manager, state):
    """Who noticed the damage; "harmless" if what was loaded is what was saved."""
    loading = ocp.args.Composite(
        state=ocp.args.StandardRestore(state), digests=ocp.args.JsonRestore()
    )
    try:
        loaded = manager.restore(0, args=loading)
    except Exception:
        return "orbax"
    same = contents(loaded.state) == contents(state)
    try:
        digests.verify(loaded.state, loaded.digests)
    except ValueError:
        return "digest" if not same else "false alarm"
    return "harmless" if same else "silent"


def flip_on_disk(flips):
    """Counts of outcomes, among them ``flips`` that somebody noticed."""
    state, generator = some_state(), np.random.default_rng(2)
    saving = ocp.args.Composite(
        state=ocp.args.StandardSave(state), digests=ocp.args.JsonSave(digests.digest(state))
    )
    counts = Counter(dict.fromkeys(["orbax", "digest", "false alarm", "harmless", "silent"], 0))
    with tempfile.TemporaryDirectory() as folder, ocp.CheckpointManager(folder) as manager:
        manager.save(0, args=saving)
        manager.wait_until_finished()
        files = [path for path in Path(folder, "0", "state").rglob("d/*") if path.is_file()]
        sizes = np.array([path.stat().st_size for path in files])
        assert outcome(manager, state) == "harmless"
        while counts["orbax"] + counts["digest"] < flips and not counts["silent"]:
            path = files[generator.choice(len(files), p=sizes / sizes.sum())]
            data = path.read_bytes()
            path.write_bytes(flipped(data, int(generator.integers(8 * len(data)))))
            counts[outcome(manager, state)] += 1
            path.write_bytes(data)
        assert outcome(manager, state) == "harmless"
    return dict(counts)


if __name__ == "__main__":
    print(json.dumps(flip_on_disk(int(sys.argv[1]))))
