"""The checks of the contract that run nothing fail where they should."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.testing import columns
from jaxreg.testing.subject import Subject

X = np.linspace(1.0, 2.0, 16, dtype=np.float32)


def subject(function, **strengths):
    return Subject(function, (jnp.asarray(X),), strengths, {})


def swallowing_more(x, **more):
    return x


def swallowing_all(*inputs):
    return inputs[0]


def positional(x, rate):
    return x


@pytest.mark.parametrize(
    ("function", "strengths", "message"),
    [
        (positional, {"rate": 0.5}, "`rate` is not keyword-only"),
        (swallowing_more, {}, r"takes \*\*kwargs"),
        (swallowing_all, {}, r"takes \*args"),
    ],
)
def test_a_wrong_signature_is_named(function, strengths, message):
    with pytest.raises(AssertionError, match=message):
        columns.signature(subject(function, **strengths))


def test_strong_strengths_that_promote_are_seen():
    def promotes(x, *, rate):
        return x * (1 - jnp.asarray(rate, jnp.float32))

    columns.shape_and_dtype(subject(promotes, rate=0.5))
    narrow = subject(promotes, rate=0.5).at("bfloat16")
    with pytest.raises(AssertionError, match="output 0 is float32, not bfloat16"):
        columns.shape_and_dtype(narrow)


def test_strengths_whose_dtype_is_taken_are_seen():
    narrow = subject(lambda x, *, rate: x * rate, rate=0.5).at("bfloat16")
    with pytest.raises(AssertionError, match="strong strengths promote"):
        columns.shape_and_dtype(narrow)


def test_implicit_promotion_of_dtypes_and_ranks_is_seen():
    with pytest.raises(Exception, match="no available implicit dtype promotion"):
        columns.strict(subject(lambda x: x * jnp.ones(16, jnp.bfloat16)))
    with pytest.raises(ValueError, match=r"could not be broadcast|rank promotion"):
        columns.strict(subject(lambda x: x * jnp.ones((2, 16))))


def test_a_float64_that_is_narrowed_is_seen():
    with pytest.raises(AssertionError, match="float64 is narrowed"):
        columns.float64(subject(lambda x: x.astype(jnp.float32)))
