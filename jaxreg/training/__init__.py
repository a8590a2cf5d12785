"""Around the training loop: values with an ``update`` function, and what tells how it goes.

- ``early_stopping``: when to stop, and the best parameters so far.
- ``plateau``: a strength that follows a metric.
- ``digests``: whether a state that was loaded is the one that was saved.
- ``schedules``: rates of dropout that follow the step.
- ``ensembles``: mean and uncertainty of many predictions, and what more of them would gain.
- ``diagnosis``: what the loss curves of a run tell, and what to change.
- ``advice``: which technique to begin with, for a task, a model and data.
- ``explain``: what regularizes each parameter and activation, and what does not go together; it
  needs Flax and Optax and is imported by name, ``from jaxreg.training import explain``.
- ``statistics``: population statistics for batch norms; it needs Flax and is imported by name,
  ``from jaxreg.training import statistics``.
"""

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
