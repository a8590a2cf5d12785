"""Signatures in words for ``help``, which shows types and functions by their names.

Without this, ``help`` prints ``ArrayLike`` as a union of eight types, default values that are
functions with their addresses in memory, and ``*args, **kwargs`` for each NNX module.
"""

import collections.abc
import dataclasses
import functools
import inspect
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any

import jax
from jax.typing import ArrayLike

_PACKAGES = {"jax": "jax.", "flax.nnx": "nnx.", "flax.linen": "nn.", "optax": "optax."}
_COMMON: dict[Any, str] = {ArrayLike: "ArrayLike", jax.Array: "jax.Array"}


class _Word:
    """Stands for a type or a value in a printed signature."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


class _Signature(inspect.Signature):
    """Signature that prints default values with an address in memory by their names.

    The parameters hold the values themselves, for programs that read or bind them.
    """

    def __init__(
        self,
        parameters: Sequence[inspect.Parameter] | None = None,
        *,
        return_annotation: Any = inspect.Signature.empty,
        scope: Mapping[str, Any] = types.MappingProxyType({}),
    ) -> None:
        super().__init__(parameters, return_annotation=return_annotation)
        self.scope = scope

    def replace(self, **changes: Any) -> "_Signature":
        changed = super().replace(**changes)
        changed.scope = self.scope
        return changed

    def __str__(self) -> str:
        return str(self._in_print())

    def format(self, **options: Any) -> str:
        return self._in_print().format(**options)  # pyright: ignore[reportAttributeAccessIssue]

    def _in_print(self) -> inspect.Signature:
        parameters = [
            each.replace(default=_Word(_name_of(each.default, self.scope)))
            if each.default is not each.empty and " at 0x" in repr(each.default)
            else each
            for each in self.parameters.values()
        ]
        return inspect.Signature(parameters, return_annotation=self.return_annotation)


class _Later(_Signature):
    """Signature of a function that is put in words when it is first read: most never are."""

    def __init__(self, function: Any) -> None:
        self._function = function

    @functools.cached_property
    def _words(self) -> _Signature:
        # Otherwise `inspect` would return this very signature.
        del self._function.__signature__
        try:
            plain = inspect.signature(self._function)
        finally:
            self._function.__signature__ = self
        return in_words(plain, _scope(self._function))

    @property
    def parameters(self) -> types.MappingProxyType[str, inspect.Parameter]:
        return self._words.parameters

    @property
    def return_annotation(self) -> Any:
        return self._words.return_annotation

    def replace(self, **changes: Any) -> _Signature:
        return self._words.replace(**changes)

    def __reduce__(self) -> Any:
        return self._words.__reduce__()

    def _in_print(self) -> inspect.Signature:
        return self._words._in_print()


class _OfClass:
    """Signature of a class, computed for each subclass when it is read."""

    def __get__(self, instance: Any, owner: type) -> inspect.Signature:
        if instance is not None:  # A module's signature is the signature of its call.
            return inspect.signature(types.MethodType(type(instance).__call__, instance))
        return of_class(owner)


def show(module: str) -> None:
    """Makes ``help`` print the public functions and classes of a module in words.

    Args:
      module: Full name of a module with ``__all__``, which calls this as its last statement.

    Example:
      >>> import inspect
      >>> from jaxreg import dropout
      >>> print(inspect.signature(dropout.classical_scale))
      (x: jax.Array, *, rate: ArrayLike) -> jax.Array
    """
    members = vars(sys.modules[module])
    for name in members["__all__"]:
        member = members[name]
        if isinstance(member, FunctionType):
            _show_function(member)
        elif isinstance(member, type):
            _show_class(member)


def _show_function(function: Any) -> None:
    function.__signature__ = _Later(function)


def _show_class(kind: Any) -> None:
    if "__signature__" not in vars(kind):
        kind.__signature__ = _OfClass()
    for method in vars(kind).values():
        if isinstance(method, FunctionType) and not method.__name__.startswith("__init"):
            _show_function(method)


def of_class(kind: type) -> inspect.Signature:
    """Returns the signature of a class's constructor in words."""
    makes = kind.__init__ if isinstance(kind.__init__, FunctionType) else kind.__new__
    parameters = list(inspect.signature(makes).parameters.values())[1:]  # Without `self`.
    scope = dict(_scope(makes))
    for base in reversed(kind.__mro__):
        scope |= vars(inspect.getmodule(base) or types)
    return in_words(inspect.Signature(parameters), scope)


def in_words(signature: inspect.Signature, scope: dict[str, Any]) -> _Signature:
    """Returns a signature with words for types and for default values with an address.

    Args:
      signature: Signature.
      scope: Names by which its types and values are known.
    """
    known = _COMMON | _aliases(scope)
    parameters = [
        each.replace(annotation=_as_word(each.annotation, known))
        if each.annotation is not each.empty
        else each
        for each in signature.parameters.values()
    ]
    returned = signature.return_annotation
    if returned is not signature.empty:
        returned = _as_word(returned, known)
    return _Signature(parameters, return_annotation=returned, scope=scope)


def _name_of(value: Any, scope: Mapping[str, Any]) -> str:
    """Returns the name of a value in a scope, or its own name, or dots."""
    own = next((name for name, other in scope.items() if other is value), "")
    return own or getattr(value, "__name__", "...")


def _scope(function: Any) -> dict[str, Any]:
    return getattr(inspect.unwrap(function), "__globals__", {})


def _aliases(scope: dict[str, Any]) -> dict[Any, str]:
    """Returns the names of the types that a module names itself or uses, such as unions."""
    own = _named_types(scope)
    used = [value for value in scope.values() if isinstance(value, types.ModuleType)]
    for module in used:
        if module.__name__.startswith("jaxreg._"):
            own = _aliases_of(module) | own
    return own


@functools.cache
def _aliases_of(module: types.ModuleType) -> dict[Any, str]:
    return _named_types(vars(module))


def _named_types(scope: dict[str, Any]) -> dict[Any, str]:
    return {
        value: name
        for name, value in scope.items()
        if name[:1].isupper() and typing.get_origin(value) is not None
    }


def _as_word(kind: Any, known: dict[Any, str]) -> Any:
    return kind if isinstance(kind, _Word) else _Word(_in_words(kind, known))


def _in_words(kind: Any, known: dict[Any, str]) -> str:
    """Returns the name of a type, as a programmer writes it."""
    if isinstance(kind, str):
        return kind
    if isinstance(kind, list):
        return f"[{', '.join(_in_words(each, known) for each in kind)}]"
    if isinstance(kind, dataclasses.InitVar):
        return _in_words(kind.type, known)
    if kind in known:
        return known[kind]
    if kind is types.NoneType or kind is None:
        return "None"
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_members(typing.get_args(kind), known))
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(repr, typing.get_args(kind)))}]"
    if origin is not None:
        inner = [_in_words(each, known) for each in typing.get_args(kind)]
        return f"{_in_words(origin, known)}[{', '.join(inner)}]"
    return _name_of_type(kind)


def _members(kinds: tuple[Any, ...], known: dict[Any, str]) -> list[str]:
    """Returns the names of a union's members; a known union among them counts as one member."""
    left = list(kinds)
    names = []
    for union, name in known.items():
        parts = typing.get_args(union)
        if typing.get_origin(union) in (typing.Union, types.UnionType) and set(parts) <= set(left):
            left = [kind for kind in left if kind not in parts]
            names.append(name)
    return [*names, *(_in_words(kind, known) for kind in left)]


def _name_of_type(kind: Any) -> str:
    if kind is ...:
        return "..."
    if kind is collections.abc.Callable:
        return "Callable"
    module = getattr(kind, "__module__", "")
    name = getattr(kind, "__qualname__", "") or getattr(kind, "__name__", "") or repr(kind)
    for package, prefix in _PACKAGES.items():
        if f"{module}.".startswith(f"{package}."):
            return f"{prefix}{name}"
    return name
