"""Every row of ``tests/cases`` keeps the contract: one program and one abstract check a row.

Eager calls, derivatives against finite differences, meshes, narrow dtypes and the rows of options
are in ``tests/exhaustive/test_contract.py``.
"""

import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import pytest

import jaxreg
from jaxreg import transforms
from jaxreg.testing import columns, programs
from jaxreg.testing.subject import check_key_use
from tests import cases

FIRST = cases.first_rows()
of_each_row = pytest.mark.parametrize("case", cases.FUNCTIONS, ids=lambda case: case.name)


@pytest.mark.parametrize(
    "case",
    [case for case in FIRST if case.function not in cases.WRAPPERS],
    ids=lambda case: case.name,
)
def test_program(case):
    programs.program(case.subject)


@of_each_row
def test_abstract(case):
    """Signature, promotion and dtypes, seen without running anything."""
    columns.signature(case.subject)
    for dtype in ("float32", "bfloat16", "float16") if case.narrows else ("float32",):
        with names_the_column(dtype):
            subject = case.subject.at(dtype)
            columns.check_dtypes(subject, columns.strict_result(subject))
            if case in FIRST and dtype != "float16":
                columns.strict_gradient(subject)
    if case.subject.is_random and case not in FIRST:
        check_key_use(case.subject)
    with names_the_column("float64"), jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        wide = case.subject.wide()
        result = jax.eval_shape(wide, *wide.inputs)
        assert jax.tree.leaves(result)[0].dtype == jnp.float64, "float64 is narrowed"


@contextlib.contextmanager
def names_the_column(name):
    try:
        yield
    except Exception as error:
        error.add_note(f"while checking {name}")
        raise


@of_each_row
def test_wrong_arguments_are_named(case):
    """While tracing, where strengths are Python values all the same and nothing is computed."""
    for kind, message, wrong in case.errors:
        function = partial(case.function, **{**case.options, **case.strengths, **wrong})
        with pytest.raises(kind, match=message):
            jax.eval_shape(function, *case.inputs)


# These skip leaves that are not floating-point and leave them unchanged.
OF_TREES = {
    jaxreg.penalties.total,
    jaxreg.noise.perturb,
    transforms.sam_perturbation,
    transforms.asam_perturbation,
}


@of_each_row
def test_integers_are_rejected(case):
    inputs = with_integers(case)
    function = partial(case.bound, **case.strengths)
    if case.function in cases.OF_LABELS:
        few = [a[..., :3] if a.dtype == jnp.int32 and a.ndim == 4 else a for a in inputs]
        jax.eval_shape(function, *few)
    elif case.function in OF_TREES:
        result = function(*inputs)
        assert result is inputs[1] if case.function is jaxreg.noise.perturb else not result.any()
    else:
        with pytest.raises(TypeError, match=r"floating-point dtype.*, got int32"):
            jax.eval_shape(function, *inputs)


def with_integers(case):
    """The inputs of a case with its first array of floats in int32."""
    inputs = list(case.inputs)
    position = next(
        i for i, a in enumerate(inputs) if isinstance(a, jax.Array) and a.dtype == jnp.float32
    )
    inputs[position] = jnp.ones(inputs[position].shape, jnp.int32)
    return inputs
