"""Flax NNX forms of the techniques: fields and one call each, the mathematics is in the core."""

from jaxreg.nnx.normalization import BatchNorm
from jaxreg.nnx.stochastic import Dropout, Stochastic

__all__ = ["BatchNorm", "Dropout", "Stochastic"]
