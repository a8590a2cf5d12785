"""The optimizer of a recipe, in the study, in the program and in NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import masks, projections, proximal, transforms
from jaxreg.study import Recipe, optimizers, recipe_optimizer, recipe_parts, summary
from jaxreg.study.data import TASKS

RATE = 0.1
PARAMS = {
    "kernel": np.sin(np.arange(12.0, dtype=np.float32)).reshape(3, 4),
    "bias": np.ones(4, np.float32),
}
NAMES = {
    "masks": masks, "optax": optax, "projections": projections, "proximal": proximal,
    "partial": partial, "transforms": transforms, "LEARNING_RATE": RATE,
}  # fmt: skip


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


def by_program(recipe):
    """The optimizer that the program of a recipe makes."""
    parts = recipe_parts.Parts(dict(summary.techniques(recipe)), TASKS["digits"], "digits", 9, 9, 1)
    names = dict(NAMES)
    exec(recipe_optimizer.optimizer(parts), names)
    return names["make_optimizer"]()


def adam(params, steps, *, before=lambda g: g, after=lambda w: w):
    """Adam in NumPy, with what changes gradients before it and kernels after its step."""
    now = {name: np.float64(value) for name, value in params.items()}
    first = {name: np.zeros_like(value) for name, value in now.items()}
    second = {name: np.zeros_like(value) for name, value in now.items()}
    for count in range(1, steps + 1):
        for name, w in now.items():
            g = 0.1 * np.cos(3 * w)
            g = before(g) if name == "kernel" else g
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g**2
            size = np.sqrt(second[name] / (1 - 0.999**count)) + 1e-8
            step = RATE * first[name] / (1 - 0.9**count) / size
            now[name] = after(w, w - step) if name == "kernel" else w - step
    return now


def assert_close(found, want):
    for name, value in want.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", [*optimizers.BEFORE, *optimizers.AFTER, *optimizers.AROUND])
def test_a_link_of_the_program_is_the_one_of_the_study(name):
    strengths = {"centralize": True, "average_steps": 5.0}
    recipe = Recipe(**{name: strengths.get(name, 0.5)})

    @jax.jit
    def both(params):
        ours = train(optimizers.optimizer(recipe, RATE), recipe, params)
        return ours, train(by_program(recipe), recipe, params)

    ours, written = both(PARAMS)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), written, ours)
    plain = adam(PARAMS, 6, after=lambda old, new: new)
    assert (abs(np.asarray(ours["kernel"]) - plain["kernel"]) > 1e-4).any()


def test_links_act_on_kernels_in_the_order_of_the_table():
    """The decays take their shares of the old weights; then come steps to zero; then a bound."""
    recipe = Recipe(
        centralize=True, l2=0.5, independent_decay=0.05, l1=0.2, sparse_units=0.3, max_norm=1.2
    )

    def bound(w):
        norms = np.sqrt((w**2).sum(axis=0))
        return w * np.minimum(1, 1.2 / norms)

    def close(w, threshold):
        norms = np.sqrt((w**2).sum(axis=0))
        return w * np.maximum(0, 1 - threshold / norms)

    def after(old, new):
        new = new - RATE * 0.5 * old - 0.05 * old
        new = np.sign(new) * np.maximum(abs(new) - RATE * 0.2, 0)
        return bound(close(new, RATE * 0.3 * np.sqrt(3)))

    want = adam(PARAMS, 3, before=lambda g: g - g.mean(axis=0), after=after)
    found = jax.jit(lambda params: train(optimizers.optimizer(recipe, RATE), recipe, params, 3))
    assert_close(found(PARAMS), want)


def test_a_recipe_that_is_off_is_adam():
    recipe = Recipe()
    found = jax.jit(lambda params: train(optimizers.optimizer(recipe, RATE), recipe, params))
    assert_close(found(PARAMS), adam(PARAMS, 6, after=lambda old, new: new))


def test_wrappers_are_built_from_the_inside_out():
    order = ["adaptive_l1", "lookahead", "average_steps", "asam", "sam"]
    assert list(optimizers.AROUND) == order
    assert list(optimizers.BEFORE) == ["centralize"]
    assert list(optimizers.AFTER) == [
        "cautious_decay", "l2", "independent_decay", "l1", "sparse_units", "max_norm",
    ]  # fmt: skip
    recipe = Recipe(lookahead=0.5, average_steps=5.0, sam=0.05, asam=0.1)

    def both(params):
        inner = optax.chain(optax.adam(RATE), *off_links())
        inner = transforms.lookahead(inner, period=5, step_size=0.5)
        inner = optax.chain(inner, transforms.exponential_average(1 - 1 / 5))
        inner = transforms.sam(transforms.asam(inner, 0.1), 0.05)
        ours = optimizers.optimizer(recipe, RATE)
        return train(ours, recipe, params), train(inner, recipe, params)

    found, want = jax.jit(both)(PARAMS)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), found, want)


def off_links():
    """The links that every program has a place for, at strengths that do nothing."""
    return [optimizers.AFTER[n].make(getattr(Recipe(), n), RATE) for n in ("l2", "l1", "max_norm")]


def test_averages_are_evaluated_where_they_are_kept():
    """After five steps with a running average over five, by hand."""
    recipe = Recipe(average_steps=5.0)
    steps = jax.jit(
        lambda params: (
            train(optimizers.optimizer(recipe, RATE), recipe, params, 3),
            [train(optax.adam(RATE), Recipe(), params, n) for n in (1, 2, 3)],
        )
    )
    found, path = steps(PARAMS)
    kernels = np.stack([np.asarray(each["kernel"], np.float64) for each in path])
    weights = 0.8 ** np.array([2, 1, 0])
    want = (weights[:, None, None] * kernels).sum(axis=0) / weights.sum()
    np.testing.assert_allclose(found["kernel"], want, rtol=1e-4)
