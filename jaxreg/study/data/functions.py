"""Imports a user's function, or another object, from a file or a module."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxreg.study.data.wording import check_name


def load_function(address: str, option: str = "data") -> Callable[..., Any]:
    """Imports a function by its address.

    Args:
      address: ``FILE.py:FUNCTION``, or ``MODULE:FUNCTION`` for a module on the path or in the
        current folder.
      option: The argument to name in errors.

    Returns:
      The function.

    Raises:
      ValueError: The address has another form, there is no such file or function, or the file
        cannot be imported.
      ImportError: A package that the file imports is missing.

    Example:
      >>> from jaxreg.study.data.functions import load_function
      >>> load_function("math:sqrt")(9.0)
      3.0
    """
    module, place, name = _load_module(address, option)
    functions = [each for each, value in vars(module).items() if callable(value)]
    check_name(
        option,
        name,
        [each for each in functions if not each.startswith("_")],
        f"a function of {place}",
    )
    return getattr(module, name)


def load_object(address: str, option: str) -> Any:
    """Imports a user's public object, such as a model, by its address.

    Args:
      address: ``FILE.py:NAME``, or ``MODULE:NAME``, as for :func:`load_function`.
      option: The argument to name in errors.

    Returns:
      The object.

    Raises:
      ValueError: The address has another form, there is no such file or object, or the file
        cannot be imported.
      ImportError: A package that the file imports is missing.

    Example:
      >>> from jaxreg.study.data.functions import load_object
      >>> print(round(load_object("math:pi", "--number"), 2))
      3.14
    """
    module, place, name = _load_module(address, option)
    public = [each for each in vars(module) if not each.startswith("_")]
    check_name(option, name, public, f"an object of {place}")
    return getattr(module, name)


def _load_module(address: str, option: str) -> tuple[ModuleType, str, str]:
    """Returns the module of an address, the address's text for it, and the name in it."""
    place, colon, name = address.rpartition(":")
    if not (place and colon and name.isidentifier()):
        raise ValueError(f"`{option}` must be FILE.py:FUNCTION or MODULE:FUNCTION, got {address}.")
    path = Path(place).expanduser()
    if path.suffix == ".py" and not path.is_file():
        raise ValueError(f"`{option}` must name an existing file, got {place}.")
    try:
        module = _import_file(path) if path.suffix == ".py" else _import_module(place)
    except ImportError as error:
        raise ImportError(f"cannot import {place} for `{option}`: {error}") from error
    except Exception as error:
        text = " ".join(str(error).split())
        raise ValueError(
            f"`{option}` must be importable, but {place} raised {type(error).__name__}: {text}"
        ) from error
    return module, place, name


def _import_file(path: Path) -> ModuleType:
    """Executes a file as a module, with its folder on the path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)  # pyright: ignore[reportArgumentType]
    # Dataclasses look up the module of a class. It must not hide another module with its name.
    is_new = sys.modules.setdefault(path.stem, module) is module
    try:
        with _OnPath(path.parent):
            spec.loader.exec_module(module)  # pyright: ignore[reportOptionalMemberAccess]
    except BaseException:
        if is_new:
            del sys.modules[path.stem]
        raise
    return module


def _import_module(name: str) -> ModuleType:
    with _OnPath(Path.cwd()):
        return importlib.import_module(name)


class _OnPath:
    """Puts a folder on the module path temporarily."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder.resolve())

    def __enter__(self) -> None:
        sys.path.insert(0, self._folder)

    def __exit__(self, *_: object) -> None:
        sys.path.remove(self._folder)
