"""Every row of ``tests/cases`` keeps the contract: one program and one abstract check a row.

Eager calls, derivatives against finite differences, meshes, narrow dtypes and the rows of options
are in ``tests/exhaustive/test_contract.py``.
"""

import jax
import jax.numpy as jnp
import pytest

import jaxreg
from jaxreg import testing, transforms
from jaxreg.testing import programs
from tests import cases

# What is seen without running anything, in all dtypes.
ABSTRACT = ("signature", "float64", "shape_and_dtype", "strict")
of_each_row = pytest.mark.parametrize("case", cases.FUNCTIONS, ids=lambda case: case.name)


@pytest.mark.parametrize("case", cases.first_rows(), ids=lambda case: case.name)
def test_program(case):
    programs.program(case.subject)


@of_each_row
def test_abstract(case):
    checks = testing.contract(case.bound, case.inputs, strengths=case.strengths, off=case.off)
    for name, check in checks.items():
        if name.split("[")[0] in ABSTRACT:
            try:
                check()
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error
    float64_needs_no_implicit_promotion(case)


def float64_needs_no_implicit_promotion(case):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        wide = case.subject.wide()
        jax.eval_shape(lambda *inputs: wide.function(*inputs, **wide.strengths), *wide.inputs)


@of_each_row
def test_wrong_arguments_are_named(case):
    for kind, message, wrong in case.errors:
        with pytest.raises(kind, match=message):
            case.function(*case.inputs, **{**case.options, **case.strengths, **wrong})


# These pass by leaves that are not floating-point, and leave them as they are.
OF_TREES = {
    jaxreg.penalties.total,
    jaxreg.noise.perturb,
    transforms.sam_perturbation,
    transforms.asam_perturbation,
}


@of_each_row
def test_integers_are_rejected(case):
    inputs = with_integers(case)
    if case.function in OF_TREES:
        result = case.bound(*inputs, **case.strengths)
        assert result is inputs[1] if case.function is jaxreg.noise.perturb else not result.any()
    else:
        with pytest.raises(TypeError, match=r"floating-point dtype, got int32"):
            case.bound(*inputs, **case.strengths)


def with_integers(case):
    """The inputs of a case with its first array of floats in int32."""
    inputs = list(case.inputs)
    position = next(
        i for i, a in enumerate(inputs) if isinstance(a, jax.Array) and a.dtype == jnp.float32
    )
    inputs[position] = jnp.ones(inputs[position].shape, jnp.int32)
    return inputs
