"""Prints ``coming_from_haiku.json``: figures of Haiku for the rows of docs/coming_from/haiku.md.

Run as ``python tests/references/coming_from_haiku.py > tests/references/coming_from_haiku.json``
where dm-haiku is installed.
"""

import inspect
import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np

X = np.random.default_rng(0).normal(size=(3, 4, 6)).round(3).astype("float32")
WALK = [1.0, 0.5, 0.75, 2.0]


def defaults():
    """Default arguments of the modules that the page names."""
    import haiku as hk

    makers = (hk.BatchNorm, hk.LayerNorm, hk.RMSNorm, hk.GroupNorm, hk.InstanceNorm)
    makers += (hk.SpectralNorm, hk.ExponentialMovingAverage, hk.EMAParamsTree, hk.SNParamsTree)
    found = {}
    for maker in makers:
        found[maker.__name__] = {
            name: parameter.default
            for name, parameter in inspect.signature(maker).parameters.items()
            if isinstance(parameter.default, int | float)
        }
    return found


def running_statistics():
    """Average mean and variance of a batch norm after each batch."""
    import haiku as hk

    def call(x):
        return hk.BatchNorm(True, True, decay_rate=0.9)(x, is_training=True)

    network = hk.transform_with_state(call)
    params, state = network.init(None, X[0])
    found = []
    for batch in X:
        _, state = network.apply(params, state, None, batch)
        found.append(
            {
                name: np.asarray(state[f"batch_norm/~/{name}_ema"]["average"]).tolist()
                for name in ("mean", "var")
            }
        )
    return found


def averages():
    """Moving averages of a number that walks."""
    import haiku as hk

    found = {}
    for debias in (True, False):
        call = lambda x, d=debias: hk.ExponentialMovingAverage(0.9, zero_debias=d)(x)  # noqa: E731
        network = hk.transform_with_state(call)
        params, state = network.init(None, jnp.float32(WALK[0]))
        path = []
        for value in WALK[1:]:
            y, state = network.apply(params, state, None, jnp.float32(value))
            path.append(float(y))
        found["zero_debias" if debias else "plain"] = path
    return found


def names():
    """Names and shapes of the parameters of a small network."""
    import haiku as hk

    def call(tokens):
        x = hk.Embed(5, 4)(tokens)
        x = hk.LayerNorm(-1, True, True)(x)
        x = hk.Conv1D(4, 3)(x)
        x = hk.MultiHeadAttention(2, 2, model_size=4, w_init=hk.initializers.Constant(0.1))(x, x, x)
        return hk.Linear(3)(x)

    params = hk.transform(call).init(jax.random.key(0), jnp.zeros((1, 4), int))
    return {
        module: {name: list(w.shape) for name, w in leaves.items()}
        for module, leaves in params.items()
    }


def normalized():
    """A kernel divided by its singular value, after some calls."""
    import haiku as hk

    w = X[0]

    network = hk.transform_with_state(lambda w: hk.SpectralNorm(n_steps=5)(w))
    params, state = network.init(jax.random.key(0), w)
    for _ in range(20):
        y, state = network.apply(params, state, None, w)
    return np.asarray(y).tolist()


def public_names():
    """Names of modules and functions that regularize."""
    import haiku as hk

    return [name for name in dir(hk) if re.search("Norm|dropout|EMA|Average|SN", name)]


def figures():
    import haiku as hk

    ones = hk.dropout(jax.random.key(0), 0.25, jnp.ones(1000))
    norm = hk.testing.transform_and_run(lambda: hk.LayerNorm(-1, True, True)(X[0]))()
    return {
        "public": public_names(),
        "made_with": {
            "script": "tests/references/coming_from_haiku.py",
            "haiku": hk.__version__,
            "jax": jax.__version__,
        },
        "x": X.tolist(),
        "walk": WALK,
        "defaults": defaults(),
        "running": running_statistics(),
        "averages": averages(),
        "names": names(),
        "spectral": normalized(),
        "layer_norm": np.asarray(norm).tolist(),
        "dropout": sorted({round(float(v), 5) for v in ones}),
    }


if __name__ == "__main__":
    json.dump(figures(), sys.stdout)
    print()
