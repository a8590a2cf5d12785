"""A seeded fault."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """A small fault in one file of the package, which a test has to notice."""

    path: str  # of the file, below jaxreg/
    old: str  # text that occurs in it once
    new: str  # replacement
    why: str  # the wrong behavior
    tests: tuple[str, ...] = ()  # further tests, if the module's own cannot notice it
    equivalent: str = ""  # the reason if no test can notice it
