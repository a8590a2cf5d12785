"""Models that batch norms fold into, and calls that they do not fold, for both frameworks."""

import jax
import numpy as np

IMAGES = np.random.default_rng(3).normal(size=(2, 6, 6, 4)).astype(np.float32)
MASK = np.tri(4, 6, dtype=np.float32) * np.ones((3, 3, 1, 1), np.float32)
STRIDES = {"strides": (2, 2)}
TRANSPOSED = {"transpose_kernel": True}
TWO = {"axis": (-2, -1)}


def trained(tree):
    """Random values instead of arrays or shapes, positive ones for variances."""

    def leaf(path, value):
        name = jax.tree_util.keystr(path)
        rng = np.random.default_rng(sum(map(ord, name)))
        values = rng.uniform(0.2 if "var" in name else -1.0, 1.5, value.shape)
        return values.astype(value.dtype)

    return jax.tree_util.tree_map_with_path(leaf, tree)


def has_root(function, *inputs):
    """Returns whether a function takes a square root, as norms do and folded ones do not."""
    return "sqrt" in str(jax.make_jaxpr(function)(*inputs))


def kernel_of(layer):
    return layer.variables["params"]["kernel"] if hasattr(layer, "variables") else layer.kernel[...]


def plain(layer, norm, x):
    return norm(layer(x), True)


# How a model calls its layer and its norm, and the reason why this does not fold.
REFUSED = {
    "activation": (
        lambda layer, norm, x: norm(jax.nn.relu(layer(x)), True),
        r"got 'norm': its input is not the output of a dense layer or a convolution\. To leave",
    ),
    "no_layer": (lambda layer, norm, x: layer(norm(x, True)), r"'norm': its input is not the"),
    "reshape": (
        lambda layer, norm, x: norm(layer(x).reshape(2, -1, 4), True),
        r"'norm': its input is not the output",
    ),
    "skip": (
        lambda layer, norm, x: norm(y := layer(x), True) + y,
        r"the output of layer 'layer' is also used elsewhere",
    ),
    "returned": (
        lambda layer, norm, x: (norm(y := layer(x), True), y),
        r"the output of layer 'layer' is also used elsewhere",
    ),
    "layer_twice": (
        lambda layer, norm, x: norm(layer(x), True) + layer(-x),
        r"layer 'layer' is called 2 times",
    ),
    "norm_twice": (
        lambda layer, norm, x: norm(norm(layer(x), True), True),
        r"'norm': it is called 2 times",
    ),
    "tied": (
        lambda layer, norm, x: norm(layer(x), True) @ kernel_of(layer).T,
        r"the kernel of layer 'layer' is also used elsewhere",
    ),
    "training": (
        lambda layer, norm, x: norm(layer(x), False),
        r"'norm': it uses the statistics of the batch; call it in evaluation mode",
    ),
}
