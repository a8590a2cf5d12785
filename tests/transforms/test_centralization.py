"""Gradient centralization: the units of Flax kernels, sums in float32, and what it leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import transforms
from tests.helpers import few
from tests.transforms.helpers import one_step, updated


def centralized(gradient, **options):
    return updated(transforms.centralize(**options), gradient, None)


def some(shape):
    return np.random.default_rng(0).normal(1.0, 1.0, shape).astype(np.float32)


@few("shape", [(3, 3, 8, 16), (5, 4), (3, 2, 2, 4)])
def test_the_mean_of_every_unit_is_taken_off(shape):
    """``optax.centralize`` takes the mean over all axes but the first, an input of Flax kernels.

    With optax 0.2.8 this test shows both means, of units and of rows of kernels.
    """
    g = some(shape)
    axes = tuple(range(len(shape) - 1))
    wide = np.asarray(g, np.float64)
    expected = wide - wide.mean(axis=axes, keepdims=True)
    np.testing.assert_allclose(centralized(g), expected, atol=1e-6)
    theirs = np.asarray(updated(optax.centralize(), g, None))
    assert abs(theirs.mean(axis=axes)).max() > 0.05
    np.testing.assert_allclose(theirs.mean(axis=tuple(range(1, len(shape)))), 0, atol=1e-6)


def test_the_sums_of_units_stay_under_descent():
    params = {"params": {"kernel": some((5, 4)), "bias": np.zeros(4, np.float32)}}
    x = some((16, 5)).astype(np.float64)
    outer = 3 * (x @ params["params"]["kernel"]) ** 2  # gradient of the sum of cubes
    gradient = {"params": {"kernel": np.float32(x.T @ outer), "bias": np.float32(outer.sum(0))}}
    tx = optax.chain(transforms.centralize(), optax.sgd(0.1))
    after = one_step(tx, gradient, params)["params"]
    before = params["params"]
    np.testing.assert_allclose(after["kernel"].sum(0), before["kernel"].sum(0), atol=1e-3)
    assert abs(after["kernel"] - before["kernel"]).max() > 1
    np.testing.assert_allclose(after["bias"], -0.1 * gradient["params"]["bias"], rtol=1e-6)


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
    tree |= {"depthwise": some((3, 3, 1, 8)), "steps": np.arange(6).reshape(2, 3), "none": None}
    tree |= {"two": np.float32([[1], [3]])}
    after = centralized(tree)
    for name in ("bias", "scale", "kernel", "w", "steps"):
        np.testing.assert_array_equal(after[name], tree[name])
    assert after["none"] is None
    np.testing.assert_allclose(after["depthwise"].sum((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_array_equal(after["two"], [[-1], [1]])


@few("dtype", ["bfloat16", "float16"])
def test_narrow_gradients_are_summed_in_float32(dtype):
    g = np.full((4000, 2), 100.0, dtype)
    g[0] = 50.0
    expected = np.asarray(g, np.float64)
    expected -= expected.mean(axis=0)
    after = centralized(g)
    assert after.dtype == dtype
    np.testing.assert_allclose(np.asarray(after, np.float64), expected, rtol=1e-2)


def test_empty_kernels_and_non_finite_units():
    after = centralized(
        {
            "none": np.zeros((0, 3), np.float32),
            "no": np.zeros((3, 0), np.float32),
            "bad": np.float32([[1, np.inf], [3, 1]]),
        }
    )
    assert after["none"].shape == (0, 3)
    assert after["no"].shape == (3, 0)
    np.testing.assert_array_equal(after["bad"][:, 0], [-1, 1])
    assert not np.isfinite(np.asarray(after["bad"][:, 1])).any()


def test_updates_need_no_params_and_take_other_arguments():
    tx = transforms.centralize()
    g = some((5, 4))
    state = tx.init(g)
    moved, after = jax.jit(lambda g: tx.update(g, state, value=jnp.float32(1)))(g)
    np.testing.assert_array_equal(moved, centralized(g))
    assert after == state


def test_wrong_axes_are_named():
    with pytest.raises(ValueError, match=r"`axis` must lie in \[-2, 2\), got 2"):
        centralized(some((3, 3)), axis=2)


def test_gradients_of_integers_become_zeros_where_parameters_are_known():
    params = {"kernel": some((5, 4)), "n": np.arange(6).reshape(2, 3)}
    updates = {"kernel": some((5, 4)), "n": np.zeros((2, 3), jax.dtypes.float0)}
    tx = transforms.centralize()

    @jax.jit
    def step():
        known = tx.update(updates, tx.init(params), params)[0]["n"]
        unknown = tx.update(updates, tx.init(params))[0]["n"]
        assert unknown is updates["n"]
        return known

    assert step().dtype == jax.eval_shape(lambda: jnp.asarray(params["n"])).dtype
    np.testing.assert_array_equal(step(), np.zeros((2, 3)))
