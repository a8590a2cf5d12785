"""Makes ``decay_keras.json``: weight decay of the optimizers of Keras over ten steps.

Usage: ``KERAS_BACKEND=torch python decay_keras.py > decay_keras.json`` with Keras 3.15.1 and torch
2.13.0 on CPU.
"""

import json
import sys

import numpy as np

STEPS, RATE, WEIGHT = 10, 0.1, 0.2


def figures():
    """Returns parameters, gradients, and where each optimizer arrives."""
    import keras
    import torch

    keras.config.set_floatx("float64")
    rng = np.random.default_rng(0)
    start = rng.normal(size=6).round(3)
    gradients = rng.normal(size=(STEPS, 6)).round(3)
    paths = {}
    for make in (keras.optimizers.AdamW, keras.optimizers.Adam, keras.optimizers.SGD):
        w = keras.Variable(start)
        optimizer = make(RATE, weight_decay=WEIGHT)
        optimizer.build([w])
        path = []
        for gradient in gradients:
            optimizer.apply([keras.ops.convert_to_tensor(gradient)], [w])
            path.append(w.value.detach().numpy().tolist())
        paths[make.__name__] = path
    made_with = {"script": "tests/references/decay_keras.py", "keras": keras.__version__}
    made_with |= {"torch": torch.__version__}
    inputs = {"start": start.tolist(), "gradients": gradients.tolist(), "rate": RATE}
    return {"made_with": made_with, "weight": WEIGHT, **inputs, "paths": paths}


if __name__ == "__main__":
    json.dump(figures(), sys.stdout, indent=1)
    print()
