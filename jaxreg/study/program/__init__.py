"""Writes ``recipe.py``: the chosen recipe as a short, complete training program.

The program contains the functions of the arms as they ran in the study, and the source of the
network, which calls them in its places.
"""

from jaxreg.study.program.origin import Origin
from jaxreg.study.program.writer import source

__all__ = ["Origin", "source"]
