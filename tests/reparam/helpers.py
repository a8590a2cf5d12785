"""Kernels of layers, and their float64 matrices."""

import numpy as np

from tests.normalization.helpers import draw

# Kernels of an attention projection, Dense, Conv, a transposed ConvTranspose, and a vector.
KERNELS = [((8, 2, 3), (1, 2)), ((6, 5), -1), ((3, 2, 4, 5), -1), ((3, 2, 5, 4), 2), ((7,), ())]
DTYPES = ("bfloat16", "float32", "float16")
ROUNDING = {"float32": 1e-6, "bfloat16": 8e-3, "float16": 1e-3}
SLOPE = np.cos(np.arange(30.0)).reshape(6, 5).astype(np.float32)


def kernel(*shape, seed=0, dtype="float32"):
    """Normal numbers around 0.3."""
    return draw(*shape, seed=seed, mean=0.3).astype(dtype)


def wide(a):
    """The array in float64."""
    return np.asarray(a).astype(np.float64)


def matrix(w, axis):
    """The kernel as ``[outputs, everything else]``, in float64."""
    axes = [a % w.ndim for a in (axis if isinstance(axis, tuple) else (axis,))]
    moved = np.moveaxis(wide(w), axes, range(len(axes)))
    outputs = int(np.prod(moved.shape[: len(axes)]))
    return moved.reshape(outputs, -1)
