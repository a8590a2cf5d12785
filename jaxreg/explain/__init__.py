"""Explanation of a training setup: its regularizers, known conflicts, and practices with a price.

:func:`explain` finds everything by trying and by tracing: it calls the optimizer without a
gradient at weights of many sizes, traces the model to see which modules and functions it calls and
what follows on what, and rescales weights to see whether a norm undoes their scale. So it works for
transformations and modules of your own, too. ``jaxreg explain`` prints the same.
"""

from jaxreg.explain.explanation import Effect, Explanation, Finding, explain

__all__ = ["Effect", "Explanation", "Finding", "explain"]
