"""Imports optional dependencies, with an error that says how to install them."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def extra(module: str, *, install: str = '"jaxreg[study]"') -> Any:
    """Imports an optional dependency that ``pip install "jaxreg[study]"`` installs.

    Args:
      module: Full name of the module.
      install: Arguments of ``pip install`` that install it.

    Returns:
      The module.

    Raises:
      ImportError: The module is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"a study needs {package}, which is not installed; run: pip install {install}"
        ) from error
