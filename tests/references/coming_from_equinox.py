"""Prints ``coming_from_equinox.json``: figures of Equinox for docs/coming_from/equinox.md.

Run as ``python tests/references/coming_from_equinox.py >
tests/references/coming_from_equinox.json`` where Equinox is installed.
"""

import inspect
import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np

X = np.random.default_rng(0).normal(size=(3, 4, 6)).round(3).astype("float32")
W = np.random.default_rng(1).normal(size=(5, 6)).round(3).astype("float32")  # [out, in]


def defaults():
    """Default arguments of the modules that the page names."""
    import equinox as eqx

    makers = ("BatchNorm", "LayerNorm", "RMSNorm", "GroupNorm", "SpectralNorm", "WeightNorm")
    found = {}
    for name in (*makers, "Dropout", "MultiheadAttention"):
        found[name] = {
            key: parameter.default
            for key, parameter in inspect.signature(
                getattr(eqx.nn, name).__init__
            ).parameters.items()
            if isinstance(parameter.default, int | float | str)
        }
    return found


def layer():
    import equinox as eqx

    linear = eqx.nn.Linear(6, 5, key=jax.random.key(0))
    return eqx.tree_at(lambda m: m.weight, linear, jnp.asarray(W))


def reparametrized():
    """Outputs of layers with a changed weight, for the rows of the first example."""
    import equinox as eqx

    normed = eqx.nn.WeightNorm(layer())
    spectral, state = eqx.nn.make_with_state(eqx.nn.SpectralNorm)(
        layer(), "weight", key=jax.random.key(1), num_power_iterations=5
    )
    for _ in range(20):
        y, state = spectral(jnp.asarray(X[0, 0]), state)
    weights = jax.vmap(lambda x: spectral(x, state)[0])(jnp.eye(6)) - layer().bias
    return {
        "weight_norm": (jax.vmap(normed)(jnp.eye(6)) - layer().bias).T.tolist(),
        "spectral_norm": weights.T.tolist(),
        "y": y.tolist(),
    }


def running_statistics():
    """Statistics of a batch norm after each batch."""
    import equinox as eqx

    found = []
    norm, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(6, "batch", momentum=0.9, mode="ema")
    for batch in X:
        _, state = jax.vmap(norm, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(
            batch, state
        )
        values = [np.asarray(v).tolist() for v in jax.tree.leaves(state)]
        found.append([v for v in values if isinstance(v, list)])
    return found


def names():
    """Paths and shapes of the parameters of a small network."""
    import equinox as eqx

    keys = jax.random.split(jax.random.key(0), 4)
    model = {
        "embed": eqx.nn.Embedding(5, 4, key=keys[0]),
        "norm": eqx.nn.LayerNorm(4),
        "conv": eqx.nn.Conv1d(4, 4, 3, key=keys[1]),
        "out": eqx.nn.Linear(4, 3, key=keys[2]),
    }
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(model, eqx.is_inexact_array))
    return {jax.tree_util.keystr(path): list(w.shape) for path, w in leaves}


def public_names():
    """Names of layers that regularize."""
    import equinox as eqx

    return [
        name for name in dir(eqx.nn) if re.search("^[A-Z].*(Norm|Dropout)|^Dropout|_mode", name)
    ]


def figures():
    import equinox as eqx

    ones = eqx.nn.Dropout(0.25)(jnp.ones(1000), key=jax.random.key(0))
    return {
        "public": public_names(),
        "made_with": {
            "script": "tests/references/coming_from_equinox.py",
            "equinox": eqx.__version__,
            "jax": jax.__version__,
        },
        "x": X.tolist(),
        "w": W.tolist(),
        "defaults": defaults(),
        "reparametrized": reparametrized(),
        "running": running_statistics(),
        "names": names(),
        "layer_norm": jax.vmap(eqx.nn.LayerNorm(6))(jnp.asarray(X[0])).tolist(),
        "dropout": sorted({round(float(v), 5) for v in ones}),
    }


if __name__ == "__main__":
    json.dump(figures(), sys.stdout)
    print()
