"""Gradient centralization: the units of Flax kernels, sums in float32, and what it leaves alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import transforms


def centralized(gradient, **options):
    tx = transforms.centralize(**options)
    return tx.update(gradient, tx.init(gradient))[0]


def some(shape, dtype="float32"):
    return jnp.asarray(np.random.default_rng(0).normal(1.0, 1.0, shape), dtype)


@pytest.mark.parametrize("shape", [(5, 4), (3, 3, 8, 16), (3, 2, 2, 4)])
def test_the_mean_of_every_unit_is_taken_off(shape):
    """``optax.centralize`` takes the mean over all axes but the first, an input of Flax kernels.

    With optax 0.2.8 this test shows both means, that of units and that of rows of kernels.
    """
    g = some(shape)
    axes = tuple(range(len(shape) - 1))
    wide = np.asarray(g, np.float64)
    expected = wide - wide.mean(axis=axes, keepdims=True)
    np.testing.assert_allclose(centralized(g), expected, atol=1e-6)
    theirs, _ = optax.centralize().update(g, optax.EmptyState())
    assert abs(theirs.mean(axis=axes)).max() > 0.05
    np.testing.assert_allclose(theirs.mean(axis=tuple(range(1, len(shape)))), 0, atol=1e-6)


def test_the_sums_of_units_stay_under_descent():
    model = nn.Dense(4)
    x = some((16, 5))
    params = model.init(jax.random.key(0), x)
    tx = optax.chain(transforms.centralize(), optax.sgd(0.1))
    gradient = jax.grad(lambda p: jnp.sum(model.apply(p, x) ** 3))(params)
    updates, _ = tx.update(gradient, tx.init(params), params)
    after = optax.apply_updates(params, updates)["params"]
    before = params["params"]
    np.testing.assert_allclose(after["kernel"].sum(0), before["kernel"].sum(0), atol=1e-4)
    assert abs(after["kernel"] - before["kernel"]).max() > 1
    np.testing.assert_array_equal(after["bias"], -0.1 * gradient["params"]["bias"])


def test_other_axes_hold_the_units_of_attention():
    g = some((6, 2, 3))
    wide = np.asarray(g, np.float64)
    expected = wide - wide.mean(axis=0, keepdims=True)
    np.testing.assert_allclose(centralized(g, axis=0), expected, atol=1e-6)
    np.testing.assert_allclose(centralized(g, axis=(-3,)), expected, atol=1e-6)
    np.testing.assert_array_equal(centralized(g, axis=()), g)


def test_offsets_and_units_of_one_weight_are_left_alone():
    """The gradient of a unit with one weight would be zero, and it would never learn."""
    tree = {"bias": some((2, 3)), "scale": some((2, 3)), "kernel": some((1, 3)), "w": some((3,))}
    after = centralized(tree)
    for name, leaf in tree.items():
        np.testing.assert_array_equal(after[name], leaf)
    depthwise = some((3, 3, 1, 8))
    np.testing.assert_allclose(centralized(depthwise).sum((0, 1, 2)), 0, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_gradients_are_summed_in_float32(dtype):
    g = jnp.full((4000, 2), 100.0, dtype).at[0].set(50.0)
    expected = np.asarray(g, np.float64)
    expected -= expected.mean(axis=0)
    after = centralized(g)
    assert after.dtype == dtype
    np.testing.assert_allclose(np.asarray(after, np.float64), expected, rtol=1e-2)


def test_empty_kernels_and_non_finite_units():
    assert centralized(jnp.zeros((0, 3))).shape == (0, 3)
    assert centralized(jnp.zeros((3, 0))).shape == (3, 0)
    after = centralized(jnp.array([[1.0, jnp.inf], [3.0, 1.0]]))
    np.testing.assert_array_equal(after[:, 0], [-1, 1])
    assert not np.isfinite(after[:, 1]).any()


def test_wrong_axes_are_named():
    with pytest.raises(ValueError, match=r"`axis` must lie in \[-2, 2\), got 2"):
        centralized(some((3, 3)), axis=2)
