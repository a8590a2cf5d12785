"""Writes ``recipe.py``: the chosen recipe as a short, complete training program.

The program prints the functions of the arms as they ran in the study, and the network with their
calls in its places.
"""

from jaxreg.study.program.origin import Origin
from jaxreg.study.program.writer import source

__all__ = ["Origin", "source"]
