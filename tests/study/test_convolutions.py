"""Convolutions as products, against XLA's own outside of a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxreg.study.convolutions import as_products

ROWS = {
    "same": ((2, 6, 5, 3), nn.Conv(4, (3, 3))),
    "valid and strides": ((2, 7, 6, 3), nn.Conv(4, (3, 2), strides=(2, 1), padding="VALID")),
    "holes": ((2, 9, 8, 3), nn.Conv(4, (3, 2), kernel_dilation=(2, 3))),
    "one axis": ((2, 9, 3), nn.Conv(4, (3,), padding="CAUSAL")),
    "three axes": ((1, 4, 5, 3, 2), nn.Conv(2, (2, 3, 1))),
    "pointwise": ((2, 6, 5, 3), nn.Conv(4, (1, 1))),
    "no bias": ((2, 6, 5, 3), nn.Conv(4, (3, 3), use_bias=False)),
    "groups": ((2, 6, 5, 4), nn.Conv(4, (3, 3), feature_group_count=2)),
    "transposed": ((2, 6, 5, 3), nn.ConvTranspose(4, (3, 3), strides=(2, 2))),
}


@pytest.mark.parametrize("name", ROWS)
def test_values_and_gradients_are_those_of_the_convolution(name):
    shape, layer = ROWS[name]
    x = np.sin(np.arange(np.prod(shape), dtype=np.float32) ** 2).reshape(shape)
    variables = jax.jit(layer.init)(jax.random.key(0), x)

    def call(variables, x):
        return jax.nn.relu(layer.apply(variables, x)), {"kept": x}

    def both(function):
        def run(variables, x):
            out, pull = jax.vjp(function, variables, x)
            return out, pull(jax.tree.map(jnp.cos, out))

        return jax.jit(run)(variables, x)

    actual = both(as_products(call))
    expected = both(call)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def test_every_order_of_axes_is_kept():
    x = np.sin(np.arange(2 * 6 * 5 * 3, dtype=np.float32)).reshape(3, 6, 5, 2)
    kernel = np.cos(np.arange(3 * 3 * 3 * 4, dtype=np.float32)).reshape(4, 3, 3, 3)

    def call(x, kernel):
        orders = ("CHWN", "OHWI", "HCNW")
        return jax.lax.conv_general_dilated(x, kernel, (1, 2), "SAME", dimension_numbers=orders)

    np.testing.assert_allclose(
        jax.jit(as_products(call))(x, kernel), jax.jit(call)(x, kernel), rtol=2e-5, atol=2e-5
    )


def test_a_step_in_a_loop_has_no_convolution():
    x = jnp.ones((2, 6, 5, 3))
    layer = nn.Conv(4, (3, 3))
    params = jax.jit(layer.init)(jax.random.key(0), x)

    def train(params):
        def step(params, _):
            loss = as_products(lambda params: (jax.jit(layer.apply)(params, x) ** 2).sum())
            slope = jax.grad(loss)(params)
            return jax.tree.map(lambda w, g: w - 0.1 * g, params, slope), None

        return jax.lax.scan(step, params, None, 3)[0]

    text = jax.jit(train).lower(params).as_text()
    assert "stablehlo.convolution" not in text
    assert "stablehlo.dot_general" in text
