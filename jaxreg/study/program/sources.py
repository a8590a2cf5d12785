"""Collects the source of functions, with the functions, classes and imports that they use."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any


class Sources:
    """Source texts in the order of their use, and the imports of the files that they come from.

    Attributes:
      texts: Source of each collected function or class by name.
      imports: Import statement by the name that it binds.
    """

    def __init__(self, imports: str = "") -> None:
        self.texts: dict[str, str] = {}
        self.imports: dict[str, str] = _imports_of(imports)

    def add(self, thing: Any, text: str = "") -> None:
        """Adds a function or a class, after the ones of the same file that it uses.

        Args:
          thing: The function or class.
          text: Source to use in place of its own.
        """
        if thing.__name__ in self.texts:
            return
        module = sys.modules[thing.__module__]
        text = text or inspect.getsource(thing).rstrip()
        # A set of strings has a different order in every process.
        for name in sorted(names_in(text)):
            other = getattr(module, name, None)
            if other is not thing and _is_local(other, module):
                self.add(other)
        self.imports = _imports_of(inspect.getsource(module)) | self.imports
        self.texts[thing.__name__] = text

    def imports_for(self, text: str) -> str:
        """Returns the import statements that a text needs, in blocks and sorted."""
        used = [statement for name, statement in self.imports.items() if name in names_in(text)]
        return sort_imports(used)


def names_in(text: str) -> set[str]:
    """Returns the names that a text reads."""
    return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}


def _is_local(thing: Any, module: ModuleType) -> bool:
    return callable(thing) and getattr(thing, "__module__", "") == module.__name__


def _imports_of(text: str) -> dict[str, str]:
    """Returns the import statement of each name that a text imports at its top."""
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                as_name = f" as {alias.asname}" if alias.asname else ""
                name = alias.asname or alias.name.partition(".")[0]
                found[name] = f"import {alias.name}{as_name}"
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            for alias in node.names:
                as_name = f" as {alias.asname}" if alias.asname else ""
                statement = f"from {node.module} import {alias.name}{as_name}"
                found[alias.asname or alias.name] = statement
    return found


def sort_imports(statements: Iterable[str]) -> str:
    """Returns import statements in three blocks: standard library, packages, and jaxreg."""
    plain = sorted({s for s in statements if s.startswith("import ")})
    modules: dict[str, set[str]] = {}
    for statement in statements:
        if statement.startswith("from "):
            module, _, names = statement.removeprefix("from ").partition(" import ")
            modules.setdefault(module, set()).update(names.split(", "))
    joined = [_from_line(module, sorted(names)) for module, names in sorted(modules.items())]
    blocks: list[list[str]] = [[], [], []]
    for line in [*plain, *joined]:
        blocks[_block(line.split()[1].partition(".")[0])].append(line)
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _block(package: str) -> int:
    if package in sys.stdlib_module_names:
        return 0
    return 2 if package == "jaxreg" else 1


def _from_line(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= 88:
        return line
    return f"from {module} import (\n    " + ",\n    ".join(names) + ",\n)"
