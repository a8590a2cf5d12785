"""Around the training loop: values with an ``update`` function, and what comes after training.

- ``early_stopping``: when to stop, and the best parameters so far.
- ``plateau``: a strength that follows a metric.
- ``statistics``: population statistics for batch norms; it needs Flax and is imported by name,
  ``from jaxreg.training import statistics``.
"""

from jaxreg.training import early_stopping, plateau

__all__ = ["early_stopping", "plateau"]
