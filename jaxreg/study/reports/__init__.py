"""Reports of a study: the table on the terminal, the files, and the HTML page.

Data goes one way. :func:`jaxreg.study.reports.summary.summarize` turns a study into a summary,
which holds every number, sentence and formatted text. The table, the page, the figures and the CSV
files only lay it out.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxreg.study.reports.table import print_table
    from jaxreg.study.reports.writing import report, write

__all__ = ["print_table", "report", "write"]

_MODULES = {"print_table": "table", "report": "writing", "write": "writing"}


def __getattr__(name: str) -> Any:
    # The command line checks the folder of a report before it imports a framework.
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
