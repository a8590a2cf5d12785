"""The optimizer of a recipe, against Adam in NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import transforms
from jaxreg.study import Recipe, optimizers

RATE = 0.1
PARAMS = {
    "kernel": np.sin(np.arange(12.0, dtype=np.float32)).reshape(3, 4),
    "bias": np.ones(4, np.float32),
}


def gradient(params):
    return jax.tree.map(lambda w: 0.1 * jnp.cos(3 * w), params)


def train(tx, recipe, params, steps=6):
    """Parameters to evaluate after some steps of one scan."""
    tx = optax.with_extra_args_support(tx)

    def step(carry, _):
        now, state = carry
        updates, state = tx.update(gradient(now), state, now, grad_fn=gradient)
        return (optax.apply_updates(now, updates), state), None

    now, state = jax.lax.scan(step, (params, tx.init(params)), length=steps)[0]
    return optimizers.params_to_evaluate(recipe, state, now)


def adam(params, steps, *, before=lambda g: g, after=lambda old, new: new):
    """Adam in NumPy, with what changes gradients before it and kernels after its step."""
    now = {name: np.float64(value) for name, value in params.items()}
    first = {name: np.zeros_like(value) for name, value in now.items()}
    second = {name: np.zeros_like(value) for name, value in now.items()}
    for count in range(1, steps + 1):
        grads = {name: 0.1 * np.cos(3 * w) for name, w in now.items()}
        grads = before(grads)
        for name, w in now.items():
            g = grads[name]
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g**2
            size = np.sqrt(second[name] / (1 - 0.999**count)) + 1e-8
            step = RATE * first[name] / (1 - 0.9**count) / size
            now[name] = after(w, w - step) if name == "kernel" else w - step
    return now


def assert_close(found, want):
    for name, value in want.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=1e-5, err_msg=name)


def test_links_act_in_the_order_of_the_table():
    """Clipping, then the mean; decays of the old weights; then steps to zero; then a bound.

    Adam's first step is of the gradient's sign, so three steps show what comes before it.
    """
    recipe = Recipe(
        {"gradient_clipping": 0.2, "centralize": True, "l2": 0.5, "independent_decay": 0.05,
         "l1": 0.2, "sparse_units": 0.3, "max_norm": 1.2}
    )  # fmt: skip

    def before(grads):
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        grads = {name: g * min(1, 0.2 / norm) for name, g in grads.items()}
        return grads | {"kernel": grads["kernel"] - grads["kernel"].mean(axis=0)}

    def after(old, new):
        new = new - RATE * 0.5 * old - 0.05 * old
        new = np.sign(new) * np.maximum(abs(new) - RATE * 0.2, 0)
        norms = np.sqrt((new**2).sum(axis=0))
        new = new * np.maximum(0, 1 - RATE * 0.3 * np.sqrt(3) / norms)
        return new * np.minimum(1, 1.2 / np.sqrt((new**2).sum(axis=0)))

    want = adam(PARAMS, 3, before=before, after=after)
    found = jax.jit(lambda params: train(optimizers.optimizer(recipe, RATE), recipe, params, 3))
    assert_close(found(PARAMS), want)


def test_a_recipe_that_is_off_is_adam():
    """Whether it is empty, or has the cheap arms at strengths that do nothing."""
    cheap = Recipe().with_cheap()

    @jax.jit
    def both(params, strengths):
        ways = (Recipe(), strengths)
        return [train(optimizers.optimizer(r, RATE), r, params) for r in ways]

    for found in both(PARAMS, jax.tree.map(np.float32, cheap)):
        assert_close(found, adam(PARAMS, 6))


def test_wrappers_are_built_from_the_inside_out():
    recipe = Recipe({"adaptive_l1": 0.01, "lookahead": 0.5, "average_steps": 5.0, "sam": 0.05,
                     "asam": 0.1})  # fmt: skip
    assert optimizers.needs_gradients(recipe)

    def both(params):
        inner = optax.adam(RATE)
        inner = optimizers.acting(optimizers.Wrapper)[0].acts.function(inner, 0.01, RATE)
        inner = transforms.lookahead(inner, period=5, step_size=0.5)
        inner = optax.chain(inner, transforms.exponential_average(1 - 1 / 5))
        inner = transforms.sam(transforms.asam(inner, 0.1), 0.05)
        ours = optimizers.optimizer(recipe, RATE)
        return train(ours, recipe, params), train(inner, recipe, params)

    found, want = jax.jit(both)(PARAMS)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), found, want)


@pytest.mark.parametrize(
    ("strengths", "path"),
    [
        ({"l2": 1.0}, None),
        ({"sam": 1.0}, None),
        ({"lookahead": 0.5}, ()),
        ({"average_steps": 5.0}, (-1,)),
        ({"lookahead": 0.5, "average_steps": 5.0}, (-1,)),
        ({"average_steps": 5.0, "sam": 0.1, "asam": 0.1}, ("inner_state", "inner_state", -1)),
        ({"adaptive_l1": 0.1, "lookahead": 0.5, "sam": 0.1}, ("inner_state",)),
    ],
)
def test_the_outermost_average_is_found(strengths, path):
    assert optimizers.average_path(Recipe(strengths)) == path
    sharpness = {"sam", "asam"} & set(strengths)
    assert optimizers.needs_gradients(Recipe(strengths)) == bool(sharpness)


def test_an_average_is_evaluated_where_it_is_kept():
    """After three steps with a running average over five, by hand, inside of a wrapper."""
    recipe = Recipe({"average_steps": 5.0, "sam": 0.0001})
    steps = jax.jit(
        lambda params: (
            train(optimizers.optimizer(recipe, RATE), recipe, params, 3),
            [train(optax.adam(RATE), Recipe(), params, n) for n in (1, 2, 3)],
        )
    )
    found, path = steps(PARAMS)
    kernels = np.stack([np.asarray(each["kernel"], np.float64) for each in path])
    weights = 0.8 ** np.array([2, 1, 0])
    want = np.tensordot(weights / weights.sum(), kernels, 1)
    np.testing.assert_allclose(found["kernel"], want, rtol=1e-3)
