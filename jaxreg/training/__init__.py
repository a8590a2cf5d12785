"""Around the training loop: values with an ``update`` function, and what comes after training.

- ``early_stopping``: when to stop, and the best parameters so far.
- ``statistics``: population statistics for batch norms.
"""

from jaxreg.training import early_stopping, statistics

__all__ = ["early_stopping", "statistics"]
