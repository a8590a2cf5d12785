"""Checks that compare eager calls, or inspect a function without running it."""

import inspect
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jaxreg._checks import is_floating
from jaxreg.testing.derivatives import check_derivatives
from jaxreg.testing.subject import (
    Subject,
    assert_close,
    assert_same_bits,
    check_key_use,
    weighted_sum,
)


def signature(subject: Subject) -> None:
    """Checks that strengths are keyword-only, a key is named ``key``, and there is no ``*args``."""
    parameters = list(inspect.signature(subject.function).parameters.values())
    kinds = {p.kind for p in parameters}
    assert inspect.Parameter.VAR_KEYWORD not in kinds, "takes **kwargs"
    assert inspect.Parameter.VAR_POSITIONAL not in kinds, "takes *args"
    names = [p.name for p in parameters]
    if subject.is_random:
        assert names[0] == "key", f"the first argument is `{names[0]}`, not `key`"
    for p in parameters:
        if p.name in subject.strengths:
            assert p.kind is p.KEYWORD_ONLY, f"`{p.name}` is not keyword-only"


def gradient(subject: Subject) -> None:
    """Checks first and second derivatives, in both modes, against finite differences."""
    with jax.enable_x64(True):
        wide = subject.wide()
        check_derivatives(wide.scalar_of_data, wide.data, order=2)


def gradient_of_strengths(subject: Subject) -> None:
    """Checks the derivative with respect to the strengths against finite differences."""
    with jax.enable_x64(True):
        wide = subject.wide()

        def value(strengths: dict[str, jax.Array]) -> jax.Array:
            return weighted_sum(wide.function(*wide.inputs, **strengths))

        strengths = {k: jnp.asarray(v, jnp.float64) for k, v in subject.strengths.items()}
        check_derivatives(value, strengths, order=1)


def float64(subject: Subject) -> None:
    """Checks that float64 data stays float64."""
    with jax.enable_x64(True):
        wide = subject.wide()
        result = jax.eval_shape(wide, *wide.inputs)
    assert jax.tree.leaves(result)[0].dtype == jnp.float64, "float64 is narrowed"


def shape_and_dtype(subject: Subject) -> None:
    """Checks the output dtypes, and that strengths as float32 arrays change no shape or dtype."""
    result = jax.eval_shape(partial(subject.function, **_strong(subject)), *subject.inputs)
    plain = jax.eval_shape(subject, *subject.inputs)
    assert jax.tree.map(_aval, result) == jax.tree.map(_aval, plain), "strong strengths promote"
    check_dtypes(subject, result)


def check_dtypes(subject: Subject, result: Any) -> None:
    """Checks that a first output shaped like the data has its dtype, and other floats float32."""
    for position, leaf in enumerate(jax.tree.leaves(result)):
        if not is_floating(leaf):
            continue
        like_data = position == 0 and leaf.shape == subject.data.shape
        expected = subject.data.dtype if like_data else jnp.dtype(jnp.float32)
        assert leaf.dtype == expected, f"output {position} is {leaf.dtype}, not {expected}"


def jit(subject: Subject) -> None:
    """Checks that compiled and eager results agree."""
    assert_close(
        jax.jit(subject)(*subject.inputs), subject(*subject.inputs), dtype=subject.data.dtype.name
    )


def traced_strength(subject: Subject) -> None:
    """Checks that traced strengths act like Python numbers, and new values do not recompile."""
    traces = []

    @jax.jit
    def call(strengths: dict[str, jax.Array]) -> Any:
        traces.append(1)
        return subject.function(*subject.inputs, **strengths)

    for factor in (1.0, 0.75, 0.5):
        values = {k: factor * v for k, v in subject.strengths.items()}
        strengths = {k: jnp.asarray(v, jnp.float32) for k, v in values.items()}
        expected = subject.function(*subject.inputs, **values)
        assert_close(call(strengths), expected, dtype=subject.data.dtype.name)
    assert len(traces) == 1, f"traced {len(traces)} times"


def off(subject: Subject) -> None:
    """Checks that strengths that are off, traced or not, return the data bit for bit."""
    special = jnp.array([0.0, -0.0, 1e-40, jnp.inf, -jnp.inf, jnp.nan], subject.data.dtype)
    call = jax.jit(lambda strengths, *inputs: subject.function(*inputs, **strengths))
    traced_off = {k: jnp.asarray(v, jnp.float32) for k, v in subject.off.items()}
    for data in (subject.data, jnp.resize(special, subject.data.shape)):
        inputs = list(subject.inputs)
        inputs[subject.data_position] = data
        static = subject.function(*inputs, **{**subject.strengths, **subject.off})
        traced = call({**subject.strengths, **traced_off}, *inputs)
        assert_same_bits(static, data)
        assert_same_bits(traced, data)


def keys(subject: Subject) -> None:
    """Checks that a key changes the result, is used once, and may be typed or raw."""
    key, *rest = subject.inputs
    expected = subject.program(key, *rest)
    assert_close(subject(key, *rest), expected, dtype=subject.data.dtype.name)
    other = subject.program(jax.random.fold_in(key, 1), *rest)
    same = jax.tree.map(np.array_equal, other, expected)
    assert not all(jax.tree.leaves(same)), "the key is not used"
    legacy = subject.program(jax.random.key_data(key), *rest)
    assert_close(legacy, expected, dtype=subject.data.dtype.name)
    check_key_use(subject)


def strict(subject: Subject) -> None:
    """Checks that neither result nor gradient promotes ranks or dtypes implicitly."""
    strict_result(subject)
    strict_gradient(subject)


def strict_result(subject: Subject) -> Any:
    """Returns the output shapes for float32 arrays as strengths; raises on implicit promotion."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        return jax.eval_shape(partial(subject.function, **_strong(subject)), *subject.inputs)


def strict_gradient(subject: Subject) -> Any:
    """Returns the shape of the data's gradient; raises on implicit promotion."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        return jax.eval_shape(jax.grad(subject.scalar_of_data), subject.data)


def _strong(subject: Subject) -> dict[str, Any]:
    return {name: np.asarray(v, np.float32) for name, v in subject.strengths.items()}


def lowering(subject: Subject) -> None:
    """Checks that function and gradient lower for CPU, GPU and TPU without host callbacks."""
    for function, arguments in (
        (subject, subject.inputs),
        (jax.grad(subject.scalar_of_data), (subject.data,)),
    ):
        exported = export.export(jax.jit(function), platforms=("cpu", "cuda", "tpu"))(*arguments)
        assert "callback" not in exported.mlir_module(), "calls back to the host"


def _aval(leaf: Any) -> tuple[tuple[int, ...], str]:
    return leaf.shape, str(leaf.dtype)


ONCE = (signature, gradient, float64)
ONCE_WITH_STRENGTHS = (gradient_of_strengths,)
PER_DTYPE = (shape_and_dtype, jit, strict, lowering)
PER_DTYPE_WITH_STRENGTHS = (traced_strength,)
PER_DTYPE_WITH_OFF = (off,)
PER_DTYPE_WITH_KEY = (keys,)
