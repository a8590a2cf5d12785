"""Every row of ``cases.py`` through every column of the contract."""

import inspect
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

import jaxreg
from jaxreg import dropout, linen, nnx, normalization, testing, training, transforms
from jaxreg.testing.derivatives import check_derivatives
from jaxreg.training import explain, statistics
from tests import cases

# What a narrow dtype can break: promotion, range and rounding. How a program is mapped, scanned or
# sharded does not depend on the dtype; `testing.check_regularizer` runs those columns in all three.
OF_A_DTYPE = {
    "float16": {"shape_and_dtype", "strict", "jit", "gradient_at_zero"},
    "bfloat16": {
        "shape_and_dtype",
        "strict",
        "jit",
        "jvp",
        "gradient_at_zero",
        "lowering",
        "traced_strength",
        "off",
    },
}
# What a second row of a function, with other options, shows only in part: its first row has them.
OF_A_FUNCTION = {
    "vmap",
    "jvp",
    "lowering",
    "explicit_mesh",
    "scan",
    "remat",
    "gradient_of_scan",
    "mapped_strengths",
    "shard_map",
    "auto_mesh",
    "explicit_mesh_last_axis",
}
# What an augmentation that draws its strengths can break: another row has what it calls.
FAST_OF_A_DRAW = {"signature", "strict", "shape_and_dtype"}
OF_A_DRAW = FAST_OF_A_DRAW | {"keys", "off", "jit", "traced_strength", "explicit_mesh"}
# The first rows compile most for these.
LONG = (OF_A_FUNCTION - {"lowering"}) | {"gradient", "gradient_of_strengths"}


def is_draw(case):
    """Whether it draws the strengths of an augmentation that has a row of its own."""
    name = case.function.__name__
    drawn = name.startswith("random_") and case.name.startswith("augment.")
    return drawn or case.name.startswith("augment.policies.")


def runs(case, column, dtype, *, first):
    """Whether the suite checks a column of a row."""
    narrow = OF_A_DTYPE.get(dtype)
    if is_draw(case):
        return column in OF_A_DRAW if narrow is None else column in {"strict", "shape_and_dtype"}
    if narrow is not None:
        return first and column in narrow
    return first or column not in OF_A_FUNCTION


def is_slow(case, column, dtype, *, first):
    """Whether other, faster cells show the most of it."""
    draw = is_draw(case) and column not in FAST_OF_A_DRAW
    return dtype in OF_A_DTYPE or not first or column in LONG or draw


def cells():
    """The checks that the suite makes, by name, and the names of those that are slow."""
    checks, slow, seen = {}, set(), set()
    for case in cases.FUNCTIONS:
        contract = testing.contract(case.bound, case.inputs, strengths=case.strengths, off=case.off)
        first = case.function not in seen
        seen.add(case.function)
        for name, check in contract.items():
            column, _, dtype = name.rstrip("]").partition("[")
            cell = f"{case.name}-{name}"
            if runs(case, column, dtype, first=first):
                checks[cell] = check
                slow |= {cell} if is_slow(case, column, dtype, first=first) else set()
    return checks, slow


CELLS, SLOW = cells()
MARKED = [pytest.param(cell, marks=[pytest.mark.slow] * (cell in SLOW)) for cell in CELLS]


@pytest.mark.parametrize("cell", MARKED)
def test_contract(cell):
    CELLS[cell]()


def public_names(module):
    return {getattr(module, name) for name in module.__all__}


def test_every_public_name_has_a_row():
    modules = [m for m in public_names(jaxreg) if isinstance(m, types.ModuleType)]
    modules += [jaxreg.augment.series, jaxreg.augment.text]
    modules += [*public_names(training), explain, statistics, transforms, linen, nnx, testing]
    names = set().union(*map(public_names, modules))
    names -= set(modules)
    rows = {case.function for case in cases.FUNCTIONS}
    rows |= {case.factory for case in cases.TRANSFORMATIONS}
    rows |= set(cases.ELSEWHERE)
    assert names == rows


def test_every_public_name_is_documented():
    rows = [c.function for c in cases.FUNCTIONS] + [c.factory for c in cases.TRANSFORMATIONS]
    for name in {*cases.ELSEWHERE, *rows}:
        doc = inspect.getdoc(name) or ""
        assert doc, f"{name} has no docstring"
        if inspect.isfunction(name):
            assert "Args:" in doc, f"{name} documents no arguments"
            assert ">>>" in doc, f"{name} has no example"


@pytest.mark.parametrize("case", cases.FUNCTIONS, ids=lambda c: c.name)
def test_float64_needs_no_implicit_promotion(case):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        inputs = jax.tree.map(
            lambda a: a.astype(jnp.float64) if a.dtype == jnp.float32 else a, case.inputs
        )
        jax.eval_shape(lambda *inputs: case.bound(*inputs, **case.strengths), *inputs)


ERRORS = [(case, *error) for case in cases.FUNCTIONS for error in case.errors]


@pytest.mark.parametrize(
    ("case", "kind", "message", "wrong"),
    ERRORS,
    ids=[f"{error[0].name}-{next(iter(error[3]))}" for error in ERRORS],
)
def test_wrong_arguments_are_named(case, kind, message, wrong):
    with pytest.raises(kind, match=message):
        case.function(*case.inputs, **{**case.options, **case.strengths, **wrong})


@pytest.mark.parametrize("case", cases.FUNCTIONS, ids=lambda c: c.name)
def test_integers_are_rejected(case):
    position = next(
        i for i, a in enumerate(case.inputs) if isinstance(a, jax.Array) and a.dtype == jnp.float32
    )
    inputs = list(case.inputs)
    inputs[position] = jnp.ones(inputs[position].shape, jnp.int32)
    # These pass by what is not floating-point.
    if case.function is jaxreg.penalties.total:
        assert case.bound(*inputs) == 0
        return
    if case.function in (transforms.sam_perturbation, transforms.asam_perturbation):
        assert not case.bound(*inputs, **case.strengths).any()
        return
    if case.function is jaxreg.noise.perturb:
        assert case.bound(*inputs, **case.strengths) is inputs[position]
        return
    with pytest.raises(TypeError, match=r"floating-point dtype, got int32"):
        case.bound(*inputs, **case.strengths)


def test_dropout_modules_equal_the_function():
    for axes in ((), (1,)):
        expected = dropout.dropout(cases.KEY, cases.X, rate=0.3, broadcast_axes=axes)
        module = linen.Dropout(0.3, deterministic=False, broadcast_dims=axes)
        np.testing.assert_array_equal(module.apply({}, cases.X, rng=cases.KEY), expected)
        layer = nnx.Dropout(0.3, rngs=flax_nnx.Rngs(0), broadcast_dims=axes)
        np.testing.assert_array_equal(layer(cases.X, rngs=cases.KEY), expected)


@pytest.mark.parametrize("mask", [None, cases.MASK], ids=["all", "masked"])
def test_batch_norm_modules_equal_the_function(mask):
    scale, bias = jnp.linspace(0.5, 1.5, 8), jnp.linspace(-1, 1, 8)
    expected, stats = normalization.batch_norm(
        cases.X, cases.STATS, scale=scale, bias=bias, momentum=0.9, where=mask
    )
    module = linen.BatchNorm(use_running_average=False, momentum=0.9)
    variables = {
        "params": {"scale": scale, "bias": bias},
        "batch_stats": cases.STATS._asdict(),
    }
    y, updated = module.apply(variables, cases.X, mask=mask, mutable=["batch_stats"])
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(updated["batch_stats"]["mean"], stats.mean)
    np.testing.assert_array_equal(updated["batch_stats"]["var"], stats.var)

    layer = nnx.BatchNorm(8, momentum=0.9, rngs=flax_nnx.Rngs(0))
    layer.scale[...], layer.bias[...] = scale, bias
    layer.mean[...], layer.var[...] = cases.STATS
    np.testing.assert_array_equal(layer(cases.X, mask=mask), expected)
    np.testing.assert_array_equal(layer.mean[...], stats.mean)
    np.testing.assert_array_equal(layer.var[...], stats.var)


@pytest.mark.slow
def test_the_contract_can_fail():
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

    with pytest.raises(AssertionError, match="gradient at zero"):
        testing.check_regularizer(rooted, (cases.X,))


def wrong_slope(x):
    return wrong_jvp(lambda x: x**3, lambda x: 3.1 * x**2)(x)


def wrong_transpose(x):
    def divided(by):
        return lambda _, b: b / by

    return jax.lax.custom_linear_solve(lambda v: 2 * v, x, divided(2), divided(2.1))


def wrong_curvature(x):
    return wrong_jvp(lambda x: x**3, wrong_jvp(lambda x: 3 * x**2, lambda x: 6.1 * x))(x)


def wrong_transpose_of_the_slope(x):
    return wrong_jvp(lambda x: x**2, lambda x: wrong_transpose(4 * x))(x)


def wrong_jvp(function, slope):
    wrong = jax.custom_jvp(function)
    wrong.defjvp(lambda x, dx: (wrong(*x), slope(*x) * dx[0]))
    return wrong


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (wrong_slope, "forward mode"),
        (wrong_transpose, "reverse mode"),
        (wrong_curvature, "forward over forward"),
        (wrong_transpose_of_the_slope, "reverse over forward"),
    ],
)
def test_a_wrong_derivative_fails(function, message):
    with jax.enable_x64(True), pytest.raises(AssertionError, match=message):
        check_derivatives(lambda x: function(x).sum(), jnp.linspace(1.0, 2.0, 16), order=2)
