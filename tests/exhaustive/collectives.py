"""Counts the communication of every technique in the program that a TPU runs.

This writes the table that the test beside it checks and that the documentation shows::

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.exhaustive.collectives
"""

import csv
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxreg.testing.subject import is_key
from tests import cases
from tests.exhaustive.counting import COLLECTIVE, KINDS, numbers_in
from tests.transforms.optimizers import OPTIMIZERS, take

TABLE = Path(__file__).parents[2] / "docs" / "measured" / "collectives.csv"
SLOW_TABLE = TABLE.with_name("tpu.csv")
# Matrix products and element-wise loops are what a TPU does well.
SLOW = ("sort", "gather", "scatter", "while")
COMPUTATION = re.compile(r"^(ENTRY )?%?[\w.-]+ \(.*\{$", re.MULTILINE)
# The batch is spread over all devices, or over rows of devices and features over columns.
SIZES = {"8": (8,), "4x2": (4, 2)}
MODES = {"Auto": AxisType.Auto, "Explicit": AxisType.Explicit}


class Count(NamedTuple):
    """Collectives that each call runs, the numbers that they send, and those that few calls run."""

    always: str
    elements: int
    sometimes: str


def count(text: str) -> Count:
    """Counts the collectives of a compiled program; conditionals and loops hold the rare ones."""
    found = {True: Counter(), False: Counter()}
    elements = 0
    starts = [*COMPUTATION.finditer(text)]
    ends = [*[start.start() for start in starts[1:]], len(text)]
    for start, end in zip(starts, ends, strict=True):
        is_entry = start[1] is not None
        for shape, kind in COLLECTIVE.findall(text[start.start() : end]):
            found[is_entry][kind] += 1
            elements += is_entry * numbers_in(shape)
    return Count(named(found[True]), elements, named(found[False]))


def named(counter: Counter) -> str:
    """Returns counts as text, in the order of :data:`KINDS`."""
    return ", ".join(f"{counter[kind]} {kind}" for kind in KINDS if counter[kind])


def of_accelerator(*arguments, default, tpu=None, **others):
    """Takes the branch of a TPU in place of the branch of this machine's CPU."""
    return (tpu or default)(*arguments)


def on_mesh(name: str, size: str, mode: str):
    """Returns the mesh of a row of the table; nobody spreads the channels of images or words."""
    shape = SIZES[size]
    names = ("data", "copies" if name.startswith("augment.") else "model")[: len(shape)]
    return jax.make_mesh(shape, names, axis_types=(MODES[mode],) * len(shape))


def spec_of(leaf, shape, mesh):
    """Shards the first axis and, on a mesh with an axis for it, features of data of ``shape``."""
    if is_key(leaf) or leaf.ndim == 0 or leaf.shape[0] != shape[0] or shape[0] % 8:
        return P()
    features = [None] * (leaf.ndim - 1)
    is_wide = leaf.ndim > 1 and leaf.shape[-1] == shape[-1] and leaf.shape[-1] % 2 == 0
    if is_wide and "model" in mesh.axis_names:
        features[-1] = "model"
    return P("data", *features)


def placed(tree, shape, mesh):
    """Puts inputs on a mesh."""
    return jax.tree.map(
        lambda leaf: jax.device_put(leaf, NamedSharding(mesh, spec_of(leaf, shape, mesh))), tree
    )


def compiled(function, *arguments) -> Count:
    """Counts the collectives of a function."""
    return count(jax.jit(function).lower(*arguments).compile().as_text())


def of_function(case, mesh) -> tuple[Count, Count]:
    """Counts a row of the contract, forward, and forward with the gradient of its data."""
    subject = case.subject
    with jax.set_mesh(mesh):
        inputs = placed(subject.inputs, subject.data.shape, mesh)
        forward = compiled(lambda *inputs: subject(*inputs), *inputs)
        both = compiled(lambda *inputs: subject.value_and_pullback(*inputs), *inputs)
    return forward, both


def of_optimizer(make, mesh) -> tuple[Count]:
    """Counts one step of an optimizer with a technique in it."""
    params = {"kernel": jnp.ones((16, 8)), "bias": jnp.ones(16)}
    tx = make()
    with jax.set_mesh(mesh):
        placed_params = placed(params, (16, 8), mesh)
        state = jax.jit(tx.init)(placed_params)
        step = compiled(lambda params, state: take(tx, params, state), placed_params, state)
    return (step,)


def names() -> list[str]:
    """Returns the techniques of the table; of rows with equal names, the first counts."""
    spread = [case.name for case in cases.FUNCTIONS if spreads(case)]
    return [*dict.fromkeys(spread), *[f"optimizer with {name}" for name in OPTIMIZERS]]


def spreads(case) -> bool:
    """Returns whether the data of a row has a batch that eight devices can share."""
    data = case.subject.data
    return data.ndim > 0 and data.shape[0] % 8 == 0


def rows_of(name: str) -> list[tuple[str, ...]]:
    """Counts one technique on all meshes, as rows of the table."""
    functions = {case.name: case for case in reversed(cases.FUNCTIONS)}
    rows = []
    for size in SIZES:
        for mode in MODES:
            mesh = on_mesh(name, size, mode)
            if name in functions:
                counts = of_function(functions[name], mesh)
                programs = ("forward", "with gradient")
            else:
                counts = of_optimizer(OPTIMIZERS[name.removeprefix("optimizer with ")], mesh)
                programs = ("step",)
            for program, found in zip(programs, counts, strict=True):
                rows.append((name, size, mode, program, *map(str, found)))
    return rows


def slow_on_tpu(case) -> str:
    """Returns the operations of a row, with its gradient, that a TPU does badly; text of counts."""
    subject = case.subject
    traced = jax.jit(lambda *inputs: subject.value_and_pullback(*inputs)).trace(*subject.inputs)
    text = traced.lower(lowering_platforms=("tpu",)).as_text()
    found = {name: len(re.findall(rf"stablehlo\.{name}\b", text)) for name in SLOW}
    found |= Counter(re.findall(r"custom_call @(\w+)", text))
    return ", ".join(f"{number} {name}" for name, number in found.items() if number)


def write_slow(path: Path = SLOW_TABLE) -> None:
    """Writes the table of operations that a TPU does badly."""
    with path.open("w", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(("technique", "operations"))
        table.writerows((case.name, slow_on_tpu(case)) for case in cases.FUNCTIONS)


HEADER = ("technique", "mesh", "mode", "program", "collectives", "elements", "sometimes")


def write(path: Path = TABLE) -> None:
    """Writes the table, from programs that are compiled as in the tests."""
    jax.config.update("jax_disable_most_optimizations", True)
    jax.lax.platform_dependent = of_accelerator
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(HEADER)
        for name in names():
            table.writerows(rows_of(name))
            stream.flush()


if __name__ == "__main__":
    write()
    write_slow()
