"""Reads from the scopes of an equation which functions of jaxreg it is part of, and where."""

import re
from math import nan
from typing import NamedTuple

from jaxreg._scopes import TRACED

# A scope of a pure function, as jaxreg._scopes writes it, or of a module, as below.
_SCOPE = re.compile(
    r"jaxreg\.([\w.]+)\[(?:(\w+)=([^\]]*))?\]|jaxreg:(module|known|closed)\[([^\]]*)\]"
)
# These call functions of the user, whose regularizers are listed beside them.
_OPEN = {
    "augment.one_of", "augment.switch", "augment.with_probability", "dropout.stochastic_depth",
    "smoothness.gradient_penalty", "smoothness.jacobian", "smoothness.jacobian_exact",
    "smoothness.jacobian_projected", "smoothness.virtual_adversarial",
    "smoothness.zero_centered_penalty", "augment.text.paraphrase", "augment.text.back_translation",
}  # fmt: skip


# The place of the model itself, outside of its modules.
TOP = "model"
# Kinds of modules: one of the user, one that regularizes, and one that regularizes by changing what
# happens in the modules inside it.
MODULE, KNOWN, CLOSED = "module", "known", "closed"


class Acting(NamedTuple):
    """A pure function that acts at a place of the model."""

    place: str  # path of the module around it, or TOP
    function: str  # its address without "jaxreg."
    strength: float  # NaN if there is none, or if it is not known
    argument: str  # name of its strength, with a remark if it is not known

    @property
    def label(self) -> str:
        """Name of the function and, if it is inside a module, of its place."""
        return self.function if self.place == TOP else f"{self.function} in {self.place}"


class Scopes(NamedTuple):
    """The innermost module around an equation, and the functions of jaxreg inside it."""

    place: str
    kind: str  # MODULE, KNOWN or CLOSED
    functions: tuple[Acting, ...]

    @property
    def is_known(self) -> bool:
        """The module regularizes by itself, so that its functions are how it works."""
        return self.kind != MODULE


OUTSIDE = Scopes(TOP, MODULE, ())


def module_scope(place: str, kind: str) -> str:
    """Returns the name of the scope of a module's calls; its kind is MODULE, KNOWN or CLOSED."""
    return f"jaxreg:{kind}[{place.translate(str.maketrans('[]', '()'))}]"


def read(text: str, outer: Scopes) -> Scopes:
    """Returns the scopes of an equation whose own name stack is ``text``, inside ``outer``."""
    for function, argument, value, kind, place in _SCOPE.findall(text):
        if kind:
            is_inside = kind == MODULE and outer.kind == CLOSED
            outer = outer if is_inside else Scopes(place, kind, ())
        else:
            own = _acting(outer.place, function, argument, value)
            outer = outer._replace(functions=(*outer.functions, own))
    return outer


def to_list(scopes: Scopes) -> tuple[Acting, ...]:
    """Returns the functions to list: the outermost one, and what the user's functions call in it.

    A function inside a module that is listed itself is how that module works.
    """
    if scopes.is_known:
        return ()
    closed = [n for n, own in enumerate(scopes.functions) if own.function not in _OPEN]
    return scopes.functions[: closed[0] + 1] if closed else scopes.functions


def _acting(place: str, function: str, argument: str, value: str) -> Acting:
    if value == TRACED:
        return Acting(place, function, nan, f"{argument}, {TRACED}")
    return Acting(place, function, float(value) if value else nan, argument)
