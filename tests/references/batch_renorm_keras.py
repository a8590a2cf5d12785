"""Makes ``batch_renorm_keras.json``: batch renorm of Keras, run with Keras and torch installed.

Usage: ``KERAS_BACKEND=torch python batch_renorm_keras.py > batch_renorm_keras.json`` with Keras
3.15.1 and torch 2.13.0 on CPU.
"""

import json
import sys

import numpy as np

LIMITS = [(1.0, 0.0), (1.5, 0.4), (3.0, 5.0), (1e9, 1e9)]
MEAN, VAR = [0.5, -1.0, 3.0], [0.2, 4.0, 1.0]
EPS, MOMENTUM = 1e-3, 0.9


def observe(keras, torch, r_max, d_max, x, dy):
    """Output, gradients and running statistics of one step in training."""
    limits = {"rmax": r_max, "rmin": 1 / r_max, "dmax": d_max}
    layer = keras.layers.BatchNormalization(
        momentum=MOMENTUM,
        epsilon=EPS,
        renorm=True,
        renorm_clipping=limits,
        renorm_momentum=MOMENTUM,
        dtype="float64",
    )
    layer.build(x.shape)
    layer.gamma.assign([0.5, 1.0, 2.0])
    layer.beta.assign([-1.0, 0.0, 0.25])
    # Keras averages standard deviations that include its epsilon.
    deviation = np.sqrt(np.array(VAR) + EPS)
    layer.renorm_mean.assign(MEAN)
    layer.renorm_stddev.assign(deviation)
    x = torch.tensor(x, requires_grad=True)
    y = layer(x, training=True)
    variables = (x, layer.gamma.value, layer.beta.value)
    dx, dscale, dbias = torch.autograd.grad(y, variables, torch.tensor(dy))
    arrays = {"y": y, "dx": dx, "dscale": dscale, "dbias": dbias}
    arrays |= {"mean": layer.renorm_mean.value, "deviation": layer.renorm_stddev.value}
    return {name: a.detach().numpy().tolist() for name, a in arrays.items()}


def figures():
    """Returns inputs, and results for each pair of limits."""
    import keras
    import torch

    rng = np.random.default_rng(0)
    x = (rng.normal(size=(6, 2, 3)) * [2.0, 1.0, 0.5] + [1.0, -1.0, 2.0]).round(3)
    dy = rng.normal(size=x.shape).round(3)
    rows = [
        {"r_max": r_max, "d_max": d_max, **observe(keras, torch, r_max, d_max, x, dy)}
        for r_max, d_max in LIMITS
    ]
    made_with = {"script": "tests/references/batch_renorm_keras.py", "keras": keras.__version__}
    made_with |= {"torch": torch.__version__, "layout": "x[batch, time, channel]"}
    settings = {"eps": EPS, "momentum": MOMENTUM, "mean": MEAN, "var": VAR}
    settings |= {"scale": [0.5, 1.0, 2.0], "bias": [-1.0, 0.0, 0.25]}
    inputs = {"x": x.tolist(), "dy": dy.tolist()}
    return {"made_with": made_with, **settings, **inputs, "rows": rows}


if __name__ == "__main__":
    json.dump(figures(), sys.stdout, indent=1)
    print()
