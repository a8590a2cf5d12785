"""Augmentation of tables: new examples of rare classes, made from the data.

A table is a floating-point array ``[examples, ...]`` with integer class ids ``[examples]``: its
examples may be rows of numbers, series or other arrays. Pass ``wanted``, the class ids of the new
examples; :func:`shortfall` counts how many each class needs.
"""

from jaxreg import _signatures
from jaxreg.augment.tables.mixtures import Mixture, fit_mixture, sample_mixture
from jaxreg.augment.tables.oversampling import shortfall, smote

__all__ = ["Mixture", "fit_mixture", "sample_mixture", "shortfall", "smote"]

_signatures.show(__name__)
