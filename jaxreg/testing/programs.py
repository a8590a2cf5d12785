"""Checks ("columns") that compute results in a compiled program and compare them in NumPy.

A column is a computation on a :class:`Traced` subject and a comparison of its results. Called
alone, a column is one program; :func:`program` compiles all columns of a subject as one program,
which is several times cheaper.
"""

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.testing.subject import Subject, assert_close, assert_same_bits, check_key_use

_FACTORS = (1.0, 0.75, 0.5)
_SPECIAL = (0.0, -0.0, 1e-40, np.inf, -np.inf, np.nan)


class Traced:
    """Subject with traced inputs, and cached results that several columns share."""

    def __init__(
        self,
        subject: Subject,
        inputs: tuple[Any, ...],
        strengths: dict[str, Any],
        off: dict[str, Any],
    ):
        self.subject = dataclasses.replace(subject, inputs=inputs)
        self.strengths = strengths
        self.off = off

    @cached_property
    def result(self) -> Any:
        """Result of the function, with Python numbers as strengths."""
        return self.subject(*self.subject.inputs)

    @cached_property
    def value_and_gradient(self) -> tuple[jax.Array, jax.Array]:
        """Weighted sum of the outputs, and its gradient with respect to the data."""
        return jax.value_and_grad(self.subject.scalar_of_data)(self.subject.data)

    @cached_property
    def variants(self) -> tuple[Any, ...]:
        """Three different inputs, stacked along a new first axis."""
        return self.subject.variants(len(_FACTORS))

    @cached_property
    def loop_results(self) -> Any:
        """Stacked results for the variants, computed in a scan."""
        return jax.lax.scan(lambda _, inputs: (0, self.subject(*inputs)), 0, self.variants)[1]

    def with_strengths(self, strengths: dict[str, Any]) -> Any:
        """Returns the result of the function, with the given strengths."""
        return self.subject.function(*self.subject.inputs, **strengths)


@dataclasses.dataclass(frozen=True)
class Column:
    """Check that computes results inside a compiled program and compares them outside."""

    compute: Callable[[Traced], dict[str, Any]]
    compare: Callable[[Subject, dict[str, Any]], None]

    @property
    def __name__(self) -> str:
        return self.compute.__name__

    def __call__(self, subject: Subject) -> None:
        """Runs this column in its own compiled program."""
        self.compare(subject, _run(subject, [self])[self.__name__])


def program(subject: Subject) -> None:
    """Runs all columns in one compiled program; errors begin with the name of the column."""
    columns = [*ALWAYS]
    if subject.strengths:
        columns += [TRACED_STRENGTH, MAPPED_STRENGTHS]
    if subject.off:
        columns.append(OFF)
    if subject.is_random:
        columns.append(KEYS)
    results = _run(subject, columns)
    for column in columns:
        try:
            column.compare(subject, results[column.__name__])
        except AssertionError as error:
            raise AssertionError(f"{column.__name__}: {error}") from error


def _run(subject: Subject, columns: list[Column]) -> dict[str, Any]:
    @jax.jit
    def run(*arguments: Any) -> dict[str, Any]:
        traced = Traced(subject, *arguments)
        results = {}
        for column in columns:
            try:
                results[column.__name__] = column.compute(traced)
            except Exception as error:
                error.add_note(f"while tracing {column.__name__}")
                raise
        return results

    return run(subject.inputs, _float32(subject.strengths), _float32(subject.off))


def _float32(values: dict[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(value, np.float32) for name, value in values.items()}


def jvp(traced: Traced) -> dict[str, Any]:
    """Checks that forward and reverse mode agree along a direction, with a finite gradient."""
    data = traced.subject.data
    direction = jnp.cos(jnp.arange(data.size)).reshape(data.shape).astype(data.dtype)
    forward = jax.jvp(traced.subject.scalar_of_data, (data,), (direction,))[1]
    return {
        "forward": forward,
        "gradient": traced.value_and_gradient[1],
        "direction": direction,
    }


def _compare_jvp(subject: Subject, results: dict[str, Any]) -> None:
    wide = {name: np.asarray(value, np.float64) for name, value in results.items()}
    assert np.isfinite(wide["gradient"]).all(), "the gradient is not finite"
    products = wide["gradient"] * wide["direction"]
    bound = {"float32": 1e-4, "bfloat16": 0.1, "float16": 2e-2}[subject.data.dtype.name]
    atol = bound * (1 + np.sum(np.abs(products)))
    np.testing.assert_allclose(wide["forward"], np.sum(products), rtol=0, atol=atol)


def gradient_at_zero(traced: Traced) -> dict[str, Any]:
    """Checks that value and gradient are finite at zero, as an input and as a constant."""
    differentiated = jax.value_and_grad(traced.subject.scalar_of_data)
    data = traced.subject.data
    return {
        "zero": differentiated(jnp.where(jnp.isnan(data), data, jnp.zeros_like(data))),
        "a constant zero": differentiated(jnp.zeros_like(data)),
    }


def _compare_gradient_at_zero(_subject: Subject, results: dict[str, Any]) -> None:
    for point, (value, gradient) in results.items():
        for name, result in (("value", value), ("gradient", gradient)):
            finite = np.isfinite(np.asarray(result, np.float64)).all()
            assert finite, f"the {name} at {point} is not finite"


def vmap(traced: Traced) -> dict[str, Any]:
    """Checks that ``vmap`` over stacked inputs gives the results of a loop."""
    return {"actual": jax.vmap(traced.subject)(*traced.variants), "expected": traced.loop_results}


def scan(traced: Traced) -> dict[str, Any]:
    """Checks that the last step of a scan gives the result of a direct call."""
    inputs = jax.tree.map(lambda a: a[-1], traced.variants)
    last = jax.tree.map(lambda a: a[-1], traced.loop_results)
    return {"actual": last, "expected": traced.subject(*inputs)}


def remat(traced: Traced) -> dict[str, Any]:
    """Checks that ``jax.checkpoint`` does not change the gradient."""
    subject = traced.subject
    again = jax.grad(jax.checkpoint(subject.scalar_of_data))(subject.data)
    return {"actual": again, "expected": traced.value_and_gradient[1]}


def gradient_of_scan(traced: Traced) -> dict[str, Any]:
    """Checks that the gradient through a scan equals the sum of the gradients of its steps."""
    subject = traced.subject
    # The compiler must not know that these are ones, or it would move the step out of the loop.
    ones = jnp.where(jnp.isnan(subject.data.ravel()[0]), jnp.zeros(3), jnp.ones(3))

    def sum_in_scan(data: jax.Array) -> jax.Array:
        def body(total: jax.Array, one: jax.Array) -> tuple[jax.Array, None]:
            return total + subject.scalar_of_data(data * one), None

        return jax.lax.scan(body, jnp.zeros(()), ones.astype(data.dtype))[0]

    actual = jax.grad(sum_in_scan)(subject.data).astype(jnp.float32)
    return {"actual": actual, "expected": 3 * traced.value_and_gradient[1].astype(jnp.float32)}


def traced_strength(traced: Traced) -> dict[str, Any]:
    """Checks that traced strengths give the same result as Python numbers."""
    return {"actual": traced.with_strengths(traced.strengths), "expected": traced.result}


def mapped_strengths(traced: Traced) -> dict[str, Any]:
    """Checks that ``vmap`` over strengths gives the same results as Python numbers."""
    factors = jnp.asarray(_FACTORS, jnp.float32)
    many = {name: value * factors for name, value in traced.strengths.items()}
    mapped = jax.vmap(traced.with_strengths)(many)
    last = {name: value * _FACTORS[-1] for name, value in traced.subject.strengths.items()}
    return {
        "first": (jax.tree.map(lambda a: a[0], mapped), traced.result),
        "last": (jax.tree.map(lambda a: a[-1], mapped), traced.with_strengths(last)),
    }


def _compare_equal(subject: Subject, results: dict[str, Any]) -> None:
    assert_close(results["actual"], results["expected"], dtype=subject.data.dtype.name)


def _compare_mapped(subject: Subject, results: dict[str, Any]) -> None:
    for actual, expected in results.values():
        assert_close(actual, expected, dtype=subject.data.dtype.name)


def off(traced: Traced) -> dict[str, Any]:
    """Checks that strengths that are off, traced or not, return the data bit for bit."""
    subject = traced.subject
    special = jnp.resize(jnp.asarray(_SPECIAL, subject.data.dtype), subject.data.shape)
    results = {}
    for kind, values in (("static", subject.off), ("traced", traced.off)):
        at = dataclasses.replace(subject, strengths={**subject.strengths, **values})
        results[kind] = [(at.of_data(data), data) for data in (subject.data, special)]
    return results


def _compare_off(_subject: Subject, results: dict[str, Any]) -> None:
    for pairs in results.values():
        for actual, expected in pairs:
            assert_same_bits(actual, expected)


def keys(traced: Traced) -> dict[str, Any]:
    """Checks that a key changes the result, is used once, and may be typed or raw."""
    key, *rest = traced.subject.inputs
    return {
        "result": traced.result,
        "other": traced.subject(jax.random.fold_in(key, 1), *rest),
        "legacy": traced.subject(jax.random.key_data(key), *rest),
    }


def _compare_keys(subject: Subject, results: dict[str, Any]) -> None:
    same = jax.tree.map(np.array_equal, results["other"], results["result"])
    assert not all(jax.tree.leaves(same)), "the key is not used"
    assert_close(results["legacy"], results["result"], dtype=subject.data.dtype.name)
    check_key_use(subject)


ALWAYS = (
    Column(jvp, _compare_jvp),
    Column(gradient_at_zero, _compare_gradient_at_zero),
    Column(vmap, _compare_equal),
    Column(scan, _compare_equal),
    Column(remat, _compare_equal),
    Column(gradient_of_scan, _compare_equal),
)
TRACED_STRENGTH = Column(traced_strength, _compare_equal)
MAPPED_STRENGTHS = Column(mapped_strengths, _compare_mapped)
OFF = Column(off, _compare_off)
KEYS = Column(keys, _compare_keys)
