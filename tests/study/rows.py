"""Small data of every kind that train fast, and a model for each."""

import math

import numpy as np

from jaxreg.study.data import Split
from jaxreg.study.networks import conv_net, mlp, transformer


def blobs(seed):
    """Two overlapping clouds, drawn anew for every seed."""
    rng = np.random.default_rng(seed)

    def rows(count):
        y = rng.integers(0, 2, count)
        x = rng.normal(size=(count, 3)) + y[:, None]
        return x.astype(np.float32), y.astype(np.int32)

    return Split(*rows(50), *rows(30), *rows(40))


def numbers(seed):
    """Rows whose first feature is a number to predict, with noise."""
    split = blobs(seed)
    rows = [part for part in split[:6] if part.ndim == 2]
    rng = np.random.default_rng(seed)
    labels = [np.float32(2 * x[:, 0] + rng.normal(size=len(x)) / 4) for x in rows]
    return Split(rows[0], labels[0], rows[1], labels[1], rows[2], labels[2])


def with_shape(*shape):
    """The clouds as rows of another shape, with a mean and a standard deviation."""

    def split(seed):
        found = blobs(seed)
        row = np.linspace(0.5, 1.5, math.prod(shape), dtype=np.float32).reshape(shape)
        rows = [
            part[:, :1].reshape(-1, *(1,) * len(shape)) * row if part.ndim == 2 else part
            for part in found[:6]
        ]
        return Split(*rows, mean=row, stddev=2 * row)

    return split


def words(seed):
    """Texts of five words, one of which gives the label; ids 0 and 1 are no words."""
    rng = np.random.default_rng(seed)

    def rows(count):
        y = rng.integers(0, 2, count)
        x = rng.integers(4, 7, (count, 5))
        x[:, 1] = 2 + y
        x[:, 3:] = 0
        return x.astype(np.int32), y.astype(np.int32)

    return Split(*rows(50), *rows(30), *rows(40))


# Data of every kind, with a model that has places for all layers that suit it.
KINDS = {
    "table": (blobs, mlp((8,), 2)),
    "series": (with_shape(4, 2), transformer(8, 1, 2)),
    "image": (with_shape(4, 5, 2), conv_net((4,), 2)),
    "text": (words, transformer(8, 1, 2, vocabulary=7)),
}


def random_like(shapes, seed=0):
    """Variables of these shapes, drawn by NumPy; statistics of norms are positive."""
    rng = np.random.default_rng(seed)
    drawn = {
        name: map_leaves(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), part)
        for name, part in shapes.items()
    }
    if "batch_stats" in drawn:
        drawn["batch_stats"] = map_leaves(abs, drawn["batch_stats"])
    return drawn


def map_leaves(function, tree):
    """Maps a function over the arrays of nested dictionaries."""
    if hasattr(tree, "items"):
        return {name: map_leaves(function, part) for name, part in tree.items()}
    return function(tree)
