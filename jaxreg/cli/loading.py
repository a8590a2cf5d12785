"""Imports the user's functions by the names given on the command line."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def load_function(spec: str) -> Callable[..., Any]:
    """Imports a function by name, also from modules in the current folder.

    Args:
      spec: ``module:function``, such as ``training.setup:make``.

    Returns:
      The function.

    Raises:
      ValueError: ``spec`` is not ``module:function``, or the module has no such function.
      ImportError: The module cannot be imported.

    Example:
      >>> from jaxreg.cli.loading import load_function
      >>> load_function("math:sqrt")(9.0)
      3.0
    """
    module, colon, name = spec.partition(":")
    if not (module and colon and name.isidentifier()):
        raise ValueError(f"The function must be given as MODULE:FUNCTION, got {spec!r}.")
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise ImportError(
            f"cannot import {module!r} of {spec}: {error}; modules are looked for in {here} and "
            "on PYTHONPATH"
        ) from error
    finally:
        if added:
            sys.path.remove(here)
    if not callable(found):
        raise ValueError(f"{module!r} must have a function {name!r}, got {spec}; look for a typo.")
    return found
