"""The changes that ``docs/guides/swap.md`` shows, applied to programs and trained."""

import re
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "guides" / "swap.md"
MOST_CHANGES = 10


def changes():
    """The changes of every file: pairs of old and new lines."""
    found = {}
    for block in re.findall(r"```diff\n# (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        name, text = block
        pairs = re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)*)", text, re.MULTILINE)
        found[name] = [tuple(re.sub("^.", "", part, flags=re.M) for part in pair) for pair in pairs]
    return found


CHANGES = changes()


def module(name, *, swapped):
    """A program as a module, with or without the changes."""
    text = (HERE / name).read_text()
    for old, new in CHANGES[name] if swapped else ():
        assert old in text, f"{name} has no line {old}"
        text = text.replace(old, new)
    made = types.ModuleType(f"{name}_{swapped}")
    exec(compile(text, name, "exec"), vars(made))
    return made


def changed_lines(name):
    """Number of lines of the program that are new."""
    before = (HERE / name).read_text()
    old = before.splitlines()
    after = before
    for part, new in CHANGES[name]:
        after = after.replace(part, new)
    return len([line for line in after.splitlines() if line.strip() and line not in old])


@pytest.mark.parametrize("name", CHANGES)
def test_few_lines_change(name):
    assert 0 < changed_lines(name) <= MOST_CHANGES


@pytest.mark.parametrize("name", CHANGES)
def test_checkpoints_and_evaluation_stay_the_same(name):
    results = []
    for swapped in (False, True):
        program = module(name, swapped=swapped)
        inputs, labels = program.batch()
        model = program.Model()
        variables = jax.jit(model.init, static_argnums=2)(jax.random.key(1), inputs, True)
        logits = jax.jit(model.apply, static_argnums=2)(variables, inputs, True)
        loss = program.loss_of(logits, labels, 0.1)
        results.append((nn.meta.unbox(variables), logits, loss))
    (before, *values), (after, *others) = results
    jax.tree.map(np.testing.assert_array_equal, before, after)
    for value, other in zip(values, others, strict=True):
        np.testing.assert_allclose(value, other, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("swapped", [False, True])
def test_both_versions_learn(name, swapped):
    program = module(name, swapped=swapped)
    inputs, labels = program.batch()
    model = program.Model()
    init = jax.jit(model.init, static_argnums=2)
    variables = nn.meta.unbox(init(jax.random.key(1), inputs, True))
    params = variables.pop("params")
    tx = program.optimizer()

    @jax.jit
    def step(params, rest, state, key):
        def loss(params):
            logits, moved = model.apply(
                {"params": params, **rest}, inputs, False, rngs={"dropout": key}, mutable=[*rest]
            )
            return program.loss_of(logits, labels, 0.1), moved

        (value, rest), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), rest, state, value

    state = tx.init(params)
    values = []
    for key in jax.random.split(jax.random.key(2), 20):
        params, variables, state, value = step(params, variables, state, key)
        values.append(value)
    assert jnp.isfinite(jnp.array(values)).all()
    assert np.mean(values[-5:]) < 0.95 * np.mean(values[:3])
