"""Counts the functions of ours that an eager call runs: hops between a module and its mathematics.

``python -m tests.hops`` lists those of two calls.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx as flax_nnx

import jaxreg
from jaxreg import nnx, proximal, transforms

PACKAGE = str(Path(jaxreg.__file__).parent)
COMPREHENSIONS = {"<genexpr>", "<listcomp>", "<dictcomp>", "<setcomp>"}


class Hops(NamedTuple):
    """Calls of functions whose file lies in the package, comprehensions not counted."""

    calls: int
    functions: tuple[str, ...]  # distinct ones, in the order of their first calls
    files: int
    depth: int  # most of them that were under way at the same time


def count(call: Callable[[], Any], place: str = PACKAGE) -> Hops:
    """Calls a function without arguments and counts the functions below ``place`` that it runs."""
    calls = 0
    depth = 0
    deepest = 0
    codes: dict[CodeType, None] = {}

    def watch(frame: FrameType, event: str, _: Any) -> None:
        nonlocal calls, depth, deepest
        code = frame.f_code
        if not code.co_filename.startswith(place) or code.co_name in COMPREHENSIONS:
            return
        if event == "call":
            calls += 1
            depth += 1
            deepest = max(deepest, depth)
            codes.setdefault(code)
        elif event == "return":
            depth -= 1

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(before)
    functions = tuple(f"{Path(code.co_filename).stem}.{code.co_qualname}" for code in codes)
    return Hops(calls, functions, len({code.co_filename for code in codes}), deepest)


def dropout() -> Hops:
    """Counts for ``nnx.Dropout(0.5)(x)``, the module made before."""
    layer = nnx.Dropout(0.5, rngs=flax_nnx.Rngs(0))
    x = jnp.ones(29)  # What is compiled already runs no functions; no test has this size.
    return count(lambda: layer(x))


def proximal_step() -> Hops:
    """Counts for the update of one leaf by ``transforms.proximal(proximal.l1, ...)``."""
    step = transforms.proximal(proximal.l1, weight=0.1, learning_rate=0.1)
    params = jnp.ones(8)
    state = step.init(params)
    return count(lambda: step.update(jnp.ones(8), state, params))


def main() -> None:
    for name, hops in (("nnx.Dropout", dropout()), ("transforms.proximal", proximal_step())):
        print(
            f"{name}: {hops.calls} calls of {len(hops.functions)} functions in {hops.files} files, "
            f"{hops.depth} deep"
        )
        for function in hops.functions:
            print(f"  {function}")


if __name__ == "__main__":
    main()
