"""Flips bits of a checkpoint on disk, one at a time, and counts who notices.

``python -m tests.exhaustive.training.flips 200`` continues until 200 flips were noticed and prints
the counts. It runs in its own process: if one array cannot be read, Orbax abandons the reads of the
others, and the garbage collector would warn about them in a later test.
"""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxreg.training import digests
from tests.training.helpers import contents, flipped, some_state


def as_jax(leaf):
    """Turns NumPy's arrays into JAX's, which Orbax returns."""
    return jax.numpy.asarray(leaf) if isinstance(leaf, np.ndarray | np.generic) else leaf


def outcome(manager, state):
    """Returns who noticed the damage, or "harmless" if the loaded state is the saved one."""
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
    """Counts outcomes until ``flips`` of them were noticed."""
    state = jax.tree.map(as_jax, some_state())
    generator = np.random.default_rng(2)
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
