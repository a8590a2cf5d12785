"""Small faults, seeded one at a time into a copy of the package; the tests have to notice them.

``python -m tests.mutants --help`` explains how to run them. Each part of the package has a table of
faults; ``check`` tells whether the tables still fit the sources.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.mutants import (
    adapters,
    advice,
    augment,
    diagnosis,
    dropout,
    explain,
    ground,
    losses,
    normalization,
    sequences,
    study,
    study_data,
    study_reports,
    training,
    weights,
)
from tests.mutants.row import Mutant

ROOT = Path(__file__).parents[2]
LEAST = 150
TABLES = (
    ground,
    dropout,
    normalization,
    losses,
    weights,
    augment,
    sequences,
    training,
    explain,
    advice,
    diagnosis,
    study,
    study_data,
    study_reports,
    adapters,
)
MUTANTS: tuple[Mutant, ...] = tuple(mutant for table in TABLES for mutant in table.MUTANTS)


def changed(mutant: Mutant, source: str) -> str:
    """The source with the fault in it."""
    return source.replace(mutant.old, mutant.new)


def check() -> list[str]:
    """Lists faults that do not fit the sources, and packages without faults."""
    problems = [f"{m.path}: {problem}" for m in MUTANTS for problem in _problems(m)]
    package = ROOT / "jaxreg"
    places = {path.relative_to(package).parts[0] for path in package.glob("*/*.py")}
    problems += [f"{place} has no faults" for place in places - {_place(m) for m in MUTANTS}]
    if len(MUTANTS) < LEAST:
        problems.append(f"{len(MUTANTS)} faults are fewer than {LEAST}")
    if len({m[:3] for m in MUTANTS}) < len(MUTANTS):
        problems.append("a fault is listed twice")
    return problems


def _place(mutant: Mutant) -> str:
    return mutant.path.split("/")[0]


def _problems(mutant: Mutant) -> Iterator[str]:
    source = (ROOT / "jaxreg" / mutant.path).read_text()
    found = source.count(mutant.old)
    if found != 1:
        yield f"`old` occurs {found} times, not once: {mutant.old!r}"
        return
    try:
        before = ast.dump(ast.parse(source))
        if ast.dump(ast.parse(changed(mutant, source))) == before:
            yield f"`new` changes nothing: {mutant.new!r}"
    except SyntaxError as error:
        yield f"the changed file does not parse: {error}"
