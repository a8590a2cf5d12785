"""Around the training loop: values with an ``update`` function.

- ``early_stopping``: when to stop, and the best parameters so far.
"""

from jaxreg.training import early_stopping

__all__ = ["early_stopping"]
