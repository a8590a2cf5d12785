"""Balls and the closest points in them, in float64."""

import numpy as np

from tests.arrays import float64


def norms(w, axes=0):
    """Norms in float64."""
    return np.sqrt(np.sum(np.abs(np.asarray(w).astype(np.float64)) ** 2, axes, keepdims=True))


def closest_point(w, radius, axes=0):
    """The closed form of the closest point of a Euclidean ball, in float64."""
    size = norms(w, axes)
    return float64(w) * np.where(size > radius, radius / np.where(size > 0, size, 1), 1)


def thresholded(w, radius, axes):
    """The l1 ball by bisection for its threshold, in float64."""
    size = np.abs(float64(w))
    high = size.max(axes, keepdims=True)
    low = np.zeros_like(high)
    for _ in range(60):
        level = (low + high) / 2
        over = np.maximum(size - level, 0).sum(axes, keepdims=True) > radius
        low = np.where(over, level, low)
        high = np.where(over, high, level)
    inside = size.sum(axes, keepdims=True) <= radius
    return np.sign(w) * np.where(inside, size, np.maximum(size - high, 0))


def size_of(name, w):
    """The size that a ball bounds, in float64: one number per unit, or one for the matrix."""
    if name == "max_norm":
        return norms(w)[0]
    w = float64(w)
    return np.abs(w).sum(0) if name == "l1_ball" else np.linalg.svd(w, compute_uv=False).max()
