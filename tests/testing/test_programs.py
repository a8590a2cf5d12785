"""Each column of the fused contract fails where it should, and the error names it."""

import jax
import jax.numpy as jnp
import pytest

from jaxreg.testing import programs
from jaxreg.testing.subject import Subject

KEY = jax.random.key(0)
X = jnp.linspace(1.0, 2.0, 16)


def check(function, *inputs, strengths=None, off=None):
    programs.program(Subject(function, inputs, strengths or {}, off or {}))


def test_a_function_that_keeps_the_contract_passes():
    def noise(key, x, *, rate):
        return jnp.where(rate == 0, x, x + rate * jax.random.normal(key, x.shape))

    check(noise, KEY, X, strengths={"rate": 0.5}, off={"rate": 0.0})


def of_reverse_mode(x):
    wrong = jax.custom_jvp(jnp.square)

    @wrong.defjvp
    def _(x, dx):
        doubled = jax.lax.custom_linear_solve(
            lambda v: 2 * v, 4 * dx[0], lambda _, b: b / 2, lambda _, b: b / 2.1
        )
        return jnp.square(x[0]), x[0] * doubled

    return wrong(x)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: jnp.sqrt(x - 1), r"^jvp: the gradient is not finite"),
        (of_reverse_mode, r"^jvp: [\s\S]*Not equal to tolerance"),
        (jnp.linalg.norm, r"^gradient_at_zero: the gradient at a constant zero is not finite"),
        (lambda x: 1 / x, r"^gradient_at_zero: the value at a constant zero is not finite"),
    ],
)
def test_a_wrong_derivative_is_named(function, message):
    with pytest.raises(AssertionError, match=message):
        check(function, X)


def batched_wrongly(x):
    batched = jax.custom_batching.custom_vmap(jnp.sin)
    batched.def_vmap(lambda _size, _mapped, x: (jnp.cos(x), True))
    differentiable = jax.custom_jvp(lambda x: batched(x))
    differentiable.defjvp(lambda x, dx: (batched(x[0]), jnp.cos(x[0]) * dx[0]))
    return differentiable(x)


def test_a_wrong_batching_rule_is_named():
    with pytest.raises(AssertionError, match=r"^vmap: [\s\S]*Not equal to tolerance"):
        check(batched_wrongly, X)


def test_branches_of_python_are_named():
    def halves(x, *, rate):
        return x * (1 - rate) if rate > 0 else x

    with pytest.raises(jax.errors.TracerBoolConversionError) as caught:
        check(halves, X, strengths={"rate": 0.5})
    assert "while tracing traced_strength" in caught.value.__notes__


def test_a_wrong_traced_branch_is_named():
    def scaled(x, *, rate):
        return x * (1 - rate if isinstance(rate, float) else 1 - 1.01 * rate)

    with pytest.raises(AssertionError, match=r"^traced_strength: "):
        check(scaled, X, strengths={"rate": 0.5})


def test_a_strength_of_one_mapping_alone_is_named():
    def scaled(x, *, rate):
        return x * (1 - rate) if isinstance(rate, float) and rate < 0.4 else x * (1 - 0.5)

    with pytest.raises(AssertionError, match=r"^mapped_strengths: "):
        check(scaled, X, strengths={"rate": 0.5})


def test_what_changes_the_data_when_off_is_named():
    def scaled(x, *, rate):
        return x * (1 - rate) + 0

    with pytest.raises(AssertionError, match=r"^off: bits differ"):
        check(scaled, X, strengths={"rate": 0.5}, off={"rate": 0.0})


def test_keys_that_are_not_used_or_used_twice_are_named():
    with pytest.raises(AssertionError, match=r"^keys: the key is not used"):
        check(lambda key, x: x, KEY, X)

    def twice(key, x):
        return x + jax.random.normal(key, x.shape) * jax.random.uniform(key, x.shape)

    with pytest.raises(jax.errors.KeyReuseError):
        check(twice, KEY, X)


def test_legacy_keys_are_compared():
    def by_kind(key, x):
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        return x + jax.random.normal(key, x.shape) * (1 if typed else 2)

    with pytest.raises(AssertionError, match=r"^keys: [\s\S]*Not equal to tolerance"):
        check(by_kind, KEY, X)
