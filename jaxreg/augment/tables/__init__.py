"""Augmentation of tables: new examples of rare classes, made from those of the data.

An example is a row of a table, a series or any other floating-point array, and a table is
``[examples, ...]`` with integer class ids ``[examples]``. Pass ``wanted``, the class ids of the new
examples; :func:`shortfall` counts how many each class lacks.
"""

from jaxreg.augment.tables.mixtures import Mixture, fit_mixture, sample_mixture
from jaxreg.augment.tables.oversampling import shortfall, smote

__all__ = ["Mixture", "fit_mixture", "sample_mixture", "shortfall", "smote"]
