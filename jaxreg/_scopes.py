"""Marks of pure functions in traced programs, which :mod:`jaxreg.explain` reads.

A mark is a named scope such as ``jaxreg.dropout.dropout[rate=0.4]``. Profilers show it too. It does
not change what is computed.
"""

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any, ParamSpec, TypeVar, cast

import jax

from jaxreg._checks import is_static

P = ParamSpec("P")
R = TypeVar("R")

# The value of a strength that is known only when the program runs.
TRACED = "traced"


def mark(strength: str = "") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Returns a decorator that marks what a public function computes, in the traced program.

    Args:
      strength: Name of the keyword with the main strength; empty if there is none.

    Returns:
      Decorator of a function of the package, which keeps its signature, its type and its name.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> traced = jax.make_jaxpr(lambda key, x: dropout.dropout(key, x, rate=0.4))
      >>> program = traced(jax.random.key(0), jnp.ones(3))
      >>> print(program.jaxpr.eqns[-1].source_info.name_stack)
      jaxreg.dropout.dropout[rate=0.4]
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        defaults = getattr(function, "__kwdefaults__", None) or {}
        return _put_inside(function, address(function), strength, defaults.get(strength))

    return decorate


def name_scope(
    name: str, strength: str = "", value: Any = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Returns a decorator that marks a function which a public function makes.

    Args:
      name: The public function's address, such as ``augment.one_of``.
      strength: Name of its argument with the main strength; empty if there is none.
      value: The value of that argument.
    """
    return lambda function: _put_inside(function, name, strength, value)


def address(function: Any) -> str:
    """Returns where users find a function, without ``jaxreg.``, such as ``dropout.drop_path``."""
    _, *rooms = function.__module__.split(".")
    # A package exports what its files define.
    return ".".join([*(rooms[:-1] or rooms), function.__name__])


def _put_inside(function: Callable[P, R], name: str, strength: str, default: Any) -> Callable[P, R]:
    """Returns the function inside a scope that tells its name and the value of its strength."""
    # Only `call` has these, since its globals are the function's.
    scope = jax.named_scope
    is_number = is_static
    traced = TRACED

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        value: Any = kwargs.get(strength, default)
        text = ""
        if is_number(value):
            text = f"{strength}={float(value)!r}"
        elif hasattr(value, "dtype"):
            text = f"{strength}={traced}"
        with scope(f"jaxreg.{name}[{text}]"):
            return function(*args, **kwargs)

    # Doctest takes a function for one of its module by its globals.
    own = getattr(function, "__globals__", {})
    marked = FunctionType(call.__code__, own, call.__name__, None, call.__closure__)
    return cast("Callable[P, R]", functools.update_wrapper(marked, function))
