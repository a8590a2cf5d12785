"""Which leaves of Linen, NNX and plain trees count as kernels."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx, traverse_util

from jaxreg import masks


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Embed(7, 8)(x)
        x = linen.MultiHeadDotProductAttention(num_heads=2)(x)
        x = linen.LayerNorm()(x)
        x = linen.Conv(8, (3,))(x)
        x = linen.BatchNorm(use_running_average=False)(x)
        x = linen.GroupNorm(num_groups=2)(linen.RMSNorm()(x))
        return linen.Dense(3)(x)


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(7, 8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.norms = nnx.List([nnx.LayerNorm(8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)])
        self.conv = nnx.Conv(8, 8, (3,), rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.dense = nnx.Linear(8, 3, rngs=rngs)


def chosen(flat):
    return {"/".join(map(str, path)) for path, flag in flat.items() if flag}


def test_a_linen_model():
    # eval_shape: names, shapes and dtypes are enough.
    tokens = jnp.zeros((2, 5), jnp.int32)
    variables = jax.eval_shape(lambda: Linen().init(jax.random.key(0), tokens))
    mask = masks.kernels(variables["params"])
    assert jax.tree.structure(mask) == jax.tree.structure(variables["params"])
    attention = "MultiHeadDotProductAttention_0"
    assert chosen(traverse_util.flatten_dict(mask)) == {
        "Embed_0/embedding",
        *(f"{attention}/{name}/kernel" for name in ("query", "key", "value", "out")),
        "Conv_0/kernel",
        "Dense_0/kernel",
    }
    statistics = masks.kernels(variables["batch_stats"])
    assert not any(jax.tree.leaves(statistics))


def test_an_nnx_state():
    state = nnx.state(Nnx(nnx.Rngs(0)))
    mask = masks.kernels(state)
    assert jax.tree.structure(mask) == jax.tree.structure(state)
    flat = jax.tree_util.tree_flatten_with_path(nnx.to_pure_dict(mask))[0]
    assert chosen({tuple(k.key for k in path): flag for path, flag in flat}) == {
        "embed/embedding",
        *(f"attention/{name}/kernel" for name in ("query", "key", "value", "out")),
        "conv/kernel",
        "dense/kernel",
    }


def test_an_nnx_pure_dict_has_the_same_mask():
    state = nnx.state(Nnx(nnx.Rngs(0)), nnx.Param)
    pure = masks.kernels(nnx.to_pure_dict(state))
    assert jax.tree.leaves(pure) == jax.tree.leaves(masks.kernels(state))


def test_biases_and_scales_of_two_axes_are_not_kernels():
    # As in attention, [heads, depth], and in layers scanned together, [layers, features].
    names = ["bias", "scale", "b", "offset", "mean", "var"]
    params = {name: jnp.ones((4, 3)) for name in names}
    assert not any(jax.tree.leaves(masks.kernels(params)))


def test_scanned_linen_layers():
    class Block(linen.Module):
        @linen.compact
        def __call__(self, x, _):
            return linen.LayerNorm()(linen.Dense(3)(x)), None

    layers = linen.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=4)()
    params = layers.init(jax.random.key(0), jnp.ones((2, 3)), None)["params"]
    assert params["LayerNorm_0"]["scale"].ndim == params["Dense_0"]["bias"].ndim == 2
    assert chosen(traverse_util.flatten_dict(masks.kernels(params))) == {"Dense_0/kernel"}


def test_partition_metadata_is_looked_through():
    def boxed(initializer):
        return linen.with_partitioning(initializer, (None,))

    dense = linen.Dense(
        3,
        kernel_init=linen.with_partitioning(linen.initializers.lecun_normal(), (None, "x")),
        bias_init=boxed(linen.initializers.zeros),
    )
    params = dense.init(jax.random.key(0), jnp.ones((1, 2)))["params"]
    mask = masks.kernels(params)
    assert isinstance(mask["kernel"], linen.Partitioned)
    assert mask["kernel"].value is True
    assert mask["bias"].value is False
    # A scanned bias inside its box has two axes, and `value` is not its name.
    params["bias"] = params["bias"].replace_boxed(jnp.ones((4, 3)))
    assert masks.kernels(params)["bias"].value is False


@pytest.mark.parametrize(
    ("leaf", "want"),
    [
        (jnp.ones((2, 3)), True),
        (np.ones((2, 3)), True),
        (jnp.ones((3, 3, 3, 4, 5)), True),
        (jnp.ones((2, 3), jnp.bfloat16), True),
        (jnp.ones((2, 3), jnp.complex64), True),
        (jnp.ones((0, 3)), True),
        (jax.ShapeDtypeStruct((2, 3), jnp.float16), True),
        (jnp.ones(3), False),
        (jnp.ones(()), False),
        (1.0, False),
        (jnp.ones((2, 3), jnp.int8), False),
        (jnp.ones((2, 3), bool), False),
        (jax.random.split(jax.random.key(0), (2, 3)), False),
    ],
    ids=lambda v: str(getattr(v, "dtype", v)) + str(getattr(v, "shape", "")),
)
def test_leaves_by_dtype_and_axes(leaf, want):
    assert masks.kernels({"w": leaf}) == {"w": want}
    assert masks.kernels(leaf) is want
    assert masks.kernels([leaf, (leaf,)]) == [want, (want,)]


def test_structures_without_leaves_stay():
    assert masks.kernels({}) == {}
    assert masks.kernels(None) is None
    assert masks.kernels({"a": None, "b": [()]}) == {"a": None, "b": [()]}


def test_a_name_is_looked_up_and_not_matched_in_part():
    params = {"biased_kernel": 0, "scale_up": 0, "mean": {"kernel": 0}, "kernel": {"bias": 0}}
    params = jax.tree.map(lambda _: jnp.ones((2, 2)), params)
    want = {"biased_kernel": True, "scale_up": True, "mean": {"kernel": True}}
    assert masks.kernels(params) == {**want, "kernel": {"bias": False}}


def test_attribute_names_count_too():
    class Layer(NamedTuple):
        kernel: jax.Array
        bias: jax.Array

    assert masks.kernels(Layer(jnp.ones((2, 2)), jnp.ones((2, 2)))) == Layer(True, False)


def test_a_parameter_named_value_is_a_kernel():
    assert masks.kernels({"value": jnp.ones((2, 2))}) == {"value": True}
    assert masks.kernels({"value": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones((2, 2))}}) == {
        "value": {"kernel": True, "bias": False}
    }


def test_values_are_never_read():
    @jax.jit
    def traced(w):
        return masks.kernels({"kernel": w, "bias": w})

    assert traced(jnp.ones((2, 2))) == {"kernel": True, "bias": False}
