"""Explanation of a training setup: the regularizers of each parameter, and known conflicts.

:func:`explain` finds everything by trying and by tracing: it calls the optimizer without a
gradient at weights of many sizes, traces the model to see which modules follow on which, and
rescales weights to see whether a norm undoes their scale. So it works for transformations and
modules of your own, too. ``jaxreg explain`` prints the same.
"""

from jaxreg.explain.explanation import Conflict, Effect, Explanation, explain

__all__ = ["Conflict", "Effect", "Explanation", "explain"]
