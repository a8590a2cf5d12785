"""Signatures of the entries of the site, as ``help`` prints them."""

from __future__ import annotations

import inspect
from typing import Any

from jaxreg import _signatures


def shown(member: Any, is_class: bool, is_method: bool) -> tuple[str, str] | None:  # noqa: FBT001
    """Returns the arguments and the result of a callable, as text."""
    try:
        signature = _of(member, is_class)
    except (TypeError, ValueError):
        return None
    parameters = list(signature.parameters.values())[1 if is_method else 0 :]
    returned = signature.return_annotation
    empty = inspect.Signature.empty
    arguments = str(signature.replace(parameters=parameters, return_annotation=empty))
    return arguments, "" if returned is empty else repr(returned)


def _of(member: Any, is_class: bool) -> inspect.Signature:  # noqa: FBT001
    if is_class:
        return _signatures.of_class(member)
    scope = getattr(inspect.unwrap(member), "__globals__", {})
    return _signatures.in_words(inspect.signature(member), scope)
