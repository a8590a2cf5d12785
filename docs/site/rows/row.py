"""A row of the catalog of techniques."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Technique:
    """One page: a technique, its other names, and what can go wrong.

    Attributes:
      page: Name of the page, below ``techniques``.
      title: Title of the page.
      functions: Addresses below ``jaxreg``, the technique first, then the functions around it.
      modules: Names of modules in ``linen`` and ``nnx`` whose docstrings do not name a function of
        this page; the others are found.
      also: Names of the technique elsewhere, in Markdown.
      risks: What can go wrong, in Markdown.
      chain: Code of an Optax chain with the technique.
      work: Beginnings of the rows of ``benchmarks/RESULTS.md`` that measure it.
    """

    page: str
    title: str
    functions: tuple[str, ...]
    modules: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    risks: tuple[str, ...]
    chain: str = ""
    work: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """A place of a training step, with its techniques."""

    name: str
    title: str
    about: str
    techniques: tuple[Technique, ...]


THREADS = (
    "On a CPU, set `OPENBLAS_NUM_THREADS=1` before Python starts. Otherwise the threads of "
    "OpenBLAS wait for each other: 64 small kernels take 2.5 times as long on two idle cores, and "
    "far longer on busy ones."
)
