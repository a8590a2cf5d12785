"""Advice on which technique to begin with, from the task, the model and the data.

:func:`advise` ranks the techniques by a table of statements, each with the published work it comes
from and what published work says against it. They are starting points, not what is best for your
data, which :func:`jaxreg.study.compare` measures. ``jaxreg advise`` prints the same.
"""

from jaxreg.advice.ranking import Advice, advise
from jaxreg.advice.rows import ARCHITECTURES, NEEDS, TASKS
from jaxreg.advice.starts import Start

__all__ = ["ARCHITECTURES", "NEEDS", "TASKS", "Advice", "Start", "advise"]
