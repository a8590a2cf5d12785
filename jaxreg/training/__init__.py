"""Helpers for a training loop, such as early stopping, schedules and ensembles.

- ``early_stopping``: when to stop, and the best parameters so far.
- ``plateau``: a strength that follows a metric.
- ``schedules``: dropout rates that follow the step.
- ``ensembles``: mean and uncertainty of many predictions, and the benefit of more members.
- ``digests``: checks that a loaded state is the one that was saved.
- ``statistics``: population statistics for batch norms; it needs Flax and is imported on first use.
"""

import importlib
from typing import Any

from jaxreg.training import digests, early_stopping, ensembles, plateau, schedules

__all__ = ["digests", "early_stopping", "ensembles", "plateau", "schedules"]

_ON_FIRST_USE = ("statistics",)


def __getattr__(name: str) -> Any:
    """Imports a module that needs Flax when it is first accessed."""
    if name in _ON_FIRST_USE:
        return importlib.import_module(f"jaxreg.training.{name}")
    raise AttributeError(f"module 'jaxreg.training' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_FIRST_USE})
