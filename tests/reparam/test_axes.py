"""The output axes of a kernel, and factors along them."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx as fnx

from jaxreg import reparam
from jaxreg._axes import split_axes
from jaxreg._paths import path_names
from jaxreg.reparam import axes
from tests.normalization.helpers import compiled, refuses

MODELS = {
    "linen": lambda: nn.MultiHeadDotProductAttention(2).init(
        jax.random.key(4), np.ones((1, 3, 8), "f4")
    )["params"],
    "nnx": lambda: fnx.state(
        fnx.MultiHeadAttention(2, 8, decode=False, rngs=fnx.Rngs(0)), fnx.Param
    ),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_output_axes_of_attention(model):
    found = {
        path_names(path)[-2]: reparam.output_axes(path_names(path), w)
        for path, w in jax.tree_util.tree_leaves_with_path(jax.eval_shape(model))
        if path_names(path)[-1] == "kernel"
    }
    assert found == {"query": (-2, -1), "key": (-2, -1), "value": (-2, -1), "out": -1}


def test_the_output_axes_of_others():
    assert reparam.output_axes(("query", "kernel"), np.ones((4, 4))) == -1
    assert reparam.output_axes(("query", "kernel"), np.ones((4, 4, 4, 4))) == -1
    assert reparam.output_axes(("kernel",), np.ones((3, 4, 4))) == -1
    assert reparam.output_axes(("query", "dense", "kernel"), np.ones((3, 4, 4))) == -1


def test_output_axes_and_all_others():
    w = np.ones((2, 3, 4))
    assert split_axes(w, -1) == ((2,), (0, 1))
    assert split_axes(w, (2, -3)) == ((0, 2), (1,))
    assert split_axes(w, ()) == ((), (0, 1, 2))


def test_factors_stand_along_the_output_axes():
    w = np.ones((2, 3, 4), np.float16)
    scale = np.arange(8.0).reshape(2, 4)
    factors = compiled(lambda s: axes.align_scale(s, w, (0, 2), (1,)), scale)
    assert factors.dtype == np.float32
    np.testing.assert_array_equal(factors, scale[:, None])
    one = compiled(lambda s: axes.align_scale(s, w, (0, 2), (1,)), 3.0)
    np.testing.assert_array_equal(one, np.full((2, 1, 4), 3))
    message = r"`scale` must broadcast to shape \(2, 4\), got shape \(3,\)"
    refuses(ValueError, message, axes.align_scale, np.ones(3), w, (0, 2), (1,))
