"""Trains all runs of one call in a compiled program."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

from jaxreg.study import steps
from jaxreg.study.arms import acting
from jaxreg.study.arms.row import Term, arguments
from jaxreg.study.convolutions import as_products
from jaxreg.study.data import Split
from jaxreg.study.models import MakeModel, Model, as_model
from jaxreg.study.objectives import Objective
from jaxreg.study.optimizers import optimizer, params_to_evaluate
from jaxreg.study.recipes import Recipe
from jaxreg.study.runs import Runs
from jaxreg.training import early_stopping


class Plan(NamedTuple):
    """Static arguments of the compiled training loop."""

    make_model: MakeModel
    objective: Objective
    epochs: int
    batch_size: int
    learning_rate: float
    devices: tuple[Any, ...]
    together: int
    num_classes: int | None


class _State(NamedTuple):
    """Training state of a run between two epochs."""

    variables: Any
    optimizer: optax.OptState
    stopping: Any
    start: Any
    train_loss: jax.Array
    validation_loss: jax.Array


def mesh_of(devices: tuple[Any, ...]) -> jax.sharding.Mesh:
    """Returns the mesh over which a call spreads its runs."""
    return jax.sharding.Mesh(np.array(devices), ("runs",))


@partial(jax.jit, static_argnums=0)
def train_runs(plan: Plan, recipes: Recipe, seeds: jax.Array, splits: Split) -> Runs:
    """Trains a run per (recipe, seed) pair, with the pairs sharded over devices."""

    def train_rows(recipes, seeds, splits):
        def train_row(row):
            recipe, seed = row
            split = jax.tree.map(lambda array: array[seed], splits)
            return _train(plan, recipe, split, jax.random.key(seed))

        # With a batch of one, `cond` would become `select`, which trains stopped runs too.
        size = None if plan.together == 1 else plan.together
        return jax.lax.map(train_row, (recipes, seeds), batch_size=size)

    by_run = PartitionSpec("runs")
    replicated = PartitionSpec()
    return jax.shard_map(
        train_rows,
        mesh=mesh_of(plan.devices),
        in_specs=(by_run, by_run, replicated),
        out_specs=by_run,
        # Keys and zeros made inside a scan are not marked as varying, so the check would fail.
        check_vma=False,
    )(recipes, seeds, splits)


def _train(plan: Plan, recipe: Recipe, split: Split, key: jax.Array) -> Runs:
    """Trains one recipe with one seed and returns its scores and losses."""
    model, variables, losses = train(plan, recipe, split, key)
    return _results(plan.objective, model, variables, split, losses)


def train(
    plan: Plan, recipe: Recipe, split: Split, key: jax.Array
) -> tuple[Model, Any, tuple[jax.Array, jax.Array]]:
    """Trains one recipe with one seed; returns the model, its variables and the losses."""
    model = as_model(plan.make_model(recipe))
    if plan.devices[0].platform == "cpu":
        model = model._replace(train=as_products(model.train))
    chain = optimizer(recipe, plan.learning_rate)
    init_key, epochs_key = jax.random.split(key)
    variables = model.init(init_key, split.train_x[:1])
    state = _State(
        variables=variables,
        optimizer=chain.init(variables["params"]),
        stopping=early_stopping.init(variables),
        start=variables["params"] if _needs_start(recipe) else None,
        train_loss=jnp.zeros(()),
        validation_loss=jnp.zeros(()),
    )

    def epoch(state, key):
        # A stopped run no longer changes. If runs train one at a time, it also takes no time.
        state = jax.lax.cond(
            state.stopping.should_stop,
            lambda state: state,
            lambda state: _epoch(plan, model, chain, recipe, split, state, key),
            state,
        )
        return state, (state.train_loss, state.validation_loss)

    state, losses = jax.lax.scan(epoch, state, jax.random.split(epochs_key, plan.epochs))
    final = jax.tree.map(
        lambda last, best: jnp.where(jnp.isinf(recipe.early_stopping), last, best),
        _to_evaluate(recipe, state.variables, state.optimizer),
        state.stopping.best_params,
    )
    return model, final, losses


def _needs_start(recipe: Recipe) -> bool:
    """Returns whether a term of the recipe asks for the initial parameters."""
    terms = [arm.acts for arm in acting(Term) if arm.name in recipe]
    return any("start" in arguments(term.function) for term in terms)


def _results(
    objective: Objective,
    model: Model,
    variables: Any,
    split: Split,
    losses: tuple[jax.Array, jax.Array],
) -> Runs:
    score = objective.metric.score
    by_row = objective.metric.by_row
    train = model.predict(variables, split.train_x)
    validation = model.predict(variables, split.validation_x)
    test = model.predict(variables, split.test_x)
    return Runs(
        train=score(train, split.train_y),
        validation=score(validation, split.validation_y),
        test=score(test, split.test_y),
        loss=objective.loss(validation, split.validation_y),
        train_loss=losses[0],
        validation_loss=losses[1],
        others={metric.name: metric.score(test, split.test_y) for metric in objective.metrics[1:]},
        test_rows=by_row(test, split.test_y) if by_row else None,
    )


def _to_evaluate(recipe: Recipe, variables: Any, state: optax.OptState) -> Any:
    params = params_to_evaluate(recipe, state, variables["params"])
    return {**variables, "params": params}


def _epoch(
    plan: Plan,
    model: Model,
    chain: optax.GradientTransformationExtraArgs,
    recipe: Recipe,
    split: Split,
    state: _State,
    key: jax.Array,
) -> _State:
    """Trains for one epoch and evaluates; returns the new training state."""
    rows = split.train_y.shape[0]
    count = rows // plan.batch_size
    order_key, noise_key = jax.random.split(key)
    order = jax.random.permutation(order_key, rows)[: count * plan.batch_size]

    def loss(params, variables, rows, key):
        variables = {**variables, "params": params}
        x = split.train_x[rows]
        labels = split.train_y[rows]
        batch = steps.Batch(x, labels, split.mean, split.stddev, plan.num_classes)
        return steps.loss(model, plan.objective, recipe, variables, batch, state.start, key)

    def step(carry, inputs):
        variables, state = carry
        grad = jax.value_and_grad(loss, has_aux=True)
        params = variables["params"]
        (_, updated), grads = grad(params, variables, *inputs)
        updates, state = chain.update(
            grads, state, params, grad_fn=lambda params: grad(params, variables, *inputs)[1]
        )
        return ({**updated, "params": optax.apply_updates(params, updates)}, state), None

    (variables, optimizer_state), _ = jax.lax.scan(
        step,
        (state.variables, state.optimizer),
        (order.reshape(count, plan.batch_size), jax.random.split(noise_key, count)),
    )
    shown = _to_evaluate(recipe, variables, optimizer_state)
    some = slice(len(split.validation_y))
    train_loss = _plain_loss(plan, model, shown, split.train_x[some], split.train_y[some])
    validation_loss = _plain_loss(plan, model, shown, split.validation_x, split.validation_y)
    stopping = early_stopping.update(
        state.stopping, validation_loss, shown, patience=recipe.early_stopping
    )
    return _State(variables, optimizer_state, stopping, state.start, train_loss, validation_loss)


def _plain_loss(
    plan: Plan, model: Model, variables: Any, x: jax.Array, labels: jax.Array
) -> jax.Array:
    return plan.objective.loss(model.predict(variables, x), labels)
