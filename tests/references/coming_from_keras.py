"""Prints ``coming_from_keras.json``: figures of Keras for the rows of docs/coming_from/keras.md.

Run as ``KERAS_BACKEND=torch python tests/references/coming_from_keras.py >
tests/references/coming_from_keras.json`` where Keras and torch are installed.
"""

import inspect
import json
import re
import sys

import numpy as np

X = np.random.default_rng(0).normal(size=(3, 4)).round(3).astype("float32")
W = np.random.default_rng(1).normal(size=(4, 3)).round(3).astype("float32")
IMAGE = np.random.default_rng(2).uniform(size=(6, 8, 3)).round(3).astype("float32")
LAYERS = (
    "BatchNormalization LayerNormalization GroupNormalization RMSNormalization "
    "UnitNormalization SpectralNormalization Dropout GaussianDropout AlphaDropout"
)


def plain(value):
    import keras

    return np.asarray(keras.ops.convert_to_numpy(value)).tolist()


def defaults():
    """Default arguments of layers, losses and callbacks that the page names."""
    import keras

    makers = [getattr(keras.layers, name) for name in LAYERS.split()]
    makers += [keras.callbacks.EarlyStopping, keras.callbacks.ReduceLROnPlateau]
    makers += [keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2]
    makers += [keras.constraints.MaxNorm, keras.constraints.MinMaxNorm, keras.constraints.UnitNorm]
    found = {}
    for maker in makers:
        found[maker.__name__] = {
            name: parameter.default
            for name, parameter in inspect.signature(maker).parameters.items()
            if isinstance(parameter.default, int | float) and name != "self"
        }
    return found


def of_weights():
    """Regularizers and constraints of a kernel ``[in, out]``."""
    import keras

    r = keras.regularizers
    c = keras.constraints
    tensor = keras.ops.convert_to_tensor(W)
    return {
        "L1": float(r.L1(0.1)(W)),
        "L2": float(r.L2(0.1)(W)),
        "L1L2": float(r.L1L2(0.1, 0.2)(W)),
        "OrthogonalRegularizer": float(r.OrthogonalRegularizer(0.1, mode="columns")(tensor)),
        "MaxNorm": plain(c.MaxNorm(1.0)(W)),
        "UnitNorm": plain(c.UnitNorm()(W)),
        "MinMaxNorm": plain(c.MinMaxNorm(0.5, 1.0, rate=0.5)(W)),
        "NonNeg": plain(c.NonNeg()(W)),
    }


def of_activations():
    """Layers without randomness, in training."""
    import keras

    layers = keras.layers
    activity = layers.ActivityRegularization(l1=0.1)
    activity(X)
    spectral = layers.SpectralNormalization(layers.Dense(3, use_bias=False), power_iterations=20)
    spectral.build((None, 4))
    spectral.layer.kernel.assign(W)
    return {
        "LayerNormalization": plain(layers.LayerNormalization()(X)),
        "RMSNormalization": plain(layers.RMSNormalization()(X)),
        "GroupNormalization": plain(layers.GroupNormalization(groups=2)(X)),
        "UnitNormalization": plain(layers.UnitNormalization()(X)),
        "SpectralNormalization": plain(spectral(X, training=True)),
        "ActivityRegularization": float(activity.losses[0]),
    }


def of_images():
    """Layers for images whose range leaves one value."""
    import keras

    layers = keras.layers

    def call(name, *args, **options):
        return plain(getattr(layers, name)(*args, **options)(IMAGE, training=True))

    in_one = {"value_range": (0.0, 1.0)}
    return {
        "RandomBrightness": call("RandomBrightness", (0.2, 0.2), **in_one),
        "RandomContrast": call("RandomContrast", (0.5, 0.5), **in_one),
        "RandomRotation": call("RandomRotation", (0.1, 0.1), fill_mode="constant"),
        "RandomTranslation": call(
            "RandomTranslation", (0.5, 0.5), (0.25, 0.25), fill_mode="constant"
        ),
        "RandomZoom": call("RandomZoom", (-0.25, -0.25), fill_mode="constant"),
        "CenterCrop": call("CenterCrop", 4, 4),
        "Solarization": call("Solarization", threshold_factor=(0.5, 0.5), value_range=(0.0, 1.0)),
    }


def averages():
    """EMA of an optimizer, with the parameters along its path."""
    import keras

    w = keras.Variable(np.float32([1.0, 0.0]))
    optimizer = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.9)
    optimizer.build([w])
    path = []
    for gradient in ([0.5, -0.25], [-0.25, 1.25], [-1.25, -1.125]):
        optimizer.apply([keras.ops.convert_to_tensor(np.float32(gradient))], [w])
        path.append({"w": plain(w), "average": plain(optimizer._model_variables_moving_average[0])})
    return path


def clipped():
    """Steps of SGD with two kinds of clipping, for two parameters with gradients of length 5."""
    import keras

    found = {}
    for name in ("clipnorm", "global_clipnorm"):
        parameters = [keras.Variable(np.zeros(2, "float32")) for _ in range(2)]
        optimizer = keras.optimizers.SGD(1.0, **{name: 1.0})
        optimizer.build(parameters)
        gradients = [keras.ops.convert_to_tensor(np.float32([3.0, 4.0])) for _ in range(2)]
        optimizer.apply(gradients, parameters)
        found[name] = [plain(p) for p in parameters]
    return found


def losses():
    import keras

    one_hot = np.eye(4, dtype="float32")[[0, 3, 2]]
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    return {"CategoricalCrossentropy": float(loss(one_hot, X)), "labels": [0, 3, 2]}


def noise():
    """Standard deviations of noise on many ones."""
    import keras

    ones = np.ones((400, 400), "float32")
    layers = keras.layers
    return {
        "GaussianDropout": float(
            plain(keras.ops.std(layers.GaussianDropout(0.2)(ones, training=True)))
        ),
        "GaussianNoise": float(
            plain(keras.ops.std(layers.GaussianNoise(0.2)(ones, training=True)))
        ),
        "rate": 0.2,
    }


def public_names():
    """Names of layers, regularizers and constraints."""
    import keras

    kinds = (
        "Dropout|Noise|Normalization|Regulariz|^Random|^Mix|^Cut|^Rand|^Aug|^Auto|Solar|Equal|"
        "CenterCrop|Rescaling|Pipeline"
    )
    found = [name for name in dir(keras.layers) if re.search(kinds, name)]
    for home in (keras.regularizers, keras.constraints):
        found += [name for name in dir(home) if name[0].isupper()]
    return found


def figures():
    import keras

    keras.utils.set_random_seed(0)
    return {
        "public": public_names(),
        "made_with": {
            "script": "tests/references/coming_from_keras.py",
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
        },
        "x": X.tolist(),
        "w": W.tolist(),
        "image": IMAGE.tolist(),
        "defaults": defaults(),
        "weights": of_weights(),
        "activations": of_activations(),
        "images": of_images(),
        "averages": averages(),
        "clipped": clipped(),
        "losses": losses(),
        "noise": noise(),
    }


if __name__ == "__main__":
    json.dump(figures(), sys.stdout)
    print()
