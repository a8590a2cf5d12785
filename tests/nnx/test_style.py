"""Filter response norm and adaptive instance norm as NNX modules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

from jaxreg import nnx, normalization
from tests.helpers import few
from tests.trees import draw

X = draw(2, 4, 3)
NAMES = ("bias", "scale", "threshold")


def test_filter_response_norm_starts_as_a_rectified_norm():
    @jax.jit
    def run(x):
        plain = normalization.filter_response_norm(x)
        layer = nnx.FilterResponseNorm(3, rngs=flax_nnx.Rngs(0))
        free = nnx.FilterResponseNorm(3, use_threshold=False, rngs=flax_nnx.Rngs(0))
        return (layer(x), free(x)), (jax.nn.relu(plain), plain)

    ours, expected = run(X)
    jax.tree.map(np.testing.assert_array_equal, ours, expected)
    free = flax_nnx.eval_shape(
        lambda: nnx.FilterResponseNorm(3, use_threshold=False, rngs=flax_nnx.Rngs(0))
    )
    assert set(flax_nnx.to_pure_dict(flax_nnx.state(free, flax_nnx.Param))) == {"scale", "bias"}


@few("param_dtype", [jnp.float32, jnp.bfloat16])
@few("dtype", [None, jnp.bfloat16])
def test_dtypes_and_metadata_of_filter_response_norm(dtype, param_dtype):
    metadata = {f"{name}_metadata": {"role": name} for name in NAMES}

    def build():
        return nnx.FilterResponseNorm(
            3, dtype=dtype, param_dtype=param_dtype, rngs=flax_nnx.Rngs(0), **metadata
        )

    y = jax.eval_shape(lambda x: build()(x), X.astype(jnp.bfloat16))
    assert y.dtype == (dtype or param_dtype)
    layer = flax_nnx.eval_shape(build)
    for name in NAMES:
        assert getattr(layer, name).dtype == param_dtype
        assert getattr(layer, name).get_metadata()["role"] == name


def test_a_narrow_input_of_filter_response_norm_is_widened():
    @jax.jit
    def run(x):
        layer = nnx.FilterResponseNorm(3, use_threshold=False, rngs=flax_nnx.Rngs(0))
        return layer(x), normalization.filter_response_norm(x.astype(jnp.float32))

    np.testing.assert_array_equal(*run(X.astype(jnp.bfloat16)))


def test_initializers_of_filter_response_norm_are_fields():
    values = {"bias": 2.0, "scale": 3.0, "threshold": 4.0}
    inits = {
        f"{name}_init": flax_nnx.initializers.constant(value) for name, value in values.items()
    }

    @jax.jit
    def run(key):
        layer = nnx.FilterResponseNorm(3, rngs=flax_nnx.Rngs(key), **inits)
        return flax_nnx.to_pure_dict(flax_nnx.state(layer, flax_nnx.Param))

    for name, param in run(jax.random.key(0)).items():
        np.testing.assert_array_equal(param, values[name] * np.ones(3))


def test_integers_are_rejected():
    with pytest.raises(TypeError, match="`x` must have a floating-point dtype, got int32"):
        jax.eval_shape(
            lambda x: nnx.FilterResponseNorm(3, rngs=flax_nnx.Rngs(0))(x), np.ones((4, 3), np.int32)
        )


def test_a_mask_that_does_not_broadcast_is_named():
    x = draw(2, 4, 3)
    style = draw(2, 3)
    with pytest.raises(ValueError, match=r"`mask` must broadcast to the .*got shape \(2, 4\)"):
        nnx.AdaptiveInstanceNorm()(x, style, style, mask=np.ones((2, 4), bool))
