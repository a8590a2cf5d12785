"""Every parameter of a public function, class or method has a line in its docstring."""

import enum
import inspect
import re

import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx

from jaxreg import study
from tests.test_cases import NAMES

SECTION = re.compile(r"^(?:Args|Attributes):\n((?:  .*\n?|\n(?=  ))+)", re.MULTILINE)
ENTRY = re.compile(r"^  \*{0,2}(\w+): \S", re.MULTILINE)
# Set by Flax for each module, and described there.
OF_FLAX = {"parent", "name"}
PUBLIC = NAMES | {f"jaxreg.study.{name}": getattr(study, name) for name in study.__all__}
CALLABLE = {address: member for address, member in PUBLIC.items() if callable(member)}


def described(member):
    """The names in the sections of a docstring for arguments and attributes."""
    sections = SECTION.findall(inspect.getdoc(member) or "")
    return {name for section in sections for name in ENTRY.findall(section)}


def names_of(member):
    """The arguments of a function, the fields of a class, or the members of an enumeration."""
    if inspect.isclass(member) and issubclass(member, enum.Enum):
        return set(member.__members__)
    if inspect.isclass(member) and issubclass(member, flax_nnx.Variable):
        return set()  # Flax's own constructor.
    own = OF_FLAX if inspect.isclass(member) and issubclass(member, flax_linen.Module) else set()
    return set(inspect.signature(member).parameters) - {"self", "cls"} - own


def methods_of(member):
    """The public methods that a class describes itself, with ``__call__``."""
    for name, method in vars(member).items():
        function = getattr(method, "__func__", getattr(method, "function", method))
        is_public = name == "__call__" or not name.startswith("_")
        is_own = inspect.isfunction(function) and function.__module__.startswith("jaxreg")
        if is_own and is_public and function.__doc__:
            yield name, function


def missing(address, member):
    """The places of a public name, with the parameters that its docstrings leave out."""
    places = {address: member}
    if inspect.isclass(member):
        places |= {f"{address}.{name}": method for name, method in methods_of(member)}
    left = {place: sorted(names_of(one) - described(one)) for place, one in places.items()}
    return {place: names for place, names in left.items() if names}


def test_every_parameter_is_described():
    found = {}
    for address, member in CALLABLE.items():
        found |= missing(address, member)
    assert not found


class Whole:
    """A class.

    Attributes:
      rate: Rate.
    """

    def __init__(self, rate):
        self.rate = rate


class Part:
    """A class without its field.

    Args:
      rate: Rate.
    """

    def __init__(self, rate, bits):
        self.rate = rate
        self.bits = bits

    def at(self, place):
        """Returns the rate."""


class Answer(enum.Enum):
    """Answers.

    Attributes:
      YES: Agreed.
    """

    YES = 1
    NO = 2


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        (Whole, {}),
        (Answer, {"x": ["NO"]}),
        (lambda rate: rate, {"x": ["rate"]}),
    ],
)
def test_a_parameter_that_is_not_described_is_found(member, expected):
    assert missing("x", member) == expected


def test_methods_of_the_package_are_checked(monkeypatch):
    monkeypatch.setattr(Part.at, "__module__", "jaxreg.part")
    assert missing("x", Part) == {"x": ["bits"], "x.at": ["place"]}
