"""Data of a study: :func:`load` for files and functions, built-in sets, and splits by seed."""

from jaxreg.study.data.builtin import DATA_SETS, DataSet
from jaxreg.study.data.extras import extra
from jaxreg.study.data.loading import load
from jaxreg.study.data.records import KINDS, Array, Loaded, Split, Splitter, kind
from jaxreg.study.data.splits import stratified_split

__all__ = [
    "DATA_SETS",
    "KINDS",
    "Array",
    "DataSet",
    "Loaded",
    "Split",
    "Splitter",
    "extra",
    "kind",
    "load",
    "stratified_split",
]
