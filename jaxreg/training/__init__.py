"""Around the training loop: values with an ``update`` function, and what tells how it goes.

- ``early_stopping``: when to stop, and the best parameters so far.
- ``plateau``: a strength that follows a metric.
- ``digests``: whether a state that was loaded is the one that was saved.
- ``schedules``: rates of dropout that follow the step.
- ``ensembles``: mean and uncertainty of many predictions, and what more of them would gain.
- ``diagnosis``: what the loss curves of a run tell, and what to change.
- ``advice``: which technique to begin with, for a task, a model and data.
- ``explain``: what regularizes each parameter and activation, and what does not go together; it
  needs Flax and Optax and is imported on first use.
- ``statistics``: population statistics for batch norms; it needs Flax and is imported on first use.
"""

import importlib
from typing import Any

from jaxreg.training import (
    advice,
    diagnosis,
    digests,
    early_stopping,
    ensembles,
    plateau,
    schedules,
)

__all__ = [
    "advice",
    "diagnosis",
    "digests",
    "early_stopping",
    "ensembles",
    "plateau",
    "schedules",
]

_ON_FIRST_USE = ("explain", "statistics")


def __getattr__(name: str) -> Any:
    """Imports a module that needs Flax when it is asked for."""
    if name in _ON_FIRST_USE:
        return importlib.import_module(f"jaxreg.training.{name}")
    raise AttributeError(f"module 'jaxreg.training' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_FIRST_USE})
