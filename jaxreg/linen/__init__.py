"""Flax Linen forms of the techniques: fields and one call each, the mathematics is in the core."""

from jaxreg.linen.normalization import BatchNorm
from jaxreg.linen.stochastic import Dropout, Stochastic

__all__ = ["BatchNorm", "Dropout", "Stochastic"]
