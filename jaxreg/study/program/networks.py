"""Writes the source of a built-in network with the layers of a recipe in its places."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from jaxreg.study.arms import acting
from jaxreg.study.arms.row import Arm, Layer, arguments
from jaxreg.study.recipes import Recipe

_PLACE = re.compile(r"^( *)(\w+) = self\.layers\.(\w+)\(\2, train=train\)$")


def network(module: Any, recipe: Recipe) -> str:
    """Returns the source of a network's class, with the values of its fields as defaults.

    Args:
      module: A module of :mod:`jaxreg.study.networks`.
      recipe: The recipe; its layers take the places of ``self.layers``.
    """
    lines = []
    for line in inspect.getsource(type(module)).rstrip().splitlines():
        place = _PLACE.match(line)
        if place:
            lines += _calls(place, recipe)
        elif re.match(r" +layers: ", line):
            continue
        else:
            lines.append(_with_default(line, module))
    return "\n".join(lines)


def _calls(place: re.Match[str], recipe: Recipe) -> Iterator[str]:
    """Yields a line for each layer of a recipe at a place of the network."""
    indent, name, where = place.groups()
    for arm in acting(Layer):
        if arm.name in recipe and arm.acts.place == where:
            yield f"{indent}{name} = {layer_call(arm, name, recipe)}"


def layer_call(arm: Arm[Layer], name: str, recipe: Recipe) -> str:
    """Returns the code that calls a layer's function on the variable ``name``."""
    function = arm.acts.function
    given = [name]
    if "strength" in arguments(function):
        given.append(literal(recipe[arm.name]))
    if "train" in arguments(function):
        given.append("train=train")
    return f"{function.__name__}({', '.join(given)})"


def _with_default(line: str, module: Any) -> str:
    """Returns the line of a field, with the module's value as its default."""
    field = re.match(r"^    (\w+): ([\w\[\], ]+?)(?: = .*)?$", line)
    if not field or field[1] not in type(module).__dataclass_fields__:
        return line
    return f"    {field[1]}: {field[2]} = {getattr(module, field[1])!r}"


def literal(value: Any) -> str:
    """Formats a strength as a literal with seven digits, as many as float32 has."""
    return repr(value) if isinstance(value, bool) else f"{value:.7g}"
