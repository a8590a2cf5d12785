"""Wrong derivatives of every kind fail, each named by the modes that show it."""

import jax
import jax.numpy as jnp
import pytest

from jaxreg.testing.derivatives import check_derivatives


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
