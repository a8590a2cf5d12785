"""Advice on which technique to begin with, from the task, the model and the data.

:func:`advise` ranks the techniques by a table of statements, each with the published work it comes
from and what published work says against it. They are starting points;
:func:`jaxreg.study.compare` measures the best for your data, and :func:`advise` takes the folder of
such a study to combine both. ``jaxreg advise`` prints the same.
"""

from jaxreg.advice.ranking import advise
from jaxreg.advice.records import Advice, Measured
from jaxreg.advice.rows import ARCHITECTURES, NEEDS, TASKS
from jaxreg.advice.starts import Start

__all__ = ["ARCHITECTURES", "NEEDS", "TASKS", "Advice", "Measured", "Start", "advise"]
