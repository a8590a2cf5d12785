"""Filter response norm and adaptive instance norm as Linen modules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec as P

from jaxreg import linen, normalization
from tests.helpers import few
from tests.trees import draw

KEY = jax.random.key(11)
AFFINE = {"scale": np.float32([0.5, 1, 2]), "bias": np.float32([-1, 0, 0.25])}


def test_filter_response_norm_without_a_threshold():
    layer = linen.FilterResponseNorm(epsilon=0.01, use_threshold=False)

    @jax.jit
    def run(x):
        expected = normalization.filter_response_norm(x, **AFFINE, eps=0.01)
        return layer.apply({"params": AFFINE}, x), expected

    y, expected = run(draw(2, 4, 3))
    np.testing.assert_array_equal(y, expected)
    made = jax.eval_shape(lambda: layer.init(KEY, draw(2, 4, 3)))
    assert set(made["params"]) == {"scale", "bias"}


def test_filter_response_norm_starts_as_a_rectified_norm():
    @jax.jit
    def run(x):
        y, _ = linen.FilterResponseNorm().init_with_output(KEY, x)
        return y, jax.nn.relu(normalization.filter_response_norm(x))

    np.testing.assert_array_equal(*run(draw(2, 4, 3)))


@few("param_dtype", [jnp.float32, jnp.bfloat16])
@few("dtype", [None, jnp.bfloat16])
def test_dtypes_of_filter_response_norm(dtype, param_dtype):
    x = draw(2, 4, 3).astype(jnp.bfloat16)
    layer = linen.FilterResponseNorm(dtype=dtype, param_dtype=param_dtype)
    y, variables = jax.eval_shape(lambda: layer.init_with_output(KEY, x))
    assert {a.dtype for a in jax.tree.leaves(variables)} == {np.dtype(param_dtype)}
    assert y.dtype == (dtype or param_dtype)


def test_a_narrow_input_of_filter_response_norm_is_widened():
    x = draw(2, 4, 3).astype(jnp.bfloat16)
    params = {**AFFINE, "threshold": np.zeros(3, np.float32)}

    @jax.jit
    def run(x):
        y = linen.FilterResponseNorm().apply({"params": params}, x)
        return y, normalization.filter_response_norm(x.astype(jnp.float32), **params)

    np.testing.assert_array_equal(*run(x))


def test_partition_metadata_of_filter_response_norm():
    initializers = {"scale": nn.initializers.ones, "bias": nn.initializers.zeros}
    initializers |= {"threshold": nn.initializers.zeros}
    fields = {
        f"{name}_init": nn.with_partitioning(init, ("model",))
        for name, init in initializers.items()
    }
    layer = linen.FilterResponseNorm(**fields)
    variables = jax.eval_shape(lambda: layer.init(KEY, draw(2, 4, 3)))
    specs = jax.tree.leaves(nn.get_partition_spec(variables), is_leaf=lambda s: isinstance(s, P))
    assert specs == [P("model")] * 3


@pytest.mark.parametrize("fields", [{"scale_init": 2.0}, {"bias_init": 3.0}])
def test_initializers_of_filter_response_norm_are_fields(fields):
    (name, value), *_ = fields.items()
    layer = linen.FilterResponseNorm(**{name: nn.initializers.constant(value)})
    params = jax.jit(layer.init)(KEY, draw(2, 4, 3))["params"]
    np.testing.assert_array_equal(params[name.removesuffix("_init")], value * np.ones(3))


def test_integers_are_rejected():
    with pytest.raises(TypeError, match="`x` must have a floating-point dtype, got int32"):
        linen.FilterResponseNorm().init(KEY, np.ones((2, 3), np.int32))


def test_a_mask_that_does_not_broadcast_is_named():
    x = draw(2, 4, 3)
    style = draw(2, 3)
    layer = linen.AdaptiveInstanceNorm()
    with pytest.raises(ValueError, match=r"`mask` must broadcast to the .*got shape \(2, 4\)"):
        jax.eval_shape(lambda: layer.apply({}, x, style, style, mask=np.ones((2, 4), bool)))
