"""Random logits and codes, and float64 softmax."""

import numpy as np
import scipy.special


def normals(*shape, seed=0, scale=1.0):
    """Normal numbers in float64, always the same for a seed."""
    return np.random.default_rng(seed).normal(0, scale, shape)


def single(*shape, seed=0, scale=1.0):
    """The same in float32."""
    return normals(*shape, seed=seed, scale=scale).astype(np.float32)


def probabilities(logits):
    """Softmax over the last axis."""
    return scipy.special.softmax(np.asarray(logits, np.float64), -1)
