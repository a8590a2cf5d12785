"""Batch normalization in float64 NumPy, by the equations of Ioffe and Szegedy."""

import numpy as np

EPS = 1e-5


def moments(x, axes, mask=None):
    """Mean, biased variance and count of the selected elements; 0 if none is selected."""
    mask = np.broadcast_to(np.ones((), bool) if mask is None else mask, x.shape)
    count = mask.sum(axes)
    n = np.maximum(count, 1)
    x = np.where(mask, x, 0).astype(np.float64)
    mean = x.sum(axes) / n
    var = (np.where(mask, x - np.expand_dims(mean, axes), 0) ** 2).sum(axes) / n
    return mean, var, count


def gradients(x, scale, dy, axes, mask=None):
    """Gradients of ``sum(y * dy)``; elements that are not selected only use the moments."""
    mean, var, count = [np.expand_dims(a, axes) for a in moments(x, axes, mask)]
    dy = dy.astype(np.float64)
    scale = scale.reshape(mean.shape)
    normal = (x.astype(np.float64) - mean) / np.sqrt(var + EPS)
    dbias = dy.sum(axes)
    dscale = (dy * normal).sum(axes)
    through = dbias.reshape(mean.shape) + normal * dscale.reshape(mean.shape)
    through = through if mask is None else mask * through
    dx = scale / np.sqrt(var + EPS) * (dy - through / np.maximum(count, 1))
    return dx, dscale, dbias
