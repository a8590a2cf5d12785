"""The columns of the contract that the default suite leaves out, one by one.

The default suite runs, for the first row of each function, all columns of ``testing.programs`` in
float32. Here are, by the kind of row (a draw samples the strengths of an augmentation):

| columns | first rows | other rows | draws |
|---|---|---|---|
| the columns of ``testing.programs``, as one program | bfloat16, float16 | float32 | float32 |
| eager against compiled: jit, traced_strength, off, keys | all dtypes | float32 | float32 |
| gradient, gradient_of_strengths | float64 | float64 | |
| lowering | float32, bfloat16 | | |
| shard_map, auto_mesh, explicit_mesh_last_axis | float32 | | |
| explicit_mesh | float32 | | float32 |
"""

import jax.numpy as jnp
import pytest

from jaxreg import testing
from jaxreg.testing import programs
from tests import cases

EAGER = {"jit", "traced_strength", "off", "keys"}
DERIVATIVES = {"gradient", "gradient_of_strengths"}
DEVICES = {"shard_map", "auto_mesh", "explicit_mesh", "explicit_mesh_last_axis"}
FIRST = cases.first_rows()
OTHER = [case for case in cases.FUNCTIONS if case not in FIRST and not case.draws_strengths]
DRAWS = [case for case in cases.FUNCTIONS if case.draws_strengths]
PROGRAMS = [(case, dtype) for case in FIRST for dtype in ("bfloat16", "float16")]
PROGRAMS += [(case, "float32") for case in (*OTHER, *DRAWS)]
PROGRAMS += [(case, "float32") for case in FIRST if case.function in cases.WRAPPERS]


def runs(case, column, dtype):
    """Returns whether a column of a row is checked by itself; what needs no dtype has none."""
    if case.draws_strengths:
        columns = {"float32": EAGER | {"explicit_mesh"}}
    elif case in FIRST:
        all_of_them = EAGER | DEVICES | {"lowering"}
        narrow = {"bfloat16": EAGER | {"lowering"}, "float16": EAGER}
        columns = {"": DERIVATIVES, "float32": all_of_them, **narrow}
    else:
        columns = {"": DERIVATIVES, "float32": EAGER}
    return column in columns.get(dtype, set())


def cells():
    """The checks by the name of their row and column."""
    checks = {}
    for case in cases.FUNCTIONS:
        contract = testing.contract(case.bound, case.inputs, strengths=case.strengths, off=case.off)
        for name, check in contract.items():
            column, _, dtype = name.rstrip("]").partition("[")
            if runs(case, column, dtype):
                checks[f"{case.name}-{name}"] = check
    return checks


CELLS = cells()


@pytest.mark.parametrize("cell", CELLS)
def test_cell(cell):
    CELLS[cell]()


@pytest.mark.parametrize(
    ("case", "dtype"), PROGRAMS, ids=[f"{case.name}-{dtype}" for case, dtype in PROGRAMS]
)
def test_program(case, dtype):
    programs.program(case.subject.at(dtype))


def test_the_whole_contract_can_fail():
    def halves(x, *, rate):
        return x * (1 - rate) if rate > 0 else x

    with pytest.raises(Exception, match="Tracer"):
        testing.check_regularizer(halves, (cases.X,), strengths={"rate": 0.5})

    def promotes(x, *, rate):
        return x * (1 - jnp.asarray(rate, jnp.float32))

    with pytest.raises(AssertionError, match=r"^shape_and_dtype\[bfloat16\]"):
        testing.check_regularizer(promotes, (cases.X,), strengths={"rate": 0.5})

    def positional(x, rate):
        return x

    with pytest.raises(AssertionError, match=r"^signature: `rate` is not keyword-only"):
        testing.check_regularizer(positional, (cases.X,), strengths={"rate": 0.5})

    def rooted(w):
        return jnp.linalg.norm(w if w.dtype == jnp.float64 else w.astype(jnp.float32))

    with pytest.raises(AssertionError, match="the gradient at a constant zero"):
        testing.check_regularizer(rooted, (cases.X,))
