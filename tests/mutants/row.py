"""A seeded fault."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """A small fault in one file of the package, which a test has to notice."""

    path: str  # of the file, below jaxreg/
    old: str  # text that occurs in it once
    new: str  # what replaces it
    why: str  # what is wrong then
    tests: tuple[str, ...] = ()  # further tests, where the module's own cannot see it
    equivalent: str = ""  # reason why no test can notice it, for one that survives
